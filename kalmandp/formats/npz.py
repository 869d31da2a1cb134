"""NumPy archives of one molecule or crystal: sGDML's (R, z, E, F) and MD17's (coords, nuclear_charges, …).

sGDML's files state their units (``r_unit``, ``e_unit``); in others those of energies and forces must be
given, because distances do not tell them.

Source: http://docs.sgdml.org/datasets.html, https://doi.org/10.6084/m9.figshare.12672038 (rMD17).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from kalmandp.errors import FileError, InputError
from kalmandp.formats.told import Told
from kalmandp.formats.units import Units, factor, in_our_units
from kalmandp.frames.elements import ELEMENTS
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import reading

#: Quantity -> names of its array, the first that is there is taken.
NAMES = {
    "positions": ("R", "coords", "positions", "coordinates"),
    "numbers": ("z", "nuclear_charges", "numbers", "atomic_numbers"),
    "cell": ("lattice", "cell", "box"),
    "energy": ("E", "energies", "energy"),
    "forces": ("F", "forces"),
}
ABOUT = ("r_unit", "e_unit", "name", "theory", "md5", "type", "code_version", "perms", "old_indices")


def read_npz(path: str, told: Told, units: Units | None = None) -> Iterator[Callable[[], Frame]]:
    """Frames of an archive; see `extxyz.read_extxyz` for the way they are handed out."""
    with reading(path), np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files if file[name].dtype != object}
    found = {what: next((n for n in names if n in data), None) for what, names in NAMES.items()}
    R, z = found["positions"], found["numbers"]
    if R is None or z is None or data[R].ndim != 3 or data[z].ndim != 1:
        raise FileError(
            f"{path}: holds {', '.join(sorted(data)) or 'no arrays'}; expected arrays R (frames, atoms, 3) "
            "and z (atoms,) of sGDML, or coords and nuclear_charges"
        )
    numbers = data[z]
    if not ((numbers > 0) & (numbers < len(ELEMENTS))).all():
        raise FileError(f"{path}: {z} goes from {numbers.min()} to {numbers.max()}; expected atomic numbers")
    symbols = [ELEMENTS[int(k)] for k in numbers]
    type_map = tuple(dict.fromkeys(symbols))
    types = np.array([type_map.index(s) for s in symbols], dtype=np.int32)
    u = _units(path, data, found) if units is None else units
    told.ignored |= set(data) - set(found.values()) - set(ABOUT)
    cell = None if found["cell"] is None else np.asarray(data[found["cell"]], float).T

    def frame(k: int) -> Frame:
        take = lambda what: None if found[what] is None else np.asarray(data[found[what]])[k]
        energy = take("energy")
        raw = Frame(
            np.asarray(data[R][k], float), types, type_map, cell=cell, pbc=(cell is not None,) * 3,
            energy=None if energy is None else float(np.ravel(energy)[0]), forces=take("forces"),
            source=f"{path} frame {k}",
        )  # fmt: skip
        return in_our_units(raw, u)

    for k in range(len(data[R])):
        yield partial(frame, k)


def _units(path: str, data: dict, found: dict) -> Units:
    """What the archive states."""
    stated = {
        kind: str(data[name]) for kind, name in (("length", "r_unit"), ("energy", "e_unit")) if name in data
    }
    if "energy" not in stated and (found["energy"] or found["forces"]):
        raise InputError(
            f"{path}: does not state the unit of its energies; expected  --unit energy=kcal/mol  or eV, …"
        )
    return Units(**{kind: factor(kind, text, path) for kind, text in stated.items()})
