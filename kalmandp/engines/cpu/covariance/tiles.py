"""Numba kernels of `tiled` for A, the tiles of P: A X, where each tile is read once.

Every sum is taken in an order that the blocks alone decide. Work is cut into a fixed list of tasks; each
thread runs the same function, which takes the next task off the list until none is left. A task adds into
accumulators of its own, and these are added up in the order of the list. Results are therefore the same
bits for any number of threads, and a thread that the machine holds up does not hold up the others.

Letters: a tile of A (T, T); r, i its row; j its column; q right-hand side; t tile of w.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.covariance.tiling import ALONE, FIRST, LOW, PLACE, R0, R1, ROW_BYTES, TILE, W0, W1
from kalmandp.engines.cpu.threads import KERNEL, PART, PART_TWICE, take
from kalmandp.engines.cpu.vectors import add_to, fetch, load, multiply_add, splat, totals, zeros

#: Rows of a tile, or of U in as many tiles, by which reading is prefetched. Where P is larger
#: than the caches, 4 measured up to three times as fast as none and twice as fast as 16.
AHEAD = 4


@njit(**KERNEL)
def pack(tiled, M_qw, rows):
    """tiled[t, q, j] = M[q, w] for the weights w of tile t; zeros pad the ends of blocks."""
    for t in range(len(rows)):
        for q in range(M_qw.shape[0]):
            pack_row(tiled[t, q], M_qw[q], 1.0, rows[t])


@njit(**PART)
def pack_row(to, M_w, factor, row):
    w0 = row[W0]
    n = row[W1] - w0
    for j in range(n):
        to[j] = factor * M_w[w0 + j]
    for j in range(n, len(to)):
        to[j] = 0


@njit(**PART_TWICE)
def _chunk_product(tiles, X, sums, rows, chunk):
    """Multiply the tile rows of one chunk with X, as they stand and transposed, into its ``sums``."""
    m = X.shape[1]
    to = chunk[PLACE] - chunk[LOW]  # sums[to + t] belongs to tile t of w
    nowhere = to + chunk[R1]
    sums[chunk[PLACE] : nowhere] = 0
    for r in range(chunk[R0], chunk[R1]):
        first = rows[r, FIRST]
        start = rows[r, TILE] - first
        yI = to + r
        if rows[r, ALONE]:
            for q in range(m):
                _tile_alone(tiles[start + r], X[r, q], sums[yI, q])
            continue
        for c in range(first, r + 1):
            # a diagonal tile is stored whole: the product with its transpose goes nowhere
            yJ = to + c if c < r else nowhere
            for q in range(0, m - 1, 2):
                _tile_two(tiles[start + c], X[r], X[c], sums[yI], sums[yJ], q)
            if m % 2:
                q = m - 1
                _tile_one(tiles[start + c], X[r, q], X[c, q], sums[yI, q], sums[yJ, q])


@njit(**PART)
def _tile_alone(a, x, y):
    """y += a x of a block that is one tile: a is stored whole, and symmetric."""
    V = ROW_BYTES // a.itemsize // 4
    y0 = y1 = y2 = y3 = zeros(x)
    for n in range(4 * V):
        b, p = a[n], splat(x, x[n])
        fetch_ahead(b)
        y0, y1 = multiply_add(p, load(b, 0), y0), multiply_add(p, load(b, V), y1)
        y2, y3 = multiply_add(p, load(b, 2 * V), y2), multiply_add(p, load(b, 3 * V), y3)
    _add_row(y, V, y0, y1, y2, y3)


@njit(**PART_TWICE)
def _tile_one(a, xI, xJ, yI, yJ):
    """y_I += a x_J and y_J += aᵀ x_I for one x: the tile is read once, two rows at a time."""
    T = ROW_BYTES // a.itemsize
    for i in range(0, T, 2):
        a0 = a[i]
        a1 = a[i + 1]
        x0 = xI[i]
        x1 = xI[i + 1]
        s0 = s1 = a.dtype.type(0)
        for j in range(T):
            b0 = a0[j]  # named, or the compiler would load it again after the store to y_J
            b1 = a1[j]
            x = xJ[j]
            yJ[j] += b0 * x0 + b1 * x1
            s0 += b0 * x
            s1 += b1 * x
        yI[i] += s0
        yI[i + 1] += s1


@njit(**PART)
def _tile_two(a, XI, XJ, YI, YJ, q):
    """`_tile_one` for the vectors q and q + 1 of X (m, T): x_J and y_J stay in registers, two rows at a time.

    A row of a tile is four vectors.
    """
    T = ROW_BYTES // a.itemsize
    V = T // 4
    x, z = XJ[q], XJ[q + 1]
    x0, x1, x2, x3 = load(x, 0), load(x, V), load(x, 2 * V), load(x, 3 * V)
    z0, z1, z2, z3 = load(z, 0), load(z, V), load(z, 2 * V), load(z, 3 * V)
    y0 = y1 = y2 = y3 = v0 = v1 = v2 = v3 = zeros(x)
    for i in range(0, T, 2):
        s = t = u = w = zeros(x)
        for second in range(2):
            row = a[i + second]
            b0, b1, b2, b3 = load(row, 0), load(row, V), load(row, 2 * V), load(row, 3 * V)
            p, r = splat(x, XI[q, i + second]), splat(x, XI[q + 1, i + second])
            y0, y1 = multiply_add(p, b0, y0), multiply_add(p, b1, y1)
            y2, y3 = multiply_add(p, b2, y2), multiply_add(p, b3, y3)
            v0, v1 = multiply_add(r, b0, v0), multiply_add(r, b1, v1)
            v2, v3 = multiply_add(r, b2, v2), multiply_add(r, b3, v3)
            c = multiply_add(b1, x1, multiply_add(b0, x0, zeros(x)))
            c = multiply_add(b3, x3, multiply_add(b2, x2, c))
            d = multiply_add(b1, z1, multiply_add(b0, z0, zeros(x)))
            d = multiply_add(b3, z3, multiply_add(b2, z2, d))
            if second == 0:
                s, t = c, d
            else:
                u, w = c, d
        k0, k1, k2, k3 = totals(s, u, t, w)
        YI[q, i] += k0
        YI[q, i + 1] += k1
        YI[q + 1, i] += k2
        YI[q + 1, i + 1] += k3
    _add_row(YJ[q], V, y0, y1, y2, y3)
    _add_row(YJ[q + 1], V, v0, v1, v2, v3)


@njit(**PART)
def _add_row(y, V, y0, y1, y2, y3):
    add_to(y, 0, y0)
    add_to(y, V, y1)
    add_to(y, 2 * V, y2)
    add_to(y, 3 * V, y3)


@njit(**PART)
def fetch_ahead(row):
    """Prefetch what lies AHEAD rows of a tile after this one in memory."""
    T = ROW_BYTES // row.itemsize
    for v in range(AHEAD * T, (AHEAD + 1) * T, T // 4):
        fetch(row, v)


@njit(**KERNEL)
def multiply_tiles(counters, me, tiles, rows, chunks, X, sums):
    """A X, by chunks of A."""
    while True:
        task = take(counters, me, 0, len(chunks))
        if task >= len(chunks):
            break
        _chunk_product(tiles, X, sums, rows, chunks[task])
