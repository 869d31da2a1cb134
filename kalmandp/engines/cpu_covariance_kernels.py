"""Numba kernels of `cpu_covariance`: small functions on tiles, and the loops that share them out.

Every sum is taken in an order that the blocks alone decide. Work is cut into a fixed list of tasks; each
thread runs the same function, which takes the next task off the list until none is left. A task adds into
accumulators of its own, and these are added up in the order of the list. Results are therefore the same
bits for any number of threads, and a thread that the machine holds up does not hold up the others.

Letters: a tile of P (T, T); r, i its row; j its column; q measurement; k pending column; t tile of w.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.threads import KERNEL, PART, done, take, wait
from kalmandp.engines.vectors import add_to, fetch, load, multiply_add, splat, store, totals, zeros

#: A row of a tile is four lines of cache: T = 32 for float64, 64 for float32. Measured: two such rows at
#: once are read from memory as fast as a plain sum reads; rows of 512 bytes, or four at once, slower.
ROW_BYTES = 256

#: Rows of a tile, or of U in as many tiles, that are asked for before they are read. Where P is larger
#: than the caches, 4 measured up to three times as fast as none and twice as fast as 16.
AHEAD = 4

# columns of ``rows`` (one line per tile t of w): first tile of P's row, first t of the block, weights, and
# whether the block is this one tile
TILE, FIRST, W0, W1, ALONE = range(5)
# columns of ``chunks``: rows R0 ≤ t < R1; first tile of w in its sums, where these begin
R0, R1, LOW, PLACE = range(4)
# columns of ``segments``: tiles T0 ≤ t < T1 of one block
T0, T1, BLOCK = range(3)
#: Weights of a task that goes through the rows of K.
PIECE = 256
#: Rows of U that are read together.
GROUP = 4


@njit(**PART)
def _fetch_ahead(row):
    """Ask for what lies AHEAD rows of a tile behind this one in memory."""
    T = ROW_BYTES // row.itemsize
    for v in range(AHEAD * T, (AHEAD + 1) * T, T // 4):
        fetch(row, v)


@njit(**PART)
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
def _tile_alone(a, x, y):
    """y += a x of a block that is one tile: a is stored whole, and symmetric."""
    V = ROW_BYTES // a.itemsize // 4
    y0 = y1 = y2 = y3 = zeros(x)
    for n in range(4 * V):
        b, p = a[n], splat(x, x[n])
        _fetch_ahead(b)
        y0, y1 = multiply_add(p, load(b, 0), y0), multiply_add(p, load(b, V), y1)
        y2, y3 = multiply_add(p, load(b, 2 * V), y2), multiply_add(p, load(b, 3 * V), y3)
    _add_row(y, V, y0, y1, y2, y3)


@njit(**PART)
def _add_row(y, V, y0, y1, y2, y3):
    add_to(y, 0, y0)
    add_to(y, V, y1)
    add_to(y, 2 * V, y2)
    add_to(y, 3 * V, y3)


@njit(**PART)
def _store_row(y, V, y0, y1, y2, y3):
    store(y, 0, y0)
    store(y, V, y1)
    store(y, 2 * V, y2)
    store(y, 3 * V, y3)


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


@njit(**KERNEL)
def pack(tiled, M_qw, rows):
    """tiled[t, q, j] = M[q, w] for the weights w of tile t; zeros pad the ends of blocks."""
    for t in range(len(rows)):
        for q in range(M_qw.shape[0]):
            _pack_row(tiled[t, q], M_qw[q], 1.0, rows[t])


@njit(**KERNEL)
def append(pending, k0, M_qw, factor, rows):
    """Rows k0, k0 + 1, … of U become factor·M; those after them, up to a whole group, zero."""
    last = k0 + M_qw.shape[0]
    for k in range(k0, last):
        for t in range(len(rows)):
            _pack_row(pending[k, t], M_qw[k - k0], factor, rows[t])
    for k in range(last, (last + GROUP - 1) // GROUP * GROUP):
        pending[k] = 0


@njit(**PART)
def _pack_row(to, M_w, factor, row):
    w0 = row[W0]
    n = row[W1] - w0
    for j in range(n):
        to[j] = factor * M_w[w0 + j]
    for j in range(n, len(to)):
        to[j] = 0


@njit(**PART)
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
            _fetch_ahead(U[k, t])
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
            _fetch_ahead(U[k, t])
        x0, x1, x2, x3 = load(x, 0), load(x, V), load(x, 2 * V), load(x, 3 * V)
        c0, c1 = _add_dot(U[0, t], V, x0, x1, x2, x3, c0), _add_dot(U[1, t], V, x0, x1, x2, x3, c1)
        c2, c3 = _add_dot(U[2, t], V, x0, x1, x2, x3, c2), _add_dot(U[3, t], V, x0, x1, x2, x3, c3)
    Z_kq[0, q], Z_kq[1, q], Z_kq[2, q], Z_kq[3, q] = totals(c0, c1, c2, c3)


@njit(**PART)
def _add_dot(u, V, x0, x1, x2, x3, total):
    """total + u·x, of four vectors each, the places of a vector apart."""
    total = multiply_add(load(u, V), x1, multiply_add(load(u, 0), x0, total))
    return multiply_add(load(u, 3 * V), x3, multiply_add(load(u, 2 * V), x2, total))


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
    """Ask for place v of four rows."""
    fetch(a, v)
    fetch(b, v)
    fetch(c, v)
    fetch(d, v)


@njit(**PART)
def _splats(y, Z_kq, q):
    """−z of four rows, each in every place of a vector."""
    return splat(y, -Z_kq[0, q]), splat(y, -Z_kq[1, q]), splat(y, -Z_kq[2, q]), splat(y, -Z_kq[3, q])


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


# What follows is run by each thread at once; see `threads`.


@njit(**KERNEL)
def multiply_tiles(counters, me, tiles, rows, chunks, X, sums):
    """A X, by chunks of A."""
    while True:
        task = take(counters, me, 0, len(chunks))
        if task >= len(chunks):
            break
        _chunk_product(tiles, X, sums, rows, chunks[task])


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


@njit(**KERNEL)
def gather(
    counters, me, pending, n_k, scale, rows, chunks, touched, segments, block_segments, sums, Z_parts, Y, K_qw
):
    """K = scale·(A X − Uᵀ(U X)), by segments, from what `multiply_tiles` and `multiply_pending` left."""
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
                _fetch_ahead(u)
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


@njit(**KERNEL)
def whiten(counters, me, K_qw, C_qq):
    """K ← C⁻¹K by forward substitution, the columns of K in pieces that stay in cache."""
    N = K_qw.shape[1]
    n_tasks = (N + PIECE - 1) // PIECE
    while True:
        task = take(counters, me, 0, n_tasks)
        if task >= n_tasks:
            break
        w0 = task * PIECE
        _whiten_piece(K_qw, C_qq, w0, min(PIECE, N - w0))
