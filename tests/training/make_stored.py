"""Makes what the tests of trajectories and of older files compare with.

    python tests/training/make_stored.py trajectories   trajectories.h5: weights after 10 and 60 steps
    python tests/training/make_stored.py files          files_of_0.6.0/: written in the middle of a run

Both were made by version 0.6.0, from a checkout of it with this file beside its tests, and without the preset
(`OF_THEN`), which that version has as its default. To make them anew is to say that results have changed: say
why in the message of the commit.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import h5py
import numba
import numpy as np
import vesin
from llvmlite import binding

import kalmandp
from kalmandp.training.loop import Run

HERE = Path(__file__).parent
TRAJECTORIES = HERE / "trajectories.h5"
FILES = HERE / "files_of_0.6.0"
#: Steps after which weights are stored.
STEPS = (10, 60)
ENGINES = ("numba", "numpy")
#: The default of that version.
OF_THEN = {"type": "RLEKF", "preset": "v0.6"}


def _input(type_map, data: str, rcut: float, optimizer: dict, training: dict | None = None, **sections):
    return {
        "model": {
            "type_map": type_map,
            "descriptor": {
                "type": "se_e2_a", "sel": "auto", "rcut": rcut, "rcut_smth": 0.5, "neuron": [4, 8],
                "axis_neuron": 3, "type_one_side": False,
            },
            "fitting_net": {"neuron": [12, 12]},
        },
        "optimizer": optimizer,
        "training": {
            "training_data": {"systems": data, **(training or {})}, "numb_steps": STEPS[-1], "seed": 1,
            "disp_freq": 1000, "save_freq": 1000,
        },
        **sections,
    }  # fmt: skip


#: One type; two types whose embeddings are two-sided; a method that is no filter.
RUNS = {
    "silicon": _input(["Si"], "data/si64_lda_test.h5", 5.0, OF_THEN),
    "water": _input(["O", "H"], "data/thirteen/H2O_train.h5", 4.0, OF_THEN),
    "adam": _input(
        ["Si"], "data/si64_lda_test.h5", 5.0, {"type": "Adam"}, {"batch_size": 2}, loss={},
        learning_rate={"type": "exp", "start_lr": 0.01, "stop_lr": 1e-4, "decay_steps": 10},
    ),
}  # fmt: skip


def trained(name: str, engine: str) -> np.ndarray:
    """Weights (step, w) after each of `STEPS`, from the root of the repository."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(kalmandp.read_input(copy.deepcopy(RUNS[name])), folder, engine=engine)
        found = {}
        for step in range(1, STEPS[-1] + 1):
            run.step()
            found[step] = run.potential.weights.copy()
        return np.stack([found[step] for step in STEPS])


def fingerprint() -> str:
    """What the bits of a run depend on beside the code: the processor, and the programs that compute."""
    config = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]
    return json.dumps(
        {
            "machine": platform.machine(), "processor": binding.get_host_cpu_name(),
            "features": sorted(name for name, on in binding.get_host_cpu_features().items() if on),
            "numpy": np.__version__, "numpy's vectors": config["SIMD Extensions"]["found"],
            "blas": [blas["name"], blas["version"]], "numba": numba.__version__,
            "llvm": list(binding.llvm_version_info), "libc": platform.libc_ver(),
            "python": platform.python_version(), "vesin": vesin.__version__,
        },
        sort_keys=True,
    )  # fmt: skip


def make_trajectories() -> None:
    with h5py.File(TRAJECTORIES, "w") as file:
        file.attrs["fingerprint"] = fingerprint()
        file.attrs["version"] = kalmandp.__version__
        for name in RUNS:
            for engine in ENGINES:
                file[f"{name}/{engine}"] = trained(name, engine)


# --- files ------------------------------------------------------------------------------------------------

#: Steps before the files were written, and of the whole run.
WRITTEN, WHOLE = 4, 9
OPTIMIZERS = {
    "rlekf": {**OF_THEN, "block_size": 64},
    "adam": {"type": "Adam"},
}


def small(data, optimizer: dict) -> dict:
    """The input of the runs that wrote the files."""
    from systems import settings

    tree = settings(data)
    tree["model"]["descriptor"] |= {"neuron": [2, 4], "axis_neuron": 2}
    tree["model"]["fitting_net"]["neuron"] = [4]
    tree["optimizer"] = optimizer
    tree["training"] |= {"numb_steps": WHOLE, "save_freq": WRITTEN}
    return tree


def learn(online, frame) -> None:
    """A step of a host."""
    online.step(
        frame.positions, frame.types, cell=frame.cell, energy=frame.energy, forces=frame.forces,
        virial=frame.virial,
    )  # fmt: skip


def make_files() -> None:
    from systems import frames

    FILES.mkdir(exist_ok=True)
    os.chdir(FILES)  # the files name their data
    data = "morse.h5"
    kalmandp.Dataset.write(data, frames(4))
    after = {}
    for name, optimizer in OPTIMIZERS.items():
        with tempfile.TemporaryDirectory() as folder:
            run = Run(kalmandp.read_input(small(data, optimizer)), folder)
            for step in range(1, WHOLE + 1):
                run.step()
                if step == WRITTEN:
                    run.checkpoint()
                    shutil.copy(Path(folder) / "model.ckpt.h5", FILES / f"{name}.ckpt.h5")
            after[name] = run.potential.weights.copy()
        kept = run.potential
    online = kalmandp.OnlineTrainer(kept, rng=np.random.default_rng(7), block_size=64)
    some = frames(WHOLE, seed=5)
    for step, frame in enumerate(some, 1):
        learn(online, frame)
        if step == WRITTEN:
            with h5py.File(FILES / "online.h5", "w") as file:
                online.save(file.create_group("trainer"))
    after["online"] = online.potential.weights.copy()
    with h5py.File(FILES / "afterwards.h5", "w") as file:
        file.attrs["fingerprint"] = fingerprint()
        file.attrs["version"] = kalmandp.__version__
        for name, weights in after.items():
            file[name] = weights


if __name__ == "__main__":
    {"trajectories": make_trajectories, "files": make_files}[sys.argv[1]]()
