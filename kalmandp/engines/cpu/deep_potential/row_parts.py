"""Parts of `row_kernels`: what one row of H of a force component needs, a block of results in registers.

Letters as in `row_kernels`. M and the embedding's padded width are multiples of eight.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from kalmandp.engines.cpu.linear import LANES, add_product, store_two
from kalmandp.engines.cpu.network import START, add_skip_adjoint
from kalmandp.engines.cpu.threads import PART
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, totals, zeros
from kalmandp.potentials.deep_potential.table import CPU_ORDER as ORDER

#: Rows of the weights that `outer_sums` takes at once.
GROUP = 4


class Known(NamedTuple):
    """The adjoints of ẏ of an atom's net, which are those of y: no row of H changes them.

    y, a, bend : (n_atoms, n_a) ẏ̄ and ǡ of all layers, and ∂(ǡ ȧ)/∂a / ȧ, the net's curvature times ẏ̄
    D : (n_atoms, n_in) Ḋ̄
    """

    y: Any
    a: Any
    bend: Any
    D: Any


@njit(**PART)
def known_rows(nets, net, w, r0, r1, cache, bar, new, known):
    """`Known` of rows r0 ≤ r < r1 for ẏ̄ = 1."""
    form, d1, d2 = nets.forms[net], cache.d1, cache.d2
    bar[:, 0] = 1.0
    for n in range(form.shape[0] - 1, -1, -1):
        n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
        for r in range(r0, r1):
            y, slope, bend = bar[r - r0], d1[r], d2[r]
            for j in range(n_out):
                known.y[r, ao + j] = y[j]
                idt = w[ds + j] if ds >= 0 else 1.0
                known.a[r, ao + j] = y[j] * idt * slope[ao + j]
                known.bend[r, ao + j] = y[j] * idt * bend[ao + j]
        add_product(new, known.a, r0, ao, w, ws, n_in, n_out, r1 - r0)
        for r in range(r1 - r0):
            add_skip_adjoint(skip, n_in, bar[r], new[r])
        bar, new = new, bar
    for r in range(r0, r1):
        for k in range(known.D.shape[1]):
            known.D[r, k] = bar[r - r0, k]


@njit(**PART)
def bent_rows(nets, net, w, r0, r1, source, cache, known, layers, bar, new):
    """The half of `network.tangent_backward_rows` that a row of H changes: a̅ of rows, and x̄.

    x̄ ends in bar, or in new if L is odd.
    """
    form, phi, d1 = nets.forms[net], cache.phi, cache.d1
    a_dot, a_bar, idt_bar = layers.a_dot, layers.a_bar, layers.idt_bar
    bar[:, 0] = 0.0
    for n in range(form.shape[0] - 1, -1, -1):
        n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
        for r in range(r0, r1):
            s, y_bar = source[r], bar[r - r0]
            value, slope, bend, y = phi[s], d1[s], known.bend[s], known.y[s]
            if ds >= 0:
                for j in range(n_out):
                    moved = y[ao + j] * slope[ao + j] * a_dot[r, ao + j]
                    idt_bar[r, ao + j] = y_bar[j] * value[ao + j] + moved
                    a_bar[r, ao + j] = y_bar[j] * w[ds + j] * slope[ao + j] + bend[ao + j] * a_dot[r, ao + j]
            else:
                for j in range(n_out):
                    a_bar[r, ao + j] = y_bar[j] * slope[ao + j] + bend[ao + j] * a_dot[r, ao + j]
        add_product(new, a_bar, r0, ao, w, ws, n_in, n_out, r1 - r0)
        for r in range(r1 - r0):
            add_skip_adjoint(skip, n_in, bar[r], new[r])
        bar, new = new, bar


@njit(**PART)
def pair_values(row, ell_n, dell_n, G_rm, g, dg):
    """G_p = Σ_n ℓ_n G_n and G′_p = Σ_n ℓ′_n G_n of the nodes from ``row`` on."""
    for m in range(0, len(g), LANES):
        u0 = u1 = v0 = v1 = zeros(g)
        for n in range(0, ORDER, 2):
            a, b = load(G_rm[row + n], m), load(G_rm[row + n + 1], m)
            u0, u1 = multiply_add(splat(g, ell_n[n]), a, u0), multiply_add(splat(g, ell_n[n + 1]), b, u1)
            v0, v1 = multiply_add(splat(g, dell_n[n]), a, v0), multiply_add(splat(g, dell_n[n + 1]), b, v1)
        store(g, m, u0 + u1)
        store(dg, m, v0 + v1)


@njit(**PART)
def add_tangent(x, s, g, dg, T_dot):
    """Ṫ_k += Ṙ̃_pk G_p + R̃_pk Ṙ̃_p0 G′_p."""
    for m in range(0, len(g), LANES):
        u, v = load(g, m), load(dg, m)
        for k in range(4):
            to = multiply_add(splat(g, s[k]), u, load(T_dot[k], m))
            store(T_dot[k], m, multiply_add(splat(g, s[0] * x[k]), v, to))


@njit(**PART)
def add_node_adjoint(row, x, s, ell_n, dell_n, u, G_smr):
    """Ḡ_n += ℓ_n Σ_k Ṙ̃_pk Ṫ̄_k + ℓ′_n Ṙ̃_p0 Σ_k R̃_pk Ṫ̄_k."""
    for strip in range(len(G_smr)):
        a = b = zeros(x)
        for k in range(4):
            T = load(u[k], strip * LANES)
            a, b = multiply_add(splat(x, s[k]), T, a), multiply_add(splat(x, s[0] * x[k]), T, b)
        for n in range(ORDER):
            to = G_smr[strip, row + n]
            moved = multiply_add(splat(x, dell_n[n]), b, load(to, START))
            store(to, START, multiply_add(splat(x, ell_n[n]), a, moved))


@njit(**PART)
def add_moment_adjoint(sums, t0, t1, T_bar, strip, G_mr):
    """Ḡ_n += Σ_k S_kn T̄_k of one strip of columns, for the nodes that an atom touches."""
    S_tk, row_t, m = sums.S_tk, sums.row_t, strip * LANES
    a, b, c, d = load(T_bar[0], m), load(T_bar[1], m), load(T_bar[2], m), load(T_bar[3], m)
    for t in range(t0, t1):
        S, to = S_tk[t], G_mr[row_t[t]]
        first = multiply_add(splat(S, S[0]), a, load(to, START))
        second = multiply_add(splat(S, S[3]), d, splat(S, S[2]) * c)
        store(to, START, multiply_add(splat(S, S[1]), b, first) + second)


@njit(**PART)
def add_contraction_adjoint(T, M, axis, D_bar, T_bar):
    """Twin of `prediction_kernels.contract_adjoint`: T̄_km += Σ_s D̄_ms T_ks, T̄_ks += Σ_m D̄_ms T_km."""
    T0, T1, T2, T3 = T[0], T[1], T[2], T[3]
    whole = axis - axis % LANES
    for m in range(M):
        start = m * axis
        a = b = c = d = zeros(T0)
        for s in range(0, whole, LANES):
            B = load(D_bar, start + s)
            a, b = multiply_add(B, load(T0, s), a), multiply_add(B, load(T1, s), b)
            c, d = multiply_add(B, load(T2, s), c), multiply_add(B, load(T3, s), d)
        t0, t1, t2, t3 = totals(a, b, c, d)
        for s in range(whole, axis):
            B_s = D_bar[start + s]
            t0, t1, t2, t3 = t0 + B_s * T0[s], t1 + B_s * T1[s], t2 + B_s * T2[s], t3 + B_s * T3[s]
        T_bar[0, m] += t0
        T_bar[1, m] += t1
        T_bar[2, m] += t2
        T_bar[3, m] += t3
    for s in range(0, whole, LANES):
        a, b, c, d = load(T_bar[0], s), load(T_bar[1], s), load(T_bar[2], s), load(T_bar[3], s)
        for m in range(M):
            B = load(D_bar, m * axis + s)
            a, b = multiply_add(splat(T0, T0[m]), B, a), multiply_add(splat(T0, T1[m]), B, b)
            c, d = multiply_add(splat(T0, T2[m]), B, c), multiply_add(splat(T0, T3[m]), B, d)
        store(T_bar[0], s, a)
        store(T_bar[1], s, b)
        store(T_bar[2], s, c)
        store(T_bar[3], s, d)
    for m in range(M if whole < axis else 0):
        for k in range(4):
            for s in range(whole, axis):
                T_bar[k, s] += D_bar[m * axis + s] * T[k, m]


@njit(**PART)
def outer_sums(nets, net, r0, r1, source, cache, a_bar, X_dot, known_a, idt_bar, gradient):
    """The gradient of the weights of a net: W̄ = Σ_r a̅ x + ǡ ẋ, b̄ = Σ_r a̅, idt̄ = Σ_r idt̄_r.

    x and ǡ of row r are at ``source[r]``; without tangents X_dot has no rows. A strip of x stays in the cache
    for all rows of W.
    """
    form, X = nets.forms[net], cache.X
    wide = 2 * LANES
    for n in range(form.shape[0]):
        n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
        if n_in >= wide and n_out >= GROUP:
            for strip in range((n_in + wide - 1) // wide):
                k = min(strip * wide, n_in - wide)  # the last one lies over the one before, here and below
                for group in range((n_out + GROUP - 1) // GROUP):
                    j = min(group * GROUP, n_out - GROUP)
                    _block(
                        gradient, ws + j * n_in + k, n_in, a_bar, X, known_a, X_dot, ao + j, xo + k, source,
                        r0, r1,
                    )  # fmt: skip
        elif n_in == 1 and len(X_dot) == 0:
            _column_sums(gradient, ws, a_bar, ao, n_out, X, xo, source, r0, r1, True)
        else:
            for r in range(r0, r1):
                _add_outer(gradient, ws, n_in, n_out, a_bar[r], ao, X[source[r]], xo)
                if len(X_dot):
                    _add_outer(gradient, ws, n_in, n_out, known_a[source[r]], ao, X_dot[r], xo)
        _column_sums(gradient, bs, a_bar, ao, n_out, X, xo, source, r0, r1, False)
        if ds >= 0:
            _column_sums(gradient, ds, idt_bar, ao, n_out, X, xo, source, r0, r1, False)


@njit(**PART)
def _add_outer(out, start, n_in, n_out, a, ao, x, xo):
    for j in range(n_out):
        for k in range(n_in):
            out[start + j * n_in + k] += a[ao + j] * x[xo + k]


@njit(**PART)
def _column_sums(out, start, A, ao, n_out, X, xo, source, r0, r1, times_x):
    """out[start + j] = Σ_r A[r, ao + j], each row times X[source[r], xo] if it is asked for."""
    for strip in range((n_out + LANES - 1) // LANES if n_out >= LANES else 0):
        j = min(strip * LANES, n_out - LANES)
        total = zeros(out)
        for r in range(r0, r1):
            x = X[source[r], xo] if times_x else 1.0
            total = multiply_add(splat(out, x), load(A[r], ao + j), total)
        store(out, start + j, total)
    for r in range(r0, r1 if n_out < LANES else r0):
        x = X[source[r], xo] if times_x else 1.0
        for j in range(n_out):
            out[start + j] += x * A[r, ao + j]


@njit(**PART)
def _block(out, start, n_in, A, X, A_dot, X_dot, column, xo, source, r0, r1):
    """out[start + j·n_in + k] of four j and two vectors of k."""
    y00 = y01 = y10 = y11 = y20 = y21 = y30 = y31 = zeros(out)
    for turn in range(2 if len(X_dot) else 1):
        for r in range(r0, r1):
            a, x = (A_dot[source[r]], X_dot[r]) if turn else (A[r], X[source[r]])
            x0, x1 = load(x, xo), load(x, xo + LANES)
            c = splat(out, a[column])
            y00, y01 = multiply_add(c, x0, y00), multiply_add(c, x1, y01)
            c = splat(out, a[column + 1])
            y10, y11 = multiply_add(c, x0, y10), multiply_add(c, x1, y11)
            c = splat(out, a[column + 2])
            y20, y21 = multiply_add(c, x0, y20), multiply_add(c, x1, y21)
            c = splat(out, a[column + 3])
            y30, y31 = multiply_add(c, x0, y30), multiply_add(c, x1, y31)
    store_two(out, start, y00, y01)
    store_two(out, start + n_in, y10, y11)
    store_two(out, start + 2 * n_in, y20, y21)
    store_two(out, start + 3 * n_in, y30, y31)
