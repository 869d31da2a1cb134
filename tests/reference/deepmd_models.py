"""The stored reference values of ``make_deepmd_reference.py``, as objects of this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from kalmandp.frames.frame import Frame

FOLDER = Path(__file__).parent
MODELS = FOLDER / "deepmd_models.h5"


class Jacobian(NamedTuple):
    """∂E/∂w, ∂(c·F)/∂w, ∂(C:W)/∂w, each (N,) in the order of `WeightLayout`."""

    force_direction: np.ndarray
    virial_direction: np.ndarray
    energy: np.ndarray
    force: np.ndarray
    virial: np.ndarray


class Reference(NamedTuple):
    """A model as DeePMD-kit serialises it, and what DeePMD-kit says of some frames.

    name, backend : of the model, and which backend of DeePMD-kit gave the values
    tree : model and script, for ``kalmandp.bridges.deepmd.from_tree``
    frames : `Frame` with DeePMD-kit's energy, forces, virial and atomic energies as labels
    jacobians : one per frame, or None
    """

    name: str
    backend: str
    tree: dict
    frames: list[Frame]
    jacobians: list[Jacobian | None]


def reference_names() -> list[str]:
    """Names of the stored models."""
    with h5py.File(MODELS, "r") as file:
        return list(file)


def load_reference(name: str) -> Reference:
    """One stored model."""
    with h5py.File(MODELS, "r") as file:
        data = file[name]
        flat, backend = data[()], str(data.attrs["backend"])
        entry = _unpack(json.loads(data.attrs["json"]), flat)
    tree, frames = entry["tree"], entry["frames"]
    jacobians = [f.pop("jacobian", None) for f in frames]
    return Reference(
        name,
        backend,
        {"model": tree, "model_def_script": entry["script"]},
        [
            Frame(**{**f, "types": f["types"].astype(int)}, type_map=tree["type_map"], source=name)
            for f in frames
        ],
        [None if j is None else Jacobian(**j) for j in jacobians],
    )


def _unpack(node, flat):
    """Put the arrays back: {"@array": [start, shape]} stands for a piece of ``flat``."""
    if isinstance(node, dict):
        if "@array" in node:
            start, shape = node["@array"]
            return flat[start : start + int(np.prod(shape))].reshape(shape)
        return {key: _unpack(value, flat) for key, value in node.items()}
    return [_unpack(v, flat) for v in node] if isinstance(node, list) else node
