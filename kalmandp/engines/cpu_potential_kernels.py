"""Numba kernels of `cpu_potential`: loops over the pairs of each atom, and over blocks of atoms.

All are kernels of `threads`. Letters as in `arrays`, and r row: row r of the fitting nets' arrays belongs
to atom ``order[r]``; t touched node. ``first_i`` is where the pairs of atom i begin. Arrays over the
embedding's output are padded with zeros from M to a multiple of eight, so that rows are whole vectors.

With the embedding in a table, G(g_p) = Σ_n ℓ_n(g_p) G_n, the moments are a product of a matrix that the
frame alone decides with the table's rows, and M enters nothing else::

    T_k = Σ_n S_kn G_n,     S_kn = Σ_p R̃_pk ℓ_n(g_p) / Σsel               empty slots are rows like nodes
    Ṫ_k = Σ_n Ṡ_kn G_n,     Ṡ_kn = Σ_p (Ṙ̃_pk ℓ_n + R̃_pk ℓ′_n ġ_p) / Σsel
    Ḡ_n = Σ_i Σ_k S_kn T̄_k + Ṡ_kn Ṫ̄_k
    R̃̄_pk = Σ_n ℓ_n B_kn,   ḡ_p = Σ_n ℓ′_n Σ_k R̃_pk B_kn,                 B_kn = Σ_m T̄_km G_nm / Σsel

The nodes that an atom's pairs touch are listed in ``node_t``, by net and number, from ``touched_i[i]`` on;
``place_p`` is the place in that list of a pair's first node.

Of a pair are kept R̃ (4) and, in ``geometry``, n = r/|r| (3), ds/dr and s/r: with them ::

    Ṙ̃_0 = ds (n·v) / σ_0,      Ṙ̃_d = [(ds − s/r)(n·v) n_d + (s/r) v_d] / σ_d          σ = dstd
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmandp.engines.cpu_network import (
    NET,
    R0,
    R1,
    ROWS,
    add_columns,
    backward_rows,
    forward_rows,
    tangent_backward_rows,
    tangent_rows,
)
from kalmandp.engines.table import ORDER
from kalmandp.engines.threads import KERNEL, PART, done, take, wait

#: Atoms of a task in passes over pairs.
ATOMS = 16
#: Numbers of a task that sums accumulators.
PIECE = 1024
# columns of ``geometry``: n in the first three
DS, S_R = 3, 4


@njit(**PART)
def groups(n_atoms):
    """Tasks of a pass over atoms."""
    return (n_atoms + ATOMS - 1) // ATOMS


@njit(**KERNEL)
def pair_environment(
    counters,
    me,
    first_i,
    types_i,
    i_p,
    j_p,
    r_pc,
    rcut_smth,
    rcut,
    switch,
    davg,
    dstd,
    Rt_pk,
    geometry,
    back_p,
):
    """R̃ and what its derivatives need, by the equations of `environment.raw_environment`; the pairs' backs.

    The back of a pair is the pair j → i whose vector is −r_p; images of an atom differ by a lattice vector.
    """
    A, B, C = switch[0], switch[1], switch[2]
    n_atoms = len(types_i)
    while True:
        task = take(counters, me, 0, groups(n_atoms))
        if task >= groups(n_atoms):
            break
        for p in range(first_i[task * ATOMS], first_i[min(n_atoms, (task + 1) * ATOMS)]):
            t = types_i[i_p[p]]
            r = np.sqrt(r_pc[p, 0] ** 2 + r_pc[p, 1] ** 2 + r_pc[p, 2] ** 2)
            u = (r - rcut_smth) / (rcut - rcut_smth)
            w, dw = 1.0, 0.0
            if u >= 1.0:
                w = 0.0
            elif u > 0.0:
                w = u * u * u * (A * u * u + B * u + C) + 1.0
                dw = u * u * (5 * A * u * u + 4 * B * u + 3 * C) / (rcut - rcut_smth)
            s = w / r
            Rt_pk[p, 0] = (s - davg[t, 0]) / dstd[t, 0]
            for d in range(3):
                n_d = r_pc[p, d] / r
                geometry[p, d] = n_d
                Rt_pk[p, 1 + d] = (s * n_d - davg[t, 1 + d]) / dstd[t, 1 + d]
            geometry[p, DS] = (dw - s) / r
            geometry[p, S_R] = s / r
            back_p[p] = _back(p, first_i, i_p, j_p, r_pc)


@njit(**PART)
def _back(p, first_i, i_p, j_p, r_pc):
    i, j = i_p[p], j_p[p]
    best, best_q = np.inf, -1
    for q in range(first_i[j], first_i[j + 1]):
        if j_p[q] == i:
            apart = 0.0
            for c in range(3):
                apart += (r_pc[q, c] + r_pc[p, c]) ** 2
            if apart < best:
                best, best_q = apart, q
    return best_q


@njit(**PART)
def _weights(g, inverse_step, c_an, ell):
    """The Lagrange weights ℓ_n(g) = Σ_a c_an xᵃ of the nodes around g."""
    u = g * inverse_step
    x = u - np.floor(u) - 0.5
    for n in range(ORDER):
        ell[n] = c_an[ORDER - 1, n]
    for a in range(ORDER - 2, -1, -1):
        for n in range(ORDER):
            ell[n] = ell[n] * x + c_an[a, n]


@njit(**PART)
def _slopes(g, inverse_step, c_an, dell):
    """dℓ_n/dg = Σ_a a c_an xᵃ⁻¹ / h."""
    u = g * inverse_step
    x = u - np.floor(u) - 0.5
    for n in range(ORDER):
        dell[n] = (ORDER - 1) * c_an[ORDER - 1, n]
    for a in range(ORDER - 2, 0, -1):
        for n in range(ORDER):
            dell[n] = dell[n] * x + a * c_an[a, n]
    for n in range(ORDER):
        dell[n] *= inverse_step


@njit(**PART)
def _first_node(g, inverse_step):
    return int(np.floor(g * inverse_step)) - (ORDER // 2 - 1)


@njit(**PART)
def _mark(i, first_i, net_p, Rt_pk, inverse_step, lowest, marks):
    """Mark the nodes (net, node − lowest) that pairs of atom i touch by 1, the others by 0."""
    marks[:] = 0
    for p in range(first_i[i], first_i[i + 1]):
        node = _first_node(Rt_pk[p, 0], inverse_step) - lowest
        for n in range(ORDER):
            marks[net_p[p], node + n] = 1


@njit(**KERNEL)
def count_nodes(counters, me, first_i, net_p, Rt_pk, inverse_step, lowest, marks, count_iv, n_touched_i):
    """How many nodes and empty slots each atom touches."""
    mine = marks[me]
    n_atoms = len(n_touched_i)
    while True:
        task = take(counters, me, 0, groups(n_atoms))
        if task >= groups(n_atoms):
            break
        for i in range(task * ATOMS, min(n_atoms, (task + 1) * ATOMS)):
            _mark(i, first_i, net_p, Rt_pk, inverse_step, lowest, mine)
            count = 0
            for e in range(mine.shape[0]):
                for n in range(mine.shape[1]):
                    count += mine[e, n]
            for v in range(count_iv.shape[1]):
                count += count_iv[i, v] != 0.0
            n_touched_i[i] = count


@njit(**KERNEL)
def sum_nodes(
    counters, me, first_i, net_p, Rt_pk, inverse_step, c_an, lowest, marks, ells, count_iv, Rt_vk, scale,
    touched_i,
    net_t, node_t, S_tk, place_p,
):  # fmt: skip
    """List the nodes of each atom, and sum up S. An empty slot of kind v is listed as net −1 − v."""
    place, ell = marks[me], ells[me]
    n_atoms = len(touched_i) - 1
    while True:
        task = take(counters, me, 0, groups(n_atoms))
        if task >= groups(n_atoms):
            break
        for i in range(task * ATOMS, min(n_atoms, (task + 1) * ATOMS)):
            _mark(i, first_i, net_p, Rt_pk, inverse_step, lowest, place)
            t = touched_i[i]
            for e in range(place.shape[0]):
                for n in range(place.shape[1]):
                    if place[e, n] == 1:
                        net_t[t], node_t[t], place[e, n] = e, n + lowest, t - touched_i[i]
                        for k in range(4):
                            S_tk[t, k] = 0.0
                        t += 1
            for p in range(first_i[i], first_i[i + 1]):
                node = _first_node(Rt_pk[p, 0], inverse_step) - lowest
                place_p[p] = place[net_p[p], node]
                _weights(Rt_pk[p, 0], inverse_step, c_an, ell)
                for n in range(ORDER):
                    to = S_tk[touched_i[i] + place_p[p] + n]
                    for k in range(4):
                        to[k] += scale * ell[n] * Rt_pk[p, k]
            for v in range(count_iv.shape[1]):
                if count_iv[i, v] != 0.0:
                    net_t[t], node_t[t] = -1 - v, 0
                    for k in range(4):
                        S_tk[t, k] = scale * count_iv[i, v] * Rt_vk[v, k]
                    t += 1


@njit(**PART)
def _table_rows(counters, me, phase, nodes, base_e, row_v, row_t):
    """The table's row of each node in the atoms' lists."""
    pieces = (len(row_t) + PIECE - 1) // PIECE
    while True:
        task = take(counters, me, phase, pieces)
        if task >= pieces:
            break
        for t in range(task * PIECE, min(len(row_t), (task + 1) * PIECE)):
            e = nodes.net_t[t]
            row_t[t] = base_e[e] + nodes.node_t[t] if e >= 0 else row_v[-1 - e]


@njit(**KERNEL)
def tabulate(counters, me, nets, blocks, w, g_r, cache, G_rm):
    """Run each embedding net on its rows: the nodes of the table and the empty slots."""
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
def place_nodes(counters, me, rows, G_rm, start, stop, worst, largest, nodes, base_e, row_t):
    """The table's row of each node in the atoms' lists, and how good the table is there.

    Of each block the largest |G| and the largest eighth difference of nodes start ≤ n < stop are left in
    ``largest`` and ``worst``.
    """
    _table_rows(counters, me, 0, nodes, base_e, rows.row_v, row_t)
    blocks = rows.blocks
    while True:
        task = take(counters, me, 1, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        first, last = rows.first_e[net] + start, rows.first_e[net] + stop
        worst[task], largest[task] = _differences(G_rm, max(r0, first), min(r1, last), last)


@njit(**PART)
def _differences(G_rm, r0, r1, last):
    """The largest 8th difference of G from rows r0 ≤ r < r1 on that ends before ``last``; the largest |G|."""
    worst = largest = 0.0
    for r in range(r0, r1):
        for m in range(G_rm.shape[1]):
            largest = max(largest, abs(G_rm[r, m]))
    for r in range(r0, min(r1, last - ORDER)):
        for m in range(G_rm.shape[1]):
            d = G_rm[r, m] - 8 * G_rm[r + 1, m] + 28 * G_rm[r + 2, m] - 56 * G_rm[r + 3, m]
            d += 70 * G_rm[r + 4, m] - 56 * G_rm[r + 5, m] + 28 * G_rm[r + 6, m] - 8 * G_rm[r + 7, m]
            worst = max(worst, abs(d + G_rm[r + 8, m]))
    return worst, largest


@njit(**PART)
def _times_table(S_tk, sums, t0, t1, T):
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
def _contract(x, T, M, axis, scale, D):
    """D_ms = scale Σ_k (x_km T_ks + T_km x_ks): D for x = T and scale ½, Ḋ for x = Ṫ and scale 1."""
    for m in range(M):
        out = D[m * axis : (m + 1) * axis]
        x0, x1, x2, x3 = scale * x[0, m], scale * x[1, m], scale * x[2, m], scale * x[3, m]
        t0, t1, t2, t3 = scale * T[0, m], scale * T[1, m], scale * T[2, m], scale * T[3, m]
        for s in range(axis):
            first = (x0 * T[0, s] + x1 * T[1, s]) + (x2 * T[2, s] + x3 * T[3, s])
            out[s] = first + ((t0 * x[0, s] + t1 * x[1, s]) + (t2 * x[2, s] + t3 * x[3, s]))


@njit(**PART)
def _contract_adjoint(T, M, axis, D_bar, T_bar):
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
def atomic_energies(counters, me, nets, blocks, order, w, bias_t, sums, M, axis, T_ikm, cache, y, E_i):
    """S, G → T → D → E_i, a block of atoms of one type at a time."""
    while True:
        task = take(counters, me, 0, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        for r in range(r0, r1):
            i = order[r]
            T = T_ikm[i]
            _times_table(sums.S_tk, sums, sums.touched_i[i], sums.touched_i[i + 1], T)
            _contract(T, T, M, axis, 0.5, cache.X[r])
        forward_rows(nets, net, w, r0, r1, cache, y)
        for r in range(r0, r1):
            E_i[order[r]] = y[r, 0] + bias_t[net]


@njit(**KERNEL)
def pair_gradient(
    counters, me, space, nets, blocks, order, each, w, cache, pairs, sums, M, axis, scale, T_ikm, f_pc
):
    """Ē = 1 → D̄ → T̄ → B → f_pc = Σ_k R̃̄_k ∂R̃_k/∂r_c."""
    ell, dell = space.weights[me, 0], space.weights[me, 1]
    bar, new, a_bar, idt_bar = space.rows[me, 0], space.rows[me, 1], space.layers[me, 0], space.layers[me, 1]
    T_bar, B_kt = space.T_km[me], space.B_kt[me]
    D_bar = new if nets.forms.shape[1] % 2 else bar
    while True:
        task = take(counters, me, 0, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        bar[:, 0] = scale
        backward_rows(nets, net, w, r0, r1, each, cache, bar, new, a_bar, r0, idt_bar)
        for r in range(r0, r1):
            i = order[r]
            T_bar[:] = 0.0
            _contract_adjoint(T_ikm[i], M, axis, D_bar[r - r0], T_bar)
            _adjoint_of_weights(T_bar, sums, sums.touched_i[i], sums.touched_i[i + 1], B_kt)
            _atom_gradient(i, pairs, B_kt, ell, dell, f_pc)


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
def _atom_gradient(i, pairs, B_kt, ell, dell, f_pc):
    """f_p of the pairs of one atom from its B."""
    Rt_pk, sigma = pairs.Rt_pk, pairs.dstd[pairs.types_i[i]]
    f0, f1, f2, f3 = 1 / sigma[0], 1 / sigma[1], 1 / sigma[2], 1 / sigma[3]
    B0, B1, B2, B3 = B_kt[0], B_kt[1], B_kt[2], B_kt[3]
    for p in range(pairs.first_i[i], pairs.first_i[i + 1]):
        x0, x1, x2, x3 = Rt_pk[p, 0], Rt_pk[p, 1], Rt_pk[p, 2], Rt_pk[p, 3]
        _weights(x0, pairs.inverse_step, pairs.c_an, ell)
        _slopes(x0, pairs.inverse_step, pairs.c_an, dell)
        t = pairs.place_p[p]
        b0 = b1 = b2 = b3 = 0.0
        for n in range(ORDER):
            c0, c1, c2, c3 = B0[t + n], B1[t + n], B2[t + n], B3[t + n]
            b0 += ell[n] * c0 + dell[n] * ((x0 * c0 + x1 * c1) + (x2 * c2 + x3 * c3))
            b1 += ell[n] * c1
            b2 += ell[n] * c2
            b3 += ell[n] * c3
        n = pairs.geometry_p[p]
        b0, b1, b2, b3 = b0 * f0, b1 * f1, b2 * f2, b3 * f3
        radial = n[DS] * b0 + (n[DS] - n[S_R]) * (b1 * n[0] + b2 * n[1] + b3 * n[2])
        f_pc[p, 0] = radial * n[0] + n[S_R] * b1
        f_pc[p, 1] = radial * n[1] + n[S_R] * b2
        f_pc[p, 2] = radial * n[2] + n[S_R] * b3


@njit(**KERNEL)
def forces(counters, me, first_i, back_p, f_pc, F_ic):
    """F_i = Σ_p (f_p − f_back(p)) over the pairs of centre i."""
    n = len(F_ic)
    while True:
        task = take(counters, me, 0, groups(n))
        if task >= groups(n):
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            x = y = z = 0.0
            for p in range(first_i[i], first_i[i + 1]):
                q = back_p[p]
                x += f_pc[p, 0] - f_pc[q, 0]
                y += f_pc[p, 1] - f_pc[q, 1]
                z += f_pc[p, 2] - f_pc[q, 2]
            F_ic[i, 0], F_ic[i, 1], F_ic[i, 2] = x, y, z


@njit(**KERNEL)
def virials(counters, me, first_i, r_pc, f_pc, W_icc):
    """Share of atom i in W_dc = −Σ_p f_pd r_pc."""
    n = len(W_icc)
    while True:
        task = take(counters, me, 0, groups(n))
        if task >= groups(n):
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            W = W_icc[i]
            W[:] = 0.0
            for p in range(first_i[i], first_i[i + 1]):
                for d in range(3):
                    for c in range(3):
                        W[d, c] -= f_pc[p, d] * r_pc[p, c]


@njit(**PART)
def _node_tangents(i, pairs, v_pc, scale, ell, dell, S_dot_tk):
    """Ṡ of atom i, in rows from 0 on."""
    sigma = pairs.dstd[pairs.types_i[i]]
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
        _weights(x0, pairs.inverse_step, pairs.c_an, ell)
        _slopes(x0, pairs.inverse_step, pairs.c_an, dell)
        for a in range(ORDER):
            to, slope = S_dot_tk[pairs.place_p[p] + a], dell[a] * s0
            to[0] += ell[a] * s0 + slope * x0
            to[1] += ell[a] * s1 + slope * x1
            to[2] += ell[a] * s2 + slope * x2
            to[3] += ell[a] * s3 + slope * x3


@njit(**PART)
def _energy_adjoint(
    counters, me, phase, space, nets, blocks, atoms, source, w, cache, M, axis, E_bar_i, T_ikm, layers,
    T_bar_ikm,
):  # fmt: skip
    """Ē_i → D̄ → T̄ of ``atoms``, and a̅ of their nets."""
    bar, new = space.rows[me, 0], space.rows[me, 1]
    D_bar = new if nets.forms.shape[1] % 2 else bar
    while True:
        task = take(counters, me, phase, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        for r in range(r0, r1):
            bar[r - r0, 0] = E_bar_i[atoms[r]]
        backward_rows(nets, net, w, r0, r1, source, cache, bar, new, layers.a_bar, 0, layers.idt_bar)
        for r in range(r0, r1):
            T_bar = T_bar_ikm[atoms[r]]
            T_bar[:] = 0.0
            _contract_adjoint(T_ikm[atoms[r]], M, axis, D_bar[r - r0], T_bar)
        done(counters, phase)
    wait(counters, phase, len(blocks))


@njit(**PART)
def _tangent_adjoint(
    counters, me, phase, space, nets, blocks, atoms, source, w, cache, pairs, sums, v_pc, M, axis, scale,
    E_bar_i,
    T_ikm, T_dot_ikm, S_dot_tk, layers, T_bar_ikm, T_dot_bar_ikm,
):  # fmt: skip
    """v → Ṡ → Ṫ → Ḋ → Ė and back, with Ė̄ = 1 and Ē given: T̄ and Ṫ̄ of ``atoms``, a̅ and ǡ of their nets.

    T̄ = adj(T, D̄) + adj(Ṫ, Ḋ̄);  Ṫ̄ = adj(T, Ḋ̄)
    """
    ell, dell = space.weights[me, 0], space.weights[me, 1]
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
            S_dot_tk[t0:t1] = 0.0
            _node_tangents(i, pairs, v_pc, scale, ell, dell, S_dot_tk[t0:t1])
            _times_table(S_dot_tk, sums, t0, t1, T_dot_ikm[i])
            _contract(T_dot_ikm[i], T_ikm[i], M, axis, 1.0, layers.X_dot[r])
            bar[r - r0, 0], dot[r - r0, 0] = E_bar_i[i], 1.0
        tangent_rows(nets, net, w, r0, r1, source, cache, layers)
        tangent_backward_rows(nets, net, w, r0, r1, source, cache, layers, bar, dot, new, new_dot)
        for r in range(r0, r1):
            i = atoms[r]
            T_bar, T_dot_bar = T_bar_ikm[i], T_dot_bar_ikm[i]
            T_bar[:] = 0.0
            T_dot_bar[:] = 0.0
            _contract_adjoint(T_ikm[i], M, axis, D_bar[r - r0], T_bar)
            _contract_adjoint(T_dot_ikm[i], M, axis, D_dot_bar[r - r0], T_bar)
            _contract_adjoint(T_ikm[i], M, axis, D_dot_bar[r - r0], T_dot_bar)
        done(counters, phase)
    wait(counters, phase, len(blocks))


@njit(**PART)
def _node_adjoint(counters, me, phase, atoms, sums, S_dot_tk, T_bar_ikm, T_dot_bar_ikm, collected):
    """Ḡ_n = Σ_i Σ_k S_kn T̄_k + Ṡ_kn Ṫ̄_k, the atoms of a chunk into sums of their own."""
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
def _sum_columns(counters, me, phase, nets, first_row, source, cache, layers, gradient):
    """Gradient of the nets' weights, some columns of a task."""
    while True:
        task = take(counters, me, phase, len(nets.columns))
        if task >= len(nets.columns):
            break
        net, column = nets.columns[task, 0], nets.columns[task, 1]
        add_columns(nets, net, first_row[net], first_row[net + 1], source, cache, layers, gradient, column)


@njit(**PART)
def _embedding_gradient(
    counters, me, phase, space, nets, rows, each, w, table_cache, collected, layers, gradient
):
    """Ḡ of the table's rows through the embedding nets, in two phases."""
    bar, new = space.rows[me, 0], space.rows[me, 1]
    blocks, n_out = rows.blocks, nets.n_out
    while True:
        task = take(counters, me, phase, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        for r in range(r0, r1):
            for m in range(n_out):
                bar[r - r0, m] = collected[0, r, m]
        backward_rows(nets, net, w, r0, r1, each, table_cache, bar, new, layers.a_bar, 0, layers.idt_bar)
        done(counters, phase)
    wait(counters, phase, len(blocks))
    _sum_columns(counters, me, phase + 1, nets, rows.first_e, each, table_cache, layers, gradient)


@njit(**KERNEL)
def weight_gradient(
    counters, me, space, fitting, blocks, first_t, atoms, source, each, w, cache, pairs, sums, v_pc, M, axis,
    scale, E_bar_i, T_ikm, T_dot_ikm, S_dot_tk, layers, T_bar_ikm, T_dot_bar_ikm,
    collected, embedding, rows, table_cache, table_layers, gradient,
):  # fmt: skip
    """Twin of `jacobian.weight_gradient`, for atoms that move or have an Ē.

    Without motion, ``v_pc`` and ``S_dot_tk`` having no rows, twin of `jacobian.energy_gradient`.
    """
    if len(S_dot_tk) > 0:
        _tangent_adjoint(
            counters, me, 0, space, fitting, blocks, atoms, source, w, cache, pairs, sums, v_pc, M, axis,
            scale, E_bar_i, T_ikm, T_dot_ikm, S_dot_tk, layers, T_bar_ikm, T_dot_bar_ikm,
        )  # fmt: skip
    else:
        _energy_adjoint(
            counters, me, 0, space, fitting, blocks, atoms, source, w, cache, M, axis, E_bar_i, T_ikm, layers,
            T_bar_ikm,
        )  # fmt: skip
    _node_adjoint(counters, me, 1, atoms, sums, S_dot_tk, T_bar_ikm, T_dot_bar_ikm, collected)
    _sum_columns(counters, me, 2, fitting, first_t, source, cache, layers, gradient)
    _sum_chunks(counters, me, 3, collected)
    _embedding_gradient(
        counters, me, 4, space, embedding, rows, each, w, table_cache, collected, table_layers, gradient
    )
