"""Numba kernels of `shared`: U X, K = s(A X − UᵀZ), H Kᵀ, and G = C⁻¹K, each over one chunk's own weights.

A sum never crosses a chunk: chunks are added up in their order, whichever rank has them. Letters as in
`tiles` and `gain`; h own tile row.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.covariance.gain import gain_of_piece
from kalmandp.engines.cpu.covariance.matrix_kernels import add_gram, multiply_rectangle, turn_in, turn_out
from kalmandp.engines.cpu.covariance.tiling import BLOCK, FIRST, LOW, PLACE, R0, R1, ROW_BYTES, T0, T1, W0, W1
from kalmandp.engines.cpu.products import COLUMNS
from kalmandp.engines.cpu.threads import KERNEL, take

#: Tile rows and columns that are multiplied at once: 512 KB, which stay in the second cache.
SIDE = 8


@njit(**KERNEL)
def turn(counters, me, H_qw, rows, T, X):
    """X ← H turned, tile row by tile row: panels of 16 measurements (panels, n_t T, 16), flat."""
    n_t, n_panels = len(rows), (len(H_qw) + COLUMNS - 1) // COLUMNS
    while True:
        t = take(counters, me, 0, n_t)
        if t >= n_t:
            break
        turn_in(H_qw, X, X, rows[t], t * T, T, n_panels, n_t * T * COLUMNS)


@njit(**KERNEL)
def multiply_panels(counters, me, tiles, T, rows, chunks, X, panels, n_panels, sums):
    """A X of each chunk of tile rows, as it stands and turned, into its own ``sums``.

    X: (panels, n_t T, 16), of which the panels from ``panels`` on are taken; ``sums``: (n_panels, places T,
    16), both flat, as is ``tiles``.
    """
    n_tasks, x_size, s_size = len(chunks) * n_panels, len(rows) * T * COLUMNS, len(sums) // n_panels
    while True:
        task = take(counters, me, 0, n_tasks)
        if task >= n_tasks:
            break
        chunk, panel = chunks[task // n_panels], task % n_panels
        x0 = (panels + panel) * x_size
        s0 = panel * s_size + (chunk[PLACE] - chunk[LOW]) * T * COLUMNS
        sums[s0 + chunk[LOW] * T * COLUMNS : s0 + chunk[R1] * T * COLUMNS] = 0.0
        r0 = chunk[R0]
        while r0 < chunk[R1]:
            first, r1 = rows[r0, FIRST], r0 + 1
            while r1 < min(r0 + SIDE, chunk[R1]) and rows[r1, FIRST] == first:
                r1 += 1
            for c0 in range(first, r1, SIDE):
                multiply_rectangle(tiles, T, rows, (r0, r1), (c0, min(c0 + SIDE, r1)), X, x0, sums, s0)
            r0 = r1


@njit(**KERNEL)
def finish_panels(counters, me, T, rows, bounds, X, Y, K_qw, space, parts):
    """K ← Y turned back, and H Kᵀ of each chunk: ``bounds`` are its own tile rows.

    X and Y: (panels, own n_t T, 16), flat; ``space`` (threads, panels 16, panels 16), flat; ``parts``
    (chunk, m (m + 1)/2): rows of the lower triangle, one behind the other.
    """
    n_g, n_panels = len(bounds), (len(K_qw) + COLUMNS - 1) // COLUMNS
    size = len(rows) * T * COLUMNS
    while True:
        g = take(counters, me, 0, n_g)
        if g >= n_g:
            break
        for t in range(bounds[g, 0], bounds[g, 1]):
            turn_out(Y, K_qw, rows[t], t * T, n_panels, size)
        n = n_panels * COLUMNS
        space[me * n * n : (me + 1) * n * n] = 0.0
        add_gram(X, Y, space, me, bounds[g, 0] * T, bounds[g, 1] * T, n_panels, size)
        to = 0
        for q in range(len(K_qw)):
            for p in range(q + 1):
                parts[g, to + p] = space[(me * n + q) * n + p]
            to += q + 1


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
