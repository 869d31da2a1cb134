"""Results on disk: ``result.json`` and ``details.h5`` in the folder of each run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from kalmandp.errors import FileError
from kalmandp.files import naming, replacing, writing_hdf5

from .unit import Unit

RESULT, DETAILS, UNIT = "result.json", "details.h5", "unit.json"
#: Columns of a learning curve: errors of the test frames in eV/atom, eV/Å and eV/atom.
CURVE = ("step", "epoch", "updates", "seconds", "energy", "force", "virial")


class Result(NamedTuple):
    """What a finished run left.

    curve : columns of `CURVE`; final : RMSE "energy_train", "energy_test", "force_train" … "virial_test";
        mean absolute errors "energy_mae_train" …
    facts : n_weights, n_blocks, n_train, n_test, n_atoms, steps, updates, seconds, cpu_per_step, …
    """

    unit: dict[str, Any]
    curve: dict[str, np.ndarray]
    final: dict[str, float]
    facts: dict[str, Any]
    folder: Path

    @property
    def cpu_seconds(self) -> np.ndarray:
        """Seconds of one processor at each point of the curve: steps × the mean of a step; NaN if unknown."""
        per_step = self.facts.get("cpu_per_step")
        return self.curve["step"] * (np.nan if per_step is None else per_step)

    def details(self) -> dict[str, np.ndarray]:
        """Arrays of the run: test labels and predictions, |Δw| of every update, a coarse picture of P."""
        path = self.folder / DETAILS
        try:
            with h5py.File(path) as file:
                return {name: file[name][()] for name in file}
        except (OSError, KeyError) as error:
            raise FileError(f"{path}: cannot be read ({error}); remove its folder to run it again") from None


def write_json(path, tree) -> None:
    """Written beside and renamed; NaN as null."""
    with replacing(path) as beside, naming(path):
        Path(beside).write_text(json.dumps(_finite(tree), indent=1) + "\n", encoding="utf-8")


def write_details(path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays by name, compressed; written beside and renamed."""
    with writing_hdf5(path) as writer:
        for name, array in arrays.items():
            writer.file.create_dataset(name, data=array, compression="gzip" if np.ndim(array) else None)


def read_result(folder: Path) -> Result | None:
    """The result in a folder, None if the run there is not finished."""
    tree = read_json(folder / RESULT)
    if tree is None:
        return None
    curve = {name: np.array(values, dtype=float) for name, values in tree["curve"].items()}
    final = {name: float("nan") if value is None else value for name, value in tree["final"].items()}
    return Result(tree["unit"], curve, final, tree["facts"], folder)


def read_json(path: Path) -> Any:
    """The content of a file that the study wrote; None if it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read ({error}); remove its folder to run it again") from None


def is_finished(unit: Unit, folder: Path) -> bool:
    """Whether the folder holds the result of this very run: the same settings, the same data."""
    tree = read_json(folder / RESULT)
    return tree is not None and tree["unit"] == plain(unit.identity())


def plain(tree):
    """As it comes back from JSON: tuples are lists."""
    return json.loads(json.dumps(_finite(tree)))


def unit_tree(unit: Unit) -> dict:
    """A unit as a tree for JSON; `unit.unit_from` reads it."""
    return plain(asdict(unit))


def _finite(tree):
    """NaN and infinities have no place in JSON."""
    if isinstance(tree, dict):
        return {name: _finite(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_finite(value) for value in tree]
    if isinstance(tree, (np.floating, np.integer)):
        tree = tree.item()
    return None if isinstance(tree, float) and not np.isfinite(tree) else tree
