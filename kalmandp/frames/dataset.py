"""`Dataset`: any number of frames on disk, read as they are asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from os import PathLike
from threading import RLock

import numpy as np

from kalmandp.errors import FileError, InputError
from kalmandp.frames.frame import Frame, checked_type_map
from kalmandp.frames.hdf5.layouts import (
    LABELS,
    UNIT_ATTRIBUTES,
    System,
    SystemInfo,
    check_units,
    find_systems,
)
from kalmandp.frames.hdf5.storage import Store, open_store
from kalmandp.frames.hdf5.writing import write_hdf5

#: Bytes of a block of frames that are read together, and frames of it at most.
BLOCK, MOST_FRAMES = 1 << 21, 1024


class OutOfRange(InputError, IndexError):
    """An index beyond the end of a data set."""


class Outline:
    """A frame that was not read: its source, its number of atoms, and which labels it has.

    ``frame.energy`` and the like are None for a label that it lacks, and True for one that it has.
    """

    def __init__(self, source: str, n_atoms: int, labels: frozenset[str]):
        self.source, self._n_atoms = source, n_atoms
        for label in LABELS:
            setattr(self, label, True if label in labels else None)

    def __len__(self) -> int:
        return self._n_atoms


class Dataset(Sequence):
    """Labelled frames of any composition and size, read from disk as they are asked for.

    Only the tables of contents are read when a data set is opened, so that it may be far larger
    than the memory. ``len``, iteration, ``dataset[k]`` (a Frame) and ``dataset[a:b]`` (a Dataset of
    the same files) work as for a list.

    Parameters
    ----------
    systems : path or list of paths
        An HDF5 file (``water.h5``, all systems in it, or ``water.h5#/O64H128``), or a folder that
        is a system of DeePMD-kit's (deepmd/npy or deepmd/npy/mixed) or holds systems at any depth
    type_map : names of the types, in the order that frames number them
        By default the types that occur, in the order in which the files name them

    Raises
    ------
    FileError
        If a file is missing, damaged or incomplete: the message names file, array, got and wanted.
    InputError
        If a species is not in ``type_map``, or a file states other units than Å and eV or another
        sign of the virial than W = −dE/dε.

    Notes
    -----
    Frames come in the order of the ``systems``, those of one file in the order of its groups by
    name, or, in files written by `Dataset.write`, in the order in which they were written.

    Examples
    --------
    >>> with Dataset("data/si64_lda_train.h5") as data:
    ...     print(data)
    ...     for frame in data[:2]:
    ...         print(frame.source, round(frame.energy, 2))
    Dataset(182 frames, 1 systems, type_map=['Si'], labels=['energy', 'forces', 'virial'])
    data/si64_lda_train.h5#/ frame 0 -6885.09
    data/si64_lda_train.h5#/ frame 1 -6886.48
    """

    def __init__(self, systems, type_map=None):
        paths = [systems] if isinstance(systems, (str, PathLike)) else list(systems)
        if not paths:
            raise InputError("systems is an empty list; expected at least one file or folder")
        given = None if type_map is None else checked_type_map("type_map", type_map)
        self._stores: list[Store] = []
        self._systems: list[System] = []
        self._lock = RLock()  # a thread may read ahead (`frames.kept`)
        orders, sizes = [], []
        try:
            for path in paths:
                found = self._open(path, given)
                orders.append(_source_order(found))
                sizes.append(sum(system.n_frames for system in found))
                self._systems += found
            self._starts = np.cumsum([0] + [s.n_frames for s in self._systems]).tolist()
            self._chosen = _join_orders(orders, sizes)
            if not len(self):
                raise FileError(f"{', '.join(map(str, paths))}: no frames; expected at least one")
            self.type_map = _union(self._systems) if given is None else given
            for system in self._systems:
                system.renumber(self.type_map)
        except BaseException:
            self.close()
            raise

    write = staticmethod(write_hdf5)

    def __len__(self) -> int:
        return self._starts[-1] if self._chosen is None else len(self._chosen)

    def __getitem__(self, k):
        """Frame ``k``, or the Dataset of a slice."""
        if isinstance(k, slice):
            return self.subset(range(*k.indices(len(self))))
        system, row = self._locate(k)
        with self._lock:
            return system.frame(row, self.type_map)

    def __iter__(self):
        return (make() for make in self.makers())

    def makers(self) -> Iterator[Callable[[], Frame]]:
        """A function for each frame, in order, that gives it or raises what is wrong with that frame alone.

        The files are read in blocks of frames of at most some megabytes.
        """
        size_s = np.array([system.row_bytes for system in self._systems])
        start, end = 0, len(self)
        while start < end:
            stop = min(start + MOST_FRAMES, end)
            flat_f = np.arange(start, stop) if self._chosen is None else self._chosen[start:stop]
            system_f = np.searchsorted(self._starts, flat_f, side="right") - 1
            n = max(1, int(np.searchsorted(np.cumsum(size_s[system_f]), BLOCK, side="right")))
            frames = self._block(flat_f[:n], system_f[:n])
            for k, frame in enumerate(frames, start):
                yield partial(self.__getitem__, k) if frame is None else partial(_same, frame)
            start += len(frames)

    def _block(self, flat_f: np.ndarray, system_f: np.ndarray) -> list[Frame | None]:
        """Frames by their places in all files; None for those that are to be read alone."""
        found: list[Frame | None] = [None] * len(flat_f)
        order = np.argsort(system_f, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(system_f[order])) + 1):
            if len(places) > 1:
                s = int(system_f[places[0]])
                with self._lock:
                    frames = self._systems[s].frames(flat_f[places] - self._starts[s], self.type_map)
                for place, frame in zip(places.tolist(), frames, strict=True):
                    found[place] = frame
        return found

    def subset(self, indices) -> Dataset:
        """The Dataset of some frames, in the order of ``indices``; it shares the open files.

        Parameters
        ----------
        indices : integers, negative ones counting from the end; or a mask of len(self) booleans

        Raises
        ------
        InputError
            For indices that are not integers; `OutOfRange`, an IndexError too, for one beyond the end.
        """
        chosen = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices))
        if chosen.dtype == bool and chosen.shape == (len(self),):
            chosen = np.flatnonzero(chosen)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise InputError(f"indices have shape {chosen.shape} and type {chosen.dtype}; expected integers")
        chosen = chosen.astype(np.int64)
        outside = (chosen < -len(self)) | (chosen >= len(self))
        if outside.any():
            raise OutOfRange(f"index {chosen[outside][0]} is outside of the data set of {len(self)} frames")
        chosen = np.where(chosen < 0, chosen + len(self), chosen)
        part = object.__new__(Dataset)
        part.__dict__.update(self.__dict__)
        part._chosen = chosen if self._chosen is None else self._chosen[chosen]
        return part

    def source(self, k: int) -> str:
        """Where frame ``k`` lies, as in its ``Frame.source``, without reading it.

        Parameters
        ----------
        k : number of the frame; negative ones count from the end
        """
        system, row = self._locate(k)
        return f"{system.address} frame {row}"

    def natoms(self, k: int) -> int:
        """Number of atoms of frame ``k``, without reading it.

        Parameters
        ----------
        k : number of the frame; negative ones count from the end
        """
        system, row = self._locate(k)
        with self._lock:
            return system.atoms_in(row)

    def outline(self, k: int) -> Outline:
        """What is known of frame ``k`` without reading its positions and labels.

        Parameters
        ----------
        k : number of the frame; negative ones count from the end
        """
        system, row = self._locate(k)
        with self._lock:
            return Outline(f"{system.address} frame {row}", system.atoms_in(row), system.labels_in(row))

    def densest(self, n: int) -> np.ndarray:
        """Numbers of the ``n`` frames with the smallest cells of each system in use, in their order.

        Only cells are read. Of open systems and of a mixed layout, where cells say less, the first are taken.

        Parameters
        ----------
        n : frames of a system
        """
        flat = np.arange(len(self)) if self._chosen is None else self._chosen
        system_f = np.searchsorted(self._starts, flat, side="right") - 1
        found = []
        for s in np.unique(system_f):
            mine = np.flatnonzero(system_f == s)
            with self._lock:
                volume_r = self._systems[s].volumes()
            order = np.argsort(volume_r[flat[mine] - self._starts[s]], kind="stable")
            found.append(mine[order[:n]])
        return np.sort(np.concatenate(found))

    @property
    def systems(self) -> tuple[SystemInfo, ...]:
        """Address, formula, number of frames and atoms, and labels of each system in use."""
        used = self._frames_per_system()
        return tuple(
            system.info._replace(n_frames=int(n)) for system, n in zip(self._systems, used, strict=True) if n
        )

    @property
    def species(self) -> tuple[str, ...]:
        """Names of the types that occur, in the order of ``type_map``; all names in a mixed layout."""
        used = zip(self._systems, self._frames_per_system(), strict=True)
        present = {name for system, n in used if n for name in system.species}
        return tuple(name for name in self.type_map if name in present)

    def by_system(self) -> dict[str, np.ndarray]:
        """Numbers of the frames of each system in use, by its address, in the order of `systems`."""
        flat = np.arange(len(self)) if self._chosen is None else self._chosen
        system_f = np.searchsorted(self._starts, flat, side="right") - 1
        numbers = {s.address: np.flatnonzero(system_f == n) for n, s in enumerate(self._systems)}
        return {address: frames for address, frames in numbers.items() if len(frames)}

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that at least one system has: energy, forces, virial, atomic_energies."""
        used = zip(self._systems, self._frames_per_system(), strict=True)
        present = {label for system, n in used if n for label in system.labels}
        return tuple(label for label in LABELS if label in present)

    def lacking(self, label: str) -> np.ndarray:
        """Numbers of the frames without a label, in their order; none of them is read.

        Parameters
        ----------
        label : energy, forces, virial or atomic_energies
        """
        lacks = [
            np.full(part.n_frames, LABELS[label] not in part.arrays)
            for system in self._systems
            for part in system.parts
        ]
        flat = np.concatenate(lacks)
        return np.flatnonzero(flat if self._chosen is None else flat[self._chosen])

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of arrays in the files that nothing here reads (``fparam``, ``spin``, …)."""
        return tuple(sorted({name for system in self._systems for name in system.ignored}))

    @property
    def attributes(self) -> dict[str, dict]:
        """Attributes at the root of each HDF5 file: units, provenance."""
        return {store.path: store.attributes() for store in self._stores}

    def close(self) -> None:
        """Close the files, also for the subsets of this data set."""
        with self._lock:
            for store in self._stores:
                store.close()

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"Dataset({len(self)} frames, {len(self.systems)} systems, "
            f"type_map={list(self.type_map)}, labels={list(self.labels)})"
        )

    def _open(self, path, type_map) -> list[System]:
        store = open_store(path)
        self._stores.append(store)
        check_units(store.path, store.attributes(UNIT_ATTRIBUTES))
        members = find_systems(store)
        if not members:
            raise FileError(f"{path}: holds no system (no type.raw is in it)")
        return [System(store, name, members[name], type_map) for name in members]

    def _locate(self, k) -> tuple[System, int]:
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool):
            raise InputError(f"index is {k!r}; expected an integer or a slice")
        n = len(self)
        if not -n <= k < n:
            raise OutOfRange(f"index {k} is outside of the data set of {n} frames")
        k = int(k) % n
        flat = k if self._chosen is None else int(self._chosen[k])
        s = bisect_right(self._starts, flat) - 1
        return self._systems[s], flat - self._starts[s]

    def _frames_per_system(self) -> np.ndarray:
        if self._chosen is None:
            return np.diff(self._starts)
        system_f = np.searchsorted(self._starts, self._chosen, side="right") - 1
        return np.bincount(system_f, minlength=len(self._systems))


def _same(frame: Frame) -> Frame:
    return frame


def _union(systems: list[System]) -> tuple[str, ...]:
    """The type maps of all systems in their order, without types that are only listed."""
    found = {name for system in systems for name in system.species}
    return tuple(dict.fromkeys(t for system in systems for t in system.type_map if t in found))


def _source_order(systems: list[System]) -> np.ndarray | None:
    """Frames of one file in the order they were written; None for the order of the groups."""
    places = [system.frame_index() for system in systems]
    known = [place for place in places if place is not None]
    if len(known) < len(systems):
        return None
    order = np.argsort(np.concatenate(known), kind="stable")
    return None if (np.diff(order) > 0).all() else order


def _join_orders(orders: list[np.ndarray | None], sizes: list[int]) -> np.ndarray | None:
    """The order over all files, each keeping its own; None if every file is in order as it is."""
    if all(order is None for order in orders):
        return None
    firsts = np.cumsum([0, *sizes[:-1]])
    return np.concatenate(
        [
            first + (np.arange(size) if order is None else order)
            for order, size, first in zip(orders, sizes, firsts, strict=True)
        ]
    )
