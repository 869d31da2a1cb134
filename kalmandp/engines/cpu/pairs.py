"""Numba twin of `geometry.verlet.pairs_within`: distances and choice in one pass over the candidates."""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmandp.geometry.neighbours import Pairs


@njit(cache=True, error_model="numpy")
def _keep_near(x_ic, h_dc, i_p, j_p, shift_pd, square, i_out, j_out, shift_out, r_out):
    """Copy the pairs with r² ≤ ``square`` to the front of the outputs; returns how many there are."""
    n = 0
    for p in range(len(i_p)):
        i, j = i_p[p], j_p[p]
        s0, s1, s2 = shift_pd[p, 0], shift_pd[p, 1], shift_pd[p, 2]
        # r_p = x_j − x_i + s_p·h
        x = x_ic[j, 0] - x_ic[i, 0] + (s0 * h_dc[0, 0] + s1 * h_dc[1, 0] + s2 * h_dc[2, 0])
        y = x_ic[j, 1] - x_ic[i, 1] + (s0 * h_dc[0, 1] + s1 * h_dc[1, 1] + s2 * h_dc[2, 1])
        z = x_ic[j, 2] - x_ic[i, 2] + (s0 * h_dc[0, 2] + s1 * h_dc[1, 2] + s2 * h_dc[2, 2])
        if x * x + y * y + z * z <= square:
            i_out[n], j_out[n] = i, j
            shift_out[n, 0], shift_out[n, 1], shift_out[n, 2] = s0, s1, s2
            r_out[n, 0], r_out[n, 1], r_out[n, 2] = x, y, z
            n += 1
    return n


def pairs_within(positions: np.ndarray, cell: np.ndarray, candidates: Pairs, rcut: float) -> Pairs:
    """Twin of `geometry.verlet.pairs_within`."""
    i_p, j_p, shift_pd, r_pc = candidates
    out = Pairs(*(np.empty_like(a) for a in candidates))
    n = _keep_near(positions, cell, i_p, j_p, shift_pd, rcut * rcut, *out)
    return Pairs(*(a[:n] for a in out))
