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
    N = K_qw.shape[1]
    n_tasks = parts.shape[0]
    while True:
        task = take(counters, me, 0, n_tasks)
        if task >= n_tasks:
            break
        w0 = task * PIECE
        n = min(PIECE, N - w0)
        gain_of_piece(K_qw, C_qq, z_q, weights, new, w0, n, parts[task])


@njit(**PART)
def gain_of_piece(K_qw, C_qq, z_q, weights, new, w0, n, squares):
    """`gain` for the weights w0 … w0 + n − 1; ``squares`` (2,): |Gᵀz|² and Σ G² of them."""
    # K ← C⁻¹K by forward substitution
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
    # w ← w + Gᵀz
    to, before = new[w0 : w0 + n], weights[w0 : w0 + n]
    to[:] = 0.0
    gain_square = step_square = 0.0
    for q in range(K_qw.shape[0]):
        g, z = K_qw[q, w0 : w0 + n], z_q[q]
        for j in range(n):
            to[j] += z * g[j]
            gain_square += g[j] * g[j]
    for j in range(n):
        step = to[j]
        step_square += step * step
        to[j] = before[j] + step
    squares[0], squares[1] = step_square, gain_square
