"""Angular functions triple by triple, eight at once: one neighbour j, and a vector of others k.

With û the directions of both, a, b, c = r_ij, r_ik, r_jk, and u = A′ R_j R_k [R_jk] ::

    ∂g/∂r_j = û_j (A (R′_j R_k [R_jk] + a h) − u cos θ/a) + û_k b s
    ∂g/∂r_k = û_k (A (R_j R′_k [R_jk] + b h) − u cos θ/b) + û_j a s
    s = u/(ab) − A h,              h = R_j R_k R′_jk/c (types 3 and 21), else 0

so that a triple adds three numbers for each function, or for all together where the functions have weights q̄.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.hdnnp.curves import LANES, angular, radial
from kalmandp.engines.cpu.threads import PART
from kalmandp.engines.cpu.vectors import load, root, splat, store, total, totals, zeros


@njit(**PART)
def triples(t, tables, mine, each, with_bar, q_bar, G):
    """Add G of a centre's functions of triples, and ∂G/∂r to the rows of ``out``: each its own, or the first.

    Without q̄ and ``each``, G alone. Classes whose neighbours have moments keep what these cannot do.
    """
    T, slopes = tables.n_types, each or with_bar
    sums = mine.sums
    for s1 in range(T):
        for s2 in range(s1, T):
            a = (t * T + s1) * T + s2
            part = 0 if mine.large[s1] and mine.large[s2] else 1
            n_m = tables.n_a[a, part]
            if n_m == 0:
                continue
            rows = n_m if each else 1
            sums[: n_m * LANES] = 0.0
            for b1 in range(mine.first[s1], mine.near[s1]):
                begin = mine.first[s2]
                if s1 == s2:  # each triple once: those that come later
                    begin = b1 + 1 - (b1 + 1) % LANES
                mine.sums_j[: 4 * rows * LANES] = 0.0
                for b2 in range(begin, mine.near[s2], LANES):
                    _eight_triples(t, a, part, b1, b2, s1 == s2, tables, mine, each, q_bar, slopes)
                if not slopes:
                    continue
                x, y, z = mine.vector[0, b1], mine.vector[1, b1], mine.vector[2, b1]
                for m in range(rows):
                    at = 4 * m * LANES
                    p, sx, sy, sz = totals(
                        load(mine.sums_j, at), load(mine.sums_j, at + LANES),
                        load(mine.sums_j, at + 2 * LANES), load(mine.sums_j, at + 3 * LANES),
                    )  # fmt: skip
                    row = 3 * (tables.base_a[a, 0] + m) if each else 0
                    mine.out[row, b1] += p * x + sx
                    mine.out[row + 1, b1] += p * y + sy
                    mine.out[row + 2, b1] += p * z + sz
            for m in range(n_m):
                G[tables.d_am[a, m]] += total(load(sums, m * LANES))


@njit(**PART)
def _eight_triples(t, a, part, b1, b2, same, tables, mine, each, q_bar, slopes):
    vector, factor, angle, sums, sums_j, out = (
        mine.vector, mine.factor, mine.angle, mine.sums, mine.sums_j, mine.out
    )  # fmt: skip
    # 0 for those of k that do not come after j
    later = load(tables.later, LANES - (max(b1 + 1 - b2, 0) if same else 0))
    x1, y1, z1, r1 = vector[0, b1], vector[1, b1], vector[2, b1], vector[3, b1]
    x2, y2, z2, r2 = load(vector[0], b2), load(vector[1], b2), load(vector[2], b2), load(vector[3], b2)
    cos = x1 * x2 + y1 * y2 + z1 * z2
    dx, dy, dz = x2 * r2 - x1 * r1, y2 * r2 - y1 * r1, z2 * r2 - z1 * r1
    # an atom has no distance from itself: there any number will do
    r12 = root(dx * dx + dy * dy + dz * dz + (1.0 - later))
    none = zeros(sums)
    fall, fc, dfc = -1.0, none, none
    for h in range(tables.n_factors_a[a, part]):
        g = tables.g_ah[a, h]
        R1, slope1 = mine.R[2 * g, b1], mine.R[2 * g + 1, b1]
        R2, slope2 = load(mine.R[2 * g], b2) * later, load(mine.R[2 * g + 1], b2) * later
        product, f1, f2, both = R1 * R2, slope1 * R2, R1 * slope2, none
        if tables.closed_ah[a, h]:
            form = tables.radial[t, g]
            value, slope, fall, fc, dfc = radial(form, tables.coefficients, sums, r12, fall, fc, dfc)
            both = product * slope / r12
            product, f1, f2 = product * value, f1 * value + r1 * both, f2 * value + r2 * both
        at = 4 * h * LANES
        store(factor, at, product)
        store(factor, at + LANES, f1)
        store(factor, at + 2 * LANES, f2)
        store(factor, at + 3 * LANES, both)
    for k in range(tables.n_angles_a[a, part]):
        A, dA = angular(tables.angles[a, k], tables.coefficients, mine.lanes, cos)
        store(angle, 2 * k * LANES, A)
        store(angle, (2 * k + 1) * LANES, dA)
    inverse2 = 1.0 / r2
    inverse1 = 1.0 / r1
    turn1, turn2, inverse = cos * inverse1, cos * inverse2, inverse1 * inverse2
    n_m = tables.n_a[a, part]
    base2 = tables.base_a[a, 1]
    s = p1 = p2 = none
    for m in range(n_m):
        k, h = 2 * tables.k_am[a, m] * LANES, 4 * tables.h_am[a, m] * LANES
        A, product = load(angle, k), load(factor, h)
        store(sums, m * LANES, load(sums, m * LANES) + A * product)
        if not slopes:
            continue
        u = load(angle, k + LANES) * product
        if not each:
            weight = splat(sums, q_bar[tables.d_am[a, m]])
            A, u = weight * A, weight * u
        s = s + u * inverse - A * load(factor, h + 3 * LANES)
        p1 = p1 + A * load(factor, h + LANES) - u * turn1
        p2 = p2 + A * load(factor, h + 2 * LANES) - u * turn2
        if each or m == n_m - 1:
            e, at = (base2 + m, 4 * m * LANES) if each else (0, 0)
            to_j, to_k = s * r2, s * r1
            store(sums_j, at, load(sums_j, at) + p1)
            store(sums_j, at + LANES, load(sums_j, at + LANES) + to_j * x2)
            store(sums_j, at + 2 * LANES, load(sums_j, at + 2 * LANES) + to_j * y2)
            store(sums_j, at + 3 * LANES, load(sums_j, at + 3 * LANES) + to_j * z2)
            row = 3 * e
            store(out[row], b2, load(out[row], b2) + p2 * x2 + to_k * x1)
            store(out[row + 1], b2, load(out[row + 1], b2) + p2 * y2 + to_k * y1)
            store(out[row + 2], b2, load(out[row + 2], b2) + p2 * z2 + to_k * z1)
            s = p1 = p2 = none
