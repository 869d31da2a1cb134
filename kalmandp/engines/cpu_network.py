"""Numba twin of `potential.network`: whole nets in one call, threads over blocks of rows.

Every number is summed in an order that depends on the shapes alone, never on the number of threads,
so results are the same bits for any thread count. Row r of the caches holds all layers side by side;
``form`` (L, 8) says where each layer lies: see the constants below.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

from kalmandp.engines.cpu_activation import activation_id, phi_d1_d2
from kalmandp.potential.weights import LayerForm

# columns of ``form``
N_IN, N_OUT, X_COL, A_COL, W_START, B_START, IDT_START, SKIP = range(8)
SKIP_CODE = {"none": 0, "same": 1, "double": 2}

#: Rows a thread takes at once; a constant, so that sums do not depend on the thread count.
ROWS = 16

_fast: dict[str, Any] = {
    "cache": True,
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    "error_model": "numpy",
}


class NetForm(NamedTuple):
    """A net in numbers: ``form`` (L, 8) int64, activation (code, threshold), widths of the caches."""

    form: np.ndarray
    phi: int
    threshold: float
    linear_last: bool
    n_x: int
    n_a: int


class NetCache(NamedTuple):
    """Inputs X of all layers side by side (b, n_x); φ, φ′, φ″ (b, n_a); tangents Ẋ and ȧ."""

    X: np.ndarray
    phi: np.ndarray
    d1: np.ndarray
    d2: np.ndarray
    X_dot: np.ndarray | None = None
    a_dot: np.ndarray | None = None


def describe(forms: tuple[LayerForm, ...], start: int) -> NetForm:
    """Numbers of a net whose first weight is at ``start`` in w; the last layer may be linear."""
    rows, x, a = [], 0, 0
    for f in forms:
        w, b = start, start + f.n_in * f.n_out
        idt = b + f.n_out if f.has_idt else -1
        start = b + f.n_out * (2 if f.has_idt else 1)
        rows.append((f.n_in, f.n_out, x, a, w, b, idt, SKIP_CODE[f.skip]))
        x, a = x + f.n_in, a + f.n_out
    code, threshold = activation_id(forms[0].activation)
    linear_last = activation_id(forms[-1].activation) == activation_id("linear")
    return NetForm(np.array(rows, dtype=np.int64), code, threshold, linear_last, x, a)


def forward(net: NetForm, w, x):
    """Twin of `network.forward`: y (b, n_out) and the cache."""
    b = len(x)
    phi = np.empty((b, net.n_a))
    cache = NetCache(np.empty((b, net.n_x)), phi, np.empty_like(phi), np.empty_like(phi))
    y = np.empty((b, int(net.form[-1, N_OUT])))
    _forward(net.form, w, x, *cache[:4], y, net.phi, net.threshold, net.linear_last)
    return y, cache


def tangent(net: NetForm, w, cache: NetCache, x_dot):
    """Twin of `network.tangent`: ẏ (b, n_out) and the cache with tangents."""
    cache = cache._replace(X_dot=np.empty_like(cache.X), a_dot=np.empty_like(cache.phi))
    y_dot = np.empty((len(x_dot), int(net.form[-1, N_OUT])))
    _tangent(net.form, w, x_dot, cache.d1, cache.X_dot, cache.a_dot, y_dot)
    return y_dot, cache


def backward(net: NetForm, w, cache: NetCache, y_bar, gradient=None):
    """Twin of `network.backward`: x̄ (b, n_in); adds to the flat ``gradient`` if given."""
    a_bar = np.empty_like(cache.phi)
    x_bar = np.empty((len(y_bar), int(net.form[0, N_IN])))
    idt_bar = np.empty_like(cache.phi) if (net.form[:, IDT_START] >= 0).any() else a_bar[:, :0]
    _backward(net.form, w, cache.phi, cache.d1, y_bar, a_bar, idt_bar, x_bar)
    if gradient is not None:
        _add_gradient(net.form, cache.X, a_bar, idt_bar, gradient)
    return x_bar


def tangent_backward(net: NetForm, w, cache: NetCache, y_bar, y_dot_bar, gradient):
    """Twin of `network.tangent_backward`: x̄, ẋ̄; adds to the flat ``gradient``."""
    a_bar, a_dot_bar = np.empty_like(cache.phi), np.empty_like(cache.phi)
    x_bar = np.empty((len(y_bar), int(net.form[0, N_IN])))
    x_dot_bar = np.empty_like(x_bar)
    idt_bar = np.empty_like(cache.phi) if (net.form[:, IDT_START] >= 0).any() else a_bar[:, :0]
    _tangent_backward(
        net.form, w, cache.phi, cache.d1, cache.d2, cache.a_dot,
        y_bar, y_dot_bar, a_bar, a_dot_bar, idt_bar, x_bar, x_dot_bar,
    )  # fmt: skip
    _add_gradient_pair(net.form, cache.X, cache.X_dot, a_bar, a_dot_bar, idt_bar, gradient)
    return x_bar, x_dot_bar


@njit(**_fast)
def _matmul(X, xo, W, A, ao, r0, r1):
    """A[r, ao + j] = Σ_k W[j, k] X[r, xo + k] for rows r0 ≤ r < r1, four rows by two columns at once."""
    n_out, n_in = W.shape
    r = r0
    while r + 4 <= r1:
        x0, x1, x2, x3 = (
            X[r, xo : xo + n_in], X[r + 1, xo : xo + n_in],
            X[r + 2, xo : xo + n_in], X[r + 3, xo : xo + n_in],
        )  # fmt: skip
        j = 0
        while j + 2 <= n_out:
            w0, w1 = W[j], W[j + 1]
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
            j += 2
        if j < n_out:
            w0 = W[j]
            s00 = s10 = s20 = s30 = 0.0
            for k in range(n_in):
                s00 += w0[k] * x0[k]
                s10 += w0[k] * x1[k]
                s20 += w0[k] * x2[k]
                s30 += w0[k] * x3[k]
            A[r, ao + j], A[r + 1, ao + j] = s00, s10
            A[r + 2, ao + j], A[r + 3, ao + j] = s20, s30
        r += 4
    while r < r1:
        x0 = X[r, xo : xo + n_in]
        for j in range(n_out):
            w0 = W[j]
            s00 = 0.0
            for k in range(n_in):
                s00 += w0[k] * x0[k]
            A[r, ao + j] = s00
        r += 1


@njit(**_fast)
def _matmul_adjoint(A_bar, ao, W, X_bar, r0, r1):
    """X_bar[r, k] = Σ_j A_bar[r, ao + j] W[j, k] for rows r0 ≤ r < r1; four columns j at once."""
    n_out, n_in = W.shape
    for r in range(r0, r1):
        x = X_bar[r, :n_in]
        x[:] = 0.0
        j = 0
        while j + 4 <= n_out:
            a0, a1, a2, a3 = (
                A_bar[r, ao + j], A_bar[r, ao + j + 1],
                A_bar[r, ao + j + 2], A_bar[r, ao + j + 3],
            )  # fmt: skip
            w0, w1, w2, w3 = W[j], W[j + 1], W[j + 2], W[j + 3]
            for k in range(n_in):
                x[k] += (a0 * w0[k] + a1 * w1[k]) + (a2 * w2[k] + a3 * w3[k])
            j += 4
        while j < n_out:
            a0 = A_bar[r, ao + j]
            w0 = W[j]
            for k in range(n_in):
                x[k] += a0 * w0[k]
            j += 1


@njit(**_fast)
def _add_skip(skip, n_in, x, y):
    if skip == 1:
        for k in range(n_in):
            y[k] += x[k]
    elif skip == 2:
        for k in range(n_in):
            y[k] += x[k]
            y[n_in + k] += x[k]


@njit(**_fast)
def _add_skip_adjoint(skip, n_in, y_bar, x_bar):
    if skip == 1:
        for k in range(n_in):
            x_bar[k] += y_bar[k]
    elif skip == 2:
        for k in range(n_in):
            x_bar[k] += y_bar[k] + y_bar[n_in + k]


@njit(parallel=True, **_fast)
def _forward(form, w, x, X, phi, d1, d2, y, code, threshold, linear_last):
    b = x.shape[0]
    L = form.shape[0]
    for chunk in prange((b + ROWS - 1) // ROWS):
        r0, r1 = chunk * ROWS, min(b, chunk * ROWS + ROWS)
        for r in range(r0, r1):
            for k in range(x.shape[1]):
                X[r, k] = x[r, k]
        for n in range(L):
            n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
            W = w[ws : ws + n_in * n_out].reshape(n_out, n_in)
            bias = w[bs : bs + n_out]
            _matmul(X, xo, W, phi, ao, r0, r1)
            for r in range(r0, r1):
                for j in range(n_out):
                    a = phi[r, ao + j] + bias[j]
                    if linear_last and n == L - 1:
                        phi[r, ao + j], d1[r, ao + j], d2[r, ao + j] = a, 1.0, 0.0
                    else:
                        phi[r, ao + j], d1[r, ao + j], d2[r, ao + j] = phi_d1_d2(
                            code, threshold, a
                        )
                out = y[r] if n == L - 1 else X[r, xo + n_in : xo + n_in + n_out]
                for j in range(n_out):
                    out[j] = phi[r, ao + j] * (w[ds + j] if ds >= 0 else 1.0)
                _add_skip(skip, n_in, X[r, xo : xo + n_in], out)


@njit(parallel=True, **_fast)
def _tangent(form, w, x_dot, d1, X_dot, a_dot, y_dot):
    b = x_dot.shape[0]
    L = form.shape[0]
    for chunk in prange((b + ROWS - 1) // ROWS):
        r0, r1 = chunk * ROWS, min(b, chunk * ROWS + ROWS)
        for r in range(r0, r1):
            for k in range(x_dot.shape[1]):
                X_dot[r, k] = x_dot[r, k]
        for n in range(L):
            n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
            W = w[ws : ws + n_in * n_out].reshape(n_out, n_in)
            _matmul(X_dot, xo, W, a_dot, ao, r0, r1)
            for r in range(r0, r1):
                out = y_dot[r] if n == L - 1 else X_dot[r, xo + n_in : xo + n_in + n_out]
                for j in range(n_out):
                    idt = w[ds + j] if ds >= 0 else 1.0
                    out[j] = d1[r, ao + j] * a_dot[r, ao + j] * idt
                _add_skip(skip, n_in, X_dot[r, xo : xo + n_in], out)


@njit(parallel=True, **_fast)
def _backward(form, w, phi, d1, y_bar, a_bar, idt_bar, x_bar):
    b = y_bar.shape[0]
    L = form.shape[0]
    widest = max(form[:, N_IN].max(), form[:, N_OUT].max())
    for chunk in prange((b + ROWS - 1) // ROWS):
        r0, r1 = chunk * ROWS, min(b, chunk * ROWS + ROWS)
        bar = np.empty((ROWS, widest))
        new = np.empty((ROWS, widest))
        for r in range(r0, r1):
            for j in range(y_bar.shape[1]):
                bar[r - r0, j] = y_bar[r, j]
        for n in range(L - 1, -1, -1):
            n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
            W = w[ws : ws + n_in * n_out].reshape(n_out, n_in)
            for r in range(r0, r1):
                for j in range(n_out):
                    phi_bar = bar[r - r0, j]
                    if ds >= 0:
                        idt_bar[r, ao + j] = phi_bar * phi[r, ao + j]
                        phi_bar *= w[ds + j]
                    a_bar[r, ao + j] = phi_bar * d1[r, ao + j]
            _matmul_adjoint(a_bar[r0:r1], ao, W, new, 0, r1 - r0)
            for r in range(r1 - r0):
                _add_skip_adjoint(skip, n_in, bar[r], new[r])
            bar, new = new, bar
        for r in range(r0, r1):
            for k in range(x_bar.shape[1]):
                x_bar[r, k] = bar[r - r0, k]


@njit(parallel=True, **_fast)
def _tangent_backward(
    form, w, phi, d1, d2, a_dot, y_bar, y_dot_bar, a_bar, a_dot_bar, idt_bar, x_bar, x_dot_bar
):
    b = y_bar.shape[0]
    L = form.shape[0]
    widest = max(form[:, N_IN].max(), form[:, N_OUT].max())
    for chunk in prange((b + ROWS - 1) // ROWS):
        r0, r1 = chunk * ROWS, min(b, chunk * ROWS + ROWS)
        bar = np.empty((ROWS, widest))
        new = np.empty((ROWS, widest))
        dot = np.empty((ROWS, widest))
        new_dot = np.empty((ROWS, widest))
        for r in range(r0, r1):
            for j in range(y_bar.shape[1]):
                bar[r - r0, j] = y_bar[r, j]
                dot[r - r0, j] = y_dot_bar[r, j]
        for n in range(L - 1, -1, -1):
            n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
            W = w[ws : ws + n_in * n_out].reshape(n_out, n_in)
            for r in range(r0, r1):
                for j in range(n_out):
                    p_bar, pd_bar = bar[r - r0, j], dot[r - r0, j]
                    u1 = d1[r, ao + j]
                    u_dot = a_dot[r, ao + j]
                    if ds >= 0:
                        idt_bar[r, ao + j] = p_bar * phi[r, ao + j] + pd_bar * u1 * u_dot
                        p_bar *= w[ds + j]
                        pd_bar *= w[ds + j]
                    a_bar[r, ao + j] = p_bar * u1 + pd_bar * d2[r, ao + j] * u_dot
                    a_dot_bar[r, ao + j] = pd_bar * u1
            _matmul_adjoint(a_bar[r0:r1], ao, W, new, 0, r1 - r0)
            _matmul_adjoint(a_dot_bar[r0:r1], ao, W, new_dot, 0, r1 - r0)
            for r in range(r1 - r0):
                _add_skip_adjoint(skip, n_in, bar[r], new[r])
                _add_skip_adjoint(skip, n_in, dot[r], new_dot[r])
            bar, new = new, bar
            dot, new_dot = new_dot, dot
        for r in range(r0, r1):
            for k in range(x_bar.shape[1]):
                x_bar[r, k] = bar[r - r0, k]
                x_dot_bar[r, k] = dot[r - r0, k]


@njit(**_fast)
def _outer_add(X, xo, n_in, A_bar, col, out):
    """out[k] += Σ_r A_bar[r, col] X[r, xo + k], four rows at once."""
    b = X.shape[0]
    r = 0
    while r + 4 <= b:
        a0, a1, a2, a3 = A_bar[r, col], A_bar[r + 1, col], A_bar[r + 2, col], A_bar[r + 3, col]
        x0, x1, x2, x3 = (
            X[r, xo : xo + n_in], X[r + 1, xo : xo + n_in],
            X[r + 2, xo : xo + n_in], X[r + 3, xo : xo + n_in],
        )  # fmt: skip
        for k in range(n_in):
            out[k] += (a0 * x0[k] + a1 * x1[k]) + (a2 * x2[k] + a3 * x3[k])
        r += 4
    while r < b:
        a0 = A_bar[r, col]
        x0 = X[r, xo : xo + n_in]
        for k in range(n_in):
            out[k] += a0 * x0[k]
        r += 1


@njit(**_fast)
def _layer_of(form, column):
    n = form.shape[0] - 1
    while column < form[n, A_COL]:
        n -= 1
    return n


@njit(parallel=True, **_fast)
def _add_gradient(form, X, a_bar, idt_bar, gradient):
    for column in prange(a_bar.shape[1]):
        n = _layer_of(form, column)
        n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
        j = column - ao
        _outer_add(X, xo, n_in, a_bar, column, gradient[ws + j * n_in : ws + (j + 1) * n_in])
        s = t = 0.0
        for r in range(a_bar.shape[0]):
            s += a_bar[r, column]
        gradient[bs + j] += s
        if ds >= 0:
            for r in range(a_bar.shape[0]):
                t += idt_bar[r, column]
            gradient[ds + j] += t


@njit(parallel=True, **_fast)
def _add_gradient_pair(form, X, X_dot, a_bar, a_dot_bar, idt_bar, gradient):
    for column in prange(a_bar.shape[1]):
        n = _layer_of(form, column)
        n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
        j = column - ao
        out = gradient[ws + j * n_in : ws + (j + 1) * n_in]
        _outer_add(X, xo, n_in, a_bar, column, out)
        _outer_add(X_dot, xo, n_in, a_dot_bar, column, out)
        s = t = 0.0
        for r in range(a_bar.shape[0]):
            s += a_bar[r, column]
        gradient[bs + j] += s
        if ds >= 0:
            for r in range(a_bar.shape[0]):
                t += idt_bar[r, column]
            gradient[ds + j] += t
