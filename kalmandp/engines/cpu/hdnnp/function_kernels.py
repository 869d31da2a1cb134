"""Numba twin of `hdnnp.symmetry_functions`: G of every atom, and how it moves with the pair vectors.

Either ∂G/∂r of each function is written down, with the six strain directions, to be used again and again in
training; or with q̄ = ∂E/∂G known, f_p = Σ_d q̄_d ∂G_d/∂r_p alone, for forces: then the sums over functions are
made first, and nothing is kept.

The neighbours of a centre are put in order by type; those within the angular cutoff stand first. Eight are
worked on at once (`cpu.vectors`). Radial factors R of all groups are computed once for each neighbour
(`curves`). Angular functions come from moments, where they can, at a cost of n for n neighbours (`moments`),
else from triples (`triples`). What belongs to an atom is done by one task: no sum depends on the number of
threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from kalmandp.engines.cpu.hdnnp.curves import LANES, radial
from kalmandp.engines.cpu.hdnnp.moments import moment_functions, moment_slopes, moments
from kalmandp.engines.cpu.hdnnp.triples import triples
from kalmandp.engines.cpu.threads import KERNEL, PART, take
from kalmandp.engines.cpu.vectors import load, root, store, total, zeros

#: Directions C of the strains xx, yy, zz, xy, yz, zx.
STRAINS = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))


class Neighbours(NamedTuple):
    """Atoms and their pairs, see `geometry.pairs.Geometry`; those of atom i: first_i[i] … first_i[i+1]−1."""

    first_i: Any
    types_i: Any
    j_p: Any
    r_pc: Any


class FunctionSpace(NamedTuple):
    """Work space for one atom; n is a place in the order of the neighbours, which are by type.

    key_b : (b,) type of a neighbour and whether it is far;  to : (2 s + far,) where the next one goes
    place_n : its pair, −1 where a vector is filled up
    first, near, last : (s,) where neighbours of a type begin, where the near ones end, where all end
    large : (s,) whether they have moments
    vector : (4, n) û and r;  R : (2 g, n) R and R′ of each group;  out : (3 m, n) ∂G/∂r of each function
    Y, sums, sums_j, factor, angle, lanes : vectors of sums and factors
    M : (s, k, monomials and Σ R²);  M_bar : (s, e, 4, monomials) polynomials of terms e and their gradients
    degree, group, own : (s, e) of a term
    """

    key_b: Any
    to: Any
    place_n: Any
    first: Any
    near: Any
    last: Any
    large: Any
    vector: Any
    R: Any
    out: Any
    Y: Any
    sums: Any
    sums_j: Any
    factor: Any
    angle: Any
    lanes: Any
    M: Any
    M_bar: Any
    degree: Any
    group: Any
    own: Any


def function_space(tables, team: int, most: int, each: bool) -> FunctionSpace:
    """Room for ``team`` threads and atoms with ``most`` neighbours; with ``each``, for ∂G/∂r."""
    T, n_mono = tables.n_types, len(tables.monomial)
    wide = -(-most // LANES) * LANES + T * LANES
    n_g, n_k, n_h = tables.radial.shape[1], tables.angles.shape[1], tables.g_ah.shape[1]
    n_m, n_slots = tables.d_am.shape[1], tables.g_ck.shape[1]
    rows = tables.d_cm.shape[1] if each else 1
    terms = rows if each else n_slots
    whole = lambda *shape: np.empty((team, *shape), np.int64)
    room = lambda *shape: np.empty((team, *shape))
    return FunctionSpace(
        whole(most), whole(2 * T), whole(wide), whole(T), whole(T), whole(T), np.empty((team, T), np.bool_),
        room(4, wide), room(2 * n_g, wide), room(3 * rows, wide), room(n_mono * LANES),
        room(max(n_m, n_slots * (n_mono + 1)) * LANES), room(4 * n_m * LANES), room(4 * n_h * LANES),
        room(2 * n_k * LANES), room(LANES), room(T, n_slots, n_mono + 1), room(T, terms, 4, n_mono),
        whole(T, terms), whole(T, terms), room(T, terms),
    )  # fmt: skip


@njit(**PART)
def _in_order(i, tables, atoms, mine):
    """The neighbours of atom i by type, near ones first; each type begins with a vector."""
    t, T, scale = atoms.types_i[i], tables.n_types, 1.0 / tables.length_unit
    start, stop = atoms.first_i[i], atoms.first_i[i + 1]
    key, place, vector, to = mine.key_b, mine.place_n, mine.vector, mine.to
    angular = (tables.angular_rc_t[t] * tables.length_unit) ** 2
    to[:] = 0
    for p in range(start, stop):
        r = atoms.r_pc[p]
        far = 1 if r[0] * r[0] + r[1] * r[1] + r[2] * r[2] >= angular else 0
        key[p - start] = 2 * atoms.types_i[atoms.j_p[p]] + far
        to[key[p - start]] += 1
    n = 0
    for s in range(T):
        mine.first[s], mine.near[s] = n, n + to[2 * s]
        mine.last[s] = mine.near[s] + to[2 * s + 1]
        to[2 * s], to[2 * s + 1] = n, mine.near[s]
        n = -(-mine.last[s] // LANES) * LANES
        for at in range(mine.last[s], n):  # what fills a vector up is beyond every cutoff
            place[at], vector[0, at], vector[1, at], vector[2, at] = -1, 2.0 * tables.longest, 0.0, 0.0
    for p in range(start, stop):
        k = key[p - start]
        at = to[k]
        to[k] += 1
        place[at] = p
        for axis in range(3):
            vector[axis, at] = scale * atoms.r_pc[p, axis]
    for b in range(0, n, LANES):
        x, y, z = load(vector[0], b), load(vector[1], b), load(vector[2], b)
        r = root(x * x + y * y + z * z)
        inverse = 1.0 / r
        store(vector[0], b, x * inverse)
        store(vector[1], b, y * inverse)
        store(vector[2], b, z * inverse)
        store(vector[3], b, r)


@njit(**PART)
def _radial_functions(t, s, tables, mine, each, with_bar, q_bar, G):
    """R and R′ of the neighbours of type s; the radial functions; the first terms of the rows of ``out``.

    These are ∂G/∂r of the radial functions, or their sum with q̄.
    """
    c = t * tables.n_types + s
    none = zeros(mine.lanes)
    for b in range(mine.first[s], mine.last[s], LANES):
        r, fall, fc, dfc = load(mine.vector[3], b), -1.0, none, none
        for g in range(tables.n_groups_t[t]):
            if tables.uses_cg[c, g]:
                form = tables.radial[t, g]
                R, slope, fall, fc, dfc = radial(form, tables.coefficients, mine.lanes, r, fall, fc, dfc)
                store(mine.R[2 * g], b, R)
                store(mine.R[2 * g + 1], b, slope)
    for m in range(tables.n_radial_c[c]):
        R, sums = mine.R[2 * tables.g_cm[c, m]], none
        for b in range(mine.first[s], mine.last[s], LANES):
            sums = sums + load(R, b)
        G[tables.d_cm[c, m]] += total(sums)
    if not each and not with_bar:
        return
    out, rows, n_m = mine.out, tables.n_c[c] if each else 1, tables.n_radial_c[c]
    for b in range(mine.first[s], mine.last[s], LANES):
        ux, uy, uz = load(mine.vector[0], b), load(mine.vector[1], b), load(mine.vector[2], b)
        along = none
        for m in range(rows):
            store(out[3 * m], b, along)
            store(out[3 * m + 1], b, along)
            store(out[3 * m + 2], b, along)
        for m in range(n_m):
            slope = load(mine.R[2 * tables.g_cm[c, m] + 1], b)
            along = slope if each else along + q_bar[tables.d_cm[c, m]] * slope
            if each or m == n_m - 1:
                row = 3 * m if each else 0
                store(out[row], b, ux * along)
                store(out[row + 1], b, uy * along)
                store(out[row + 2], b, uz * along)


@njit(**PART)
def _keep(i, s, tables, atoms, mine, offset_p, dG, strain_ikd):
    """∂G/∂r of the pairs of atom i with neighbours of type s, 1/Å, and their part of Ġ along the six strains.

    Ġ = −Σ_p ∂G/∂r_p · C r_p.
    """
    c, scale, out = atoms.types_i[i] * tables.n_types + s, 1.0 / tables.length_unit, mine.out
    n = tables.n_c[c]
    for b in range(mine.first[s], mine.last[s]):
        at = offset_p[mine.place_n[b]]
        for m in range(n):
            for axis in range(3):
                dG[at + axis * n + m] = scale * out[3 * m + axis, b]
    for m in range(n):
        xx = yy = zz = xy = yz = zx = zeros(mine.lanes)
        for b in range(mine.first[s], mine.last[s], LANES):
            gx, gy, gz = load(out[3 * m], b), load(out[3 * m + 1], b), load(out[3 * m + 2], b)
            r = load(mine.vector[3], b)
            x, y, z = r * load(mine.vector[0], b), r * load(mine.vector[1], b), r * load(mine.vector[2], b)
            xx, yy, zz = xx + gx * x, yy + gy * y, zz + gz * z
            xy, yz, zx = xy + gx * y + gy * x, yz + gy * z + gz * y, zx + gz * x + gx * z
        d = tables.d_cm[c, m]
        strain_ikd[i, 0, d] -= total(xx)
        strain_ikd[i, 1, d] -= total(yy)
        strain_ikd[i, 2, d] -= total(zz)
        strain_ikd[i, 3, d] -= 0.5 * total(xy)
        strain_ikd[i, 4, d] -= 0.5 * total(yz)
        strain_ikd[i, 5, d] -= 0.5 * total(zx)


@njit(**KERNEL)
def symmetry_functions(counters, me, tables, atoms, space, q_bar_id, f_pc, offset_p, dG, strain_ikd, G_id):
    """G of all atoms; with ∂G/∂r and strain directions, if ``dG`` has numbers; or f, if ``q_bar_id`` has."""
    mine = FunctionSpace(
        space.key_b[me], space.to[me], space.place_n[me], space.first[me], space.near[me], space.last[me],
        space.large[me], space.vector[me], space.R[me], space.out[me], space.Y[me], space.sums[me],
        space.sums_j[me], space.factor[me], space.angle[me], space.lanes[me], space.M[me], space.M_bar[me],
        space.degree[me], space.group[me], space.own[me],
    )  # fmt: skip
    each, scale = len(dG) > 0, 1.0 / tables.length_unit
    with_bar = len(q_bar_id) > 0
    slopes = each or with_bar
    T = tables.n_types
    while True:
        i = take(counters, me, 0, len(atoms.types_i))
        if i >= len(atoms.types_i):
            break
        t, G = atoms.types_i[i], G_id[i]
        q_bar = q_bar_id[i] if with_bar else mine.lanes
        G[:] = 0.0
        _in_order(i, tables, atoms, mine)
        for s in range(T):
            _radial_functions(t, s, tables, mine, each, with_bar, q_bar, G)
            moments(t, s, tables, mine)
        moment_functions(t, tables, mine, each, with_bar, q_bar, G)
        triples(t, tables, mine, each, with_bar, q_bar, G)
        if not slopes:
            continue
        if each:
            strain_ikd[i] = 0.0
        for s in range(T):
            moment_slopes(s, tables, mine, each)
            if each:
                _keep(i, s, tables, atoms, mine, offset_p, dG, strain_ikd)
            else:
                for b in range(mine.first[s], mine.last[s]):
                    for axis in range(3):
                        f_pc[mine.place_n[b], axis] = scale * mine.out[axis, b]
