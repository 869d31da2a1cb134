"""Numba kernels of `shared`: U X, K = s(A X − UᵀZ), H Kᵀ, and G = C⁻¹K, each over one chunk's own weights.

A sum never crosses a chunk: chunks are added up in their order, whichever rank has them. Letters as in
`tiles` and `gain`; h own tile row.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.covariance.gain import gain_of_piece
from kalmandp.engines.cpu.covariance.tiling import BLOCK, ROW_BYTES, T0, T1, W0, W1
from kalmandp.engines.cpu.threads import KERNEL, take


@njit(**KERNEL)
def multiply_pending(counters, me, pending, n_k, segments, X, Z):
    """Z = U X over each segment (T0, T1 in tiles of X)."""
    T = ROW_BYTES // X.itemsize
    n_g, m = len(segments), X.shape[1]
    while True:
        g = take(counters, me, 0, n_g)
        if g >= n_g:
            break
        for k in range(n_k):
            for q in range(m):
                s = 0.0
                for t in range(segments[g, T0], segments[g, T1]):
                    u, x = pending[k, t], X[t, q]
                    for j in range(T):
                        s += u[j] * x[j]
                Z[g, k, q] = s


@njit(**KERNEL)
def finish(counters, me, pending, n_k, scale, rows, segments, Z, Y, t_first, w_first, K_qw):
    """K = scale·(Y − UᵀZ), a segment at a time; ``Z`` by the segment's BLOCK."""
    T, m = ROW_BYTES // pending.itemsize, Y.shape[1]
    n_g = len(segments)
    while True:
        g = take(counters, me, 0, n_g)
        if g >= n_g:
            break
        for t in range(segments[g, T0], segments[g, T1]):
            for q in range(m):
                y = Y[t - t_first, q]
                for k in range(n_k):
                    u, z = pending[k, t], Z[segments[g, BLOCK], k, q]
                    for j in range(T):
                        y[j] -= z * u[j]
                w0 = rows[t, W0] - w_first
                for j in range(rows[t, W1] - rows[t, W0]):
                    K_qw[q, w0 + j] = scale * y[j]


@njit(**KERNEL)
def gram(counters, me, H_qw, K_qw, bounds, parts):
    """H Kᵀ over the weights of each chunk, (chunk, m, m)."""
    m, n_g = len(H_qw), len(bounds)
    while True:
        g = take(counters, me, 0, n_g)
        if g >= n_g:
            break
        w0, n = bounds[g, 0], bounds[g, 1] - bounds[g, 0]
        for q in range(m):
            h = H_qw[q, w0 : w0 + n]
            for p in range(m):
                k = K_qw[p, w0 : w0 + n]
                s = 0.0
                for w in range(n):
                    s += h[w] * k[w]
                parts[g, q, p] = s


@njit(**KERNEL)
def gain(counters, me, K_qw, C_qq, z_q, weights, new, pieces, parts):
    """G = C⁻¹K into K, w + Gᵀz into ``new``; ``parts`` (pieces, 2): |Gᵀz|² and Σ G² of each piece."""
    n_tasks = len(pieces)
    while True:
        task = take(counters, me, 0, n_tasks)
        if task >= n_tasks:
            break
        w0, n = pieces[task, 0], pieces[task, 1] - pieces[task, 0]
        gain_of_piece(K_qw, C_qq, z_q, weights, new, w0, n, parts[task])
