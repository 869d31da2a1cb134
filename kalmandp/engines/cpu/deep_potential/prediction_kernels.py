"""Numba kernels of a prediction: G, T = S G, D, E, and back to the gradient of every pair.

    B_kn = Σ_m T̄_km G_nm / Σsel,     R̃̄_pk = Σ_n ℓ_n B_kn,     ḡ_p = Σ_n ℓ′_n Σ_k R̃_pk B_kn

All are kernels of `threads`. Letters as in `arrays`, and r row: row r of the fitting nets' arrays belongs
to atom ``order[r]``; t touched node (see `frame_kernels`). Arrays over the embedding's output are
padded with zeros from M to a multiple of eight, so that rows are whole vectors.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmandp.engines.cpu.deep_potential.frame_kernels import DS, HALF, S_R, node_slopes, node_weights
from kalmandp.engines.cpu.network import (
    NET,
    R0,
    R1,
    backward_rows,
    forward_rows,
)
from kalmandp.engines.cpu.threads import KERNEL, PART, take
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, totals, zeros

#: float64 numbers in a vector.
LANES = 8
#: Not a literal: see `network.START`.
YES = np.bool_(True)
#: Numbers of a task that goes through the atoms' lists.
PIECE = 1024


@njit(**KERNEL)
def tabulate(counters, me, nets, blocks, w, g_r, cache, G_rm):
    """Run each embedding net on its rows: the nodes of the table and the padding slots."""
    while True:
        task = take(counters, me, 0, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        for r in range(r0, r1):
            cache.X[r, 0] = g_r[r]
            for m in range(nets.n_out, G_rm.shape[1]):
                G_rm[r, m] = 0.0
        forward_rows(nets, net, w, r0, r1, cache, G_rm)


@njit(**KERNEL)
def place_nodes(counters, me, nodes, base_e, row_v, row_t):
    """The table's row of each node in the atoms' lists."""
    pieces = (len(row_t) + PIECE - 1) // PIECE
    while True:
        task = take(counters, me, 0, pieces)
        if task >= pieces:
            break
        for t in range(task * PIECE, min(len(row_t), (task + 1) * PIECE)):
            e = nodes.net_t[t]
            row_t[t] = base_e[e] + nodes.node_t[t] if e >= 0 else row_v[-1 - e]


@njit(**KERNEL)
def differences(counters, me, first_e, windows, binomials, G_rm, worst, largest):
    """How good a table is for its own step and for coarser ones, whose nodes are among its own.

    windows : (levels, 3) first row, one past the last, and stride, counted from where a net's rows begin.
    Of each net and level the largest |G|² and |ΔⁿG|² of rows are left in ``largest`` and ``worst``; Δⁿ has
    the coefficients ``binomials``.
    """
    n_tasks = worst.size
    while True:
        task = take(counters, me, 0, n_tasks)
        if task >= n_tasks:
            break
        net, level = task // len(windows), task % len(windows)
        r0, r1, stride = first_e[net] + windows[level, 0], first_e[net] + windows[level, 1], windows[level, 2]
        most = most_difference = 0.0
        for r in range(r0, r1, stride):
            most = max(most, _square(G_rm, binomials[-1:], r, stride))
        for r in range(r0, r1 - (len(binomials) - 1) * stride, stride):
            most_difference = max(most_difference, _square(G_rm, binomials, r, stride))
        worst[net, level], largest[net, level] = most_difference, most


@njit(**PART)
def _square(G_rm, c_n, r, stride):
    """|Σ_n c_n G_(r + n·stride)|²."""
    none = zeros(c_n)
    total = none
    for m in range(0, G_rm.shape[1], LANES):
        d = none
        for n in range(len(c_n)):
            d = multiply_add(splat(c_n, c_n[n]), load(G_rm[r + n * stride], m), d)
        total = multiply_add(d, d, total)
    return totals(total, none, none, none)[0]


@njit(**PART)
def times_table(S_tk, sums, t0, t1, T):
    """T_k = Σ_t S_tk G[row_t]: eight rows at once."""
    G_rm, row_t = sums.G_rm, sums.row_t
    M = T.shape[1]
    for k in range(4):
        to = T[k]
        to[:] = 0.0
        for t in range(t0, t1 - 7, 8):
            s0, s1, s2, s3 = S_tk[t, k], S_tk[t + 1, k], S_tk[t + 2, k], S_tk[t + 3, k]
            s4, s5, s6, s7 = S_tk[t + 4, k], S_tk[t + 5, k], S_tk[t + 6, k], S_tk[t + 7, k]
            a0, a1, a2, a3 = G_rm[row_t[t]], G_rm[row_t[t + 1]], G_rm[row_t[t + 2]], G_rm[row_t[t + 3]]
            a4, a5, a6, a7 = G_rm[row_t[t + 4]], G_rm[row_t[t + 5]], G_rm[row_t[t + 6]], G_rm[row_t[t + 7]]
            for m in range(M):
                low = (s0 * a0[m] + s1 * a1[m]) + (s2 * a2[m] + s3 * a3[m])
                to[m] += low + ((s4 * a4[m] + s5 * a5[m]) + (s6 * a6[m] + s7 * a7[m]))
        for t in range(t1 - (t1 - t0) % 8, t1):
            s, a = S_tk[t, k], G_rm[row_t[t]]
            for m in range(M):
                to[m] += s * a[m]


@njit(**PART)
def contract(x, T, M, axis, scale, D):
    """D_ms = scale Σ_k (x_km T_ks + T_km x_ks): D for x = T and scale ½, Ḋ for x = Ṫ and scale 1."""
    for m in range(M):
        out = D[m * axis : (m + 1) * axis]
        x0, x1, x2, x3 = scale * x[0, m], scale * x[1, m], scale * x[2, m], scale * x[3, m]
        t0, t1, t2, t3 = scale * T[0, m], scale * T[1, m], scale * T[2, m], scale * T[3, m]
        for s in range(axis):
            first = (x0 * T[0, s] + x1 * T[1, s]) + (x2 * T[2, s] + x3 * T[3, s])
            out[s] = first + ((t0 * x[0, s] + t1 * x[1, s]) + (t2 * x[2, s] + t3 * x[3, s]))


@njit(**PART)
def contract_adjoint(T, M, axis, D_bar, T_bar):
    """T̄_km += Σ_s D̄_ms T_ks, and for m < M‹ also Σ_m' D̄_m'm T_km'."""
    for m in range(M):
        B = D_bar[m * axis : (m + 1) * axis]
        for k in range(4):
            total = 0.0
            t = T[k, m]
            for s in range(axis):
                total += B[s] * T[k, s]
                T_bar[k, s] += B[s] * t
            T_bar[k, m] += total


@njit(**KERNEL)
def atomic_energies(counters, me, w, fitting, order, bias_t, sums, moments, y, E_i):
    """S, G → T → D → E_i, a block of atoms of one type at a time."""
    nets, blocks, cache = fitting.nets, fitting.blocks, fitting.cache
    T_ikm, M, axis = moments.T_ikm, moments.M, moments.axis
    while True:
        task = take(counters, me, 0, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        for r in range(r0, r1):
            i = order[r]
            T = T_ikm[i]
            times_table(sums.S_tk, sums, sums.touched_i[i], sums.touched_i[i + 1], T)
            contract(T, T, M, axis, 0.5, cache.X[r])
        forward_rows(nets, net, w, r0, r1, cache, y)
        for r in range(r0, r1):
            E_i[order[r]] = y[r, 0] + bias_t[net]


@njit(**KERNEL)
def pair_gradient(counters, me, space, w, fitting, order, pairs, sums, moments, f_pc):
    """Ē = 1 → D̄ → T̄ → B → f_pc = Σ_k R̃̄_k ∂R̃_k/∂r_c."""
    nets, blocks, source, cache = fitting.nets, fitting.blocks, fitting.source, fitting.cache
    T_ikm, M, axis, scale = moments.T_ikm, moments.M, moments.axis, moments.scale
    bar, new, a_bar, idt_bar = space.rows[me, 0], space.rows[me, 1], space.layers[me, 0], space.layers[me, 1]
    T_bar, B_kt = space.T_km[me], space.B_kt[me]
    D_bar = new if nets.forms.shape[1] % 2 else bar
    while True:
        task = take(counters, me, 0, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        bar[:, 0] = scale
        backward_rows(nets, net, w, r0, r1, source, cache, bar, new, a_bar, r0, idt_bar, YES)
        for r in range(r0, r1):
            i = order[r]
            T_bar[:] = 0.0
            contract_adjoint(T_ikm[i], M, axis, D_bar[r - r0], T_bar)
            _adjoint_of_weights(T_bar, sums, sums.touched_i[i], sums.touched_i[i + 1], B_kt)
            _atom_gradient(i, pairs, B_kt, f_pc)


@njit(**PART)
def _adjoint_of_weights(T_bar, sums, t0, t1, B_kt):
    """B_kt = Σ_m T̄_km G[row_t, m]."""
    G_rm, row_t = sums.G_rm, sums.row_t
    T0, T1, T2, T3 = T_bar[0], T_bar[1], T_bar[2], T_bar[3]
    for t in range(t1 - t0):
        G = G_rm[row_t[t0 + t]]
        b0 = b1 = b2 = b3 = 0.0
        for m in range(len(G)):
            b0 += T0[m] * G[m]
            b1 += T1[m] * G[m]
            b2 += T2[m] * G[m]
            b3 += T3[m] * G[m]
        B_kt[0, t], B_kt[1, t], B_kt[2, t], B_kt[3, t] = b0, b1, b2, b3


@njit(**PART)
def _atom_gradient(i, pairs, B_kt, f_pc):
    """f_p of the pairs of one atom from its B."""
    Rt_pk, sigma = pairs.Rt_pk, pairs.dstd[pairs.types_i[i]]
    f0, f1, f2, f3 = 1 / sigma[0], 1 / sigma[1], 1 / sigma[2], 1 / sigma[3]
    B0, B1, B2, B3 = B_kt[0], B_kt[1], B_kt[2], B_kt[3]
    none = zeros(B0)
    for p in range(pairs.first_i[i], pairs.first_i[i + 1]):
        t, g = pairs.place_p[p], Rt_pk[p, 0]
        ell = node_weights(g, pairs.inverse_step, pairs.c_an)
        dell = node_slopes(g, pairs.inverse_step, pairs.dc_an)
        along = c1 = c2 = c3 = none
        for half in range(2):  # of the polynomial's nodes
            e, s = (ell[1], dell[1]) if half else (ell[0], dell[0])
            at = t + half * HALF
            v0, v1, v2, v3 = load(B0, at), load(B1, at), load(B2, at), load(B3, at)
            turn = multiply_add(splat(B0, g), v0, none)
            turn = multiply_add(splat(B0, Rt_pk[p, 1]), v1, turn)
            turn = multiply_add(splat(B0, Rt_pk[p, 2]), v2, turn)
            turn = multiply_add(splat(B0, Rt_pk[p, 3]), v3, turn)
            along = multiply_add(s, turn, multiply_add(e, v0, along))
            c1, c2, c3 = multiply_add(e, v1, c1), multiply_add(e, v2, c2), multiply_add(e, v3, c3)
        b0, b1, b2, b3 = totals(along, c1, c2, c3)
        n = pairs.geometry_p[p]
        b0, b1, b2, b3 = b0 * f0, b1 * f1, b2 * f2, b3 * f3
        radial = n[DS] * b0 + (n[DS] - n[S_R]) * (b1 * n[0] + b2 * n[1] + b3 * n[2])
        f_pc[p, 0] = radial * n[0] + n[S_R] * b1
        f_pc[p, 1] = radial * n[1] + n[S_R] * b2
        f_pc[p, 2] = radial * n[2] + n[S_R] * b3
