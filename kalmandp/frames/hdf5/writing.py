"""Write a stream of frames in the layout of `layouts`: to an HDF5 file or to folders.

Frames with the same atoms in the same order, the same periodicity and the same labels make one
system. Rows are collected per system and written in blocks, so that neither the number of frames
nor the number of systems is bounded by the memory.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable

import h5py
import numpy as np

import kalmandp
from kalmandp.errors import InputError
from kalmandp.files.hdf5_writing import Hdf5Writer, writing_hdf5
from kalmandp.files.replacing import naming, replacing
from kalmandp.frames.frame import Frame, checked_type_map
from kalmandp.frames.hdf5.layouts import LABELS, UNIT_ATTRIBUTES, WEIGHTS, SystemInfo, formula
from kalmandp.frames.hdf5.storage import path_text

#: Bytes of rows that wait to be written, over all systems.
BUFFER = 1 << 26
#: Bytes that a row takes in memory beside its numbers.
ROW_OVERHEAD = 128
#: Bytes of an HDF5 chunk: few frames, because frames are read in random order.
CHUNK = 1 << 15


def write_hdf5(
    path, frames: Iterable[Frame], *, type_map=None, attributes=None, overwrite=True,
    compression=None,
) -> list[SystemInfo]:  # fmt: skip
    """Write frames to an HDF5 file in the layout dpdata calls deepmd/hdf5, one group per system.

    The groups are named by formula, ``O64H128``, a further one of the same formula (another order
    of the atoms, other labels) ``O64H128_1``. `Dataset` gives the frames back in the order in which
    they came. Numbers are float64; each chunk carries a checksum. The file is written under
    another name and then renamed, so that ``path`` never holds half of the data.

    Parameters
    ----------
    path : the file, by custom ``.h5`` or ``.hdf5``
    frames : iterable of Frame, e.g. a Dataset or a generator; gone through once
    type_map : names of the types; by default the types in order of appearance
    attributes : dict of texts and numbers put at the root of the file: where the data come from
    overwrite : replace a file that is there
    compression : None, or "gzip"

    Returns
    -------
    list of SystemInfo, one per group

    Raises
    ------
    InputError
        If there are no frames, or one has a species that is not in ``type_map``.
    FileError
        If the file cannot be written (no folder, no permission, disk full).
    """
    if compression not in (None, "gzip"):
        raise InputError(f"compression is {compression!r}; expected None or 'gzip'")
    path = path_text(path)
    notes = _checked_attributes(attributes)
    notes = {"format": "deepmd/hdf5", "software": _software(), **UNIT_ATTRIBUTES, **notes}
    with writing_hdf5(path, overwrite=overwrite) as writer:
        sink = Hdf5Sink(writer, compression)
        groups = _collect(frames, type_map, sink)
        for name, value in notes.items():
            sink.note(name, value)
    return [group.info(f"{path}#/{group.name}") for group in groups]


def write_npy(path, frames: Iterable[Frame], *, type_map=None, mixed=False) -> list[SystemInfo]:
    """Write frames to a folder of deepmd/npy systems, one folder below it per system.

    Parameters and errors are those of `write_hdf5`. The folder must be new or empty. With ``mixed`` the
    layout is deepmd/npy/mixed: frames with the same number of atoms, periodicity and labels make one
    system, whatever their atoms are, in a folder named by the number of atoms.
    """
    path = path_text(path)
    with replacing(path, folder=True) as beside:
        groups = _collect(frames, type_map, FolderSink(path, beside), mixed)
    return [group.info(os.path.join(path, group.name)) for group in groups]


class Group:
    """The frames of one system: those that wait, and how many have been written."""

    def __init__(self, name: str, frame: Frame, types_i, labels):
        self.name, self.types_i, self.labels = name, types_i, labels
        self.weights = [weight for weight in WEIGHTS if getattr(frame, weight) is not None]
        self.pbc = frame.pbc
        self.formula = ""
        self.waiting: dict[str, list[np.ndarray]] = {}
        self.places = array("q")
        self.bytes = 0
        self.n_written = 0

    def add(self, frame: Frame, place: int, real_types=None) -> int:
        """Take the rows of a frame; return how many bytes they add to those that wait."""
        rows: dict[str, np.ndarray | None] = {"coord": frame.positions}
        if any(self.pbc):
            rows["box"] = frame.cell
        rows |= {LABELS[label]: getattr(frame, label) for label in self.labels}
        rows |= {weight: getattr(frame, weight) for weight in self.weights}
        for name, value in rows.items():
            self.waiting.setdefault(name, []).append(np.array(value, dtype=np.float64).ravel())
        if real_types is not None:
            rows["real_atom_types"] = real_types
            self.waiting.setdefault("real_atom_types", []).append(np.array(real_types, dtype=np.int32))
        self.places.append(place)
        added = sum(self.waiting[name][-1].nbytes + ROW_OVERHEAD for name in rows)
        self.bytes += added
        return added

    def take(self) -> dict[str, np.ndarray]:
        """The block of rows that wait, (n, width) each, and (n,) for energy and weights."""
        block = {name: np.stack(rows) for name, rows in self.waiting.items()}
        for name in ("energy", *WEIGHTS):
            if name in block:
                block[name] = block[name][:, 0]
        self.waiting, self.bytes = {}, 0
        self.n_written += len(block["coord"])
        return block

    def info(self, address: str) -> SystemInfo:
        return SystemInfo(address, self.formula, self.n_written, len(self.types_i), self.labels)


def _collect(frames: Iterable[Frame], type_map, sink, mixed: bool = False) -> list[Group]:
    """Sort a stream of frames into groups and hand them to the sink in blocks."""
    numbers = _TypeNumbers(type_map)
    groups: dict[tuple, Group] = {}
    names: dict[str, int] = {}
    waiting = place = 0
    for place, frame in enumerate(frames, start=1):
        if not isinstance(frame, Frame):
            raise InputError(f"frames[{place - 1}] is a {type(frame).__name__}; expected a Frame")
        if not len(frame):
            raise InputError(f"{frame.source}: has no atoms; expected at least one")
        types_i = numbers(frame)
        labels = tuple(label for label in LABELS if getattr(frame, label) is not None)
        weights = tuple(getattr(frame, weight) is None for weight in WEIGHTS)
        key = (len(types_i) if mixed else types_i.tobytes(), frame.pbc, labels, weights)
        if key not in groups:
            name = str(len(types_i)) if mixed else _group_name(types_i, numbers.names)
            of_group = np.zeros_like(types_i) if mixed else types_i
            groups[key] = Group(_free_name(name, names), frame, of_group, labels)
        waiting += groups[key].add(frame, place - 1, types_i if mixed else None)
        if waiting > BUFFER:
            waiting -= _write_largest(groups.values(), sink, waiting - BUFFER // 2)
    if not place:
        raise InputError("there are no frames to write; expected at least one")
    for group in groups.values():
        if group.bytes:
            sink.write(group, group.take(), last=True)
        group.formula = "mixed" if mixed else formula(group.types_i, numbers.names)
        sink.finish(group, numbers.names, keep_order=len(groups) > 1)
    return list(groups.values())


def _write_largest(groups, sink, at_least: int) -> int:
    written = 0
    for group in sorted(groups, key=lambda g: g.bytes, reverse=True):
        if written >= at_least:
            break
        written += group.bytes
        sink.write(group, group.take(), last=False)
    return written


class _TypeNumbers:
    """Gives the types of all frames the numbers of one type_map, whatever type_map each frame has."""

    def __init__(self, type_map):
        self.fixed = type_map is not None
        self.names: list[str] = list(checked_type_map("type_map", type_map or ()))
        self._tables: dict[tuple[str, ...], np.ndarray] = {}

    def __call__(self, frame: Frame) -> np.ndarray:
        if self.fixed:
            return frame.with_type_map(self.names).types
        if frame.type_map not in self._tables:
            self.names += [name for name in frame.type_map if name not in self.names]
            numbers = [self.names.index(name) for name in frame.type_map]
            self._tables[frame.type_map] = np.array(numbers, dtype=np.int32)
        return self._tables[frame.type_map][frame.types]


class Hdf5Sink:
    """Writes blocks of rows into the groups of an HDF5 file."""

    def __init__(self, writer: Hdf5Writer, compression):
        self.writer, self.file = writer, writer.file
        self.options = {"fletcher32": True, "shuffle": compression is not None}
        if compression is not None:
            self.options["compression"] = compression

    def write(self, group: Group, block: dict[str, np.ndarray], last: bool) -> None:
        """Append a block; ``last`` promises that no other follows."""
        part = self.file.require_group(f"{group.name}/set.000")
        for name, rows in ((f"{key}.npy", rows) for key, rows in block.items()):
            if name in part:
                part[name].resize(group.n_written, axis=0)
                part[name][-len(rows) :] = rows
            else:
                self._create(part, name, rows, last)
        self.writer.check()

    def finish(self, group: Group, type_map, keep_order: bool) -> None:
        """Write what is known at the end: types and order."""
        place = self.file[group.name]
        place["type.raw"] = group.types_i.astype(np.int32)
        place["type_map.raw"] = np.array([name.encode() for name in type_map])
        if not any(group.pbc):
            place["nopbc"] = True
        elif not all(group.pbc):
            place["pbc.raw"] = np.array(group.pbc, dtype=np.int32)
        if keep_order:
            order = np.array(group.places, dtype=np.int64)
            self._create(place["set.000"], "frame_index.npy", order, last=True)
        self.writer.check()

    def note(self, name: str, value) -> None:
        if isinstance(value, str):
            # of fixed length: those of variable length lie where HDF5 has no checksum, and damage
            # there can keep its reader busy for ever
            text = value.encode()
            kind = h5py.string_dtype("utf-8", max(1, len(text)))
            self.file.attrs.create(name, np.array(text, dtype=kind))
        else:
            self.file.attrs[name] = value

    def _create(self, part: h5py.Group, name: str, rows: np.ndarray, last: bool) -> None:
        row_bytes = max(1, rows[0].nbytes)
        chunk = max(1, min(CHUNK // row_bytes, len(rows) if last else CHUNK))
        rest = rows.shape[1:]
        part.create_dataset(
            name, data=rows, chunks=(chunk, *rest),
            maxshape=rows.shape if last else (None, *rest), **self.options,
        )  # fmt: skip


class FolderSink:
    """Writes each block of rows as the next set of a deepmd/npy folder."""

    def __init__(self, path: str, beside: str):
        self.path, self.beside = path, beside
        self._sets: dict[str, list[int]] = {}

    def write(self, group: Group, block: dict[str, np.ndarray], last: bool) -> None:
        sizes = self._sets.setdefault(group.name, [])
        folder = os.path.join(self.beside, group.name, f"set.{len(sizes):03d}")
        with naming(self.path):
            os.makedirs(folder)
            for name, rows in block.items():
                np.save(os.path.join(folder, f"{name}.npy"), rows, allow_pickle=False)
        sizes.append(len(block["coord"]))

    def finish(self, group: Group, type_map, keep_order: bool) -> None:
        with naming(self.path):
            self._finish(os.path.join(self.beside, group.name), group, type_map, keep_order)

    def _finish(self, folder: str, group: Group, type_map, keep_order: bool) -> None:
        self._text(folder, "type.raw", group.types_i)
        self._text(folder, "type_map.raw", type_map)
        if not any(group.pbc):
            self._text(folder, "nopbc", ())
        elif not all(group.pbc):
            self._text(folder, "pbc.raw", [int(p) for p in group.pbc])
        if keep_order:
            ends = np.cumsum(self._sets[group.name])[:-1]
            for n, order in enumerate(np.split(np.array(group.places, dtype=np.int64), ends)):
                name = os.path.join(folder, f"set.{n:03d}", "frame_index.npy")
                np.save(name, order, allow_pickle=False)

    @staticmethod
    def _text(folder: str, name: str, words) -> None:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.writelines(f"{word}\n" for word in words)


def _software() -> str:
    return f"kalmandp {kalmandp.__version__}"


def _group_name(types_i, type_map) -> str:
    return re.sub(r"[^0-9A-Za-z_+.-]", "_", formula(types_i, type_map)) or "empty"


def _free_name(name: str, taken: dict[str, int]) -> str:
    """``name``, or ``name_1``, ``name_2``, … if it has been given out."""
    n = taken.get(name, 0)
    taken[name] = n + 1
    if not n:
        return name
    return _free_name(f"{name}_{n}", taken)


def _checked_attributes(attributes) -> dict:
    for name, value in (attributes or {}).items():
        if not isinstance(name, str) or not isinstance(value, (str, int, float)):
            raise InputError(f"attributes[{name!r}] is {value!r}; expected a text or a number by a text")
        if name in UNIT_ATTRIBUTES or name in ("format", "software"):
            raise InputError(f"attributes[{name!r}] is written by kalmandp itself; expected another name")
    return dict(attributes or {})
