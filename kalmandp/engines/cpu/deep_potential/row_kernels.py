"""Numba kernels of many rows of H at once: ∂F_jc/∂w of single force components, an atom j to a task.

F_jc = Ė for pairs that move at v = e_c if j is their centre, and at −e_c if j is their neighbour (of pairs
of j with its own images both, which is nothing). So only j and the atoms that have j as a neighbour, the
items of a row, have a tangent; and of an item only its pairs with j move. With G and its slope at a pair,
G_p = Σ_n ℓ_n G_n and G′_p = Σ_n ℓ′_n G_n ::

    Ṫ_k = Σ_p (Ṙ̃_pk G_p + R̃_pk Ṙ̃_p0 G′_p) / Σsel                over the pairs that move
    Ḡ_n = Σ_i Σ_k S_kn T̄_k + Σ_p (ℓ_n Σ_k Ṙ̃_pk Ṫ̄_k + ℓ′_n Ṙ̃_p0 Σ_k R̃_pk Ṫ̄_k) / Σsel

It is the way of `gradient_kernels` without what does not move, and without what rows have in common: the
adjoints of tangents, ẏ̄ and ǡ of all layers, Ḋ̄ and Ṫ̄, are those of an energy (`row_parts.Known`), made once
for an atom; G_p and G′_p once for the components of j. All of a task's work is one thread's, in work space of
its own, and a row is computed in one way whatever others are asked for: the bits do not depend on threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmandp.engines.cpu.deep_potential.frame_kernels import DS, HALF, S_R, node_slopes, node_weights
from kalmandp.engines.cpu.deep_potential.prediction_kernels import contract
from kalmandp.engines.cpu.deep_potential.row_parts import (
    add_contraction_adjoint,
    add_moment_adjoint,
    add_node_adjoint,
    add_tangent,
    bent_rows,
    known_rows,
    outer_sums,
    pair_values,
)
from kalmandp.engines.cpu.linear import LANES
from kalmandp.engines.cpu.network import NET, R0, R1, ROWS, START, backward_rows, tangent_rows
from kalmandp.engines.cpu.threads import KERNEL, PART, take
from kalmandp.engines.cpu.vectors import store

#: Not a literal: see `network.START`.
NO = np.bool_(False)


@njit(**PART)
def _motion(i, p, sign, c, pairs, scale, s_k):
    """Ṙ̃_pk / Σsel of a pair of atom i that moves at sign·e_c."""
    n, sigma = pairs.geometry_p[p], pairs.dstd[pairs.types_i[i]]
    along = sign * n[c]
    turn = (n[DS] - n[S_R]) * along
    s_k[0] = scale * n[DS] * along / sigma[0]
    for d in range(3):
        s_k[1 + d] = scale * turn * n[d] / sigma[1 + d]
    s_k[1 + c] += scale * n[S_R] * sign / sigma[1 + c]


@njit(**PART)
def _nodes(p, pairs, ell_n, dell_n):
    """ℓ_n and ℓ′_n of the nodes around a pair."""
    x = pairs.Rt_pk[p, 0]
    ell = node_weights(x, pairs.inverse_step, pairs.c_an)
    dell = node_slopes(x, pairs.inverse_step, pairs.dc_an)
    store(ell_n, START, ell[0])
    store(ell_n, HALF, ell[1])
    store(dell_n, START, dell[0])
    store(dell_n, HALF, dell[1])


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
def atoms_adjoints(counters, me, space, w, fitting, moments, order, known, T_dot_bar_ikm):
    """What the rows of H have in common: `Known` of each row of the nets, and Ṫ̄ of each atom."""
    nets, blocks, M, axis = fitting.nets, fitting.blocks, moments.M, moments.axis
    while True:
        task = take(counters, me, 0, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        known_rows(nets, net, w, r0, r1, fitting.cache, space.rows[me, 0], space.rows[me, 1], known)
        for r in range(r0, r1):
            T_dot_bar = T_dot_bar_ikm[order[r]]
            T_dot_bar[:] = 0.0
            add_contraction_adjoint(moments.T_ikm[order[r]], M, axis, known.D[r], T_dot_bar)


@njit(**PART)
def _tangents(j, first_t, base, group, force_k, moments, pairs, sums, links, space, me):
    """Ṫ of every item of atom j for the components of a group, one after the other's."""
    s_k, ell_n, dell_n = space.pair[me, 0], space.pair[me, 1], space.pair[me, 2]
    g, dg = space.values[me, 0], space.values[me, 1]
    for r in range(first_t[0], first_t[len(first_t) - 1]):
        for n in range(group[1] - group[0]):
            space.T_dot_rkm[3 * base + n * space.most + r - base, :, :] = 0.0
        i, own, first, last = _pairs_of(r, j, pairs, links, space)
        for q in range(first, last):
            p = q if own else links.pair_q[q]
            if own and links.j_p[p] == j:
                continue
            _nodes(p, pairs, ell_n, dell_n)
            row = sums.row_t[sums.touched_i[i] + pairs.place_p[p]]
            pair_values(row, ell_n, dell_n, sums.G_rm, g, dg)
            for n in range(group[1] - group[0]):
                c = force_k[group[0] + n, 1]
                _motion(i, p, 1.0 if own else -1.0, c, pairs, moments.scale, s_k)
                add_tangent(pairs.Rt_pk[p], s_k, g, dg, space.T_dot_rkm[3 * base + n * space.most + r - base])


@njit(**KERNEL)
def force_rows(
    counters, me, space, w, fitting, embedding, links, groups, force_k, order_k, moments, known,
    T_dot_bar_ikm, pairs, sums, H_mw,
):  # fmt: skip
    """∂F_jc/∂w of the components ``force_k``. Rows of ``space.layers`` from me·most on are this thread's.

    groups : (g, 2) components of one atom, at most three, from … to in ``force_k``
    order_k : the row of ``H_mw`` that a component belongs to
    """
    nets, cache, layers, table_layers = fitting.nets, fitting.cache, space.layers, space.table_layers
    T_ikm, M, axis, scale = moments.T_ikm, moments.M, moments.axis, moments.scale
    table, blocks, each, table_cache = embedding.nets, embedding.blocks, embedding.source, embedding.cache
    base, table_base = me * space.most, me * len(sums.G_rm)
    bar, new = space.rows[me, 0], space.rows[me, 1]
    D_bar = new if nets.forms.shape[1] % 2 else bar
    G_smr, first_t = space.G_smr[me], space.first_t[me]
    s_k, ell_n, dell_n = space.pair[me, 0], space.pair[me, 1], space.pair[me, 2]
    while True:
        task = take(counters, me, 0, len(groups))
        if task >= len(groups):
            break
        group = groups[task]
        j = force_k[group[0], 0]
        _find_items(j, base, pairs, links, space)
        _tangents(j, first_t, base, group, force_k, moments, pairs, sums, links, space, me)
        for k in range(group[0], group[1]):
            c, gradient = force_k[k, 1], H_mw[order_k[k]]
            of_items = 3 * base + (k - group[0]) * space.most - base
            for net in range(len(first_t) - 1):
                r0 = first_t[net]
                while r0 < first_t[net + 1]:
                    r1 = min(r0 + ROWS, first_t[net + 1])
                    for r in range(r0, r1):
                        T_dot = space.T_dot_rkm[of_items + r]
                        contract(T_dot, T_ikm[space.item_r[r, 0]], M, axis, 1.0, layers.X_dot[r])
                    tangent_rows(nets, net, w, r0, r1, space.source_r, cache, layers)
                    bent_rows(nets, net, w, r0, r1, space.source_r, cache, known, layers, bar, new)
                    for r in range(r0, r1):
                        i = space.item_r[r, 0]
                        T_bar = space.T_bar_rkm[r]
                        T_bar[:] = 0.0
                        add_contraction_adjoint(T_ikm[i], M, axis, D_bar[r - r0], T_bar)
                        moved = known.D[space.source_r[r]]
                        add_contraction_adjoint(space.T_dot_rkm[of_items + r], M, axis, moved, T_bar)
                    r0 = r1
                r0, r1 = first_t[net], first_t[net + 1]
                if r0 < r1:
                    outer_sums(
                        nets, net, r0, r1, space.source_r, cache, layers.a_bar, layers.X_dot, known.a,
                        layers.idt_bar, gradient,
                    )  # fmt: skip
            for strip in range(len(G_smr)):
                G_smr[strip, :, :] = 0.0
                for r in range(first_t[0], first_t[len(first_t) - 1]):
                    t0, t1 = sums.touched_i[space.item_r[r, 0]], sums.touched_i[space.item_r[r, 0] + 1]
                    add_moment_adjoint(sums, t0, t1, space.T_bar_rkm[r], strip, G_smr[strip])
            for r in range(first_t[0], first_t[len(first_t) - 1]):
                i, own, first, last = _pairs_of(r, j, pairs, links, space)
                for q in range(first, last):
                    p = q if own else links.pair_q[q]
                    if own and links.j_p[p] == j:
                        continue
                    _motion(i, p, 1.0 if own else -1.0, c, pairs, scale, s_k)
                    _nodes(p, pairs, ell_n, dell_n)
                    row = sums.row_t[sums.touched_i[i] + pairs.place_p[p]]
                    add_node_adjoint(row, pairs.Rt_pk[p], s_k, ell_n, dell_n, T_dot_bar_ikm[i], G_smr)
            for block in range(len(blocks)):
                net, r0, r1 = blocks[block, NET], blocks[block, R0], blocks[block, R1]
                for r in range(r0, r1):
                    for m in range(table.n_out):
                        bar[r - r0, m] = G_smr[m // LANES, r, m % LANES]
                backward_rows(
                    table, net, w, table_base + r0, table_base + r1, each, table_cache, bar, new,
                    table_layers.a_bar, START, table_layers.idt_bar, NO,
                )  # fmt: skip
            for net in range(len(embedding.first) - 1):
                r0, r1 = table_base + embedding.first[net], table_base + embedding.first[net + 1]
                outer_sums(
                    table, net, r0, r1, each, table_cache, table_layers.a_bar, table_layers.X_dot, known.a,
                    table_layers.idt_bar, gradient,
                )  # fmt: skip
