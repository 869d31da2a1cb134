"""Pairs of atoms within the cut-off, by vesin, and how many of them there are.

The list is full (i → j and j → i), holds every periodic image, and its order depends on nothing but
the frame: pairs are sorted by centre, then by the neighbour's type, then by neighbour and image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kalmandp.errors import InputError
from kalmandp.frames.frame import OVERLAP, Frame

#: More images of the cell than this within the cut-off: the cell is a mistake.
MOST_IMAGES = 1e6
#: More neighbours than this in the cut-off sphere at the mean density: lengths are not in Å.
MOST_NEIGHBOURS = 2e4
#: Open systems longer than this many cut-offs have their gaps closed for the search.
LONGEST = 1000
#: From this many atoms on, atoms on top of each other are looked for before the search.
MANY_ATOMS = 1000
#: A `Search` keeps the memory of so many pairs, 48 bytes each, from one frame to the next.
KEPT_PAIRS = 1_000_000


class Pairs(NamedTuple):
    """Directed pairs within the cut-off.

    i_p : (p,) int32 centre;  j_p : (p,) int32 neighbour
    shift_pd : (p, 3) int32 lattice image of the neighbour
    r_pc : (p, 3) float64 r_j + shift·cell − r_i, Å
    """

    i_p: np.ndarray
    j_p: np.ndarray
    shift_pd: np.ndarray
    r_pc: np.ndarray


class NeighbourStatistics(NamedTuple):
    """How many neighbours atoms have within a cut-off.

    type_map : names of the types;  cutoff : Å
    most_ft : (n_frames, n_types) the most neighbours of each type that an atom of the frame has
    most_f : (n_frames,) the most of all types together
    min_distance : the shortest distance within the cut-off, Å; inf if there is no pair
    """

    type_map: tuple[str, ...]
    cutoff: float
    most_ft: np.ndarray
    most_f: np.ndarray
    min_distance: float

    @property
    def most_t(self) -> np.ndarray:
        """(n_types,) the most of each type that any atom has."""
        return self.most_ft.max(axis=0)

    def of_types(self, type_map) -> NeighbourStatistics:
        """The same with the columns of ``type_map``, 0 for a type that is not there."""
        none_f = np.zeros(len(self.most_f), dtype=np.int64)
        column = dict(zip(self.type_map, self.most_ft.T, strict=True))
        most_ft = np.stack([column.get(name, none_f) for name in type_map], axis=1)
        return self._replace(type_map=tuple(type_map), most_ft=most_ft)


def neighbour_pairs(frame: Frame, cutoff: float) -> Pairs:
    """All pairs of ``frame`` closer than ``cutoff`` (Å).

    Deep Potential, step 1: the list {r_ij = r_j − r_i : |r_ij| < r_c} of every atom i.

    Parameters
    ----------
    frame : Frame
    cutoff : r_c, Å

    Returns
    -------
    Pairs

    Raises
    ------
    InputError
        If two atoms are closer than 0.1 Å (the message names them), or if the cell is so flat, or
        the cut-off so long, that it reaches more than 10⁶ images.
    """
    return Search(cutoff).pairs(frame)


class Search:
    """`neighbour_pairs` of one cut-off, for frames that follow each other: memory is kept in between.

    Fresh memory for the pairs of 250 atoms takes a fifth of the time of their search. Several threads may
    search at the same time.

    Parameters
    ----------
    cutoff : Å
    """

    def __init__(self, cutoff: float):
        self.cutoff = checked_cutoff(cutoff)
        #: vesin's lists that are not at work
        self._idle: list = []

    def pairs(self, frame: Frame) -> Pairs:
        """What `neighbour_pairs` gives for ``frame``; errors as there."""
        n = len(frame)
        if n == 0:
            empty = np.zeros(0, dtype=np.int32)
            return Pairs(empty, empty, np.zeros((0, 3), np.int32), np.zeros((0, 3)))
        check_extent(frame, self.cutoff)
        cell = np.zeros((3, 3)) if frame.cell is None else frame.cell
        points = _close_gaps(frame, self.cutoff)
        listed = self._free()
        try:  # without a copy the arrays are the list's own: what follows copies them in their order
            i, j, shift, r = listed.compute(
                points=points, box=cell, periodic=list(frame.pbc), quantities="ijSD", copy=False
            )
        except RuntimeError as error:
            raise InputError(f"{frame.source}: the neighbour search failed: {error}") from None
        if points is not frame.positions:
            r = frame.positions[j] - frame.positions[i] + shift @ cell
        i, j, shift = i.astype(np.int32), j.astype(np.int32), np.asarray(shift, dtype=np.int32)
        order = _order(i, frame.types[j], j, shift)
        pairs = Pairs(
            i[order], j[order], shift.take(order, axis=0), np.asarray(r, dtype=np.float64).take(order, axis=0)
        )
        if len(order) <= KEPT_PAIRS:
            self._idle.append(listed)
        check_overlap(frame, pairs)
        return pairs

    def __reduce__(self):
        return Search, (self.cutoff,)

    def _free(self):
        """A list that no other thread is using."""
        import vesin

        try:
            return self._idle.pop()
        except IndexError:
            return vesin.NeighborList(cutoff=self.cutoff, full_list=True, n_threads=1)


def _order(i_p, type_p, j_p, shift_pd) -> np.ndarray:
    """The order of pairs by centre, neighbour's type, neighbour and image."""
    columns = [i_p, type_p, j_p, *shift_pd.T]
    # as digits of one integer, which sorts twice as fast; all differ, so every sort gives the same order
    key, size = np.zeros(len(i_p), np.int64), 1
    for column in columns:
        low = int(column.min(initial=0))
        width = int(column.max(initial=0)) - low + 1
        size *= width
        key = key * width + (column - low)
    # the search goes from cube to cube, so that long runs are in order: merging them is five times as fast
    return np.argsort(key, kind="stable") if size < 2**63 else np.lexsort(columns[::-1])


def neighbour_counts(frame: Frame, pairs: Pairs) -> np.ndarray:
    """Number of neighbours of each atom by type, shape (n_atoms, n_types)."""
    n_types = len(frame.type_map)
    flat = pairs.i_p.astype(np.int64) * n_types + frame.types[pairs.j_p]
    return np.bincount(flat, minlength=len(frame) * n_types).reshape(len(frame), n_types)


def neighbour_statistics(frames, cutoff: float, type_map=None) -> NeighbourStatistics:
    """The most neighbours that an atom of each frame has, and the shortest distance.

    Parameters
    ----------
    frames : iterable of Frame, e.g. a Dataset; gone through once, one frame at a time
    cutoff : Å
    type_map : names of the types, in the order of the result; that of ``frames`` by default

    Returns
    -------
    NeighbourStatistics

    Raises
    ------
    InputError
        For an element that is not in ``type_map``, overlapping atoms, or no frames at all.
    """
    type_map = getattr(frames, "type_map", None) if type_map is None else tuple(type_map)
    found = []
    for frame in frames:
        type_map = frame.type_map if type_map is None else type_map
        frame = frame.with_type_map(type_map)
        found.append(statistics_of(frame, neighbour_pairs(frame, cutoff), cutoff))
    if not found:
        raise InputError("there are no frames to count neighbours in; expected at least one")
    return joined(found)


def statistics_of(frame: Frame, pairs: Pairs, cutoff: float) -> NeighbourStatistics:
    """`neighbour_statistics` of one frame, from its pairs within ``cutoff``."""
    count_it = neighbour_counts(frame, pairs)
    most_t, most = count_it.max(axis=0, initial=0), count_it.sum(axis=1).max(initial=0)
    square = (pairs.r_pc * pairs.r_pc).sum(-1).min(initial=np.inf)
    return NeighbourStatistics(
        frame.type_map, cutoff, most_t[None], np.array([most]), float(np.sqrt(square))
    )


def joined(parts: Sequence[NeighbourStatistics]) -> NeighbourStatistics:
    """The frames of several, which have the same types and cut-off, one after the other."""
    return parts[0]._replace(
        most_ft=np.concatenate([part.most_ft for part in parts]),
        most_f=np.concatenate([part.most_f for part in parts]),
        min_distance=min(part.min_distance for part in parts),
    )


def checked_cutoff(cutoff) -> float:
    """``cutoff`` as a number of Å, if it is one."""
    try:
        number = float(cutoff)
    except (TypeError, ValueError):
        number = np.nan
    if not 0.0 < number < np.inf:
        raise InputError(f"cutoff is {cutoff!r}; expected a positive number of Å")
    return number


def check_extent(frame: Frame, cutoff: float) -> None:
    """Refuse what would keep the search busy for ever or fill the memory."""
    if any(frame.pbc):
        _check_images(frame, cutoff)
    if all(frame.pbc):
        _check_density(frame, cutoff)
    if len(frame) > MANY_ATOMS:
        _check_heap(frame)


def _check_images(frame: Frame, cutoff: float) -> None:
    assert frame.cell is not None
    # the distance of opposite faces along d is the reciprocal length of column d of cell⁻¹
    inverse = np.linalg.inv(frame.cell)
    height_d = 1.0 / np.sqrt((inverse * inverse).sum(axis=0))
    images = (2.0 * cutoff / height_d[list(frame.pbc)] + 1.0).prod()
    if images > MOST_IMAGES:
        raise InputError(
            f"{frame.source}: the faces of the cell are {', '.join(f'{h:.3g}' for h in height_d)} Å"
            f" apart, so that a cut-off of {cutoff:g} Å reaches {images:.3g} of its images; "
            f"expected at most {MOST_IMAGES:g}"
        )


def _check_density(frame: Frame, cutoff: float) -> None:
    neighbours = 4.0 / 3.0 * np.pi * cutoff**3 * len(frame) / frame.volume
    if neighbours > MOST_NEIGHBOURS:
        raise InputError(
            f"{frame.source}: {len(frame)} atoms in {frame.volume:.3g} Å³ have about "
            f"{neighbours:.3g} neighbours each within {cutoff:g} Å; expected at most "
            f"{MOST_NEIGHBOURS:g} (are the lengths in Å?)"
        )


def _check_heap(frame: Frame) -> None:
    """Find atoms on top of each other (all at the origin, say) without listing their pairs."""
    # two atoms in one cube of edge d/√3 are less than d apart
    cube_ic = np.floor(frame.positions * (np.sqrt(3.0) / OVERLAP))
    order = np.lexsort(cube_ic.T)
    same = (np.diff(cube_ic[order], axis=0) == 0).all(axis=1)
    if same.any():
        k = int(same.argmax())
        i, j = sorted((int(order[k]), int(order[k + 1])))
        r_c = frame.positions[j] - frame.positions[i]
        raise InputError(_overlap_message(frame, i, j, float(np.sqrt((r_c * r_c).sum()))))


def check_overlap(frame: Frame, pairs: Pairs) -> None:
    """Raise if a pair is shorter than 0.1 Å; the message names its atoms."""
    square_p = np.einsum("pc,pc->p", pairs.r_pc, pairs.r_pc)
    if len(square_p) and square_p.min() < OVERLAP**2:
        p = int(square_p.argmin())
        raise InputError(_overlap_message(frame, pairs.i_p[p], pairs.j_p[p], np.sqrt(square_p[p])))


def _overlap_message(frame: Frame, i: int, j: int, distance: float) -> str:
    whom = f"atoms {i} and {j}" if i != j else f"atom {i} and its own periodic image"
    return f"{frame.source}: {whom} are {distance:.3g} Å apart; expected at least {OVERLAP} Å"


def _close_gaps(frame: Frame, cutoff: float) -> np.ndarray:
    """Positions for the search, long empty stretches along open directions shortened.

    The grid of the search covers the whole extent of an open system; one atom that has flown off
    (10⁶ Å) would make it fill the memory or divide by zero. Two atoms with an empty stretch of more
    than the cut-off between them are no pair, however long the stretch is: cut it to just more.
    The positions themselves are returned unless the system is very long.
    """
    # directions normal to every periodic vector, as rows
    periodic = frame.cell[list(frame.pbc)] if frame.cell is not None else np.zeros((0, 3))
    open_dc = np.linalg.svd(periodic)[2][len(periodic) :] if len(periodic) else np.eye(3)
    height_id = frame.positions @ open_dc.T
    if not len(open_dc) or np.ptp(height_id, axis=0).max() < LONGEST * cutoff:
        return frame.positions
    closed_id = np.empty_like(height_id)
    for d, height_i in enumerate(height_id.T):
        order = np.argsort(height_i, kind="stable")
        gap = np.diff(height_i[order], prepend=height_i[order[0]])
        closed_id[order, d] = np.cumsum(np.minimum(gap, 1.01 * cutoff))
    return frame.positions + (closed_id - height_id) @ open_dc
