"""Numba kernel of ∂/∂w of energies, forces and virials: the way of `potentials.atomic`, fused.

With T = S G (see `frame_kernels`) and pairs that move at the rate v::

    Ṫ_k = Σ_n Ṡ_kn G_n,     Ṡ_kn = Σ_p (Ṙ̃_pk ℓ_n + R̃_pk ℓ′_n ġ_p) / Σsel
    Ḡ_n = Σ_i Σ_k S_kn T̄_k + Ṡ_kn Ṫ̄_k

Phases, each finished before the next begins: atoms there and back; Ḡ of the table's rows by chunks of
atoms; sums of the chunks; the embedding nets' rows; the sums that are all nets' gradients.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmandp.engines.cpu.deep_potential.frame_kernels import (
    DS,
    S_R,
    add_to_nodes,
    node_slopes,
    node_weights,
    turned,
)
from kalmandp.engines.cpu.deep_potential.prediction_kernels import contract, contract_adjoint, times_table
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
from kalmandp.engines.cpu.threads import KERNEL, PART, done, take, wait

#: The phases of `weight_gradient`. Not literals: see `network.START`.
ATOMS, NODES, CHUNKS, EMBEDDING, COLUMNS = (np.int64(phase) for phase in range(5))
NO, YES = np.bool_(False), np.bool_(True)


@njit(**PART)
def _node_tangents(i, pairs, v_pc, scale, S_dot_kt):
    """Ṡ of atom i."""
    sigma = pairs.dstd[pairs.types_i[i]]
    S_dot_kt[:] = 0.0
    for p in range(pairs.first_i[i], pairs.first_i[i + 1]):
        v, n = v_pc[p], pairs.geometry_p[p]
        if v[0] == 0.0 and v[1] == 0.0 and v[2] == 0.0:
            continue
        along = n[0] * v[0] + n[1] * v[1] + n[2] * v[2]
        turn = (n[DS] - n[S_R]) * along
        x0, x1, x2, x3 = pairs.Rt_pk[p, 0], pairs.Rt_pk[p, 1], pairs.Rt_pk[p, 2], pairs.Rt_pk[p, 3]
        s0 = scale * n[DS] * along / sigma[0]
        s1 = scale * (turn * n[0] + n[S_R] * v[0]) / sigma[1]
        s2 = scale * (turn * n[1] + n[S_R] * v[1]) / sigma[2]
        s3 = scale * (turn * n[2] + n[S_R] * v[2]) / sigma[3]
        ell = node_weights(x0, pairs.inverse_step, pairs.c_an)
        dell = node_slopes(x0, pairs.inverse_step, pairs.dc_an)
        at = pairs.place_p[p]
        for k in range(4):
            x, s = (x0, s0) if k == 0 else (x1, s1) if k == 1 else (x2, s2) if k == 2 else (x3, s3)
            add_to_nodes(S_dot_kt[k], at, s, ell)
            add_to_nodes(S_dot_kt[k], at, s0 * x, dell)


@njit(**PART)
def _energy_adjoint(counters, me, phase, space, w, fitting, wanted, moments, back):
    """Ē_i → D̄ → T̄ of ``atoms``, and a̅ of their nets."""
    nets, blocks, source, cache = fitting.nets, fitting.blocks, fitting.source, fitting.cache
    layers = back.fitting
    atoms, E_bar_i, T_ikm, M, axis = wanted.atoms, wanted.E_bar_i, moments.T_ikm, moments.M, moments.axis
    T_bar_ikm = back.T_bar_ikm
    bar, new = space.rows[me, 0], space.rows[me, 1]
    D_bar = new if nets.forms.shape[1] % 2 else bar
    while True:
        task = take(counters, me, phase, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        for r in range(r0, r1):
            bar[r - r0, 0] = E_bar_i[atoms[r]]
        backward_rows(nets, net, w, r0, r1, source, cache, bar, new, layers.a_bar, START, layers.idt_bar, YES)
        for r in range(r0, r1):
            T_bar = T_bar_ikm[atoms[r]]
            T_bar[:] = 0.0
            contract_adjoint(T_ikm[atoms[r]], M, axis, D_bar[r - r0], T_bar)
        done(counters, phase)
    wait(counters, phase, len(blocks))


@njit(**PART)
def _tangent_adjoint(counters, me, phase, space, w, fitting, wanted, moments, pairs, sums, back):
    """v → Ṡ → Ṫ → Ḋ → Ė and back, with Ė̄ = 1 and Ē given: T̄ and Ṫ̄ of ``atoms``, a̅ and ǡ of their nets.

    T̄ = adj(T, D̄) + adj(Ṫ, Ḋ̄);  Ṫ̄ = adj(T, Ḋ̄)
    """
    nets, blocks, source, cache = fitting.nets, fitting.blocks, fitting.source, fitting.cache
    layers = back.fitting
    atoms, E_bar_i, v_pc = wanted.atoms, wanted.E_bar_i, wanted.v_pc
    T_ikm, M, axis, scale = moments.T_ikm, moments.M, moments.axis, moments.scale
    T_dot_ikm, S_dot_tk = back.T_dot_ikm, back.S_dot_tk
    T_bar_ikm, T_dot_bar_ikm = back.T_bar_ikm, back.T_dot_bar_ikm
    S_dot_kt = space.B_kt[me]
    bar, new, dot, new_dot = space.rows[me, 0], space.rows[me, 1], space.rows[me, 2], space.rows[me, 3]
    odd = nets.forms.shape[1] % 2
    D_bar, D_dot_bar = (new, new_dot) if odd else (bar, dot)
    while True:
        task = take(counters, me, phase, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        for r in range(r0, r1):
            i = atoms[r]
            t0, t1 = sums.touched_i[i], sums.touched_i[i + 1]
            _node_tangents(i, pairs, v_pc, scale, S_dot_kt)
            turned(S_dot_kt, t0, t1, S_dot_tk)
            times_table(S_dot_tk, sums, t0, t1, T_dot_ikm[i])
            contract(T_dot_ikm[i], T_ikm[i], M, axis, 1.0, layers.X_dot[r])
            bar[r - r0, 0], dot[r - r0, 0] = E_bar_i[i], 1.0
        tangent_rows(nets, net, w, r0, r1, source, cache, layers)
        tangent_backward_rows(nets, net, w, r0, r1, source, cache, layers, bar, dot, new, new_dot)
        for r in range(r0, r1):
            i = atoms[r]
            T_bar, T_dot_bar = T_bar_ikm[i], T_dot_bar_ikm[i]
            T_bar[:] = 0.0
            T_dot_bar[:] = 0.0
            for turn in range(3):  # one call in the code: it is compiled once
                T = T_dot_ikm[i] if turn == 1 else T_ikm[i]
                D = D_bar[r - r0] if turn == 0 else D_dot_bar[r - r0]
                contract_adjoint(T, M, axis, D, T_dot_bar if turn == 2 else T_bar)
        done(counters, phase)
    wait(counters, phase, len(blocks))


@njit(**PART)
def _node_adjoint(counters, me, phase, atoms, sums, back):
    """Ḡ_n = Σ_i Σ_k S_kn T̄_k + Ṡ_kn Ṫ̄_k, the atoms of a chunk into sums of their own."""
    S_dot_tk, T_bar_ikm, T_dot_bar_ikm = back.S_dot_tk, back.T_bar_ikm, back.T_dot_bar_ikm
    collected = back.collected
    chunks, count, M = collected.shape[0], len(atoms), T_bar_ikm.shape[2]
    while True:
        chunk = take(counters, me, phase, chunks)
        if chunk >= chunks:
            break
        to = collected[chunk]
        to[:] = 0.0
        for a in range(count * chunk // chunks, count * (chunk + 1) // chunks):
            i = atoms[a]
            T_bar, T_dot = T_bar_ikm[i], T_dot_bar_ikm[i]
            t0, t1, t2, t3 = T_bar[0], T_bar[1], T_bar[2], T_bar[3]
            u0, u1, u2, u3 = T_dot[0], T_dot[1], T_dot[2], T_dot[3]
            for t in range(sums.touched_i[i], sums.touched_i[i + 1]):
                row, S = to[sums.row_t[t]], sums.S_tk[t]
                s0, s1, s2, s3 = S[0], S[1], S[2], S[3]
                r0 = r1 = r2 = r3 = 0.0
                if S_dot_tk.shape[0] > 0:
                    r0, r1, r2, r3 = S_dot_tk[t, 0], S_dot_tk[t, 1], S_dot_tk[t, 2], S_dot_tk[t, 3]
                if r0 == 0.0 and r1 == 0.0 and r2 == 0.0 and r3 == 0.0:
                    for m in range(M):
                        row[m] += (s0 * t0[m] + s1 * t1[m]) + (s2 * t2[m] + s3 * t3[m])
                else:
                    for m in range(M):
                        along = (s0 * t0[m] + s1 * t1[m]) + (s2 * t2[m] + s3 * t3[m])
                        row[m] += along + ((r0 * u0[m] + r1 * u1[m]) + (r2 * u2[m] + r3 * u3[m]))
        done(counters, phase)
    wait(counters, phase, chunks)


@njit(**PART)
def _sum_chunks(counters, me, phase, collected):
    """collected[0] += collected[1] + collected[2] + …, in that order."""
    n_rows = collected.shape[1]
    n_tasks = (n_rows + ROWS - 1) // ROWS
    while True:
        task = take(counters, me, phase, n_tasks)
        if task >= n_tasks:
            break
        for r in range(task * ROWS, min(n_rows, (task + 1) * ROWS)):
            total = collected[0, r]
            for chunk in range(1, collected.shape[0]):
                part = collected[chunk, r]
                for m in range(len(total)):
                    total[m] += part[m]
        done(counters, phase)
    wait(counters, phase, n_tasks)


@njit(**PART)
def _sum_columns(counters, me, phase, fitting, embedding, back, gradient):
    """Gradient of all nets' weights, some columns of a task."""
    n_fitting = len(fitting.nets.columns)
    n_tasks = n_fitting + len(embedding.nets.columns)
    while True:
        task = take(counters, me, phase, n_tasks)
        if task >= n_tasks:
            break
        of_fitting = task < n_fitting  # one call for both in the code: it is compiled once
        rows, layers = (fitting, back.fitting) if of_fitting else (embedding, back.embedding)
        nets, first, place = rows.nets, rows.first, task if of_fitting else task - n_fitting
        net, column = nets.columns[place, 0], nets.columns[place, 1]
        add_columns(
            nets, net, first[net], first[net + 1], rows.source, rows.cache, layers, gradient, column
        )


@njit(**PART)
def _embedding_adjoint(counters, me, phase, space, w, embedding, collected, layers):
    """Ḡ of the table's rows → a̅ of the embedding nets."""
    bar, new = space.rows[me, 0], space.rows[me, 1]
    nets, blocks, source, cache = embedding.nets, embedding.blocks, embedding.source, embedding.cache
    n_out = nets.n_out
    while True:
        task = take(counters, me, phase, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        for r in range(r0, r1):
            for m in range(n_out):
                bar[r - r0, m] = collected[0, r, m]
        backward_rows(
            nets, net, w, r0, r1, source, cache, bar, new, layers.a_bar, START, layers.idt_bar, NO
        )
        done(counters, phase)
    wait(counters, phase, len(blocks))


@njit(**KERNEL)
def weight_gradient(
    counters, me, space, w, fitting, embedding, wanted, moments, pairs, sums, back, gradient
):  # fmt: skip
    """Twin of `atomic.weight_gradient`, for atoms that move or have an Ē.

    Without motion, ``wanted.v_pc`` and ``back.S_dot_tk`` having no rows, twin of `atomic.energy_gradient`.
    """
    if len(back.S_dot_tk) > 0:
        _tangent_adjoint(counters, me, ATOMS, space, w, fitting, wanted, moments, pairs, sums, back)
    else:
        _energy_adjoint(counters, me, ATOMS, space, w, fitting, wanted, moments, back)
    _node_adjoint(counters, me, NODES, wanted.atoms, sums, back)
    _sum_chunks(counters, me, CHUNKS, back.collected)
    _embedding_adjoint(counters, me, EMBEDDING, space, w, embedding, back.collected, back.embedding)
    _sum_columns(counters, me, COLUMNS, fitting, embedding, back, gradient)
