"""CUDA twin of `frames.neighbours`: pairs found where they are used.

The frame's atoms are uploaded; what comes back, once for a frame, are four numbers: how many pairs there
are, whether ``sel`` suffices, and the shortest distances. Everything else stays on the device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.engines.cuda_launch import THREADS, WARP, CupyDevice, Device, blocks_for, check_memory
from kalmandp.engines.cuda_sort import order_of_keys
from kalmandp.frames.frame import OVERLAP, Frame
from kalmandp.frames.neighbours import Pairs, check_extent, check_overlap, checked_cutoff, close_gaps

#: Atoms, a warp each, of a block.
ATOMS_PER_BLOCK = THREADS // WARP
#: Bins for an atom at most: a sparse system needs no more.
BINS_PER_ATOM = 8
#: Bytes for a pair while it is sought: as found, as ranked, and the same pair from its other end.
BYTES_PER_PAIR = 96


class SearchGrid(NamedTuple):
    """How a frame is cut into bins; the tables of neighbours.cu.

    bins : (9,) int32, bins along each vector, how many the cut-off reaches, whether periodic
    geometry : (24,) float64, cell, its inverse, least fractional coordinates and bins per unit of them
    """

    bins: np.ndarray
    geometry: np.ndarray

    @property
    def n_bins(self) -> int:
        return int(self.bins[:3].prod(dtype=np.int64))


class DeviceList(NamedTuple):
    """Pairs of one frame, arrays of the device, in the order of `frames.neighbours.Pairs`.

    first_i : (i + 1,) pairs of atom i are first_i[i] … first_i[i+1]−1
    closest : the shortest distance, Å; inf if there is no pair
    """

    first_i: Any
    i_p: Any
    j_p: Any
    shift_pd: Any
    r_pc: Any
    closest: float


def neighbour_pairs(frame: Frame, cutoff: float, device: Device | None = None) -> Pairs:
    """Twin of `frames.neighbours.neighbour_pairs`: the same pairs in the same order, found on a device.

    Parameters
    ----------
    frame : Frame
    cutoff : r_c, Å
    device : by default the current CUDA device

    Returns
    -------
    Pairs, of NumPy. A pair as long as the cut-off to the last digits may be in one list and not in the other.

    Raises
    ------
    InputError
        As the twin: for overlapping atoms, and for cells that make no sense.
    """
    device = CupyDevice() if device is None else device
    cutoff = checked_cutoff(cutoff)
    types_i = device.xp.asarray(np.asarray(frame.types, np.int32))
    search = Search(device, frame, cutoff, types_i)
    search.check()
    return search.on_the_host()


def search_grid(frame: Frame, points: np.ndarray, cutoff: float) -> SearchGrid:
    """Bins no narrower than the cut-off, or as many as a periodic cell smaller than that has: one.

    Along vector d the distance between opposite faces is 1/|column d of cell⁻¹|; along an open one the bins
    cover the atoms.
    """
    cell = np.eye(3) if frame.cell is None else frame.cell
    inverse = np.linalg.inv(cell)
    periodic = np.array(frame.pbc)
    s_id = points @ inverse
    low_d = np.where(periodic, 0.0, s_id.min(axis=0))
    span_d = np.where(periodic, 1.0, np.ptp(s_id, axis=0))
    height_d = span_d / np.sqrt((inverse * inverse).sum(axis=0))
    # rounding must not carry an atom out of reach
    reached = cutoff * (1 + 1e-6) + 1e-13 * np.abs(points).max()
    count_d = np.maximum(1, np.minimum(height_d // reached, 1e6)).astype(np.int64)
    while count_d.prod() > BINS_PER_ATOM * len(frame) + 27:
        widest = count_d.argmax()
        count_d[widest] = -(-count_d[widest] // 2)
    with np.errstate(divide="ignore"):
        reach_d = np.where(periodic, np.ceil(reached * count_d / height_d), np.minimum(1, count_d - 1))
        density_d = np.where(span_d > 0, count_d / span_d, 0.0)
    bins = np.concatenate([count_d, reach_d, periodic]).astype(np.int32)
    return SearchGrid(bins, np.concatenate([cell.ravel(), inverse.ravel(), low_d, density_d]))


class Search:
    """The pairs of one frame on a device: counted when it is made, written when they are asked for.

    Parameters
    ----------
    device : where
    frame : Frame
    cutoff : r_c, Å
    types_i : (i,) int32, its types on the device
    sel_t : (t,) the most neighbours of each type that are allowed; any number if it is None
    left_out_tt : (centre, neighbour) types whose pairs are not wanted; they count for ``sel_t``

    Raises
    ------
    InputError
        For a cell that makes no sense, or a list that does not fit into the memory of the device.
    """

    def __init__(self, device: Device, frame: Frame, cutoff: float, types_i, sel_t=None, left_out_tt=None):
        check_extent(frame, cutoff)
        self.device, self.frame, self.cutoff, self._types_i = device, frame, cutoff, types_i
        self._f, xp, n = device.functions("neighbours.cu"), device.xp, len(frame)
        n_types = len(frame.type_map)
        left_out_tt = np.zeros((n_types, n_types), bool) if left_out_tt is None else left_out_tt
        self._left_out_tt = xp.asarray(left_out_tt.astype(np.int32))
        self._first_i, self.n_pairs, self.closest, self.wrong = xp.zeros(n + 1, np.int32), 0, np.inf, False
        if n:
            self._place()
            self._count(xp.asarray(np.asarray(np.inf if sel_t is None else sel_t, dtype=np.float64)))

    def _place(self) -> None:
        """Put the atoms into bins, and sort them by bin; atoms of a bin keep their order."""
        xp, n, points = self.device.xp, len(self.frame), close_gaps(self.frame, self.cutoff)
        grid = search_grid(self.frame, points, self.cutoff)
        put = lambda values: xp.asarray(np.ascontiguousarray(values, dtype=np.float64))
        self._x_ic = put(self.frame.positions)
        points_ic = self._x_ic if points is self.frame.positions else put(points)
        geometry, bins = put(grid.geometry), xp.asarray(grid.bins)
        bin_i, fold_id = xp.empty(n, np.int32), xp.empty((n, 3), np.int32)
        self._f.place_atoms(blocks_for(n), THREADS, points_ic, n, geometry, bins, bin_i, fold_id)
        sorted_ = order_of_keys(self.device, bin_i, grid.n_bins)
        self._atoms = (self._x_ic, self._types_i, n, geometry, bins, bin_i, fold_id, *sorted_, self.cutoff)

    def _count(self, sel_t) -> None:
        """Count pairs; the one place where the host waits."""
        xp, n, n_types = self.device.xp, len(self.frame), len(self.frame.type_map)
        count_it, shortest_i = xp.zeros((n, n_types), np.int32), xp.empty((n, 2))
        self._f.count_pairs(
            blocks_for(n, ATOMS_PER_BLOCK), THREADS, *self._atoms, self._left_out_tt, n_types, count_it,
            shortest_i,
        )  # fmt: skip
        kept_i = (count_it * (1 - self._left_out_tt)[self._types_i]).sum(axis=1)
        # int64: too many pairs are noticed, not counted round
        last_i = xp.cumsum(kept_i.astype(np.int64))
        figures = last_i[-1], (count_it > sel_t).any(), *shortest_i.min(axis=0)
        n_pairs, too_many, *shortest = to_numpy(xp.stack([f.astype(np.float64) for f in figures])).tolist()
        self.n_pairs = int(n_pairs)
        check_memory(
            self.device, BYTES_PER_PAIR * self.n_pairs, f"{self.frame.source}: the list of neighbours",
            "A shorter cut-off or a smaller frame",
        )  # fmt: skip
        self._first_i[1:] = last_i.astype(np.int32)
        self.closest = np.sqrt(shortest[1]) if self.n_pairs else np.inf
        self.wrong = bool(too_many) or shortest[0] < OVERLAP**2

    def pairs(self) -> DeviceList:
        """The pairs that are wanted; whether they make sense is asked by `check`."""
        xp, n, n_p, first_i = self.device.xp, len(self.frame), self.n_pairs, self._first_i
        empty = lambda: (xp.empty(n_p, np.int32), xp.empty((n_p, 3), np.int32), xp.empty((n_p, 3)))
        (j_p, shift_pd, r_pc), ranked, i_p = empty(), empty(), xp.empty(n_p, np.int32)
        if n_p:
            self._f.write_pairs(
                blocks_for(n, ATOMS_PER_BLOCK), THREADS, *self._atoms, self._left_out_tt,
                len(self.frame.type_map), first_i, i_p, j_p, shift_pd, r_pc,
            )  # fmt: skip
            self._f.rank_pairs(
                blocks_for(n_p), THREADS, self._types_i, first_i, n_p, i_p, j_p, shift_pd, r_pc, *ranked
            )
        return DeviceList(first_i, i_p, *ranked, self.closest)

    def check(self, check_sel=lambda pairs: None) -> None:
        """Raise if atoms overlap, or whatever ``check_sel(pairs)`` raises, in the host's own words."""
        if self.wrong:
            everything = Search(self.device, self.frame, self.cutoff, self._types_i)
            pairs = everything.on_the_host()
            check_overlap(self.frame, pairs)
            check_sel(pairs)

    def on_the_host(self) -> Pairs:
        """The pairs as NumPy arrays."""
        found = self.pairs()
        return Pairs(*map(to_numpy, (found.i_p, found.j_p, found.shift_pd, found.r_pc)))
