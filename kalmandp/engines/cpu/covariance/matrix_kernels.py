"""Numba kernels of `matrix`: P Hᵀ and H P Hᵀ, G = C⁻¹K, and P − GᵀG for many rows at once.

Everything is made of `products.multiply_block`. What it reads as B lies in panels of 16 columns. Sums are
taken in an order that the blocks and m decide, not the number of threads.

Letters: q, p measurement; w weight; t tile of w, r of rows, c of columns of P; k pending row.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.covariance.rounds import BEFORE_I, BEFORE_J, T0, T1, I, J
from kalmandp.engines.cpu.covariance.tiling import FIRST, TILE, W0, W1
from kalmandp.engines.cpu.products import COLUMNS, ROWS, multiply_block, multiply_strip
from kalmandp.engines.cpu.threads import (
    KERNEL,
    PART,
    done,
    step_on,
    take,
    take_in_order,
    wait,
    wait_for_steps,
)
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, totals, zeros

#: Numbers of a vector: a row of a panel is two.
LANES = COLUMNS // 2
#: Panels of measurements of one task of P Hᵀ.
PANELS_AT_ONCE = 6
#: Weights of a task of C⁻¹K.
PIECE = 64
#: Rows of G that are multiplied at once: a panel of them stays in the L1 cache.
DEPTH = 192
#: Weights over which H Kᵀ is summed at once, for the same reason.
REACH = 128


@njit(**KERNEL)
def project(counters, me, steps, tables, P, H_qw, space, K_qw, HPH_qq):
    """K = scale·(A Hᵀ − Uᵀ(U Hᵀ)) as rows, and H Kᵀ.

    Flat arrays, of P and of the work space: ``tiles``; ``pending``; X and Y (panels, n_t T, 16), H and K
    transposed; Z (segments, panels, PENDING, 16), U Hᵀ over each segment, then the sum of each block in the
    place of its first segment, ``z_of_tile``; ``parts`` (ranges, panels 16, panels 16), H Kᵀ over each range.
    ``parts`` and Z must be zero before.
    """
    T, rows, squares, pairs = tables.T, tables.rows, tables.squares, tables.pairs
    segments, z_of_tile, ranges = tables.segments, tables.z_of_tile, tables.ranges
    tiles, pending, n_k, scale = P.tiles, P.pending, P.n_k, P.scale
    X, Y, Z, parts = space.X, space.Y, space.Z, space.parts
    m, n_t = H_qw.shape[0], rows.shape[0]
    n_panels = (m + COLUMNS - 1) // COLUMNS
    n_ranges, panel_size, z_size = len(ranges), n_t * T * COLUMNS, len(pending) // (n_t * T) * COLUMNS
    n_z, n_m = len(segments) * n_panels, n_panels * COLUMNS
    while True:
        t = take(counters, me, 0, n_t)
        if t >= n_t:
            break
        turn_in(H_qw, X, Y, rows[t], t * T, T, n_panels, panel_size)
        done(counters, 0)
    wait(counters, 0, n_t)
    # Z = U Hᵀ, the parts of each block added in their order
    if n_k > 0:
        while True:
            task = take(counters, me, 1, n_z)
            if task >= n_z:
                break
            g, panel = task // n_panels, task % n_panels
            t0, t1 = segments[g, T0], segments[g, T1]
            for k in range(0, n_k, ROWS):
                multiply_block(
                    Z, task * z_size + k * COLUMNS, COLUMNS, 1.0, 1.0,
                    pending, (k * n_t + t0) * T, n_t * T, 1, (t1 - t0) * T,
                    X, panel * panel_size + t0 * T * COLUMNS,
                )  # fmt: skip
            done(counters, 1)
        wait(counters, 1, n_z)
        while True:
            panel = take(counters, me, 2, n_panels)
            if panel >= n_panels:
                break
            for g in range(len(segments)):
                first = z_of_tile[segments[g, T0]]
                to, start = (first * n_panels + panel) * z_size, (g * n_panels + panel) * z_size
                if first < g:
                    for k in range(n_k * COLUMNS):
                        Z[to + k] += Z[start + k]
            done(counters, 2)
        wait(counters, 2, n_panels)
    # A Hᵀ
    n_groups = (n_panels + PANELS_AT_ONCE - 1) // PANELS_AT_ONCE
    n_tasks, n_squares = len(pairs) * n_groups, len(squares)
    while True:
        task = take_in_order(counters, 3, n_tasks)
        if task >= n_tasks:
            break
        pair, g = pairs[task // n_groups], task % n_groups
        i, j = g * n_squares + pair[I], g * n_squares + pair[J]
        wait_for_steps(steps, i, pair[BEFORE_I])
        wait_for_steps(steps, j, pair[BEFORE_J])
        first, last = g * n_panels // n_groups, (g + 1) * n_panels // n_groups
        _multiply_square(tiles, T, rows, squares[pair[I]], squares[pair[J]], X, Y, first, last, panel_size)
        step_on(steps, i)
        if i != j:
            step_on(steps, j)
        done(counters, 3)
    wait(counters, 3, n_tasks)
    # K = scale·(A Hᵀ − Uᵀ Z), and the parts of H Kᵀ
    while True:
        g = take(counters, me, 4, n_ranges)
        if g >= n_ranges:
            break
        for t in range(ranges[g, T0], ranges[g, T1]):
            if n_k > 0 or scale != 1.0:
                for panel in range(n_panels):
                    z0 = (z_of_tile[t] * n_panels + panel) * z_size
                    for w in range(t * T, t * T + T, ROWS):
                        multiply_block(
                            Y, panel * panel_size + w * COLUMNS, COLUMNS, scale, -scale,
                            pending, w, 1, n_t * T, n_k, Z, z0,
                        )  # fmt: skip
            turn_out(Y, K_qw, rows[t], t * T, n_panels, panel_size)
        add_gram(X, Y, parts, g, ranges[g, T0] * T, ranges[g, T1] * T, n_panels, panel_size)
        done(counters, 4)
    wait(counters, 4, n_ranges)
    while True:
        q = take(counters, me, 5, m)
        if q >= m:
            break
        for g in range(1, n_ranges):
            start = (g * n_m + q) * n_m
            for p in range(q + 1):
                parts[q * n_m + p] += parts[start + p]
        for p in range(q + 1):
            HPH_qq[q, p] = HPH_qq[p, q] = parts[q * n_m + p]


@njit(**PART)
def turn_in(H_qw, X, Y, row, w_tile, T, n_panels, panel_size):
    """X ← the weights of one tile, transposed, with zeros at the ends; Y ← 0."""
    w0, n = row[W0], row[W1] - row[W0]
    for panel in range(n_panels):
        to, q0 = panel * panel_size + w_tile * COLUMNS, panel * COLUMNS
        for j in range(T * COLUMNS):
            X[to + j] = Y[to + j] = 0.0
        for q in range(min(COLUMNS, H_qw.shape[0] - q0)):
            for j in range(n):
                X[to + j * COLUMNS + q] = H_qw[q0 + q, w0 + j]


@njit(**PART)
def turn_out(Y, K_qw, row, w_tile, n_panels, panel_size):
    """K ← the weights of one tile."""
    w0, n = row[W0], row[W1] - row[W0]
    for panel in range(n_panels):
        start, q0 = panel * panel_size + w_tile * COLUMNS, panel * COLUMNS
        for q in range(min(COLUMNS, K_qw.shape[0] - q0)):
            for j in range(n):
                K_qw[q0 + q, w0 + j] = Y[start + j * COLUMNS + q]


@njit(**PART)
def _multiply_square(tiles, T, rows, square_I, square_J, X, Y, first_panel, last_panel, panel_size):
    """Y_I += A_IJ X_J and Y_J += A_IJᵀ X_I; of I = J the lower half, its diagonal tiles once."""
    for panel in range(first_panel, last_panel):
        base = panel * panel_size
        multiply_rectangle(
            tiles, T, rows, (square_I[T0], square_I[T1]), (square_J[T0], square_J[T1]), X, base, Y, base
        )


@njit(**PART)
def multiply_rectangle(tiles, T, rows, r_range, c_range, X, x0, Y, y0):
    """Y_r += A_rc X_c and Y_c += A_rcᵀ X_r for the tiles of rows r and columns c ≤ r of one block.

    Diagonal tiles are whole, and go in once. X and Y are panels of 16 columns: x0 + t T 16 is where tile t
    of w begins.
    """
    first = rows[r_range[0], FIRST]
    c = c_range[0]
    for r in range(r_range[0], r_range[1]):
        n = min(c_range[1], r + 1) - c
        if n > 0:
            tile = rows[r, TILE] + c - first
            for i in range(0, T, ROWS):
                multiply_strip(
                    Y, y0 + (r * T + i) * COLUMNS, COLUMNS, 1.0, 1.0,
                    tiles, tile * T * T + i * T, T, 1, T, X, x0 + c * T * COLUMNS,
                    T * T, 0, n, ROWS * T, ROWS,
                )  # fmt: skip
    for c in range(c_range[0], c_range[1]):
        r = max(r_range[0], c + 1)
        n = r_range[1] - r
        if n > 0:
            tile = rows[r, TILE] + c - first
            for j in range(0, T, ROWS):
                multiply_strip(
                    Y, y0 + (c * T + j) * COLUMNS, COLUMNS, 1.0, 1.0,
                    tiles, tile * T * T + j, 1, T, T, X, x0 + r * T * COLUMNS,
                    (r - first + 1) * T * T, T * T, n, ROWS, T,
                )  # fmt: skip


@njit(**PART)
def add_gram(X, Y, parts, g, w0, w1, n_panels, panel_size):
    """H Kᵀ over the places w0 ≤ w < w1, in panels below and on the diagonal, added to part g."""
    m = n_panels * COLUMNS
    for w in range(w0, w1, REACH):
        n = min(REACH, w1 - w)
        for p in range(n_panels):
            for q in range(p * COLUMNS, m, ROWS):
                multiply_block(
                    parts, (g * m + q) * m + p * COLUMNS, m, 1.0, 1.0,
                    X, q // COLUMNS * panel_size + w * COLUMNS + q % COLUMNS, 1, COLUMNS, n,
                    Y, p * panel_size + w * COLUMNS,
                )  # fmt: skip


@njit(**KERNEL)
def gain(counters, me, K_qw, C, flat_C, z_q, weights, new, scratch, flat, pieces, parts):
    """Twin of `kalman.covariance.gain`: G = C⁻¹K into K, w + Gᵀz into ``new``, a piece of w at a time.

    ``pieces``: first weight and end of each, at most `PIECE` weights. ``C`` (m up to whole panels, the same)
    is the lower triangle with ones on the rest of the diagonal; ``scratch`` (threads, panels of a piece, m up
    to whole panels, 16). ``parts`` (pieces, 2): |Gᵀz|² and Σ G² of each piece.
    """
    m = len(K_qw)
    n_q, n_tasks = len(C), len(parts)
    size = n_q * COLUMNS
    while True:
        task = take(counters, me, 0, n_tasks)
        if task >= n_tasks:
            break
        gain_square = step_square = 0.0
        for panel in range(PIECE // COLUMNS):
            w0 = pieces[task, 0] + panel * COLUMNS
            n = min(COLUMNS, pieces[task, 1] - w0)
            if n <= 0:
                break
            G, base = scratch[me, panel], (me * (PIECE // COLUMNS) + panel) * size
            if n < COLUMNS or m < n_q:
                G[:] = 0.0
            for q in range(m):
                _copy(G[q], K_qw[q, w0 : w0 + n], n)
            step_a = step_b = square_a = square_b = zeros(flat)
            for q in range(0, n_q, ROWS):
                # G_q = C_qq⁻¹(K_q − Σ_{p<q} C_qp G_p)
                multiply_block(
                    flat, base + q * COLUMNS, COLUMNS, 1.0, -1.0,
                    flat_C, q * n_q, n_q, 1, q, flat, base,
                )  # fmt: skip
                for i in range(q, q + ROWS):
                    a, b = load(G[i], 0), load(G[i], LANES)
                    for p in range(q, i):
                        c = splat(flat, -C[i, p])
                        a, b = multiply_add(c, load(G[p], 0), a), multiply_add(c, load(G[p], LANES), b)
                    c = splat(flat, 1.0 / C[i, i])
                    a, b = multiply_add(c, a, zeros(flat)), multiply_add(c, b, zeros(flat))
                    store(G[i], 0, a)
                    store(G[i], LANES, b)
                    z = splat(flat, z_q[i] if i < m else 0.0)
                    step_a, step_b = multiply_add(z, a, step_a), multiply_add(z, b, step_b)
                    square_a, square_b = multiply_add(a, a, square_a), multiply_add(b, b, square_b)
            for q in range(m):
                _copy(K_qw[q, w0 : w0 + n], G[q], n)
            step = G[0]
            store(step, 0, step_a)
            store(step, LANES, step_b)
            for j in range(n):
                new[w0 + j] = weights[w0 + j] + step[j]
            square_a, square_b, step_a, step_b = totals(
                square_a, square_b, multiply_add(step_a, step_a, zeros(flat)),
                multiply_add(step_b, step_b, zeros(flat)),
            )  # fmt: skip
            gain_square += square_a + square_b
            step_square += step_a + step_b
        parts[task, 0], parts[task, 1] = step_square, gain_square


@njit(**PART)
def _copy(to, source, n):
    """to[:n] = source[:n], fast for a whole panel."""
    if n == COLUMNS:
        for j in range(COLUMNS):
            to[j] = source[j]
    else:
        for j in range(n):
            to[j] = source[j]


@njit(**KERNEL)
def downdate(counters, me, tables, P, G_qw, factor, U, flat_U):
    """A ← scale·(A − UᵀU) on one triangle, for the n_k pending rows and, after them, factor·G.

    ``U`` (n_t T/16, k, 16) is space for the panels of these rows.
    """
    T, rows, squares, pairs = tables.T, tables.rows, tables.squares, tables.pairs
    tiles, pending, n_k, scale = P.tiles, P.pending, P.n_k, P.scale
    n_t, n_panels, n_rows = len(rows), T // COLUMNS, U.shape[1]
    while True:
        t = take(counters, me, 0, n_t)
        if t >= n_t:
            break
        w0, n = rows[t, W0], rows[t, W1] - rows[t, W0]
        for k in range(n_k):
            u = pending[(k * n_t + t) * T : (k * n_t + t + 1) * T]
            for panel in range(n_panels):
                for j in range(COLUMNS):
                    U[t * n_panels + panel, k, j] = u[panel * COLUMNS + j]
        for k in range(n_k, n_rows):
            g = G_qw[k - n_k, w0 : w0 + n]
            for panel in range(n_panels):
                u, start = U[t * n_panels + panel, k], panel * COLUMNS
                whole = max(0, min(COLUMNS, n - start))
                for j in range(whole):
                    u[j] = factor * g[start + j]
                u[whole:] = 0.0
        done(counters, 0)
    wait(counters, 0, n_t)
    n_tasks = len(pairs)
    while True:
        task = take(counters, me, 1, n_tasks)
        if task >= n_tasks:
            break
        square_I, square_J = squares[pairs[task, I]], squares[pairs[task, J]]
        first = rows[square_I[T0], FIRST]
        for k in range(0, n_rows, DEPTH):
            depth, keep = min(DEPTH, n_rows - k), scale if k == 0 else 1.0
            for c in range(square_J[T0], square_J[T1]):
                for panel in range(n_panels):
                    b0 = ((c * n_panels + panel) * n_rows + k) * COLUMNS
                    for r in range(max(c, square_I[T0]), square_I[T1]):
                        c0 = (rows[r, TILE] + c - first) * T * T + panel * COLUMNS
                        for i in range(0, T, ROWS):
                            a0 = ((r * n_panels + i // COLUMNS) * n_rows + k) * COLUMNS + i % COLUMNS
                            multiply_block(
                                tiles, c0 + i * T, T, keep, -scale,
                                flat_U, a0, 1, COLUMNS, depth, flat_U, b0,
                            )  # fmt: skip
