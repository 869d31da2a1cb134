"""Good files of every kind that is read, small, to damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np

import kalmandp
from kalmandp.cli import main
from kalmandp.formats.convert import convert
from kalmandp.frames.frame import Frame

SETTINGS = {
    "model": {
        "type_map": ["A", "B"],
        "descriptor": {"type": "se_e2_a", "sel": [60, 60], "rcut": 4.2, "rcut_smth": 1.0, "neuron": [4, 8],
                       "axis_neuron": 2, "type_one_side": True, "seed": 1},
        "fitting_net": {"neuron": [6, 6], "resnet_dt": True},
    },
    "optimizer": {"type": "RLEKF", "block_size": 300},
    "training": {
        "training_data": {"systems": ["good.h5"], "batch_size": 1}, "validation_fraction": 0.3,
        "numb_steps": 2, "seed": 1, "disp_freq": 1, "save_freq": 1000, "disp_file": "lcurve.out",
    },
}  # fmt: skip


def frames(number: int = 4) -> list[Frame]:
    """Random frames with random labels: no reader looks at the physics."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3) * 2.8
    return [
        Frame(
            grid + rng.normal(0, 0.1, grid.shape), np.arange(8) % 2, ("A", "B"), 5.6 * np.eye(3),
            energy=rng.normal(), forces=rng.normal(size=(8, 3)), virial=rng.normal(size=(3, 3)),
        )
        for _ in range(number)
    ]  # fmt: skip


def make(folder: Path) -> dict[str, Path]:
    """Write a good file for each kind of `targets.TARGETS`; kind -> path."""
    kalmandp.Dataset.write(folder / "good.h5", frames())
    convert(folder / "good.h5", folder / "good.extxyz")
    convert(folder / "good.h5", folder / "npy")
    theirs(folder / "theirs.h5")
    (folder / "input.json").write_text(json.dumps(SETTINGS, indent=1))
    run = folder / "run"
    status = main(["train", str(folder / "input.json"), "-o", str(run), "--quiet", "--skip-plots"])
    if status:
        raise RuntimeError("the seeds cannot be made: a short training run failed")
    kalmandp.Potential.load(run / "model.dp").save(folder / "model.yaml")
    again = folder / "again"
    again.mkdir()
    for file in (folder / "good.h5", folder / "input.json", run / "model.ckpt.h5"):
        shutil.copy(file, again)
    detail = next(path for path in sorted(run.iterdir()) if path.name.endswith(".f.out"))
    return {
        "input": folder / "input.json", "extxyz": folder / "good.extxyz", "hdf5": folder / "good.h5",
        "theirs": folder / "theirs.h5", "npy": folder / "npy", "dp": run / "model.dp",
        "yaml": folder / "model.yaml", "checkpoint": run / "model.ckpt.h5", "curve": run / "lcurve.out",
        "details": detail, "info": run / "model.ckpt.h5",
        "restart": again, "doctor": folder / "good.extxyz", "doctor hdf5": folder / "good.h5",
    }  # fmt: skip


def theirs(path: Path) -> None:
    """An HDF5 data set as other programs write it: old format, no checksums, texts of variable length."""
    n = 3
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file.attrs["note"] = "a text of variable length"
        group = file.create_group("water")
        group["type.raw"] = np.arange(n) % 2
        group["type_map.raw"] = ["O", "H"]
        for array, width in (("coord", 3 * n), ("box", 9), ("energy", 1), ("force", 3 * n)):
            values = rng.uniform(1, 9, (3, width))
            stored = group.create_dataset(f"set.000/{array}.npy", data=values, chunks=(1, width))
            stored.attrs["units"] = {"energy": "eV", "force": "eV/angstrom"}.get(array, "angstrom")
