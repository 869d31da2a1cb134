"""Small matrix products inside compiled loops, where a call of BLAS would cost more than it saves.

w holds matrices W (n_out, n_in) from ``ws`` on. Rows of the other arrays are longer than what is used
of them: ``xo``, ``ao`` say from which column on. Blocks of results stay in registers (see `vectors`).
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.threads import PART
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, totals, zeros

#: float64 numbers in a vector.
LANES = 8


@njit(**PART)
def dot_product(A, ao, X, xo, w, ws, n_in, n_out, r0, r1):
    """A[r, ao + j] = Σ_k X[r, xo + k] W[j, k] for rows r0 ≤ r < r1: four rows by two columns at once."""
    whole = n_in - n_in % LANES
    for r in range(r0, r1 - 3, 4):
        x0, x1, x2, x3 = X[r], X[r + 1], X[r + 2], X[r + 3]
        for j in range(0, n_out - 1, 2):
            s00 = s10 = s20 = s30 = s01 = s11 = s21 = s31 = zeros(w)
            u, v = ws + j * n_in, ws + (j + 1) * n_in
            for k in range(0, whole, LANES):
                w0, w1 = load(w, u + k), load(w, v + k)
                y0, y1 = load(x0, xo + k), load(x1, xo + k)
                y2, y3 = load(x2, xo + k), load(x3, xo + k)
                s00, s01 = multiply_add(w0, y0, s00), multiply_add(w1, y0, s01)
                s10, s11 = multiply_add(w0, y1, s10), multiply_add(w1, y1, s11)
                s20, s21 = multiply_add(w0, y2, s20), multiply_add(w1, y2, s21)
                s30, s31 = multiply_add(w0, y3, s30), multiply_add(w1, y3, s31)
            a0, a1, a2, a3 = totals(s00, s10, s20, s30)
            b0, b1, b2, b3 = totals(s01, s11, s21, s31)
            for k in range(whole, n_in):
                c, d = w[u + k], w[v + k]
                a0, b0 = a0 + c * x0[xo + k], b0 + d * x0[xo + k]
                a1, b1 = a1 + c * x1[xo + k], b1 + d * x1[xo + k]
                a2, b2 = a2 + c * x2[xo + k], b2 + d * x2[xo + k]
                a3, b3 = a3 + c * x3[xo + k], b3 + d * x3[xo + k]
            A[r, ao + j], A[r, ao + j + 1] = a0, b0
            A[r + 1, ao + j], A[r + 1, ao + j + 1] = a1, b1
            A[r + 2, ao + j], A[r + 2, ao + j + 1] = a2, b2
            A[r + 3, ao + j], A[r + 3, ao + j + 1] = a3, b3
        if n_out % 2:
            for q in range(4):
                A[r + q, ao + n_out - 1] = _dot(X[r + q], xo, w, ws + (n_out - 1) * n_in, n_in)
    for r in range(r1 - (r1 - r0) % 4, r1):
        for j in range(n_out):
            A[r, ao + j] = _dot(X[r], xo, w, ws + j * n_in, n_in)


@njit(**PART)
def add_row(y, yo, x, xo, n):
    """y[yo + k] += x[xo + k] for k < n, by vectors: the compiler would not use them for rows this short."""
    whole = n - n % LANES
    one = splat(y, 1.0)
    for k in range(0, whole, LANES):
        store(y, yo + k, multiply_add(load(x, xo + k), one, load(y, yo + k)))
    for k in range(whole, n):
        y[yo + k] += x[xo + k]


@njit(**PART)
def multiply_rows(y, yo, a, ao, b, bo, n):
    """y[yo + k] = a[ao + k] b[bo + k] for k < n, by vectors."""
    whole = n - n % LANES
    none = zeros(y)
    for k in range(0, whole, LANES):
        store(y, yo + k, multiply_add(load(a, ao + k), load(b, bo + k), none))
    for k in range(whole, n):
        y[yo + k] = a[ao + k] * b[bo + k]


@njit(**PART)
def _dot(x, xo, w, start, n):
    total = 0.0
    for k in range(n):
        total += w[start + k] * x[xo + k]
    return total


@njit(**PART)
def add_product(Y, A, a0, ao, w, ws, n_in, n_out, n_rows):
    """Y[r, k] = Σ_j A[a0 + r, ao + j] W[j, k] for rows r < n_rows: four rows by two vectors at once."""
    wide = 2 * LANES
    strips = (n_in + wide - 1) // wide if n_in >= wide else 0
    whole = n_rows - n_rows % 4 if strips else 0
    for r in range(0, whole, 4):
        c0, c1, c2, c3 = A[a0 + r], A[a0 + r + 1], A[a0 + r + 2], A[a0 + r + 3]
        for strip in range(strips):
            k = min(strip * wide, n_in - wide)  # the last strip lies over the one before
            y00 = y01 = y10 = y11 = y20 = y21 = y30 = y31 = zeros(w)
            for j in range(n_out):
                w0, w1 = load(w, ws + j * n_in + k), load(w, ws + j * n_in + k + LANES)
                a = splat(w, c0[ao + j])
                y00, y01 = multiply_add(a, w0, y00), multiply_add(a, w1, y01)
                a = splat(w, c1[ao + j])
                y10, y11 = multiply_add(a, w0, y10), multiply_add(a, w1, y11)
                a = splat(w, c2[ao + j])
                y20, y21 = multiply_add(a, w0, y20), multiply_add(a, w1, y21)
                a = splat(w, c3[ao + j])
                y30, y31 = multiply_add(a, w0, y30), multiply_add(a, w1, y31)
            store_two(Y[r], k, y00, y01)
            store_two(Y[r + 1], k, y10, y11)
            store_two(Y[r + 2], k, y20, y21)
            store_two(Y[r + 3], k, y30, y31)
    for r in range(whole, n_rows):
        y, a = Y[r], A[a0 + r]
        y[:n_in] = 0.0
        for j in range(n_out):
            c = a[ao + j]
            for k in range(n_in):
                y[k] += c * w[ws + j * n_in + k]


@njit(**PART)
def store_two(y, k, first, second):
    store(y, k, first)
    store(y, k + LANES, second)


@njit(**PART)
def outer_sum(out, start, n_in, count, A, X, A_dot, X_dot, column, xo, source, r0, r1):
    """out[start + j·n_in + k] = Σ_r A[r, column + j] X[source[r], xo + k] + A_dot[r, …] X_dot[r, …].

    For j < count: four j by two vectors at once. Without tangents X_dot has no rows.
    """
    wide = 2 * LANES
    strips = (n_in + wide - 1) // wide if n_in >= wide and count == 4 else 0
    for strip in range(strips):
        k = min(strip * wide, n_in - wide)  # the last strip lies over the one before
        y00 = y01 = y10 = y11 = y20 = y21 = y30 = y31 = zeros(out)
        for turn in range(2 if len(X_dot) else 1):
            for r in range(r0, r1):
                a, x = (A_dot[r], X_dot[r]) if turn else (A[r], X[source[r]])
                x0, x1 = load(x, xo + k), load(x, xo + k + LANES)
                c = splat(out, a[column])
                y00, y01 = multiply_add(c, x0, y00), multiply_add(c, x1, y01)
                c = splat(out, a[column + 1])
                y10, y11 = multiply_add(c, x0, y10), multiply_add(c, x1, y11)
                c = splat(out, a[column + 2])
                y20, y21 = multiply_add(c, x0, y20), multiply_add(c, x1, y21)
                c = splat(out, a[column + 3])
                y30, y31 = multiply_add(c, x0, y30), multiply_add(c, x1, y31)
        store_two(out, start + k, y00, y01)
        store_two(out, start + n_in + k, y10, y11)
        store_two(out, start + 2 * n_in + k, y20, y21)
        store_two(out, start + 3 * n_in + k, y30, y31)
    if n_in == 1 and len(X_dot) == 0:
        for j in range(count):
            out[start + j] += _product_sum(A, X, column + j, xo, source, r0, r1)
    elif strips == 0:
        for turn in range(2 if len(X_dot) else 1):
            for r in range(r0, r1):
                a, x = (A_dot[r], X_dot[r]) if turn else (A[r], X[source[r]])
                for j in range(count):
                    c, s = a[column + j], start + j * n_in
                    for k in range(n_in):
                        out[s + k] += c * x[xo + k]


@njit(**{**PART, "fastmath": False})
def _product_sum(A, X, column, xo, source, r0, r1):
    """Σ_r A[r, column] X[source[r], xo], one row after the other."""
    total = 0.0
    for r in range(r0, r1):
        total += A[r, column] * X[source[r], xo]
    return total


@njit(**{**PART, "fastmath": False})  # stated: otherwise the caller's fastmath is inherited
def add_column_sums(out, start, count, A, column, r0, r1):
    """out[start + j] += Σ_r A[r, column + j] for j < count ≤ 4: one row after the other.

    Rows of zeros in front change no bit.
    """
    s0 = s1 = s2 = s3 = 0.0
    if count == 4:
        for r in range(r0, r1):
            s0 += A[r, column]
            s1 += A[r, column + 1]
            s2 += A[r, column + 2]
            s3 += A[r, column + 3]
    else:
        for r in range(r0, r1):
            s0 += A[r, column]
            s1 += A[r, column + 1] if count > 1 else 0.0
            s2 += A[r, column + 2] if count > 2 else 0.0
    out[start] += s0
    if count > 1:
        out[start + 1] += s1
    if count > 2:
        out[start + 2] += s2
    if count > 3:
        out[start + 3] += s3
