"""Numba kernels of `tiled` that go through the rows of K: H Kᵀ, and G = C⁻¹K with the new weights.

Sums and tasks are ordered as in `tiles`. Letters: q, p measurement; w weight.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.threads import KERNEL, PART, take

#: Weights of a task: their part of K stays in cache.
PIECE = 256


@njit(**KERNEL)
def gram(counters, me, H_qw, K_qw, parts):
    """H Kᵀ over equal ranges of the weights, one for each of ``parts`` (g, m, m)."""
    m, N = H_qw.shape
    n_parts = parts.shape[0]
    while True:
        g = take(counters, me, 0, n_parts)
        if g >= n_parts:
            break
        w0 = g * N // n_parts
        n = (g + 1) * N // n_parts - w0
        for q in range(m):
            h = H_qw[q, w0 : w0 + n]
            for p in range(m):
                k = K_qw[p, w0 : w0 + n]
                s = 0.0
                for w in range(n):
                    s += h[w] * k[w]
                parts[g, q, p] = s


@njit(**KERNEL)
def gain(counters, me, K_qw, C_qq, z_q, weights, new, parts):
    """Twin of `kalman.covariance.gain`: G = C⁻¹K into K, w + Gᵀz into ``new``, a piece of w at a time.

    ``parts`` (pieces, 2): |Gᵀz|² and Σ G² of each piece.
    """
    m, N = K_qw.shape
    n_tasks = parts.shape[0]
    while True:
        task = take(counters, me, 0, n_tasks)
        if task >= n_tasks:
            break
        w0 = task * PIECE
        n = min(PIECE, N - w0)
        _whiten_piece(K_qw, C_qq, w0, n)
        w = new[w0 : w0 + n]
        w[:] = 0.0
        gain_square = step_square = 0.0
        for q in range(m):
            g, z = K_qw[q, w0 : w0 + n], z_q[q]
            for j in range(n):
                w[j] += z * g[j]
                gain_square += g[j] * g[j]
        for j in range(n):
            step = w[j]
            step_square += step * step
            w[j] = weights[w0 + j] + step
        parts[task, 0], parts[task, 1] = step_square, gain_square


@njit(**PART)
def _whiten_piece(K_qw, C_qq, w0, n):
    """K ← C⁻¹K by forward substitution for the weights w0 … w0 + n − 1."""
    for q in range(K_qw.shape[0]):
        y = K_qw[q, w0 : w0 + n]
        for p in range(q):
            x = K_qw[p, w0 : w0 + n]
            c = C_qq[q, p]
            for w in range(n):
                y[w] -= c * x[w]
        c = 1.0 / C_qq[q, q]
        for w in range(n):
            y[w] *= c
