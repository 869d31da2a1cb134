"""DeePMD-kit beside us: the same frame, network, precision and threads, in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np

from kalmandp import Frame, Potential
from kalmandp.frames.hdf5.writing import write_npy

CHILD = Path(__file__).with_name("peer_child.py")
#: glibc keeps what was freed instead of handing it back to the system. As it comes, DeePMD-kit's LKF asks
#: for the pages of its temporaries anew at every update, which makes a step four times as long.
REUSE_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 28),
}

#: Frames in DeePMD-kit's data set.
EPOCH = 100


class DeepmdError(RuntimeError):
    """DeePMD-kit's process ended; the message says where its log is."""


class Process:
    """A process of DeePMD-kit that repeats one thing on command; ``seconds`` is its clock."""

    def __init__(self, python: str, environment: dict[str, str], folder: Path, *arguments: str):
        self.log = folder / f"{'-'.join(Path(a).stem for a in arguments)}.log"
        with open(self.log, "w") as log:
            self._process = subprocess.Popen(
                [python, str(CHILD), arguments[0], str(folder), *arguments[1:]],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env=environment,
            )  # fmt: skip
        self.last: dict = {}

    def seconds(self, count: int) -> float:
        """Repeat it; the seconds are the process's own."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(f"{count}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            tail = "\n".join(self.log.read_text().splitlines()[-15:])
            raise DeepmdError(f"DeePMD-kit's process ended. The end of its log:\n{tail}")
        self.last = json.loads(line)
        return self.last["seconds"]

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # of a process that has ended there is nothing to tell
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.stdout.close()  # type: ignore[union-attr]
        self._process.wait(timeout=60)


class Peer:
    """DeePMD-kit's processes for one benchmark, their files in ``folder``.

    Parameters
    ----------
    python : a Python that has DeePMD-kit, with PyTorch and TensorFlow
    threads : for each process
    gpu : whether they may see one
    """

    def __init__(self, python: str, threads: int, folder: Path, gpu: bool = False):
        self.python, self.folder = python, folder
        self._environment = _environment(threads)
        if gpu:
            del self._environment["CUDA_VISIBLE_DEVICES"]
            self._environment |= {k: v for k, v in os.environ.items() if k == "CUDA_VISIBLE_DEVICES"}
        self._processes: list[Process] = []

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exception) -> None:
        for process in self._processes:
            process.close()

    def trainer(self, optimizer: dict, frame: Frame, p: Potential) -> Process:
        """A process that makes training steps on ``frame`` with the PyTorch backend."""
        folder = self.folder / optimizer["type"]
        folder.mkdir()
        # many times the same frame, or every step would begin a new epoch of its loader
        write_npy(folder / "data", [frame] * EPOCH)
        (folder / "input.json").write_text(json.dumps(_input(optimizer, p), indent=1))
        return self._start(folder, "train")

    def train(self, tree: dict) -> tuple[np.ndarray, dict[int, float]]:
        """A whole training run by its command: the lines of its learning curve, and seconds by step.

        Between two lines of the curve its log states the seconds since the one before.
        """
        self.folder.mkdir()
        tree = json.loads(json.dumps(tree))
        for part in ("training_data", "validation_data"):
            tree["training"][part]["systems"] = [f"{s}#/" for s in tree["training"][part]["systems"]]
        (self.folder / "input.json").write_text(json.dumps(tree, indent=1))
        log = self.folder / "train.log"
        with open(log, "w") as out:
            done = subprocess.run(
                [self.python, "-m", "deepmd", "--pt", "train", "input.json"], check=False, stdout=out,
                stderr=out, env=self._environment, cwd=self.folder,
            )  # fmt: skip
        if done.returncode:
            tail = "\n".join(log.read_text().splitlines()[-15:])
            raise DeepmdError(f"DeePMD-kit's training ended. The end of its log:\n{tail}")
        stated = re.findall(r"Batch +(\d+): total wall time = ([0-9.]+) s", log.read_text())
        total = np.cumsum([float(seconds) for _, seconds in stated])
        return np.loadtxt(self.folder / "lcurve.out"), {
            int(step): float(seconds) for (step, _), seconds in zip(stated, total, strict=True)
        }

    def models(self, p: Potential) -> dict[str, Path]:
        """The potential as TensorFlow models, "plain" and "compressed"."""
        p.info["model_def_script"] = _model(p)
        p.save(self.folder / "model.dp")
        with open(self.folder / "prepare.log", "w") as log:
            subprocess.run(
                [self.python, str(CHILD), "prepare", str(self.folder)], check=False, stdout=log, stderr=log,
                env=self._environment,
            )  # fmt: skip
        made = {name: self.folder / f"{name}.pb" for name in ("plain", "compressed")}
        return {name: path for name, path in made.items() if path.exists()}

    def calculator(self, model: Path, frame: Frame) -> Process:
        """A process that evaluates ``model`` on ``frame``."""
        place = self.folder / f"{len(frame)}.npz"
        np.savez(place, positions=frame.positions, cell=frame.cell, types=frame.types)
        return self._start(self.folder, "infer", str(model), str(place))

    def _start(self, folder: Path, *arguments: str) -> Process:
        process = Process(self.python, self._environment, folder, *arguments)
        self._processes.append(process)
        return process


def _environment(threads: int) -> dict[str, str]:
    return os.environ | REUSE_MEMORY | {
        "OMP_NUM_THREADS": str(threads),
        "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
        "DP_INTER_OP_PARALLELISM_THREADS": "1",
        "NUM_WORKERS": "0",  # the frames are in memory: a loader's processes would only be in the way
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": "",
    }  # fmt: skip


def _model(p: Potential) -> dict:
    a = p.form
    return {
        "type_map": list(a.type_map),
        "descriptor": {
            "type": "se_e2_a", "sel": list(a.sel), "rcut": a.rcut, "rcut_smth": a.rcut_smth,
            "neuron": list(a.embedding), "axis_neuron": a.axis_neuron, "resnet_dt": False,
            "type_one_side": a.type_one_side, "precision": "float64", "seed": 1,
        },
        "fitting_net": {
            "neuron": list(a.fitting), "resnet_dt": False, "precision": "float64", "seed": 1,
        },
    }  # fmt: skip


def _input(optimizer: dict, p: Potential) -> dict:
    """Settings of DeePMD-kit's water example; nothing is displayed or saved."""
    never = 1_000_000
    return {
        "model": _model(p),
        "learning_rate": {"type": "exp", "decay_steps": 5000, "start_lr": 1e-3, "stop_lr": 1e-8},
        "loss": {
            "type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000,
            "limit_pref_f": 1, "start_pref_v": 0, "limit_pref_v": 0,
        },
        "optimizer": optimizer,
        "training": {
            "training_data": {"systems": ["data"], "batch_size": 1}, "numb_steps": never, "seed": 1,
            "disp_file": "lcurve.out", "disp_freq": never, "save_freq": never,
        },
    }  # fmt: skip
