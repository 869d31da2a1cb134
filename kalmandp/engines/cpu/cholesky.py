"""The Cholesky factor on the CPU, twin of `kalman.cholesky` for large matrices; one thread."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import njit

from kalmandp.engines.cpu.products import COLUMNS, ROWS, multiply_block
from kalmandp.engines.cpu.threads import KERNEL
from kalmandp.kalman.cholesky import smallest_pivots


def factor(S_qq: np.ndarray, error_q: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Twin of `kalman.cholesky.cholesky`: a panel of columns after the other."""
    m = len(S_qq)
    n = -(-m // COLUMNS) * COLUMNS
    C, panel, z_q = np.zeros((n, n)), np.empty((n, COLUMNS)), error_q.copy()
    bad = _factor(S_qq, C, C.reshape(-1), panel, panel.reshape(-1), z_q, smallest_pivots(S_qq))
    return C[:m, :m], z_q, int(bad)


@njit(**KERNEL)
def _factor(S_qq, C, flat, panel, flat_panel, z_q, smallest_q):
    n, m = len(C), len(z_q)
    for q in range(m):
        for p in range(q + 1):
            C[q, p] = S_qq[q, p]
    for q in range(m, n):
        C[q, q] = 1.0
    for q in range(0, n, COLUMNS):
        for k in range(q):
            for j in range(COLUMNS):
                panel[k, j] = C[q + j, k]
        # C_iq ← S_iq − Σ_{k<q} C_ik C_qk
        for i in range(q, n, ROWS):
            multiply_block(flat, i * n + q, n, 1.0, -1.0, flat, i * n, n, 1, q, flat_panel, 0)
        for p in range(q, q + COLUMNS):
            pivot = C[p, p]
            if p < m and not smallest_q[p] < pivot < np.inf:
                return p
            c = sqrt(pivot)
            for i in range(p, n):
                C[i, p] /= c
            for i in range(p + 1, q + COLUMNS):
                panel[0, i - q] = C[i, p]
            for i in range(p + 1, n):
                c = C[i, p]
                for j in range(p + 1, q + COLUMNS):
                    C[i, j] -= c * panel[0, j - q]
        for p in range(q, q + COLUMNS):
            for j in range(p + 1, q + COLUMNS):
                C[p, j] = 0.0
    # z = C⁻¹ error
    for q in range(m):
        total = z_q[q]
        for k in range(q):
            total -= C[q, k] * z_q[k]
        z_q[q] = total / C[q, q]
    return m
