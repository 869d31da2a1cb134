"""Kill a real `kalmandp train` at random moments, go on with --restart, compare with a run left alone.

    python tests/training/kills.py --kills 100

A third of the kills come at a random time of the process's life, the others about when it writes its files,
of which the checkpoint takes longest. A round begins with an empty folder and ends when the run does; then
its weights, its covariance, its diagnostics and its learning curve (but for the column of seconds) must have
the bits of the run that was left alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from systems import frames, settings

import kalmandp
from kalmandp.plots import read_lcurve

#: Longest wait for a run, s.
PATIENCE = 120.0


class Tally(NamedTuple):
    """Kills in all, those while a checkpoint was being written, rounds that ended with the same bits."""

    kills: int
    while_writing: int
    rounds: int


def make_input(folder: Path, n_steps: int = 30, **optimizer) -> Path:
    """Data and an input whose run saves at every step; returns the input's path."""
    kalmandp.Dataset.write(folder / "morse.h5", frames(16))
    tree = settings("morse.h5", optimizer={"gate": 25.0, **optimizer})
    tree["training"] |= {"numb_steps": n_steps, "save_freq": 1, "disp_freq": 3, "validation_fraction": 0.2}
    path = folder / "input.json"
    path.write_text(json.dumps(tree))
    return path


def start(input_path: Path, output: Path) -> subprocess.Popen:
    """The command a user types; it goes on where a checkpoint is."""
    restart = ["--restart"] if (output / "model.ckpt.h5").is_file() else []
    command = ["train", str(input_path), "-o", str(output), *restart, "--quiet", "--skip-plots"]
    return subprocess.Popen(
        [sys.executable, "-m", "kalmandp", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def outcome(output: Path) -> dict[str, bytes]:
    """The bits of a finished run that must not depend on interruptions."""
    curve = read_lcurve(output / "lcurve.out")
    curve.pop("seconds")
    found = {name: values.tobytes() for name, values in curve.items()}
    with h5py.File(output / "model.ckpt.h5") as file:
        for group in ("potential", "optimizer", "feed", "diagnostics", "gate"):
            file[group].visititems(
                lambda name, item, group=group: found.update({f"{group}/{name}": item[()].tobytes()})
                if isinstance(item, h5py.Dataset)
                else None
            )
        found["generator"] = file["json/generator"][()].tobytes()
    found["weights"] = kalmandp.Potential.load(output / "model.dp").weights.tobytes()
    return found


def is_writing(process: subprocess.Popen, output: Path) -> bool:
    return any(output.glob(f".kalmandp-{process.pid}-*.part"))


def kill_while_writing(process: subprocess.Popen, output: Path, rng) -> None:
    """Wait for the n-th time that a file is being written, and a little longer."""
    for _ in range(int(rng.integers(1, 6))):
        for wanted in (True, False):
            while process.poll() is None and is_writing(process, output) is not wanted:
                time.sleep(1e-4)
    while process.poll() is None and not is_writing(process, output):
        time.sleep(1e-4)
    time.sleep(float(rng.uniform(0, 0.003)))


def one_round(input_path: Path, output: Path, rng, span: float, kills_left: int) -> tuple[int, int]:
    """Kill and go on until the run ends; returns kills, and those while a file was being written."""
    kills = while_writing = 0
    while True:
        process = start(input_path, output)
        try:
            if kills < kills_left:
                if rng.random() < 0.3:
                    time.sleep(span * float(rng.uniform(0.1, 1.0)))
                else:
                    kill_while_writing(process, output, rng)
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
            _, error = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            while_writing += is_writing(process, output)  # what it left behind says so
        elif process.returncode == 0:
            return kills, while_writing
        else:
            raise AssertionError(f"the run ended with {process.returncode}: {error.decode()}")


def survive(folder: Path, n_kills: int, rng, say=lambda text: None, **optimizer) -> Tally:
    """Rounds until ``n_kills`` were survived. Raises AssertionError at the first bit that differs."""
    input_path = make_input(folder, **optimizer)
    for name in ("compiled", "alone"):  # the first may have to compile
        began = time.monotonic()
        assert start(input_path, folder / name).wait(PATIENCE) == 0
    span = time.monotonic() - began
    wanted = outcome(folder / "alone")
    tally = Tally(0, 0, 0)
    while tally.kills < n_kills:
        output = folder / f"round{tally.rounds}"
        kills, while_writing = one_round(input_path, output, rng, span, n_kills - tally.kills)
        got = outcome(output)
        different = [name for name in wanted if got.get(name) != wanted[name]]
        assert got.keys() == wanted.keys() and not different, f"{output}: other bits in {different}"
        left = sorted(p.name for p in output.iterdir() if p.name.startswith("."))
        assert not left, f"{output}: left behind: {left}"
        tally = Tally(tally.kills + kills, tally.while_writing + while_writing, tally.rounds + 1)
        say(f"{tally.kills} kills, {tally.while_writing} while writing, {tally.rounds} runs: the same bits")
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optimizer", type=json.loads, default={}, help="JSON of further settings")
    args = parser.parse_args()
    os.environ.setdefault("PYTHONUTF8", "1")
    with tempfile.TemporaryDirectory() as folder:
        survive(Path(folder), args.kills, np.random.default_rng(args.seed), print, **args.optimizer)


if __name__ == "__main__":
    main()
