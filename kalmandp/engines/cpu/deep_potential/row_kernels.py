"""Numba kernel of many rows of H at once: ∂F_jc/∂w of single force components, a task each.

F_jc = Ė for pairs that move at v = e_c if j is their centre, and at −e_c if j is their neighbour (of pairs
of j with its own images both, which is nothing). So only j and the atoms that have j as a neighbour, the
items of a row, have a tangent; and of an item only its pairs with j move. With G and its slope at a pair,
G_p = Σ_n ℓ_n G_n and G′_p = Σ_n ℓ′_n G_n ::

    Ṫ_k = Σ_p (Ṙ̃_pk G_p + R̃_pk Ṙ̃_p0 G′_p) / Σsel                over the pairs that move
    Ḡ_n = Σ_i Σ_k S_kn T̄_k + Σ_p (ℓ_n Σ_k Ṙ̃_pk Ṫ̄_k + ℓ′_n Ṙ̃_p0 Σ_k R̃_pk Ṫ̄_k) / Σsel

It is the way of `gradient_kernels` without what does not move. All of a task's work is one thread's, in work
space of its own, so the bits do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmandp.engines.cpu.deep_potential.frame_kernels import DS, HALF, S_R, node_slopes, node_weights
from kalmandp.engines.cpu.deep_potential.prediction_kernels import contract, contract_adjoint
from kalmandp.engines.cpu.network import (
    NET,
    R0,
    R1,
    ROWS,
    START,
    add_columns,
    backward_rows,
    tangent_backward_rows,
    tangent_rows,
)
from kalmandp.engines.cpu.threads import KERNEL, PART, take
from kalmandp.engines.cpu.vectors import store
from kalmandp.potentials.deep_potential.table import CPU_ORDER as ORDER

#: Not a literal: see `network.START`.
NO = np.bool_(False)


@njit(**PART)
def _motion(i, p, sign, c, pairs, scale, s_k, ell_n, dell_n):
    """Ṙ̃_pk / Σsel of a pair of atom i that moves at sign·e_c, and the ℓ_n and ℓ′_n of its nodes."""
    n, sigma = pairs.geometry_p[p], pairs.dstd[pairs.types_i[i]]
    along = sign * n[c]
    turn = (n[DS] - n[S_R]) * along
    s_k[0] = scale * n[DS] * along / sigma[0]
    for d in range(3):
        s_k[1 + d] = scale * turn * n[d] / sigma[1 + d]
    s_k[1 + c] += scale * n[S_R] * sign / sigma[1 + c]
    x = pairs.Rt_pk[p, 0]
    ell = node_weights(x, pairs.inverse_step, pairs.c_an)
    dell = node_slopes(x, pairs.inverse_step, pairs.dc_an)
    store(ell_n, START, ell[0])
    store(ell_n, HALF, ell[1])
    store(dell_n, START, dell[0])
    store(dell_n, HALF, dell[1])


@njit(**PART)
def _add_tangent(row, x, s_k, ell_n, dell_n, G_rm, T_dot):
    """Ṫ_k += Ṙ̃_pk G_p + R̃_pk Ṙ̃_p0 G′_p."""
    s0, s1, s2, s3 = s_k[0], s_k[1], s_k[2], s_k[3]
    y0, y1, y2, y3 = s0 * x[0], s0 * x[1], s0 * x[2], s0 * x[3]
    for m in range(T_dot.shape[1]):
        g = dg = 0.0
        for n in range(ORDER):
            g += ell_n[n] * G_rm[row + n, m]
            dg += dell_n[n] * G_rm[row + n, m]
        T_dot[0, m] += s0 * g + y0 * dg
        T_dot[1, m] += s1 * g + y1 * dg
        T_dot[2, m] += s2 * g + y2 * dg
        T_dot[3, m] += s3 * g + y3 * dg


@njit(**PART)
def _add_node_adjoint(row, x, s_k, ell_n, dell_n, u, to):
    """Ḡ_n += ℓ_n Σ_k Ṙ̃_pk Ṫ̄_k + ℓ′_n Ṙ̃_p0 Σ_k R̃_pk Ṫ̄_k."""
    s0, s1, s2, s3 = s_k[0], s_k[1], s_k[2], s_k[3]
    y0, y1, y2, y3 = s0 * x[0], s0 * x[1], s0 * x[2], s0 * x[3]
    for n in range(ORDER):
        e, de, G_bar = ell_n[n], dell_n[n], to[row + n]
        c0, c1, c2, c3 = e * s0 + de * y0, e * s1 + de * y1, e * s2 + de * y2, e * s3 + de * y3
        for m in range(to.shape[1]):
            G_bar[m] += (c0 * u[0, m] + c1 * u[1, m]) + (c2 * u[2, m] + c3 * u[3, m])


@njit(**PART)
def _find_items(j, base, pairs, links, space):
    """List the atoms that feel how atom j moves, by type; j itself is the first of its own.

    item_r : atom, and its pairs with j, from … to in ``links.pair_q``; for j none are listed
    """
    r, q, last = base, links.first_j[j], links.first_j[j + 1]
    for t in range(space.first_t.shape[1] - 1):
        space.first_t[base // space.most, t] = r
        if pairs.types_i[j] == t:
            space.item_r[r, 0], space.item_r[r, 1], space.item_r[r, 2] = j, last, last
            space.source_r[r] = links.row_i[j]
            r += 1
        while q < last and pairs.types_i[links.centre_q[q]] == t:
            i, first = links.centre_q[q], q
            while q < last and links.centre_q[q] == i:
                q += 1
            if i != j:
                space.item_r[r, 0], space.item_r[r, 1], space.item_r[r, 2] = i, first, q
                space.source_r[r] = links.row_i[i]
                r += 1
    space.first_t[base // space.most, space.first_t.shape[1] - 1] = r


@njit(**PART)
def _pairs_of(r, j, pairs, links, space):
    """Where the pairs of an item that may move are listed, and their sign: those of j itself, or with j."""
    i = space.item_r[r, 0]
    own = i == j
    first = pairs.first_i[i] if own else space.item_r[r, 1]
    last = pairs.first_i[i + 1] if own else space.item_r[r, 2]
    return i, own, first, last


@njit(**KERNEL)
def force_rows(
    counters, me, space, w, fitting, embedding, links, force_k, moments, pairs, sums, H_mw
):  # fmt: skip
    """∂F_jc/∂w of the components ``force_k``. Rows of ``space.layers`` from me·most on are this thread's."""
    nets, cache, layers, table_layers = fitting.nets, fitting.cache, space.layers, space.table_layers
    T_ikm, M, axis, scale = moments.T_ikm, moments.M, moments.axis, moments.scale
    table, blocks, each, table_cache = embedding.nets, embedding.blocks, embedding.source, embedding.cache
    base, table_base = me * space.most, me * len(sums.G_rm)
    bar, new, dot, new_dot = space.rows[me, 0], space.rows[me, 1], space.rows[me, 2], space.rows[me, 3]
    odd = nets.forms.shape[1] % 2
    D_bar, D_dot_bar = (new, new_dot) if odd else (bar, dot)
    G_bar, s_k, ell_n, dell_n = space.G_rm[me], space.pair[me, 0], space.pair[me, 1], space.pair[me, 2]
    first_t = space.first_t[me]
    while True:
        task = take(counters, me, 0, len(force_k))
        if task >= len(force_k):
            break
        j, c, gradient = force_k[task, 0], force_k[task, 1], H_mw[task]
        _find_items(j, base, pairs, links, space)
        for net in range(len(first_t) - 1):
            r0 = first_t[net]
            while r0 < first_t[net + 1]:
                r1 = min(r0 + ROWS, first_t[net + 1])
                for r in range(r0, r1):
                    i, own, first, last = _pairs_of(r, j, pairs, links, space)
                    T_dot = space.T_dot_rkm[r]
                    T_dot[:] = 0.0
                    for q in range(first, last):
                        p = q if own else links.pair_q[q]
                        if own and links.j_p[p] == j:
                            continue
                        _motion(i, p, 1.0 if own else -1.0, c, pairs, scale, s_k, ell_n, dell_n)
                        row = sums.row_t[sums.touched_i[i] + pairs.place_p[p]]
                        _add_tangent(row, pairs.Rt_pk[p], s_k, ell_n, dell_n, sums.G_rm, T_dot)
                    contract(T_dot, T_ikm[i], M, axis, 1.0, layers.X_dot[r])
                    bar[r - r0, 0], dot[r - r0, 0] = 0.0, 1.0
                tangent_rows(nets, net, w, r0, r1, space.source_r, cache, layers)
                tangent_backward_rows(
                    nets, net, w, r0, r1, space.source_r, cache, layers, bar, dot, new, new_dot
                )
                for r in range(r0, r1):
                    i = space.item_r[r, 0]
                    T_bar, T_dot_bar = space.T_bar_rkm[r], space.T_dot_bar_rkm[r]
                    T_bar[:] = 0.0
                    T_dot_bar[:] = 0.0
                    contract_adjoint(T_ikm[i], M, axis, D_bar[r - r0], T_bar)
                    contract_adjoint(space.T_dot_rkm[r], M, axis, D_dot_bar[r - r0], T_bar)
                    contract_adjoint(T_ikm[i], M, axis, D_dot_bar[r - r0], T_dot_bar)
                r0 = r1
        G_bar[:] = 0.0
        for r in range(first_t[0], first_t[len(first_t) - 1]):
            i, own, first, last = _pairs_of(r, j, pairs, links, space)
            T_bar, T_dot_bar = space.T_bar_rkm[r], space.T_dot_bar_rkm[r]
            t0, t1, t2, t3 = T_bar[0], T_bar[1], T_bar[2], T_bar[3]
            for t in range(sums.touched_i[i], sums.touched_i[i + 1]):
                to, S = G_bar[sums.row_t[t]], sums.S_tk[t]
                s0, s1, s2, s3 = S[0], S[1], S[2], S[3]
                for m in range(G_bar.shape[1]):
                    to[m] += (s0 * t0[m] + s1 * t1[m]) + (s2 * t2[m] + s3 * t3[m])
            for q in range(first, last):
                p = q if own else links.pair_q[q]
                if own and links.j_p[p] == j:
                    continue
                _motion(i, p, 1.0 if own else -1.0, c, pairs, scale, s_k, ell_n, dell_n)
                row = sums.row_t[sums.touched_i[i] + pairs.place_p[p]]
                _add_node_adjoint(row, pairs.Rt_pk[p], s_k, ell_n, dell_n, T_dot_bar, G_bar)
        for k in range(len(nets.columns)):
            net, column = nets.columns[k, 0], nets.columns[k, 1]
            r0, r1 = first_t[net], first_t[net + 1]
            if r0 < r1:
                add_columns(nets, net, r0, r1, space.source_r, cache, layers, gradient, column)
        for block in range(len(blocks)):
            net, r0, r1 = blocks[block, NET], blocks[block, R0], blocks[block, R1]
            for r in range(r0, r1):
                for m in range(table.n_out):
                    bar[r - r0, m] = G_bar[r, m]
            backward_rows(
                table, net, w, table_base + r0, table_base + r1, each, table_cache, bar, new,
                table_layers.a_bar, START, table_layers.idt_bar, NO,
            )  # fmt: skip
        for k in range(len(table.columns)):
            net, column = table.columns[k, 0], table.columns[k, 1]
            r0, r1 = table_base + embedding.first[net], table_base + embedding.first[net + 1]
            add_columns(table, net, r0, r1, each, table_cache, table_layers, gradient, column)
