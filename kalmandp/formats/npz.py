"""NumPy archives of molecules or of a crystal: sGDML's (R, z, E, F), MD17's (coords, nuclear_charges, …), and
PhysNet's (R, Z, E, F, N) of molecules of many sizes, whose places beyond the last atom have Z = 0.

sGDML's files state their units (``r_unit``, ``e_unit``); in others those of energies and forces must be
given, because distances do not tell them.

Source: http://docs.sgdml.org/datasets.html, https://doi.org/10.6084/m9.figshare.12672038 (rMD17),
https://doi.org/10.5281/zenodo.2605341 (PhysNet).
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
    "numbers": ("z", "Z", "nuclear_charges", "numbers", "atomic_numbers"),
    "counts": ("N",),
    "cell": ("lattice", "cell", "box"),
    "energy": ("E", "energies", "energy"),
    "forces": ("F", "forces"),
}
#: Names that are no labels: units, where the data come from, what sGDML adds up from E and F.
ABOUT = {
    "r_unit", "e_unit", "name", "theory", "md5", "type", "code_version", "perms", "old_indices",
    *(f"{label}_{what}" for label in "EF" for what in ("min", "max", "mean", "var", "std")),
}  # fmt: skip


def read_npz(path: str, told: Told, units: Units | None = None) -> Iterator[Callable[[], Frame]]:
    """Frames of an archive; see `extxyz.read_extxyz` for the way they are handed out."""
    data, pickled = _arrays(path)
    found = {what: next((n for n in names if n in data), None) for what, names in NAMES.items()}
    R, z = found["positions"], found["numbers"]
    lost = sorted(pickled & {name for names in NAMES.values() for name in names})
    if lost:
        raise FileError(f"{path}: {', '.join(lost)} is pickled; expected arrays of numbers")
    if R is None or z is None or data[R].ndim != 3 or data[z].ndim not in (1, 2):
        raise FileError(
            f"{path}: holds {', '.join(sorted(data)) or 'no arrays'}; expected arrays R (frames, atoms, 3) "
            "and z (atoms,) of sGDML, or coords and nuclear_charges"
        )
    _check_shapes(path, data, found)
    numbers_fi = np.broadcast_to(data[z], data[R].shape[:2])
    padded = data[z].ndim == 2
    _check_numbers(path, z, numbers_fi, None if found["counts"] is None else data[found["counts"]], padded)
    u = _units(path, data, found) if units is None else units
    told.ignored |= (set(data) | pickled) - set(found.values()) - ABOUT
    cell = None if found["cell"] is None else np.asarray(data[found["cell"]], float).T

    def frame(k: int) -> Frame:
        real = numbers_fi[k] > 0
        symbols = [ELEMENTS[int(n)] for n in numbers_fi[k][real]]
        type_map = tuple(dict.fromkeys(symbols))
        named = lambda name: None if name is None else np.asarray(data[name])[k]
        take = lambda what: named(found[what])
        energy, forces = take("energy"), take("forces")
        raw = Frame(
            np.asarray(data[R][k], float)[real], np.array([type_map.index(s) for s in symbols], np.int32),
            type_map, cell=cell, pbc=(cell is not None,) * 3,
            energy=None if energy is None else float(np.ravel(energy)[0]),
            forces=None if forces is None else forces[real], source=f"{path} frame {k}",
        )  # fmt: skip
        return in_our_units(raw, u)

    for k in range(len(data[R])):
        yield partial(frame, k)


def _arrays(path: str) -> tuple[dict[str, np.ndarray], set[str]]:
    """The arrays of an archive; and the names of those that only unpickling would read."""
    data, pickled = {}, set()
    with reading(path), np.load(path, allow_pickle=False) as file:
        for name in file.files:
            try:
                data[name] = file[name]
            except ValueError as error:
                if "pickle" not in str(error):
                    raise
                pickled.add(name)
    return data, pickled


def _check_shapes(path: str, data: dict, found: dict) -> None:
    """Labels that go with the positions, frame by frame and atom by atom."""
    R = found["positions"]
    shape = data[R].shape
    if data[found["numbers"]].shape not in (shape[1:2], shape[:2]):
        n = data[found["numbers"]].shape[-1]
        raise FileError(
            f"{path}: {found['numbers']} names {n} atoms and {R} has {shape[1]}; expected the same"
        )
    for what in ("energy", "forces", "counts"):
        name = found[what]
        if name is not None and len(np.atleast_1d(data[name])) != shape[0]:
            rows = len(np.atleast_1d(data[name]))
            raise FileError(f"{path}: {name} has {rows} rows and {R} {shape[0]}; expected the same")
    name = found["forces"]
    if name is not None and data[name].shape != shape:
        raise FileError(f"{path}: {name} has shape {data[name].shape}; expected {shape}")


def _check_numbers(path: str, name: str, numbers_fi: np.ndarray, counts, padded: bool) -> None:
    """Atomic numbers; zeros only after the last atom, as many as the counts say."""
    least = 0 if padded else 1
    if not ((numbers_fi >= least) & (numbers_fi < len(ELEMENTS))).all():
        raise FileError(
            f"{path}: {name} goes from {numbers_fi.min()} to {numbers_fi.max()}; expected atomic numbers"
        )
    if counts is None or not padded:
        return
    named_f = (numbers_fi > 0).sum(1)
    wrong = np.flatnonzero(named_f != np.ravel(counts))
    if len(wrong):
        k = int(wrong[0])
        raise FileError(
            f"{path}: N says {int(np.ravel(counts)[k])} and {name} names {named_f[k]} atoms of frame {k}; "
            "expected the same"
        )


def _units(path: str, data: dict, found: dict) -> Units:
    """What the archive states."""
    stated = {
        kind: _text(data[name]) for kind, name in (("length", "r_unit"), ("energy", "e_unit")) if name in data
    }
    if "energy" not in stated and (found["energy"] or found["forces"]):
        raise InputError(
            f"{path}: does not state the unit of its energies; expected  --unit energy=kcal/mol  "
            "(or eV, hartree, …)"
        )
    return Units(**{kind: factor(kind, text, path) for kind, text in stated.items()})


def _text(value: np.ndarray) -> str:
    """A text that Python 3 has written, or bytes of Python 2."""
    one = value.reshape(-1)[0] if value.size else ""
    return one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
