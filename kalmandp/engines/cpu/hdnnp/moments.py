"""Angular functions without triples: from moments of the directions of the neighbours.

For type 9 with a whole ζ, A(cos θ) is a polynomial of cos θ = û_j·û_k, and each of its powers is a product of
two things that belong to one neighbour each ::

    A(cos θ) = Σ_l a_l cos^l θ,        (û·û′)^l = Σ_{a+b+c=l} l!/(a! b! c!) (x^a y^b z^c) (x′^a y′^b z′^c)
    M_abc = Σ_j R(r_j) x_j^a y_j^b z_j^c
    G = Σ_l a_l Σ_{a+b+c=l} l!/(a! b! c!) M_abc M′_abc                    of two elements
    G = ½ (the same with M′ = M, less the terms j = k, A(1) Σ_j R_j²)     of one

so that n neighbours cost n steps and not n²/2. With M̄ = ∂G/∂M a neighbour has the polynomial
p(û) = Σ M̄_abc x^a y^b z^c, and ::

    ∂G/∂r_j = û (R′ p − (R/r) û·∇p − A(1) R R′ [one element]) + (R/r) ∇p

Sums over vectors of neighbours; entries that fill a vector up have R = R′ = 0.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.hdnnp.curves import LANES
from kalmandp.engines.cpu.hdnnp.tables import AXIS, MANY, PARENT, POWER, UP
from kalmandp.engines.cpu.threads import PART
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, total, zeros

#: Neighbours of a type from which on moments are faster than triples, about. Few terms may cancel, too.
FEW = 12


@njit(**PART)
def _monomials(n, tables, vector, b, Y):
    """The first n monomials of the directions of eight neighbours."""
    store(Y, 0, splat(Y, 1.0))
    for k in range(1, n):
        known = load(Y, tables.monomial[k, PARENT] * LANES)
        store(Y, k * LANES, known * load(vector[tables.monomial[k, AXIS]], b))


@njit(**PART)
def moments(t, s, tables, mine):
    """M of the neighbours of type s for each slot, and Σ R²; nothing where they are too few."""
    c, first, near = t * tables.n_types + s, mine.first[s], mine.near[s]
    Y, sums = mine.Y, mine.sums
    n_slots, n = tables.n_slots_c[c], len(tables.monomial)
    mine.large[s] = n_slots > 0 and near - first >= FEW
    if not mine.large[s]:
        return
    highest = 0
    for k in range(n_slots):
        highest = max(highest, tables.degree_ck[c, k])
    sums[: n_slots * (n + 1) * LANES] = 0.0
    for b in range(first, near, LANES):
        _monomials(tables.count[highest], tables, mine.vector, b, Y)
        for k in range(n_slots):
            R = load(mine.R[2 * tables.g_ck[c, k]], b)
            start = k * (n + 1) * LANES
            for e in range(tables.count[tables.degree_ck[c, k]]):
                at = start + e * LANES
                store(sums, at, multiply_add(R, load(Y, e * LANES), load(sums, at)))
            at = start + n * LANES
            store(sums, at, multiply_add(R, R, load(sums, at)))
    for k in range(n_slots):
        for e in range(n + 1):
            mine.M[s, k, e] = total(load(sums, (k * (n + 1) + e) * LANES))


@njit(**PART)
def moment_functions(t, tables, mine, each, with_bar, q_bar, G):
    """G of a centre's functions, and M̄ of their moments: of each function (``each``), or with weights q̄."""
    T, n = tables.n_types, len(tables.monomial)
    mine.degree[:] = 0
    mine.M_bar[:, :, 0] = 0.0
    mine.own[:] = 0.0
    for s1 in range(T):
        for s2 in range(s1, T):
            a = (t * T + s1) * T + s2
            if not (mine.large[s1] and mine.large[s2]):
                continue
            for m in range(tables.n_a[a, 0], tables.n_a[a, 1]):
                k1, k2, d = tables.slot_am[a, m, 0], tables.slot_am[a, m, 1], tables.d_am[a, m]
                M1, M2, degree = mine.M[s1, k1], mine.M[s2, k2], tables.degree_am[a, m]
                weight = q_bar[d] if with_bar else 1.0
                e1, e2 = (tables.base_a[a, 0] + m, tables.base_a[a, 1] + m) if each else (k1, k2)
                bar1, bar2 = mine.M_bar[s1, e1, 0], mine.M_bar[s2, e2, 0]
                value, e = 0.0, 0
                for l in range(degree + 1):
                    for e in range(tables.count[l - 1], tables.count[l]):
                        factor = tables.series_am[a, m, l] * tables.monomial[e, MANY]
                        value += factor * M1[e] * M2[e]
                        bar1[e] += weight * factor * M2[e]
                        if s1 != s2:
                            bar2[e] += weight * factor * M1[e]
                mine.degree[s1, e1] = max(degree, mine.degree[s1, e1])
                mine.degree[s2, e2] = max(degree, mine.degree[s2, e2])
                mine.group[s1, e1] = tables.g_ck[t * T + s1, k1]
                mine.group[s2, e2] = tables.g_ck[t * T + s2, k2]
                if s1 == s2:
                    value = 0.5 * (value - tables.self_am[a, m] * M1[n])
                    mine.own[s1, e1] += weight * tables.self_am[a, m]
                G[d] += value


@njit(**PART)
def moment_slopes(s, tables, mine, each):
    """∂G/∂r of the neighbours of type s, added to the rows of ``out``: a function's own, or the first."""
    if not mine.large[s]:
        return
    highest, terms = 0, mine.degree.shape[1]
    for e in range(terms):
        degree, bar = mine.degree[s, e], mine.M_bar[s, e]
        highest = max(highest, degree)
        for axis in range(3):
            for k in range(tables.count[degree - 1]):
                power = tables.monomial[k, POWER + axis] + 1
                bar[1 + axis, k] = power * bar[0, tables.monomial[k, UP + axis]]
    vector, Y = mine.vector, mine.Y
    for b in range(mine.first[s], mine.near[s], LANES):
        _monomials(tables.count[highest], tables, vector, b, Y)
        ux, uy, uz, r = load(vector[0], b), load(vector[1], b), load(vector[2], b), load(vector[3], b)
        for e in range(terms):
            degree, bar = mine.degree[s, e], mine.M_bar[s, e]
            if degree == 0:
                continue
            p = px = py = pz = zeros(Y)
            n = tables.count[degree - 1]
            for k in range(n):
                y = load(Y, k * LANES)
                p = multiply_add(splat(Y, bar[0, k]), y, p)
                px = multiply_add(splat(Y, bar[1, k]), y, px)
                py = multiply_add(splat(Y, bar[2, k]), y, py)
                pz = multiply_add(splat(Y, bar[3, k]), y, pz)
            for k in range(n, tables.count[degree]):
                p = multiply_add(splat(Y, bar[0, k]), load(Y, k * LANES), p)
            g, row = mine.group[s, e], 3 * e if each else 0
            R, slope = load(mine.R[2 * g], b), load(mine.R[2 * g + 1], b)
            across = R / r
            along = slope * (p - mine.own[s, e] * R) - across * (ux * px + uy * py + uz * pz)
            store(mine.out[row], b, load(mine.out[row], b) + ux * along + across * px)
            store(mine.out[row + 1], b, load(mine.out[row + 1], b) + uy * along + across * py)
            store(mine.out[row + 2], b, load(mine.out[row + 2], b) + uz * along + across * pz)
