"""The layout DeePMD-kit and dpdata share, in HDF5 groups or folders: what the names mean.

A system is a list of atoms and any number of frames of them::

    type.raw              (N,) type of each atom, an index into
    type_map.raw          the names of the types
    nopbc                 if it is there, the system is open
    pbc.raw               our extension: three numbers 0 or 1, for partly periodic systems
    set.000/coord.npy     (n, 3N) Å               set.000/box.npy       (n, 9) Å, vectors as rows
    set.000/energy.npy    (n,) or (n, 1) eV       set.000/force.npy     (n, 3N) eV/Å
    set.000/virial.npy    (n, 9) eV, W = −dE/dε   set.000/atom_ener.npy (n, N) eV
    set.000/weight.npy, energy_weight.npy    our extension: (n,) weights of frames in training
    set.000/frame_index.npy       our extension: (n,) place of each frame in its source
    set.000/real_atom_types.npy   the "mixed" layout: (n, N) type of each atom in each frame, −1 for
                                  none; type.raw then only gives N

Source: dpdata ``deepmd/npy``, ``deepmd/npy/mixed``, ``deepmd/hdf5``; DeePMD-kit "Data conversion".
"""

from __future__ import annotations

import contextlib
import math
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kalmandp.errors import FileError, InputError
from kalmandp.frames.blocks import sound_frame, sound_frames
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import Store, reading

#: Label of a Frame -> name of its array.
LABELS = {
    "energy": "energy",
    "forces": "force",
    "virial": "virial",
    "atomic_energies": "atom_ener",
}

#: Weights of a frame in training: field of a Frame and name of its array.
WEIGHTS = {"weight": "weight", "energy_weight": "energy_weight"}

#: Up to so many rows that nobody asked for are read with their neighbours: one read costs more than they do.
GAP = 4

#: Numbers per frame of each array: (fixed, per atom).
WIDTHS = {
    "coord": (0, 3),
    "box": (9, 0),
    "energy": (1, 0),
    "force": (0, 3),
    "virial": (9, 0),
    "atom_ener": (0, 1),
    "real_atom_types": (0, 1),
    "frame_index": (1, 0),
    "weight": (1, 0),
    "energy_weight": (1, 0),
}

LENGTH, ENERGY, FORCE = "angstrom", "eV", "eV/angstrom"
VIRIAL_SIGN = "W = -dE/dstrain, row-major"

#: What we write about units at the root of a file, and hold against the file when we read it.
UNIT_ATTRIBUTES = {
    "length_unit": LENGTH,
    "energy_unit": ENERGY,
    "force_unit": FORCE,
    "virial_unit": ENERGY,
    "virial_sign": VIRIAL_SIGN,
}

#: Unit of each array, for files that give an attribute ``units`` to the arrays themselves.
ARRAY_UNITS = {
    "coord": LENGTH,
    "box": LENGTH,
    "energy": ENERGY,
    "force": FORCE,
    "virial": ENERGY,
    "atom_ener": ENERGY,
}


class SystemInfo(NamedTuple):
    """What a system holds. In the mixed layout a frame may fill fewer than ``n_atoms`` places."""

    address: str
    formula: str
    n_frames: int
    n_atoms: int
    labels: tuple[str, ...]


class Part(NamedTuple):
    """One ``set.NNN`` of a system: its name, its frames, and the arrays that we read."""

    name: str
    n_frames: int
    arrays: frozenset[str]


def find_systems(store: Store) -> dict[str, list[str]]:
    """Name of each system of a store -> names of its members, both sorted."""
    names = store.names()
    systems: dict[str, list[str]] = {
        name[: -len("type.raw")].rstrip("/"): [] for name in names if name.rpartition("/")[2] == "type.raw"
    }
    for name in names:
        folder, _, leaf = name.rpartition("/")
        parent, _, last = folder.rpartition("/")
        if folder in systems:
            systems[folder].append(leaf)
        if last.startswith("set.") and parent in systems:
            systems[parent].append(f"{last}/{leaf}")
    return systems


def formula(types, type_map) -> str:
    """``O64H128``: the types in the order of ``type_map``, with their numbers."""
    counts = np.bincount(types, minlength=len(type_map))
    return "".join(f"{name}{n}" for name, n in zip(type_map, counts, strict=True) if n)


def check_units(address: str, attributes: dict) -> None:
    """Refuse a file whose attributes state other units than ours, or another sign of the virial."""
    for name, wanted in UNIT_ATTRIBUTES.items():
        if name in attributes and not _same_unit(attributes[name], wanted):
            raise InputError(
                f"{address}: the attribute {name} is {str(attributes[name])[:60]!r}; expected {wanted!r} "
                "(convert the numbers and correct the attribute)"
            )


def _same_unit(stated, wanted: str) -> bool:
    def normal(text) -> str:
        text = str(text).lower().replace(" ", "")
        for long in ("angstroms", "angstrom", "å", "ångström", "\u212b"):
            text = text.replace(long, "a")
        return text.replace("ang", "a")

    return normal(stated) == normal(wanted)


class System:
    """The frames of one system of a store.

    Attributes
    ----------
    address : where it lies, ``water.h5#/O64H128``
    type_map : names of the types in the file
    types_i : (N,) indices into it; for the mixed layout they say nothing
    parts : the sets, in order
    n_frames, n_atoms, labels, mixed, pbc
    """

    def __init__(self, store: Store, name: str, members: list[str], type_map=None):
        self.store, self.name = store, name
        self.address = store.address(name)
        self.pbc = self._read_pbc(members)
        found = _arrays_by_part(members)
        self.mixed = any("real_atom_types" in arrays for arrays in found.values())
        self.types_i = self._read_types()
        self.type_map = self._read_type_map(members, type_map)
        self.parts = [self._read_part(part, arrays) for part, arrays in found.items()]
        if not self.parts:
            raise FileError(f"{self.address}: holds no set.*; expected at least set.000")
        self._starts = np.cumsum([0] + [part.n_frames for part in self.parts]).tolist()
        self.n_frames = self._starts[-1]
        present = frozenset().union(*(part.arrays for part in self.parts))
        self.labels = tuple(label for label, array in LABELS.items() if array in present)
        self.ignored = tuple(sorted(_unread(members)))
        self._number_t = np.arange(len(self.type_map))

    @property
    def n_atoms(self) -> int:
        return len(self.types_i)

    @property
    def species(self) -> list[str]:
        """Names of the types that occur, in the file's order; all names for the mixed layout."""
        if self.mixed:
            return list(self.type_map)
        return [self.type_map[t] for t in np.unique(self.types_i)]

    @property
    def info(self) -> SystemInfo:
        name = "mixed" if self.mixed else formula(self.types_i, self.type_map)
        return SystemInfo(self.address, name, self.n_frames, self.n_atoms, self.labels)

    @property
    def row_bytes(self) -> int:
        """Bytes that a frame takes in memory, about."""
        arrays = frozenset().union(*(part.arrays for part in self.parts))
        return 8 * sum(WIDTHS[name][0] + WIDTHS[name][1] * self.n_atoms for name in arrays)

    def renumber(self, type_map) -> None:
        """Give types by their place in ``type_map`` from now on.

        Raises
        ------
        InputError
            If a type that occurs is not in it. For the mixed layout this is found frame by frame.
        """
        if not self.mixed:
            _refuse_unknown(self.address, self.species, type_map)
        places = {name: t for t, name in enumerate(type_map)}
        self._number_t = np.array([places.get(name, -1) for name in self.type_map])

    def atoms_in(self, k: int) -> int:
        """Number of atoms of frame ``k``, without reading more than its types."""
        if not self.mixed:
            return self.n_atoms
        part, row = self._locate(k)
        return int((self._row(part, "real_atom_types", row) >= 0).sum())

    def labels_in(self, k: int) -> frozenset[str]:
        """Labels that frame ``k`` has, without reading it."""
        part, _ = self._locate(k)
        return frozenset(label for label, name in LABELS.items() if name in part.arrays)

    def volumes(self) -> np.ndarray:
        """Volume of the cell of each frame, Å³, from the cells alone; zeros for an open system."""
        if not all(self.pbc):
            return np.zeros(self.n_frames)
        cells = [self._block(part, "box", slice(0, part.n_frames)) for part in self.parts]
        cell_fcc = np.concatenate([np.asarray(c, dtype=float).reshape(-1, 3, 3) for c in cells])
        return np.abs(np.linalg.det(cell_fcc))

    def frame(self, k: int, type_map) -> Frame:
        """Read frame ``k``; ``type_map`` is the one given to `renumber`."""
        part, row = self._locate(k)
        source = f"{self.address} frame {k}"
        values = {
            name: self._row(part, name, row)
            for name in ("coord", "box", *LABELS.values(), *WEIGHTS)
            if name in part.arrays and (name != "box" or any(self.pbc))
        }
        types, real = self.types_i, slice(None)
        if self.mixed:
            types, real = self._real_types(part, row, source)
            _refuse_unknown(source, [self.type_map[t] for t in np.unique(types)], type_map)
        cut = lambda name, *shape: values[name].reshape(shape)[real] if name in values else None
        number = lambda name: float(values[name].reshape(())) if name in values else None
        matrix = lambda name: values[name].reshape(3, 3) if name in values else None
        return Frame(
            positions=values["coord"].reshape(-1, 3)[real],
            types=self._number_t[types],
            type_map=type_map,
            cell=matrix("box"),
            pbc=self.pbc,
            energy=number("energy"),
            forces=cut("force", -1, 3),
            virial=matrix("virial"),
            atomic_energies=cut("atom_ener", -1),
            source=source,
            weight=number("weight"),
            energy_weight=number("energy_weight"),
        )

    def frames(self, rows, type_map) -> list[Frame | None]:
        """The frames of some rows, read together; None for those of which `frame` has to say what is wrong.

        Parameters
        ----------
        rows : (n,) integers, in any order
        type_map : as for `frame`
        """
        rows = np.asarray(rows)
        found: list[Frame | None] = [None] * len(rows)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        part_r = np.searchsorted(self._starts, ascending, side="right")
        apart = (np.diff(ascending) > GAP) | (np.diff(part_r) > 0)
        for run in np.split(order, np.flatnonzero(apart) + 1):
            with contextlib.suppress(FileError):
                for place, frame in zip(run.tolist(), self._read_run(rows[run], type_map), strict=True):
                    found[place] = frame
        return found

    def _read_run(self, rows: np.ndarray, type_map) -> Iterator[Frame | None]:
        """Ascending rows of one set, with few others between them."""
        part, first = self._locate(int(rows[0]))
        block = slice(first, first + int(rows[-1] - rows[0]) + 1)
        read = lambda name: self._block(part, name, block)[rows - rows[0]]
        shapes = {"coord": (-1, 3), "force": (-1, 3), "box": (3, 3), "virial": (3, 3), "atom_ener": (-1,)}
        values = {
            label: np.asarray(read(name), np.float64).reshape(len(rows), *shapes.get(name, ()))
            for label, name in (("positions", "coord"), ("cell", "box"), *LABELS.items(), *WEIGHTS.items())
            if name in part.arrays and (name != "box" or any(self.pbc))
        }
        sound_f = sound_frames(values, self.pbc)
        types_fi = None
        if self.mixed:
            types_fi = read("real_atom_types").reshape(len(rows), -1).astype(np.int64)
            sound_f &= (types_fi >= 0).any(1) & (types_fi.min(1) >= -1)
            sound_f &= types_fi.max(1) < len(self.type_map)
        number_t = self._number_t.astype(np.int32)
        for f, row in enumerate(rows.tolist()):
            types, seen = self.types_i, values
            if types_fi is not None and sound_f[f]:
                real = types_fi[f] >= 0
                types = types_fi[f][real]
                seen = values if real.all() else _cut(values, f, real)
            number_i = number_t[types]
            if not sound_f[f] or number_i.min() < 0:
                yield None
                continue
            at = f if seen is values else 0
            yield sound_frame(seen, at, number_i, type_map, self.pbc, f"{self.address} frame {row}")

    def frame_index(self) -> np.ndarray | None:
        """Place of each frame in the source the file was made from, if all sets have it."""
        if not all("frame_index" in part.arrays for part in self.parts):
            return None
        values = [self.store.whole(self._path(part, "frame_index")) for part in self.parts]
        if any(v.dtype.kind not in "iu" for v in values):
            raise FileError(f"{self.address}: frame_index.npy holds no integers; expected numbers of frames")
        return np.concatenate([v.reshape(-1) for v in values]).astype(np.int64)

    def _locate(self, k: int) -> tuple[Part, int]:
        p = bisect_right(self._starts, k) - 1
        return self.parts[p], k - self._starts[p]

    def _path(self, part: Part, array: str) -> str:
        return _join(self.name, part.name, f"{array}.npy")

    def _block(self, part: Part, array: str, rows: slice) -> np.ndarray:
        path = self._path(part, array)
        with reading(self.store.address(path)):
            return np.asarray(self.store.rows(path)[rows])

    def _row(self, part: Part, array: str, row: int) -> np.ndarray:
        path = self._path(part, array)
        with reading(self.store.address(path)):
            return np.asarray(self.store.rows(path)[row])

    def _real_types(self, part: Part, row: int, source: str):
        types = self._row(part, "real_atom_types", row).reshape(-1).astype(np.int64)
        if types.size and not -1 <= types.min() <= types.max() < len(self.type_map):
            raise FileError(
                f"{source}: real_atom_types runs from {types.min()} to {types.max()}; expected "
                f"-1 to {len(self.type_map) - 1} for type_map.raw {list(self.type_map)}"
            )
        return types[types >= 0], types >= 0

    def _read_types(self) -> np.ndarray:
        types = self.store.integers(_join(self.name, "type.raw")).reshape(-1)
        if not types.size:
            raise FileError(f"{self.address}: type.raw is empty; expected a type for each atom")
        return types

    def _read_type_map(self, members, given) -> tuple[str, ...]:
        if "type_map.raw" in members:
            names = tuple(self.store.words(_join(self.name, "type_map.raw")))
        elif given is not None:
            names = tuple(given)
        else:
            raise InputError(f"{self.address}: has no type_map.raw; expected it, or a type_map from you")
        if len(set(names)) != len(names):
            raise FileError(f"{self.address}: type_map.raw is {names}; expected every name once")
        low, high = int(self.types_i.min()), int(self.types_i.max())
        if low < 0 or high >= len(names):
            raise FileError(
                f"{self.address}: type.raw runs from {low} to {high}; "
                f"expected 0 to {len(names) - 1} for the type_map {list(names)}"
            )
        return names

    def _read_pbc(self, members) -> tuple[bool, bool, bool]:
        if "nopbc" in members:
            return (False, False, False)
        if "pbc.raw" not in members:
            return (True, True, True)
        pbc = self.store.integers(_join(self.name, "pbc.raw")).reshape(-1).tolist()
        if len(pbc) != 3 or not set(pbc) <= {0, 1}:
            raise FileError(f"{self.address}: pbc.raw is {pbc}; expected three numbers 0 or 1")
        return (bool(pbc[0]), bool(pbc[1]), bool(pbc[2]))

    def _read_part(self, name: str, arrays: set[str]) -> Part:
        where = self.store.address(_join(self.name, name))
        if "coord" not in arrays:
            raise FileError(f"{where}: coord.npy is missing; expected the positions of the atoms")
        if any(self.pbc) and "box" not in arrays:
            raise FileError(f"{where}: box.npy is missing; expected it, or 'nopbc' for an open system")
        if self.mixed and "real_atom_types" not in arrays:
            raise FileError(f"{where}: real_atom_types.npy is missing; expected it, as other sets have it")
        n_frames = None
        for array in sorted(arrays, key=list(WIDTHS).index):  # coord first
            path = _join(self.name, name, f"{array}.npy")
            shape, units = self.store.describe(path)
            n_frames = shape[0] if n_frames is None and shape else n_frames
            self._check_shape(path, array, shape, n_frames)
            if units is not None and array in ARRAY_UNITS:
                self._check_unit(path, units, ARRAY_UNITS[array])
        return Part(name, int(n_frames or 0), frozenset(arrays))

    def _check_shape(self, path: str, array: str, shape, n_frames) -> None:
        fixed, per_atom = WIDTHS[array]
        width = fixed + per_atom * self.n_atoms
        if not shape or shape[0] != n_frames or math.prod(shape[1:]) != width:
            wanted = (n_frames, width) if n_frames is not None else ("n_frames", width)
            raise FileError(
                f"{self.store.address(path)} has shape {tuple(shape)}; expected "
                f"({wanted[0]}, {wanted[1]}): {wanted[0]} frames of {self.n_atoms} atoms"
            )

    def _check_unit(self, path: str, stated: str, wanted: str) -> None:
        if not _same_unit(stated, wanted):
            raise InputError(
                f"{self.store.address(path)}: the attribute units is {stated[:60]!r}; "
                f"expected {wanted!r} (convert the numbers and correct the attribute)"
            )


def _cut(values: dict[str, np.ndarray], f: int, real: np.ndarray) -> dict[str, np.ndarray]:
    """Frame ``f`` alone, with the ``real`` atoms of its places."""
    per_atom = ("positions", "forces", "atomic_energies")
    return {
        name: (value[f][real] if name in per_atom else value[f])[None] for name, value in values.items()
    }


def _join(*names: str) -> str:
    return "/".join(name for name in names if name)


def _arrays_by_part(members: list[str]) -> dict[str, set[str]]:
    """Name of each set, ``set.1000`` after ``set.999``, -> arrays in it that we read."""
    parts: dict[str, set[str]] = {}
    for member in members:
        part, inside, leaf = member.partition("/")
        if inside:
            arrays = parts.setdefault(part, set())
            if leaf.endswith(".npy") and leaf[:-4] in WIDTHS:
                arrays.add(leaf[:-4])
    return {part: parts[part] for part in sorted(parts, key=lambda part: (len(part), part))}


def _unread(members: list[str]) -> set[str]:
    leaves = {m.partition("/")[2].removesuffix(".npy") for m in members if m.endswith(".npy")}
    return leaves - set(WIDTHS)


def _refuse_unknown(source: str, species, type_map) -> None:
    unknown = sorted(set(species) - set(type_map))
    if unknown:
        raise InputError(f"{source}: species {', '.join(unknown)} is not in the type_map {list(type_map)}")
