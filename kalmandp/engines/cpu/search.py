"""Numba twin of `geometry.neighbours.Search` for periodic cells: pairs found in the order that is wanted.

Atoms lie in bins of the cell, about half a cut-off wide. Each atom j, type after type, looks for centres i in
the bins around its own, and there for the images of i from the last to the first: every centre so meets its
neighbours in the order of type, number and shift, and what is left is to put the pairs of a centre together.

With x = x_w + n·h, x_w within the cell, and the image of i moved by m::

    r = x_wj − x_wi − m·h = x_j − x_i + s·h,      s = n_i − n_j − m

r is computed from the right side, as `pairs.pairs_within` does: a list that is kept gives the same bits.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from kalmandp.engines.cpu.buffers import Store
from kalmandp.frames.frame import OVERLAP, Frame
from kalmandp.geometry import neighbours
from kalmandp.geometry.neighbours import Pairs, check_extent, check_overlap

#: Width of a bin, in cut-offs, and bins for an atom at most.
WIDTH, BINS_PER_ATOM = 0.5, 1.0
#: Room for so many times the pairs of the mean density; the search is made again where it was not enough.
ROOM = 1.3


def neighbour_pairs(frame: Frame, cutoff: float) -> Pairs:
    """Twin of `geometry.neighbours.neighbour_pairs`."""
    return Search(cutoff).pairs(frame)


class Search(neighbours.Search):
    """`geometry.neighbours.Search`; cells that are open in a direction are left to it."""

    def __init__(self, cutoff: float):
        super().__init__(cutoff)
        self._store = Store()

    def __reduce__(self):
        return Search, (self.cutoff,)

    def pairs(self, frame: Frame) -> Pairs:
        n = len(frame)
        if n == 0 or frame.cell is None or not all(frame.pbc):
            return super().pairs(frame)
        check_extent(frame, self.cutoff)
        cell = np.ascontiguousarray(frame.cell)
        positions, types = np.ascontiguousarray(frame.positions), np.ascontiguousarray(frame.types, np.int64)
        inverse = np.ascontiguousarray(np.linalg.inv(cell))
        height_d = 1.0 / np.sqrt((inverse * inverse).sum(axis=0))
        bins_d = np.maximum(1, height_d / (WIDTH * self.cutoff)).astype(np.int64)
        while bins_d.prod() > max(1.0, BINS_PER_ATOM * n):
            bins_d[bins_d.argmax()] -= 1
        # atoms u apart are ⌊u·bins⌋ or one more bins apart
        reach_d = (self.cutoff / height_d * bins_d).astype(np.int64) + 1
        first_i, room = np.empty(n + 1, np.int64), int(ROOM * self._expected(frame)) + 64
        while True:
            found_ps = self._store.empty((room, 5), np.int32)
            count = _find(
                positions, cell, inverse, types, len(frame.type_map), bins_d, reach_d, self.cutoff**2,
                first_i, found_ps,
            )  # fmt: skip
            if count <= room:
                break
            room = count
        i_p, j_p = np.empty(count, np.int32), np.empty(count, np.int32)
        shift_pd, r_pc = np.empty((count, 3), np.int32), np.empty((count, 3))
        nearest = _put(positions, cell, found_ps, first_i, i_p, j_p, shift_pd, r_pc)
        pairs = Pairs(i_p, j_p, shift_pd, r_pc)
        if nearest < OVERLAP**2:
            check_overlap(frame, pairs)
        return pairs

    def _expected(self, frame: Frame) -> float:
        """Pairs of atoms that are as dense everywhere."""
        return len(frame) ** 2 * 4.0 / 3.0 * math.pi * self.cutoff**3 / frame.volume


@njit(cache=True, error_model="numpy")
def _find(x_ic, h_dc, inverse, types_i, n_types, bins_d, reach_d, square, first_i, found_ps):
    """Count pairs, and note (i, j, s) of as many as there is room for, j after j; counts into first_i[1:]."""
    n, room = len(x_ic), len(found_ps)
    B0, B1, B2 = bins_d[0], bins_d[1], bins_d[2]
    n_id, bin_id = np.empty((n, 3), np.int64), np.empty((n, 3), np.int64)
    x_wc = np.empty((n, 3))
    first_b, first_t = np.zeros(B0 * B1 * B2 + 1, np.int64), np.zeros(n_types + 1, np.int64)
    for i in range(n):
        for c in range(3):
            x_wc[i, c] = x_ic[i, c]
        for d in range(3):
            u = x_ic[i, 0] * inverse[0, d] + x_ic[i, 1] * inverse[1, d] + x_ic[i, 2] * inverse[2, d]
            n_id[i, d] = math.floor(u)
            bin_id[i, d] = min(int((u - n_id[i, d]) * bins_d[d]), bins_d[d] - 1)
            for c in range(3):
                x_wc[i, c] -= n_id[i, d] * h_dc[d, c]
        first_b[(bin_id[i, 0] * B1 + bin_id[i, 1]) * B2 + bin_id[i, 2] + 1] += 1
        first_t[types_i[i] + 1] += 1
    for b in range(len(first_b) - 1):
        first_b[b + 1] += first_b[b]
    for t in range(n_types):
        first_t[t + 1] += first_t[t]
    # atoms bin after bin, with their places within the cell; atoms type after type
    atom_a, at_ac, next_b = np.empty(n, np.int64), np.empty((n, 3)), first_b[:-1].copy()
    atom_k, next_t = np.empty(n, np.int64), first_t[:-1].copy()
    for i in range(n):
        b = (bin_id[i, 0] * B1 + bin_id[i, 1]) * B2 + bin_id[i, 2]
        a, k = next_b[b], next_t[types_i[i]]
        atom_a[a], atom_k[k] = i, i
        for c in range(3):
            at_ac[a, c] = x_wc[i, c]
        next_b[b], next_t[types_i[i]] = a + 1, k + 1
    first_i[:] = 0
    p = 0
    for k in range(n):
        j = atom_k[k]
        for o0 in range(reach_d[0], -reach_d[0] - 1, -1):
            m0 = (bin_id[j, 0] + o0) // B0
            b0 = (bin_id[j, 0] + o0 - m0 * B0) * B1
            for o1 in range(reach_d[1], -reach_d[1] - 1, -1):
                m1 = (bin_id[j, 1] + o1) // B1
                b1 = (b0 + bin_id[j, 1] + o1 - m1 * B1) * B2
                for o2 in range(reach_d[2], -reach_d[2] - 1, -1):
                    m2 = (bin_id[j, 2] + o2) // B2
                    b = b1 + bin_id[j, 2] + o2 - m2 * B2
                    x = x_wc[j, 0] - (m0 * h_dc[0, 0] + m1 * h_dc[1, 0] + m2 * h_dc[2, 0])
                    y = x_wc[j, 1] - (m0 * h_dc[0, 1] + m1 * h_dc[1, 1] + m2 * h_dc[2, 1])
                    z = x_wc[j, 2] - (m0 * h_dc[0, 2] + m1 * h_dc[1, 2] + m2 * h_dc[2, 2])
                    for a in range(first_b[b], first_b[b + 1]):
                        dx, dy, dz = x - at_ac[a, 0], y - at_ac[a, 1], z - at_ac[a, 2]
                        if dx * dx + dy * dy + dz * dz > square:
                            continue
                        i = atom_a[a]
                        if i == j and m0 == 0 and m1 == 0 and m2 == 0:
                            continue
                        if p < room:
                            found_ps[p, 0], found_ps[p, 1] = i, j
                            found_ps[p, 2] = n_id[i, 0] - n_id[j, 0] - m0
                            found_ps[p, 3] = n_id[i, 1] - n_id[j, 1] - m1
                            found_ps[p, 4] = n_id[i, 2] - n_id[j, 2] - m2
                        first_i[i + 1] += 1
                        p += 1
    return p


@njit(cache=True, error_model="numpy")
def _put(x_ic, h_dc, found_ps, first_i, i_p, j_p, shift_pd, r_pc):
    """Pairs of a centre together, in the order in which they were found; the least r²."""
    for i in range(len(first_i) - 1):
        first_i[i + 1] += first_i[i]
    nearest = np.inf
    for found in range(len(i_p)):
        i, j = found_ps[found, 0], found_ps[found, 1]
        s0, s1, s2 = found_ps[found, 2], found_ps[found, 3], found_ps[found, 4]
        p = first_i[i]
        first_i[i] = p + 1
        i_p[p], j_p[p] = i, j
        shift_pd[p, 0], shift_pd[p, 1], shift_pd[p, 2] = s0, s1, s2
        # r_p = x_j − x_i + s_p·h
        x = x_ic[j, 0] - x_ic[i, 0] + (s0 * h_dc[0, 0] + s1 * h_dc[1, 0] + s2 * h_dc[2, 0])
        y = x_ic[j, 1] - x_ic[i, 1] + (s0 * h_dc[0, 1] + s1 * h_dc[1, 1] + s2 * h_dc[2, 1])
        z = x_ic[j, 2] - x_ic[i, 2] + (s0 * h_dc[0, 2] + s1 * h_dc[1, 2] + s2 * h_dc[2, 2])
        r_pc[p, 0], r_pc[p, 1], r_pc[p, 2] = x, y, z
        nearest = min(nearest, x * x + y * y + z * z)
    return nearest
