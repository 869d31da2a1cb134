"""Numba twin of `potentials.network` for several nets of one shape: all layers of a block of rows in one go.

The embedding nets of a model are such a stack, and so are the fitting nets: row r of the arrays belongs to
net n for first_row[n] ≤ r < first_row[n + 1]. Rows are done in blocks of at most ROWS, which are the tasks
of `threads`; what the rows share, the gradient of the weights, is summed afterwards by columns, over all
rows of a net in their order. So no sum depends on the number of threads.

Arrays hold all layers of a row side by side, at the places that ``form`` (L, 8) says: X the layers'
inputs, phi, d1, d2 the activation and its derivatives, X_dot and a_dot their tangents. Row r of a block
finds its values at ``source[r]``, so that a pass may be made over some of the rows only.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from kalmandp.engines.cpu.activation import activation_id, apply
from kalmandp.engines.cpu.linear import (
    add_column_sums,
    add_product,
    add_row,
    dot_product,
    multiply_rows,
    outer_sum,
)
from kalmandp.engines.cpu.threads import PART
from kalmandp.potentials.layout import LayerForm

# columns of ``form``
N_IN, N_OUT, X_COL, A_COL, W_START, B_START, IDT_START, SKIP = range(8)
SKIP_CODE = {"none": 0, "same": 1, "double": 2}
# columns of ``blocks``
NET, R0, R1 = range(3)

#: Rows of a block at most; a constant, so that sums do not depend on the thread count.
ROWS = 16
#: Columns of a task that sums gradients.
COLUMNS = 4
#: The first place of a row. A NumPy number, because a part is compiled once for every type of its
#: arguments, and for Numba every literal number is a type of its own.
START = np.int64(0)
#: Multiplications of one tanh, about.
COST_OF_TANH = 30


class NetStack(NamedTuple):
    """Nets of one shape in numbers.

    forms : (n, L, 8) int64, each net's own starts in w
    phi, threshold : code of the activation
    linear_last : the last layer has no activation
    n_x, n_a, n_out : widths of X, of phi, and of the result;  widest : of any layer
    has_idt : some layer has time steps idt
    columns : (c, 2) int64, net and first column of a of each task that sums gradients
    """

    forms: np.ndarray
    phi: int
    threshold: float
    linear_last: bool
    n_x: int
    n_a: int
    n_out: int
    widest: int
    has_idt: bool
    columns: np.ndarray


class NetCache(NamedTuple):
    """Inputs X of all layers side by side (r, n_x); φ, φ′, φ″ (r, n_a)."""

    X: Any
    phi: Any
    d1: Any
    d2: Any


class NetRows(NamedTuple):
    """Rows that go through a stack of nets.

    blocks : tasks (`row_blocks`);  first : where each net's rows begin;  source : where row r is in ``cache``
    """

    nets: NetStack
    blocks: Any
    first: Any
    source: Any
    cache: NetCache


class LayerAdjoints(NamedTuple):
    """What a pass back through the layers of some rows leaves and needs: a̅, ǡ, tangents Ẋ and ȧ, idt̄.

    Without tangents X_dot, a_dot and a_dot_bar have no rows; without idt idt_bar has none.
    """

    a_bar: Any
    a_dot_bar: Any
    X_dot: Any
    a_dot: Any
    idt_bar: Any


def multiplications(nets: NetStack, n_rows: int) -> int:
    """Multiplications of a forward pass over rows, about."""
    return n_rows * (int((nets.forms[0, :, N_IN] * nets.forms[0, :, N_OUT]).sum()) + COST_OF_TANH * nets.n_a)


def stack(nets: list[tuple[LayerForm, ...]], starts: list[int]) -> NetStack:
    """Describe nets of one shape whose first weights are at ``starts`` in w."""
    forms = np.array([_form(layers, start) for layers, start in zip(nets, starts, strict=True)])
    code, threshold = activation_id(nets[0][0].activation)
    linear_last = activation_id(nets[0][-1].activation) == activation_id("linear")
    n_x, n_a = int(forms[0, :, N_IN].sum()), int(forms[0, :, N_OUT].sum())
    first = np.concatenate([f[A_COL] + np.arange(0, f[N_OUT], COLUMNS) for f in forms[0]])
    columns = np.array([(n, a) for n in range(len(nets)) for a in first], dtype=np.int64)
    has_idt = bool((forms[:, :, IDT_START] >= 0).any())
    widest = int(forms[:, :, [N_IN, N_OUT]].max())
    n_out = int(forms[0, -1, N_OUT])
    return NetStack(forms, code, threshold, linear_last, n_x, n_a, n_out, widest, has_idt, columns)


def _form(layers: tuple[LayerForm, ...], start: int) -> np.ndarray:
    rows, x, a = [], 0, 0
    for f in layers:
        w, b = start, start + f.n_in * f.n_out
        idt = b + f.n_out if f.has_idt else -1
        start = b + f.n_out * (2 if f.has_idt else 1)
        rows.append((f.n_in, f.n_out, x, a, w, b, idt, SKIP_CODE[f.skip]))
        x, a = x + f.n_in, a + f.n_out
    return np.array(rows, dtype=np.int64)


def row_blocks(first_row: np.ndarray) -> np.ndarray:
    """Blocks (b, 3) of at most ROWS rows of one net each: net, first row, one past the last."""
    blocks = [
        (n, r, min(r + ROWS, stop))
        for n, (start, stop) in enumerate(pairwise(first_row.tolist()))
        for r in range(start, stop, ROWS)
    ]
    return np.array(blocks, dtype=np.int64).reshape(-1, 3)


@njit(**PART)
def _add_skip(skip, n_in, x, xo, y, yo):
    for part in range(skip):
        add_row(y, yo + part * n_in, x, xo, n_in)


@njit(**PART)
def add_skip_adjoint(skip, n_in, y_bar, x_bar):
    for part in range(skip):
        add_row(x_bar, START, y_bar, part * n_in, n_in)


@njit(**PART)
def forward_rows(nets, net, w, r0, r1, cache, y):
    """Twin of `network.forward`: the first columns of X hold the input; y (rows, ≥ n_out) the result."""
    form, X, phi, d1, d2 = nets.forms[net], cache.X, cache.phi, cache.d1, cache.d2
    L = form.shape[0]
    for n in range(L):
        n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
        dot_product(phi, ao, X, xo, w, ws, n_in, n_out, r0, r1)
        linear = nets.linear_last and n == L - 1
        for r in range(r0, r1):
            add_row(phi[r], ao, w, bs, n_out)
            a = phi[r, ao : ao + n_out]
            d1_r, d2_r = d1[r, ao : ao + n_out], d2[r, ao : ao + n_out]
            apply(nets.phi, nets.threshold, linear, a, a, d1_r, d2_r)
            out, to = (y[r], 0) if n == L - 1 else (X[r], xo + n_in)
            if ds >= 0:
                multiply_rows(out, to, phi[r], ao, w, ds, n_out)
            else:
                for j in range(n_out):
                    out[to + j] = a[j]
            _add_skip(skip, n_in, X[r], xo, out, to)


@njit(**PART)
def tangent_rows(nets, net, w, r0, r1, source, cache, layers):
    """Twin of `network.tangent`, but for the result itself, which no adjoint needs."""
    form, d1, X_dot, a_dot = nets.forms[net], cache.d1, layers.X_dot, layers.a_dot
    L = form.shape[0]
    for n in range(L):
        n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
        dot_product(a_dot, ao, X_dot, xo, w, ws, n_in, n_out, r0, r1)
        if n == L - 1:
            continue
        for r in range(r0, r1):
            out, to = X_dot[r], xo + n_in
            multiply_rows(out, to, d1[source[r]], ao, a_dot[r], ao, n_out)
            if ds >= 0:
                multiply_rows(out, to, out, to, w, ds, n_out)
            _add_skip(skip, n_in, out, xo, out, to)


@njit(**PART)
def backward_rows(nets, net, w, r0, r1, source, cache, bar, new, a_bar, a0, idt_bar, wants_input):
    """Twin of `network.backward`: ȳ in ``bar`` (from row 0 on); x̄ ends in bar, or in new if L is odd.

    a̅ of row r goes to row r − a0 of ``a_bar``. Without ``wants_input`` x̄ is not computed.
    """
    form, phi, d1 = nets.forms[net], cache.phi, cache.d1
    L = form.shape[0]
    for n in range(L - 1, -1, -1):
        n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
        for r in range(r0, r1):
            slope, value = d1[source[r]], phi[source[r]]
            y_bar, to = bar[r - r0], a_bar[r - a0]
            if ds >= 0:
                for j in range(n_out):
                    idt_bar[r - a0, ao + j] = y_bar[j] * value[ao + j]
                    to[ao + j] = y_bar[j] * w[ds + j] * slope[ao + j]
            else:
                multiply_rows(to, ao, y_bar, START, slope, ao, n_out)
        if n == 0 and not wants_input:
            continue
        add_product(new, a_bar, r0 - a0, ao, w, ws, n_in, n_out, r1 - r0)
        for r in range(r1 - r0):
            add_skip_adjoint(skip, n_in, bar[r], new[r])
        bar, new = new, bar


@njit(**PART)
def tangent_backward_rows(nets, net, w, r0, r1, source, cache, layers, bar, dot, new, new_dot):
    """Twin of `network.tangent_backward`: ȳ in ``bar``, ẏ̄ in ``dot``; x̄ and ẋ̄ end there, or in new."""
    form, phi, d1, d2 = nets.forms[net], cache.phi, cache.d1, cache.d2
    a_dot, a_bar, a_dot_bar, idt_bar = layers.a_dot, layers.a_bar, layers.a_dot_bar, layers.idt_bar
    L = form.shape[0]
    for n in range(L - 1, -1, -1):
        n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
        for r in range(r0, r1):
            value, slope, bend = phi[source[r]], d1[source[r]], d2[source[r]]
            for j in range(n_out):
                p_bar, pd_bar = bar[r - r0, j], dot[r - r0, j]
                u1 = slope[ao + j]
                u_dot = a_dot[r, ao + j]
                if ds >= 0:
                    idt_bar[r, ao + j] = p_bar * value[ao + j] + pd_bar * u1 * u_dot
                    p_bar *= w[ds + j]
                    pd_bar *= w[ds + j]
                a_bar[r, ao + j] = p_bar * u1 + pd_bar * bend[ao + j] * u_dot
                a_dot_bar[r, ao + j] = pd_bar * u1
        for turn in range(2):  # one call in the code: it is compiled once
            to, a, y_bar = (new, a_bar, bar) if turn == 0 else (new_dot, a_dot_bar, dot)
            add_product(to, a, r0, ao, w, ws, n_in, n_out, r1 - r0)
            for r in range(r1 - r0):
                add_skip_adjoint(skip, n_in, y_bar[r], to[r])
        bar, new = new, bar
        dot, new_dot = new_dot, dot


@njit(**PART)
def add_columns(nets, net, r0, r1, source, cache, layers, gradient, column):
    """Add to the gradient what COLUMNS columns of a̅ (and ǡ) give: W̄ = Σ_r a̅ x + ǡ ẋ, b̄ = Σ_r a̅."""
    form, X, X_dot, a_bar, idt_bar = nets.forms[net], cache.X, layers.X_dot, layers.a_bar, layers.idt_bar
    n = form.shape[0] - 1
    while column < form[n, A_COL]:
        n -= 1
    n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
    j0 = column - ao
    count = min(COLUMNS, n_out - j0)
    outer_sum(
        gradient, ws + j0 * n_in, n_in, count, a_bar, X, layers.a_dot_bar, X_dot, column, xo, source, r0, r1
    )
    add_column_sums(gradient, bs + j0, count, a_bar, column, r0, r1)
    if ds >= 0:
        add_column_sums(gradient, ds + j0, count, idt_bar, column, r0, r1)
