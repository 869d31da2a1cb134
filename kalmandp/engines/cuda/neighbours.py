"""CUDA twin of `geometry.neighbours`: pairs found where they are used.

What comes back to the host, once for a frame, are four numbers: how many pairs there are, whether ``sel``
suffices, and the shortest distances. Everything else stays on the device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.engines.cuda.launch import THREADS, WARP, CupyDevice, Device, blocks_for, check_memory
from kalmandp.engines.cuda.sort import order_of_keys
from kalmandp.errors import require
from kalmandp.frames.frame import OVERLAP, Frame
from kalmandp.geometry.neighbours import Pairs, check_extent, check_overlap, checked_cutoff

#: Atoms, a warp each, of a block.
ATOMS_PER_BLOCK = THREADS // WARP
#: Bins for an atom at most: a sparse system needs no more.
BINS_PER_ATOM = 8
#: Bytes for a pair during the search: as found, as ranked, and the same pair from its other end.
BYTES_PER_PAIR = 96
#: More pairs at a time than this, and twelve numbers of each are no longer counted by 32 bits.
MOST_PAIRS = 2**31 // 12


class Box(NamedTuple):
    """What the host knows of where atoms are.

    cell : (3, 3) lattice vectors as rows, Å, a unit matrix without a cell;  periodic : (3,) booleans
    low_d, high_d : (3,) least and largest fractional coordinates;  farthest : the largest |coordinate|, Å
    """

    cell: np.ndarray
    periodic: np.ndarray
    low_d: np.ndarray
    high_d: np.ndarray
    farthest: float

    @classmethod
    def around(cls, xp, x_ic, cell, pbc) -> Box:
        """The box of positions (i, 3) of NumPy or of a device; the host waits for a device's."""
        cell = np.eye(3) if cell is None else cell
        s_id = x_ic @ xp.asarray(np.linalg.inv(cell))
        extent = xp.stack([s_id.min(axis=0), s_id.max(axis=0), xp.abs(x_ic).max(axis=0)])
        low_d, high_d, farthest_c = to_numpy(extent)
        return cls(cell, np.array(pbc), low_d, high_d, float(farthest_c.max()))


class SearchGrid(NamedTuple):
    """How a box is cut into bins; the tables of neighbours.cu.

    bins : (9,) int32, bins along each vector, how many the cut-off reaches, whether periodic
    geometry : (24,) float64, cell, its inverse, least fractional coordinates and bins per unit of them
    """

    bins: np.ndarray
    geometry: np.ndarray

    @property
    def n_bins(self) -> int:
        return int(self.bins[:3].prod(dtype=np.int64))


class DeviceList(NamedTuple):
    """Pairs of one frame, arrays of the device, in the order of `geometry.neighbours.Pairs`.

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
    """Twin of `geometry.neighbours.neighbour_pairs`: the same pairs in the same order, found on a device.

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
    found = search_frame(device, frame, checked_cutoff(cutoff)).pairs()
    pairs = Pairs(*map(to_numpy, (found.i_p, found.j_p, found.shift_pd, found.r_pc)))
    check_overlap(frame, pairs)
    return pairs


def search_frame(device: Device, frame: Frame, cutoff: float, types_i=None, **choices) -> Search:
    """The search in a frame of the host, whose atoms are uploaded.

    Parameters
    ----------
    types_i : (i,) int32, its types on the device, if they are there
    choices : ``sel_t`` and ``left_out_tt`` of `Search`

    Raises
    ------
    InputError
        For a cell that makes no sense, or a list that does not fit into the memory of the device.
    """
    check_extent(frame, cutoff)
    put = device.xp.asarray
    types_i = put(np.asarray(frame.types, np.int32)) if types_i is None else types_i
    box = Box.around(np, frame.positions, frame.cell, frame.pbc) if len(frame) else None
    return Search(
        device, box, put(frame.positions), types_i, cutoff, len(frame.type_map), what=frame.source, **choices
    )


def search_grid(box: Box, n_atoms: int, cutoff: float) -> SearchGrid:
    """Bins no narrower than the cut-off, or as many as a periodic cell smaller than that has: one.

    Along vector d the distance between opposite faces is 1/|column d of cell⁻¹|; along an open one the bins
    cover the atoms.
    """
    inverse, periodic = np.linalg.inv(box.cell), box.periodic
    low_d = np.where(periodic, 0.0, box.low_d)
    span_d = np.where(periodic, 1.0, box.high_d - box.low_d)
    height_d = span_d / np.sqrt((inverse * inverse).sum(axis=0))
    # rounding must not carry an atom out of reach
    reached = cutoff * (1 + 1e-6) + 1e-13 * box.farthest
    count_d = np.maximum(1, np.minimum(height_d // reached, 1e6)).astype(np.int64)
    while count_d.prod() > BINS_PER_ATOM * n_atoms + 27:
        widest = count_d.argmax()
        count_d[widest] = -(-count_d[widest] // 2)
    with np.errstate(divide="ignore"):
        reach_d = np.where(periodic, np.ceil(reached * count_d / height_d), np.minimum(1, count_d - 1))
        density_d = np.where(span_d > 0, count_d / span_d, 0.0)
    bins = np.concatenate([count_d, reach_d, periodic]).astype(np.int32)
    return SearchGrid(bins, np.concatenate([box.cell.ravel(), inverse.ravel(), low_d, density_d]))


class Search:
    """The pairs of one frame on a device: counted when it is made, written when they are asked for.

    Parameters
    ----------
    device : where
    box : of the positions; None if there are no atoms
    x_ic : (i, 3) float64, Å, and types_i : (i,) int32, on the device
    cutoff : r_c, Å
    n_types : types there are
    sel_t : (t,) the most neighbours of each type that are allowed; any number if it is None
    left_out_tt : (centre, neighbour) types whose pairs are not wanted; they count for ``sel_t``
    what : name of the frame in messages of errors

    Attributes
    ----------
    n_pairs : pairs that are wanted;  closest : the shortest of them, Å
    wrong : whether atoms overlap, or have more neighbours than ``sel_t``

    Raises
    ------
    InputError
        If the list does not fit into the memory of the device.
    """

    def __init__(
        self, device: Device, box: Box | None, x_ic, types_i, cutoff: float, n_types: int, *, sel_t=None,
        left_out_tt=None, what: str = "frame",
    ):  # fmt: skip
        self.device, self.cutoff, self._n_types, self._what = device, cutoff, n_types, what
        self._f, self._types_i, n = device.functions("neighbours.cu"), types_i, len(types_i)
        left_out_tt = np.zeros((n_types, n_types), bool) if left_out_tt is None else left_out_tt
        self._left_out_tt = device.xp.asarray(left_out_tt.astype(np.int32))
        self._first_i, self.n_pairs = device.xp.zeros(n + 1, np.int32), 0
        self.closest, self.wrong = np.inf, False
        if box is not None:
            self._place(box, device.xp.ascontiguousarray(x_ic, dtype=np.float64))
            self._count(np.full(n_types, np.inf) if sel_t is None else np.asarray(sel_t, float))

    def _place(self, box: Box, x_ic) -> None:
        """Put the atoms into bins, and sort them by bin; atoms of a bin keep their order."""
        xp, n = self.device.xp, len(x_ic)
        grid = search_grid(box, n, self.cutoff)
        geometry, bins = xp.asarray(grid.geometry), xp.asarray(grid.bins)
        bin_i, fold_id = xp.empty(n, np.int32), xp.empty((n, 3), np.int32)
        self._f.place_atoms(blocks_for(n), THREADS, x_ic, n, geometry, bins, bin_i, fold_id)
        order_n, first_b = order_of_keys(self.device, bin_i, grid.n_bins)
        self._atoms = (
            x_ic, self._types_i, n, geometry, bins, bin_i, fold_id, order_n, first_b, self.cutoff,
            self._left_out_tt, self._n_types,
        )  # fmt: skip

    def _count(self, sel_t: np.ndarray) -> None:
        """Count pairs; the one place where the host waits."""
        xp, n, n_types = self.device.xp, len(self._types_i), self._n_types
        count_it, shortest_i = xp.zeros((n, n_types), np.int32), xp.empty((n, 2))
        self._f.count_pairs(blocks_for(n, ATOMS_PER_BLOCK), THREADS, *self._atoms, count_it, shortest_i)
        kept_i = (count_it * (1 - self._left_out_tt)[self._types_i]).sum(axis=1)
        # int64, so that too many pairs are noticed and the sum does not overflow
        last_i = xp.cumsum(kept_i.astype(np.int64))
        figures = last_i[-1], (count_it > xp.asarray(sel_t)).any(), *shortest_i.min(axis=0)
        n_pairs, too_many, *shortest = to_numpy(xp.stack([f.astype(np.float64) for f in figures])).tolist()
        self.n_pairs, what = int(n_pairs), f"{self._what}: the list of neighbours"
        check_memory(
            self.device, BYTES_PER_PAIR * self.n_pairs, what, "A shorter cut-off or a smaller frame"
        )
        require(self.n_pairs <= MOST_PAIRS, what, f"{self.n_pairs:,} pairs", f"at most {MOST_PAIRS:,}")
        self._first_i[1:] = last_i.astype(np.int32)
        self.closest = float(np.sqrt(shortest[1])) if self.n_pairs else np.inf
        self.wrong = bool(too_many) or shortest[0] < OVERLAP**2

    def pairs(self) -> DeviceList:
        """The pairs that are wanted; ``wrong`` says whether they can be used."""
        xp, n, n_p, first_i = self.device.xp, len(self._types_i), self.n_pairs, self._first_i
        empty = lambda: (xp.empty(n_p, np.int32), xp.empty((n_p, 3), np.int32), xp.empty((n_p, 3)))
        (j_p, shift_pd, r_pc), ranked, i_p = empty(), empty(), xp.empty(n_p, np.int32)
        if n_p:
            self._f.write_pairs(
                blocks_for(n, ATOMS_PER_BLOCK), THREADS, *self._atoms, first_i, i_p, j_p, shift_pd, r_pc
            )
            self._f.rank_pairs(
                blocks_for(n_p), THREADS, self._types_i, first_i, n_p, i_p, j_p, shift_pd, r_pc, *ranked
            )
        return DeviceList(first_i, i_p, *ranked, self.closest)
