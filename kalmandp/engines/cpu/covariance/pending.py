"""Numba kernels of `tiled` for U, the pending rows: U X, K = s(A X − Uᵀ(U X)), and the fold A − UᵀU.

Four rows of U are read together, for two right-hand sides at once. Sums and tasks are ordered as in
`tiles`.

Letters: k pending row; q right-hand side; t tile of w; j place in a tile.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.covariance.tiles import AHEAD, fetch_ahead, pack_row
from kalmandp.engines.cpu.covariance.tiling import (
    BLOCK,
    FIRST,
    LOW,
    PLACE,
    R0,
    R1,
    ROW_BYTES,
    T0,
    T1,
    TILE,
    W0,
    W1,
)
from kalmandp.engines.cpu.threads import KERNEL, PART, done, take, wait
from kalmandp.engines.cpu.vectors import fetch, load, multiply_add, splat, store, totals, zeros

#: Rows of U that are read together.
GROUP = 4


@njit(**KERNEL)
def append(pending, k0, M_qw, factor, rows):
    """Rows k0, k0 + 1, … of U become factor·M; those after them, up to a whole group, zero."""
    last = k0 + M_qw.shape[0]
    for k in range(k0, last):
        for t in range(len(rows)):
            pack_row(pending[k, t], M_qw[k - k0], factor, rows[t])
    for k in range(last, (last + GROUP - 1) // GROUP * GROUP):
        pending[k] = 0


@njit(**PART)
def _pending_product(pending, n_k, X, Z_kq, segment):
    """Z = U X over the tiles of one segment, two right-hand sides at a time."""
    m = X.shape[1]
    for k in range(0, n_k, GROUP):
        U = pending[k : k + GROUP]
        for q in range(0, m - 1, 2):
            _group_product_two(U, X, Z_kq[k : k + GROUP], segment, q)
        if m % 2:
            _group_product_one(U, X, Z_kq[k : k + GROUP], segment, m - 1)


@njit(**PART)
def _group_product_two(U, X, Z_kq, segment, q):
    """Z = U X of four rows of U, for the vectors q and q + 1: eight sums in registers."""
    V = ROW_BYTES // X.itemsize // 4
    c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = zeros(X)
    for t in range(segment[T0], segment[T1]):
        x, z = X[t, q], X[t, q + 1]
        for k in range(GROUP):
            fetch_ahead(U[k, t])
        x0, x1, x2, x3 = load(x, 0), load(x, V), load(x, 2 * V), load(x, 3 * V)
        z0, z1, z2, z3 = load(z, 0), load(z, V), load(z, 2 * V), load(z, 3 * V)
        c0, d0 = _add_dot(U[0, t], V, x0, x1, x2, x3, c0), _add_dot(U[0, t], V, z0, z1, z2, z3, d0)
        c1, d1 = _add_dot(U[1, t], V, x0, x1, x2, x3, c1), _add_dot(U[1, t], V, z0, z1, z2, z3, d1)
        c2, d2 = _add_dot(U[2, t], V, x0, x1, x2, x3, c2), _add_dot(U[2, t], V, z0, z1, z2, z3, d2)
        c3, d3 = _add_dot(U[3, t], V, x0, x1, x2, x3, c3), _add_dot(U[3, t], V, z0, z1, z2, z3, d3)
    Z_kq[0, q], Z_kq[1, q], Z_kq[2, q], Z_kq[3, q] = totals(c0, c1, c2, c3)
    q += 1
    Z_kq[0, q], Z_kq[1, q], Z_kq[2, q], Z_kq[3, q] = totals(d0, d1, d2, d3)


@njit(**PART)
def _group_product_one(U, X, Z_kq, segment, q):
    """`_group_product_two` for the vector q alone."""
    V = ROW_BYTES // X.itemsize // 4
    c0 = c1 = c2 = c3 = zeros(X)
    for t in range(segment[T0], segment[T1]):
        x = X[t, q]
        for k in range(GROUP):
            fetch_ahead(U[k, t])
        x0, x1, x2, x3 = load(x, 0), load(x, V), load(x, 2 * V), load(x, 3 * V)
        c0, c1 = _add_dot(U[0, t], V, x0, x1, x2, x3, c0), _add_dot(U[1, t], V, x0, x1, x2, x3, c1)
        c2, c3 = _add_dot(U[2, t], V, x0, x1, x2, x3, c2), _add_dot(U[3, t], V, x0, x1, x2, x3, c3)
    Z_kq[0, q], Z_kq[1, q], Z_kq[2, q], Z_kq[3, q] = totals(c0, c1, c2, c3)


@njit(**PART)
def _add_dot(u, V, x0, x1, x2, x3, total):
    """total + u·x, of four vectors each, the places of a vector apart."""
    total = multiply_add(load(u, V), x1, multiply_add(load(u, 0), x0, total))
    return multiply_add(load(u, 3 * V), x3, multiply_add(load(u, 2 * V), x2, total))


@njit(**KERNEL)
def multiply_pending(counters, me, pending, n_k, segments, block_segments, X, Z_parts):
    """U X of each block, in the place of its first segment: by segments, added in their order."""
    n_segments, n_blocks = len(segments), len(block_segments) - 1
    while True:
        g = take(counters, me, 0, n_segments)
        if g >= n_segments:
            break
        _pending_product(pending, n_k, X, Z_parts[g], segments[g])
        done(counters, 0)
    wait(counters, 0, n_segments)
    while True:
        block = take(counters, me, 1, n_blocks)
        if block >= n_blocks:
            break
        Z_kq = Z_parts[block_segments[block]]
        for g in range(block_segments[block] + 1, block_segments[block + 1]):
            part = Z_parts[g]
            for k in range(n_k):
                for q in range(Z_kq.shape[1]):
                    Z_kq[k, q] += part[k, q]


@njit(**PART)
def _gather(sums, rows, chunks, touched, pending, n_k, Z_kq, scale, Y, K_qw, segment):
    """K = scale·(Σ_chunks A x − Uᵀ Z) for the weights of one segment, the chunks in their order.

    ``Y`` (TILES_PER_SEGMENT, m, T) is space for −Uᵀ Z.
    """
    m, first, last = K_qw.shape[0], segment[T0], segment[T1]
    Y[: last - first, :m] = 0
    for k in range(0, n_k, GROUP):
        U, z_kq = pending[k : k + GROUP], Z_kq[k : k + GROUP]
        for t in range(first, last):
            for q in range(0, m - 1, 2):
                _subtract_group_two(U, t, z_kq, q, Y[t - first])
            if m % 2:
                _subtract_group_one(U, t, z_kq, m - 1, Y[t - first])
    for t in range(first, last):
        w0, n = rows[t, W0], rows[t, W1] - rows[t, W0]
        for q in range(m):
            y, K, chunk = Y[t - first, q], K_qw[q, w0 : w0 + n], touched[t, 0]
            part = sums[chunks[chunk, PLACE] - chunks[chunk, LOW] + t, q]
            for j in range(n):
                K[j] = scale * (part[j] + y[j])
            for c in range(chunk + 1, touched[t, 1] + 1):
                part = sums[chunks[c, PLACE] - chunks[c, LOW] + t, q]
                for j in range(n):
                    K[j] += scale * part[j]


@njit(**PART)
def _subtract_group_two(U, t, Z_kq, q, Y):
    """y −= Uᵀz for four rows of U, for the right-hand sides q and q + 1."""
    T = ROW_BYTES // U.itemsize
    a, b, c, d = U[0, t], U[1, t], U[2, t], U[3, t]
    y, x = Y[q], Y[q + 1]
    z0, z1, z2, z3 = _splats(Y, Z_kq, q)
    w0, w1, w2, w3 = _splats(Y, Z_kq, q + 1)
    for v in range(0, T, T // 4):
        u0, u1, u2, u3 = load(a, v), load(b, v), load(c, v), load(d, v)
        _fetch_four(a, b, c, d, v + AHEAD * T)
        s = multiply_add(z1, u1, multiply_add(z0, u0, load(y, v)))
        store(y, v, multiply_add(z3, u3, multiply_add(z2, u2, s)))
        s = multiply_add(w1, u1, multiply_add(w0, u0, load(x, v)))
        store(x, v, multiply_add(w3, u3, multiply_add(w2, u2, s)))


@njit(**PART)
def _subtract_group_one(U, t, Z_kq, q, Y):
    """`_subtract_group_two` for the right-hand side q alone."""
    T = ROW_BYTES // U.itemsize
    a, b, c, d = U[0, t], U[1, t], U[2, t], U[3, t]
    y = Y[q]
    z0, z1, z2, z3 = _splats(Y, Z_kq, q)
    for v in range(0, T, T // 4):
        _fetch_four(a, b, c, d, v + AHEAD * T)
        s = multiply_add(z1, load(b, v), multiply_add(z0, load(a, v), load(y, v)))
        store(y, v, multiply_add(z3, load(d, v), multiply_add(z2, load(c, v), s)))


@njit(**PART)
def _fetch_four(a, b, c, d, v):
    """Prefetch place v of four rows."""
    fetch(a, v)
    fetch(b, v)
    fetch(c, v)
    fetch(d, v)


@njit(**PART)
def _splats(y, Z_kq, q):
    """−z of four rows, each in every place of a vector."""
    return splat(y, -Z_kq[0, q]), splat(y, -Z_kq[1, q]), splat(y, -Z_kq[2, q]), splat(y, -Z_kq[3, q])


@njit(**KERNEL)
def gather(counters, me, pending, n_k, scale, tiling, sums, Z_parts, Y, K_qw):
    """K = scale·(A X − Uᵀ(U X)), by segments, from what `multiply_tiles` and `multiply_pending` left."""
    rows, chunks, touched = tiling.rows, tiling.chunks, tiling.touched
    segments, block_segments = tiling.segments, tiling.block_segments
    while True:
        task = take(counters, me, 0, len(segments))
        if task >= len(segments):
            break
        Z_kq = Z_parts[block_segments[segments[task, BLOCK]]]
        _gather(
            sums, rows, chunks, touched, pending, n_k, Z_kq, scale, Y[me], K_qw, segments[task]
        )  # fmt: skip


@njit(**KERNEL)
def fold(counters, me, tiles, pending, n_k, scale, rows, chunks, turned):
    """A ← scale·(A − UᵀU) for n_k rows of U: one pass over the tiles."""
    T = ROW_BYTES // tiles.itemsize
    factor = tiles.dtype.type(scale)
    while True:
        task = take(counters, me, 0, chunks.shape[0])
        if task >= chunks.shape[0]:
            break
        C_jk = turned[task]  # −U of the tile row, transposed
        for r in range(chunks[task, R0], chunks[task, R1]):
            for k in range(n_k):
                u = pending[k, r]
                fetch_ahead(u)
                for j in range(T):
                    C_jk[j, k] = -u[j]
            first = rows[r, FIRST]
            start = rows[r, TILE] - first
            for c in range(first, r + 1):
                _add_product(tiles[start + c], C_jk, n_k, pending, c)
                a = tiles[start + c]
                for i in range(T):
                    for j in range(T):
                        a[i, j] *= factor


@njit(**PART)
def _add_product(Y, C, n_k, pending, t):
    """Y += C U_t, (n, T) += (n, k)(k, T): two rows of four vectors stay in registers."""
    V = ROW_BYTES // Y.itemsize // 4
    for n in range(0, Y.shape[0], 2):
        y, z, c, d = Y[n], Y[n + 1], C[n], C[n + 1]
        y0, y1, y2, y3 = load(y, 0), load(y, V), load(y, 2 * V), load(y, 3 * V)
        z0, z1, z2, z3 = load(z, 0), load(z, V), load(z, 2 * V), load(z, 3 * V)
        for k in range(n_k):
            b = pending[k, t]
            b0, b1, b2, b3 = load(b, 0), load(b, V), load(b, 2 * V), load(b, 3 * V)
            p, q = splat(y, c[k]), splat(y, d[k])
            y0, z0 = multiply_add(p, b0, y0), multiply_add(q, b0, z0)
            y1, z1 = multiply_add(p, b1, y1), multiply_add(q, b1, z1)
            y2, z2 = multiply_add(p, b2, y2), multiply_add(q, b2, z2)
            y3, z3 = multiply_add(p, b3, y3), multiply_add(q, b3, z3)
        _store_row(y, V, y0, y1, y2, y3)
        _store_row(z, V, z0, z1, z2, z3)


@njit(**PART)
def _store_row(y, V, y0, y1, y2, y3):
    store(y, 0, y0)
    store(y, V, y1)
    store(y, 2 * V, y2)
    store(y, 3 * V, y3)
