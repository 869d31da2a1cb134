"""Small matrix products inside compiled loops, where a call of BLAS would cost more than it saves.

w holds matrices W (n_out, n_in) from ``ws`` on. Rows of the other arrays are longer than what is used
of them: ``xo``, ``ao`` say from which column on.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.threads import PART


@njit(**PART)
def dot_product(A, ao, X, xo, w, ws, n_in, n_out, r0, r1):
    """A[r, ao + j] = Σ_k X[r, xo + k] W[j, k] for rows r0 ≤ r < r1: four rows by two columns at once."""
    for r in range(r0, r1 - 3, 4):
        x0, x1 = X[r, xo : xo + n_in], X[r + 1, xo : xo + n_in]
        x2, x3 = X[r + 2, xo : xo + n_in], X[r + 3, xo : xo + n_in]
        for j in range(0, n_out - 1, 2):
            w0 = w[ws + j * n_in : ws + (j + 1) * n_in]
            w1 = w[ws + (j + 1) * n_in : ws + (j + 2) * n_in]
            s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = 0.0
            for k in range(n_in):
                s00 += w0[k] * x0[k]
                s01 += w1[k] * x0[k]
                s10 += w0[k] * x1[k]
                s11 += w1[k] * x1[k]
                s20 += w0[k] * x2[k]
                s21 += w1[k] * x2[k]
                s30 += w0[k] * x3[k]
                s31 += w1[k] * x3[k]
            A[r, ao + j], A[r, ao + j + 1] = s00, s01
            A[r + 1, ao + j], A[r + 1, ao + j + 1] = s10, s11
            A[r + 2, ao + j], A[r + 2, ao + j + 1] = s20, s21
            A[r + 3, ao + j], A[r + 3, ao + j + 1] = s30, s31
        if n_out % 2:
            for q in range(4):
                A[r + q, ao + n_out - 1] = _dot(X[r + q, xo : xo + n_in], w, ws + (n_out - 1) * n_in)
    for r in range(r1 - (r1 - r0) % 4, r1):
        for j in range(n_out):
            A[r, ao + j] = _dot(X[r, xo : xo + n_in], w, ws + j * n_in)


@njit(**PART)
def _dot(x, w, start):
    total = 0.0
    for k in range(len(x)):
        total += w[start + k] * x[k]
    return total


@njit(**PART)
def add_product(Y, A, a0, ao, w, ws, n_in, n_out, n_rows):
    """Y[r, k] = Σ_j A[a0 + r, ao + j] W[j, k] for rows r < n_rows: eight columns j at once."""
    for r in range(n_rows):
        y, a = Y[r, :n_in], A[a0 + r]
        y[:] = 0.0
        for j in range(0, n_out - 7, 8):
            s = ws + j * n_in
            c0, c1, c2, c3 = a[ao + j], a[ao + j + 1], a[ao + j + 2], a[ao + j + 3]
            c4, c5, c6, c7 = a[ao + j + 4], a[ao + j + 5], a[ao + j + 6], a[ao + j + 7]
            w0, w1 = w[s : s + n_in], w[s + n_in : s + 2 * n_in]
            w2, w3 = w[s + 2 * n_in : s + 3 * n_in], w[s + 3 * n_in : s + 4 * n_in]
            w4, w5 = w[s + 4 * n_in : s + 5 * n_in], w[s + 5 * n_in : s + 6 * n_in]
            w6, w7 = w[s + 6 * n_in : s + 7 * n_in], w[s + 7 * n_in : s + 8 * n_in]
            for k in range(n_in):
                low = (c0 * w0[k] + c1 * w1[k]) + (c2 * w2[k] + c3 * w3[k])
                y[k] += low + ((c4 * w4[k] + c5 * w5[k]) + (c6 * w6[k] + c7 * w7[k]))
        for j in range(n_out - n_out % 8, n_out):
            c = a[ao + j]
            w0 = w[ws + j * n_in : ws + (j + 1) * n_in]
            for k in range(n_in):
                y[k] += c * w0[k]


@njit(**PART)
def add_outer(out, start, n_in, count, A, column, X, xo, source, r0, r1):
    """out[start + j·n_in + k] += Σ_r A[r, column + j] X[source[r], xo + k], j < count: four rows at once."""
    for r in range(r0, r1 - 3, 4):
        x0, x1 = X[source[r], xo : xo + n_in], X[source[r + 1], xo : xo + n_in]
        x2, x3 = X[source[r + 2], xo : xo + n_in], X[source[r + 3], xo : xo + n_in]
        for j in range(count):
            a0, a1 = A[r, column + j], A[r + 1, column + j]
            a2, a3 = A[r + 2, column + j], A[r + 3, column + j]
            y = out[start + j * n_in : start + (j + 1) * n_in]
            for k in range(n_in):
                y[k] += (a0 * x0[k] + a1 * x1[k]) + (a2 * x2[k] + a3 * x3[k])
    for r in range(r1 - (r1 - r0) % 4, r1):
        x = X[source[r], xo : xo + n_in]
        for j in range(count):
            a = A[r, column + j]
            y = out[start + j * n_in : start + (j + 1) * n_in]
            for k in range(n_in):
                y[k] += a * x[k]


@njit(**{**PART, "fastmath": False})  # said, or the caller's licence to reorder is inherited
def column_sum(A, column, r0, r1):
    """Σ_r A[r, column], one row after the other: rows of zeros in front change no bit."""
    total = 0.0
    for r in range(r0, r1):
        total += A[r, column]
    return total
