"""Numba kernels for what the frame alone decides: R̃ of every pair, and S of every atom.

With the embedding in a table, G(g_p) = Σ_n ℓ_n(g_p) G_n, the moments are a product of a matrix that the
frame alone decides with the table's rows, and M enters nothing else::

    T_k = Σ_n S_kn G_n,     S_kn = Σ_p R̃_pk ℓ_n(g_p) / Σsel               padding slots are rows like nodes

The nodes that an atom's pairs touch are listed in ``node_t``, by net and number, from ``touched_i[i]`` on;
``place_p`` is the place in that list of a pair's first node.

Of a pair are kept R̃ (4) and, in ``geometry``, n = r/|r| (3), ds/dr and s/r: with them ::

    Ṙ̃_0 = ds (n·v) / σ_0,      Ṙ̃_d = [(ds − s/r)(n·v) n_d + (s/r) v_d] / σ_d          σ = dstd

All are kernels of `threads`. Letters as in `arrays`, and t touched node. ``first_i`` is where the pairs of
atom i begin.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmandp.engines.cpu.pair_sums import ATOMS, groups
from kalmandp.engines.cpu.threads import KERNEL, PART, take
from kalmandp.engines.cpu.vectors import backwards, load, multiply_add, splat, store, zeros
from kalmandp.potentials.deep_potential.table import CPU_ORDER as ORDER

#: Nodes of a polynomial that are in a vector.
HALF = ORDER // 2
# columns of ``geometry``: n in the first three
DS, S_R = 3, 4


@njit(**KERNEL)
def pair_environment(counters, me, first_i, types_i, i_p, r_pc, known, Rt_pk, geometry):
    """R̃ and what its derivatives need, by the equations of `environment.raw_environment`."""
    rcut_smth, rcut, davg, dstd = known.rcut_smth, known.rcut, known.davg, known.dstd
    A, B, C = known.switch[0], known.switch[1], known.switch[2]
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


@njit(**PART)
def _offset(g, inverse_step):
    """Where g lies between its nodes, from the middle: −½ ≤ x < ½."""
    u = g * inverse_step
    return u - np.floor(u) - 0.5


@njit(**PART)
def node_weights(g, inverse_step, c_an):
    """The Lagrange weights ℓ_n(g) = Σ_a c_an xᵃ of the nodes around g, two vectors.

    Nodes lie as far to one side as to the other: of ℓ_n = e_n(x²) + x o_n(x²) of the first half, the second
    half has e_n − x o_n, backwards.
    """
    none = zeros(c_an)
    x, y = splat(c_an, _offset(g, inverse_step)), splat(c_an, -_offset(g, inverse_step))
    square = multiply_add(x, x, none)
    even, odd = load(c_an[ORDER - 2], 0), load(c_an[ORDER - 1], 0)
    for a in range(ORDER - 4, -1, -2):
        even = multiply_add(even, square, load(c_an[a], 0))
        odd = multiply_add(odd, square, load(c_an[a + 1], 0))
    return multiply_add(odd, x, even), backwards(multiply_add(odd, y, even))


@njit(**PART)
def node_slopes(g, inverse_step, dc_an):
    """dℓ_n/dg = Σ_a dc_an xᵃ / h with dc_a = (a + 1) c_(a+1), two vectors.

    Of e_n + x o_n of the first half, the second half has x o_n − e_n, backwards.
    """
    none = zeros(dc_an)
    x = splat(dc_an, _offset(g, inverse_step))
    square = multiply_add(x, x, none)
    even, odd = load(dc_an[ORDER - 2], 0), load(dc_an[ORDER - 3], 0)
    for a in range(ORDER - 4, 0, -2):
        even = multiply_add(even, square, load(dc_an[a], 0))
        odd = multiply_add(odd, square, load(dc_an[a - 1], 0))
    even = multiply_add(even, square, load(dc_an[0], 0))
    odd = multiply_add(odd, x, none)
    scale, other = splat(dc_an, inverse_step), splat(dc_an, -inverse_step)
    shifted = multiply_add(odd, scale, none)
    return multiply_add(even, scale, shifted), backwards(multiply_add(even, other, shifted))


@njit(**PART)
def add_to_nodes(row, place, x, ell):
    """row[place + n] += x ℓ_n for the nodes of a polynomial."""
    y = splat(row, x)
    store(row, place, multiply_add(y, ell[0], load(row, place)))
    store(row, place + HALF, multiply_add(y, ell[1], load(row, place + HALF)))


@njit(**PART)
def _first_node(g, inverse_step):
    return int(np.floor(g * inverse_step)) - (ORDER // 2 - 1)


@njit(**PART)
def _mark(i, pairs, marks):
    """Mark the nodes (net, node − lowest) that pairs of atom i touch by 1, the others by 0."""
    first_i, net_p, Rt_pk = pairs.first_i, pairs.net_p, pairs.Rt_pk
    inverse_step, lowest = pairs.inverse_step, pairs.lowest
    marks[:] = 0
    for p in range(first_i[i], first_i[i + 1]):
        node = _first_node(Rt_pk[p, 0], inverse_step) - lowest
        for n in range(ORDER):
            marks[net_p[p], node + n] = 1


@njit(**KERNEL)
def count_nodes(counters, me, pairs, count_iv, n_touched_i):
    """How many nodes and padding slots each atom touches."""
    mine = pairs.marks[me]
    n_atoms = len(n_touched_i)
    while True:
        task = take(counters, me, 0, groups(n_atoms))
        if task >= groups(n_atoms):
            break
        for i in range(task * ATOMS, min(n_atoms, (task + 1) * ATOMS)):
            _mark(i, pairs, mine)
            count = 0
            for e in range(mine.shape[0]):
                for n in range(mine.shape[1]):
                    count += mine[e, n]
            for v in range(count_iv.shape[1]):
                count += count_iv[i, v] != 0.0
            n_touched_i[i] = count


@njit(**PART)
def turned(S_kt, t0, t1, S_tk):
    """S_tk of the nodes t0 ≤ t < t1 from an atom's sums."""
    for t in range(t1 - t0):
        for k in range(4):
            S_tk[t0 + t, k] = S_kt[k, t]


@njit(**KERNEL)
def sum_nodes(counters, me, pairs, c_an, sums, count_iv, Rt_vk, scale, nodes):
    """List the nodes of each atom, and sum up S. A padding slot of kind v is listed as net −1 − v."""
    first_i, net_p, Rt_pk = pairs.first_i, pairs.net_p, pairs.Rt_pk
    inverse_step, lowest = pairs.inverse_step, pairs.lowest
    touched_i, net_t, node_t = nodes.touched_i, nodes.net_t, nodes.node_t
    S_tk, place_p = nodes.S_tk, nodes.place_p
    place, S_kt = pairs.marks[me], sums[me]
    n_atoms = len(touched_i) - 1
    while True:
        task = take(counters, me, 0, groups(n_atoms))
        if task >= groups(n_atoms):
            break
        for i in range(task * ATOMS, min(n_atoms, (task + 1) * ATOMS)):
            _mark(i, pairs, place)
            t = touched_i[i]
            for e in range(place.shape[0]):
                for n in range(place.shape[1]):
                    if place[e, n] == 1:
                        net_t[t], node_t[t], place[e, n] = e, n + lowest, t - touched_i[i]
                        t += 1
            S_kt[:] = 0.0
            for p in range(first_i[i], first_i[i + 1]):
                at = place[net_p[p], _first_node(Rt_pk[p, 0], inverse_step) - lowest]
                place_p[p] = at
                ell = node_weights(Rt_pk[p, 0], inverse_step, c_an)
                for k in range(4):
                    add_to_nodes(S_kt[k], at, scale * Rt_pk[p, k], ell)
            turned(S_kt, touched_i[i], t, S_tk)
            for v in range(count_iv.shape[1]):
                if count_iv[i, v] != 0.0:
                    net_t[t], node_t[t] = -1 - v, 0
                    for k in range(4):
                        S_tk[t, k] = scale * count_iv[i, v] * Rt_vk[v, k]
                    t += 1
