"""A small model of every kind of potential, its data and its input, for tests that loop over kinds.

A kind of `kalmandp.registry.KINDS` without an entry in `MODELS` fails those tests.
"""

from __future__ import annotations

import json
from pathlib import Path

import kalmandp
from kalmandp.cli import main
from kalmandp.registry import KINDS, load

DATA = Path(__file__).resolve().parents[2] / "data" / "thirteen"
TYPES = ("Na", "Cl")

#: The section ``model`` of each kind, without its type_map.
MODELS = {
    "se_e2_a": {
        "descriptor": {
            "type": "se_e2_a", "rcut": 4.5, "rcut_smth": 1.0, "sel": [30, 30], "neuron": [4, 8],
            "axis_neuron": 3,
        },
        "fitting_net": {"neuron": [8]},
    },
    "nep": {
        "type": "nep", "cutoff": [4.5, 3.5], "n_max": [2, 2], "basis_size": [3, 3], "l_max": [2], "neuron": 5,
    },
    "hdnnp": {"type": "hdnnp", "cutoff": 4.5, "n_radial": 3, "n_angular": 2, "neuron": [6]},
}  # fmt: skip


def files_of(kind: str):
    """The module of a kind's model files."""
    return load(KINDS[kind].files)


def write_data(folder: Path, n_train: int = 10, n_valid: int = 4) -> None:
    """Frames of rock salt: folder/train.h5 and folder/valid.h5."""
    with kalmandp.Dataset(DATA / "NaCl_train.h5") as data:
        kalmandp.Dataset.write(folder / "train.h5", data[:n_train])
    with kalmandp.Dataset(DATA / "NaCl_test.h5") as data:
        kalmandp.Dataset.write(folder / "valid.h5", data[:n_valid])


def tree_of(kind: str, folder: Path, optimizer=None, model=None, data=None, **training) -> dict:
    """An input of a few steps on the frames of `write_data`; ``data`` go into training_data."""
    return {
        "model": {"type_map": list(TYPES), **MODELS[kind], **(model or {})},
        "optimizer": {"type": "RLEKF", **(optimizer or {})},
        "training": {
            "training_data": {"systems": [str(folder / "train.h5")], **(data or {})},
            "numb_steps": 6, "disp_freq": 3, "save_freq": 3, "seed": 1, **training,
        },
    }  # fmt: skip


def write_input(path: Path, tree: dict) -> Path:
    path.write_text(json.dumps(tree))
    return path


def run(*words) -> None:
    """A command that must succeed."""
    assert main([str(word) for word in words]) == 0


class Trained:
    """A run of a kind by ``kalmandp train``: its folder, input, and model."""

    def __init__(self, kind: str, place: Path):
        self.kind, self.place, self.folder = kind, place, place / "run"
        write_data(place)
        validation = {"validation_data": {"systems": [str(place / "valid.h5")]}}
        self.tree = tree_of(kind, place, **validation)
        self.input = write_input(place / "input.json", self.tree)
        run("train", self.input, "-o", self.folder, "--quiet", "--skip-plots")
        self.model = self.folder / files_of(kind).DEFAULT
        self.checkpoint = self.folder / "model.ckpt.h5"
        self.valid = place / "valid.h5"

    @property
    def potential(self):
        return kalmandp.Potential.load(self.model)

    def frames(self, which: str = "valid") -> list:
        with kalmandp.Dataset(self.place / f"{which}.h5") as data:
            return list(data)
