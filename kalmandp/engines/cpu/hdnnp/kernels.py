"""Numba kernels of the passes of an HDNNP: energies, pair gradient, gradients of weights, rows of H.

∂q/∂r is kept as ∂G/∂r (`function_kernels`) without the scaling q = shift + factor·G, which is put in for each
atom: q̇ = factor Σ_p ∂G/∂r_p · v_p, f_p = Σ_d q̄_d factor_d ∂G_d/∂r_p. Row r of the nets' arrays belongs to
atom ``order[r]``; rows of one type stand together.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmandp.engines.cpu.hdnnp.curves import LANES
from kalmandp.engines.cpu.hdnnp.nets import forward_rows
from kalmandp.engines.cpu.network import (
    NET,
    R0,
    R1,
    ROWS,
    START,
    LayerAdjoints,
    add_columns,
    backward_rows,
    tangent_backward_rows,
    tangent_rows,
)
from kalmandp.engines.cpu.threads import KERNEL, PART, done, take, wait
from kalmandp.engines.cpu.vectors import load, multiply_add, totals, zeros

#: Kinds of numbers that `rows` measures, and the columns of its table: kind, then what names the number.
ENERGY, FORCE, ATOM, VIRIAL = range(4)
#: Not literals: see `network.START`.
ONE, NO, YES = np.int64(1), np.bool_(False), np.bool_(True)


@njit(**KERNEL)
def energies(counters, me, nets, act, blocks, order, w, bias_t, q_id, cache, y, E_i):
    """q → E_i, a block of atoms of one type at a time."""
    while True:
        task = take(counters, me, 0, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        n = nets.forms[net, 0, 0]
        for r in range(r0, r1):
            x, q = cache.X[r], q_id[order[r]]
            for d in range(n):
                x[d] = q[d]
        forward_rows(nets, act, net, w, r0, r1, cache, y)
        for r in range(r0, r1):
            E_i[order[r]] = y[r, 0] + bias_t[net]


@njit(**KERNEL)
def pair_gradient(counters, me, space, nets, blocks, order, each, w, cache, pairs, q_bar_id, f_pc):
    """Ē = 1 → q̄ → f_pc; where ``q_bar_id`` has rows, factor·q̄ = ∂E/∂G is written there and that is all."""
    bar, new, a_bar, idt_bar = space.rows[me, 0], space.rows[me, 1], space.layers[me, 0], space.layers[me, 1]
    local = space.local[me]
    q_bar = new if nets.forms.shape[1] % 2 else bar
    while True:
        task = take(counters, me, 0, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        for r in range(r1 - r0):
            bar[r, 0] = 1.0
        backward_rows(nets, net, w, r0, r1, each, cache, bar, new, a_bar, r0, idt_bar, YES)
        for r in range(r0, r1):
            if len(q_bar_id) > 0:
                for d in range(nets.forms[net, 0, 0]):
                    q_bar_id[order[r], d] = pairs.factor_td[net, d] * q_bar[r - r0, d]
            else:
                _atom_gradient(order[r], net, q_bar[r - r0], pairs, local, f_pc)


@njit(**PART)
def _atom_gradient(i, t, q_bar, pairs, local, f_pc):
    """f_p of the pairs of one atom: q̄ in the order of each class, then three products of rows.

    The last vector of a row reaches into the next one, where q̄ is zero.
    """
    T = pairs.n_types
    for s in range(T):
        c = t * T + s
        local[s] = 0.0
        for m in range(pairs.n_c[c]):
            d = pairs.d_cm[c, m]
            local[s, m] = q_bar[d] * pairs.factor_td[t, d]
    for p in range(pairs.first_i[i], pairs.first_i[i + 1]):
        s = pairs.types_i[pairs.j_p[p]]
        n, at, bar = pairs.n_c[t * T + s], pairs.offset_p[p], local[s]
        none = zeros(bar)
        x, y, z = none, none, none
        for m in range(0, n, LANES):
            b = load(bar, m)
            x = multiply_add(b, load(pairs.dG, at + m), x)
            y = multiply_add(b, load(pairs.dG, at + n + m), y)
            z = multiply_add(b, load(pairs.dG, at + 2 * n + m), z)
        f_pc[p, 0], f_pc[p, 1], f_pc[p, 2], _ = totals(x, y, z, none)


@njit(**PART)
def _add_motion(p, t, vx, vy, vz, pairs, q_dot):
    """q̇ += factor ∂G/∂r_p · v for a pair of a centre of type t."""
    c = t * pairs.n_types + pairs.types_i[pairs.j_p[p]]
    n, at = pairs.n_c[c], pairs.offset_p[p]
    for m in range(n):
        d = pairs.d_cm[c, m]
        along = vx * pairs.dG[at + m] + vy * pairs.dG[at + n + m] + vz * pairs.dG[at + 2 * n + m]
        q_dot[d] += pairs.factor_td[t, d] * along


@njit(**KERNEL)
def weight_gradient(counters, me, space, w, rows, atoms, pairs, v_pc, E_bar_i, layers, gradient):
    """Twin of `atomic.weight_gradient`, for atoms that move or have an Ē; of `energy_gradient` without v."""
    nets, blocks, first_t, source, cache = rows.nets, rows.blocks, rows.first, rows.source, rows.cache
    bar, new, dot, new_dot = space.rows[me, 0], space.rows[me, 1], space.rows[me, 2], space.rows[me, 3]
    while True:
        task = take(counters, me, 0, len(blocks))
        if task >= len(blocks):
            break
        net, r0, r1 = blocks[task, NET], blocks[task, R0], blocks[task, R1]
        for r in range(r0, r1):
            bar[r - r0, 0], dot[r - r0, 0] = E_bar_i[atoms[r]], 1.0
        if len(v_pc) > 0:
            for r in range(r0, r1):
                i = atoms[r]
                q_dot = layers.X_dot[r]
                q_dot[:] = 0.0
                for p in range(pairs.first_i[i], pairs.first_i[i + 1]):
                    v = v_pc[p]
                    if v[0] != 0.0 or v[1] != 0.0 or v[2] != 0.0:
                        _add_motion(p, net, v[0], v[1], v[2], pairs, q_dot)
            tangent_rows(nets, net, w, r0, r1, source, cache, layers)
            tangent_backward_rows(nets, net, w, r0, r1, source, cache, layers, bar, dot, new, new_dot)
        else:
            backward_rows(
                nets, net, w, r0, r1, source, cache, bar, new, layers.a_bar, START, layers.idt_bar, NO
            )
        done(counters, 0)
    wait(counters, 0, len(blocks))
    while True:
        task = take(counters, me, 1, len(nets.columns))
        if task >= len(nets.columns):
            break
        net, column = nets.columns[task, 0], nets.columns[task, 1]
        add_columns(nets, net, first_t[net], first_t[net + 1], source, cache, layers, gradient, column)


@njit(**PART)
def _slot(i, place_i, listed, count):
    """Put atom i on the list if it is not there; the length of the list."""
    if place_i[i] < 0:
        place_i[i] = count
        listed[count] = i
        return count + 1
    return count


@njit(**PART)
def _by_type(n_types, pairs, row_i, listed, count, place_i, first, source):
    """Sort the listed atoms by type: place_i their entries, source their rows, first where types begin."""
    first[:] = 0
    for e in range(count):
        first[pairs.types_i[listed[e]] + 1] += 1
    for t in range(n_types):
        first[t + 1] += first[t]
    for t in range(n_types):
        e = first[t]
        for k in range(count):
            i = listed[k]
            if pairs.types_i[i] == t:
                place_i[i], source[e] = e, row_i[i]
                e += 1


@njit(**PART)
def _force_entries(a, axis, pairs, row_i, place_i, listed, first, source, X_dot):
    """Atoms that a force component depends on, and their q̇: v_p = c_i − c_j with c the unit vector at a."""
    count = _slot(a, place_i, listed, START)
    for k in range(pairs.first_j[a], pairs.first_j[a + 1]):
        count = _slot(pairs.i_p[pairs.by_j[k]], place_i, listed, count)
    _by_type(pairs.n_types, pairs, row_i, listed, count, place_i, first, source)
    for e in range(count):
        X_dot[e] = 0.0
    vx, vy, vz = 1.0 if axis == 0 else 0.0, 1.0 if axis == 1 else 0.0, 1.0 if axis == 2 else 0.0
    to = X_dot[place_i[a]]
    for p in range(pairs.first_i[a], pairs.first_i[a + 1]):
        if pairs.j_p[p] != a:  # its own image does not move against it
            _add_motion(p, pairs.types_i[a], vx, vy, vz, pairs, to)
    for k in range(pairs.first_j[a], pairs.first_j[a + 1]):
        p = pairs.by_j[k]
        i = pairs.i_p[p]
        if i != a:
            _add_motion(p, pairs.types_i[i], -vx, -vy, -vz, pairs, X_dot[place_i[i]])
    for e in range(count):
        place_i[listed[e]] = -1
    return count


@njit(**PART)
def _frame_entries(f, frames, order, pairs, first, source):
    """All atoms of a frame, by type."""
    count = 0
    for t in range(pairs.n_types):
        first[t] = count
        for r in range(frames.first_t[t], frames.first_t[t + 1]):
            if frames.frame_i[order[r]] == f:
                source[count] = r
                count += 1
    first[pairs.n_types] = count
    return count


@njit(**KERNEL)
def rows(counters, me, space, w, nets, cache, frames, pairs, wanted, room, H_mw):
    """Twin of `atomic.rows`: one number is one task. wanted : (m, 4) kind, and what names the number."""
    order, row_i, strain_ikd = frames.order, frames.row_i, frames.strain_ikd
    place_i, listed, first, source = room.place[me], room.listed[me], room.first[me], room.source[me]
    bar, new, dot, new_dot = space.rows[me, 0], space.rows[me, 1], space.rows[me, 2], space.rows[me, 3]
    moving = LayerAdjoints(
        room.a_bar[me], room.a_dot_bar[me], room.X_dot[me], room.a_dot[me], room.idt_bar[me]
    )
    still = LayerAdjoints(
        room.a_bar[me], room.a_dot_bar[me, :0], room.X_dot[me, :0], room.a_dot[me, :0], room.idt_bar[me]
    )
    while True:
        number = take(counters, me, 0, len(wanted))
        if number >= len(wanted):
            break
        kind, one, two = wanted[number, 0], wanted[number, 1], wanted[number, 2]
        if kind == FORCE:
            _force_entries(one, two, pairs, row_i, place_i, listed, first, source, moving.X_dot)
        elif kind == ATOM:
            listed[0] = one
            _by_type(pairs.n_types, pairs, row_i, listed, ONE, place_i, first, source)
            place_i[one] = -1
        else:
            count = _frame_entries(one, frames, order, pairs, first, source)
            if kind == VIRIAL:
                for e in range(count):
                    i = order[source[e]]
                    x, t = moving.X_dot[e], pairs.types_i[i]
                    for d in range(nets.forms[t, 0, 0]):
                        x[d] = pairs.factor_td[t, d] * strain_ikd[i, two, d]
        with_tangents = kind == FORCE or kind == VIRIAL
        for t in range(pairs.n_types):
            for r0 in range(first[t], first[t + 1], ROWS):
                r1 = min(r0 + ROWS, first[t + 1])
                for r in range(r1 - r0):
                    bar[r, 0], dot[r, 0] = 0.0 if with_tangents else 1.0, 1.0
                if with_tangents:
                    tangent_rows(nets, t, w, r0, r1, source, cache, moving)
                    tangent_backward_rows(nets, t, w, r0, r1, source, cache, moving, bar, dot, new, new_dot)
                else:
                    backward_rows(
                        nets, t, w, r0, r1, source, cache, bar, new, still.a_bar, START, still.idt_bar, NO
                    )
        for column in range(len(nets.columns)):
            net, first_column = nets.columns[column, 0], nets.columns[column, 1]
            layers = moving if with_tangents else still
            add_columns(
                nets, net, first[net], first[net + 1], source, cache, layers, H_mw[number], first_column
            )
