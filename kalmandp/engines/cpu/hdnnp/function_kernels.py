"""Numba twin of `hdnnp.symmetry_functions`: G, ∂G/∂r and the six strain directions of every atom.

With the vectors r_j, r_k of a triple, R and R′/r from the table of the pairs, and u = A′ R_j R_k [R_jk] ::

    ∂g/∂r_j = p_j r_j + s r_k,          ∂g/∂r_k = p_k r_k + s r_j
    s   = u/(ab) − A h,                 h = R_j R_k R′_jk/c (types 3 and 21), else 0
    p_j = −u cos θ/a² + A (R′_j/a R_k [R_jk] + h),      p_k alike

so that a triple adds four numbers to each of its pairs for each function. What belongs to an atom is done by
one task: no sum depends on the number of threads.
"""

from __future__ import annotations

import math

from numba import njit

from kalmandp.engines.cpu.activation import tanh
from kalmandp.engines.cpu.hdnnp.tables import (
    ASYMMETRIC,
    CURVE,
    CURVE_A,
    ETA,
    FACTOR,
    IS_WINDOW,
    LAM,
    LEFT,
    RC,
    RIGHT,
    RL,
    RS,
    WHOLE,
    WINDOW,
    ZETA,
)
from kalmandp.engines.cpu.threads import KERNEL, PART, take
from kalmandp.potentials.hdnnp.cutoffs import TANH3_AT_0

#: Curve of each cutoff type: a code of `tables.CURVE_CODES`.
CURVE_OF_KIND = (0, 1, 2, 2, 3, 4, 5, 6, 7)
#: Directions C of the strains xx, yy, zz, xy, yz, zx.
STRAINS = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))


@njit(**PART)
def _curve(code, coefficients, x):
    """core(x) and its slope, 0 ≤ x < 1."""
    if code == 0:
        return 1.0, 0.0
    if code == 1:
        return 0.5 * (math.cos(math.pi * x) + 1.0), -0.5 * math.pi * math.sin(math.pi * x)
    if code == 2:
        t = tanh(1.0 - x)
        return t * t * t, -3.0 * t * t * (1.0 - t * t)
    if code == 3:
        y = 1.0 / (1.0 - x * x)
        value = math.exp(1.0 - y)
        return value, -2.0 * x * y * y * value
    value, slope = 0.0, 0.0
    row = coefficients[code - 4]
    for n in range(len(row) - 1, -1, -1):
        value, slope = value * x + row[n], slope * x + value
    return value, slope


@njit(**PART)
def _window(code, coefficients, x, low, high, asymmetric):
    if not low < x < high:
        return 0.0, 0.0
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    sign = -1.0 if x < middle else 1.0
    y = sign * (x - middle) / half
    u, du = ((2.0 - y) * y, 2.0 - 2.0 * y) if asymmetric else (y, 1.0)
    value, slope = _curve(code, coefficients, u)
    return value, slope * du * sign / half


@njit(**PART)
def _cutoff(tables, r, rc):
    """f_c and f_c′."""
    inner = tables.alpha * rc
    if r >= rc:
        return 0.0, 0.0
    if r < inner:
        return 1.0, 0.0
    width = rc - inner
    fc, dfc = _curve(CURVE_OF_KIND[tables.cutoff_kind], tables.coefficients, (r - inner) / width)
    factor = TANH3_AT_0 if tables.cutoff_kind == 3 else 1.0
    return factor * fc, factor * dfc / width


@njit(**PART)
def _gaussian(row, r, fc, dfc):
    """R = exp(−η (r − r_s)²) f_c and R′."""
    d = r - row[RS]
    gauss = math.exp(-row[ETA] * d * d)
    return gauss * fc, gauss * (dfc - 2.0 * row[ETA] * d * fc)


@njit(**PART)
def _radial(tables, t, g, r):
    """R and R′ of group g."""
    row = tables.radial[t, g]
    if row[WINDOW] != 0.0:
        curve, asymmetric = int(row[CURVE]), row[ASYMMETRIC] != 0.0
        return _window(curve, tables.coefficients, r, row[RL], row[RC], asymmetric)
    fc, dfc = _cutoff(tables, r, row[RC])
    return _gaussian(row, r, fc, dfc)


@njit(**PART)
def _power(u, n):
    """uⁿ for a whole n ≥ 0."""
    result = 1.0
    while n > 0:
        if n & 1:
            result *= u
        u *= u
        n >>= 1
    return result


@njit(**PART)
def _angle(row, coefficients, cos):
    """A and dA/dcos θ."""
    if row[IS_WINDOW] != 0.0:
        code = int(row[CURVE_A])
        if abs(cos) >= 1.0:
            line = math.pi if cos < 0.0 else 0.0
            if abs(line - 0.5 * (row[LEFT] + row[RIGHT])) < 1e-12:
                return 1.0, 0.0
            return _window(code, coefficients, line, row[LEFT], row[RIGHT], False)[0], 0.0
        value, slope = _window(code, coefficients, math.acos(cos), row[LEFT], row[RIGHT], False)
        return value, -slope / math.sqrt((1.0 - cos) * (1.0 + cos))
    u = 1.0 + row[LAM] * cos
    if u <= 0.0:
        return 0.0, 0.0
    whole = int(row[WHOLE])
    power = row[FACTOR] * (_power(u, whole - 1) if whole > 0 else u ** (row[ZETA] - 1.0))
    return power * u, row[ZETA] * row[LAM] * power


@njit(**PART)
def _pairs_of(i, tables, first_i, types_i, j_p, r_pc, vector, pair, kind, R, acc, G):
    """R and R′/r of the pairs of atom i, its radial functions, and the pairs that angles may need."""
    t, T, n_near, scale = types_i[i], tables.n_types, 0, 1.0 / tables.length_unit
    for b in range(first_i[i + 1] - first_i[i]):
        p = first_i[i] + b
        c = t * T + types_i[j_p[p]]
        x, y, z = scale * r_pc[p, 0], scale * r_pc[p, 1], scale * r_pc[p, 2]
        r = math.sqrt(x * x + y * y + z * z)
        vector[b, 0], vector[b, 1], vector[b, 2], vector[b, 3] = x, y, z, r
        for g in range(tables.n_groups_t[t]):
            if tables.uses_cg[c, g]:
                value, slope = _radial(tables, t, g, r)
                R[b, g, 0], R[b, g, 1] = value, slope / r
        for k in range(4):
            for m in range(tables.n_c[c]):
                acc[b, k, m] = 0.0
        for m in range(tables.n_radial_c[c]):
            g = tables.g_cm[c, m]
            G[tables.d_cm[c, m]] += R[b, g, 0]
            acc[b, 0, m] = R[b, g, 1]
        if r < tables.angular_rc_t[t]:
            pair[n_near], kind[n_near] = b, types_i[j_p[p]]
            n_near += 1
    return n_near


@njit(**PART)
def _triple(tables, t, a, b1, b2, vector, R, angle, factor, acc, G):
    """What one triple of class a adds; pair b1 is that of the lower type."""
    v1, v2 = vector[b1], vector[b2]
    r1, r2 = v1[3], v2[3]
    inverse = 1.0 / (r1 * r2)
    cos = (v1[0] * v2[0] + v1[1] * v2[1] + v1[2] * v2[2]) * inverse
    dx, dy, dz = v2[0] - v1[0], v2[1] - v1[1], v2[2] - v1[2]
    r12 = math.sqrt(dx * dx + dy * dy + dz * dz)
    alive, rc, fc, dfc = False, -1.0, 0.0, 0.0
    for h in range(tables.n_factors_a[a]):
        g = tables.g_ah[a, h]
        R1, R2 = R[b1, g, 0], R[b2, g, 0]
        product, d1, d2, slope = R1 * R2, R[b1, g, 1] * R2, R1 * R[b2, g, 1], 0.0
        if product != 0.0 and tables.closed_ah[a, h]:
            row = tables.radial[t, g]
            if row[WINDOW] != 0.0:
                value, dvalue = _radial(tables, t, g, r12)
            else:
                if row[RC] != rc:  # functions of one cutoff follow each other
                    rc = row[RC]
                    fc, dfc = _cutoff(tables, r12, rc)
                value, dvalue = (0.0, 0.0) if fc == 0.0 else _gaussian(row, r12, fc, dfc)
            slope = product * dvalue / r12
            product, d1, d2 = product * value, d1 * value, d2 * value
        alive = alive or product != 0.0
        factor[h, 0], factor[h, 1], factor[h, 2], factor[h, 3] = product, d1 + slope, d2 + slope, slope
    if not alive:
        return
    for k in range(tables.n_angles_a[a]):
        angle[k, 0], angle[k, 1] = _angle(tables.angles[a, k], tables.coefficients, cos)
    turn1, turn2 = cos / (r1 * r1), cos / (r2 * r2)
    m1, m2 = tables.base_a[a, 0], tables.base_a[a, 1]
    acc1, acc2, k_m, h_m, d_m = acc[b1], acc[b2], tables.k_am[a], tables.h_am[a], tables.d_am[a]
    for m in range(tables.n_a[a]):
        A, f = angle[k_m[m], 0], factor[h_m[m]]
        if f[0] == 0.0:
            continue
        u = angle[k_m[m], 1] * f[0]
        s = u * inverse - A * f[3]
        G[d_m[m]] += A * f[0]
        acc1[0, m1 + m] += A * f[1] - u * turn1
        acc1[1, m1 + m] += s * v2[0]
        acc1[2, m1 + m] += s * v2[1]
        acc1[3, m1 + m] += s * v2[2]
        acc2[0, m2 + m] += A * f[2] - u * turn2
        acc2[1, m2 + m] += s * v1[0]
        acc2[2, m2 + m] += s * v1[1]
        acc2[3, m2 + m] += s * v1[2]


@njit(**PART)
def _store(i, tables, first_i, types_i, j_p, offset_p, vector, acc, dG, strain_ikd):
    """∂G/∂r of the pairs of atom i, 1/Å, and Ġ along the six strains, −Σ_p ∂G/∂r_p · C r_p."""
    t, T, scale = types_i[i], tables.n_types, 1.0 / tables.length_unit
    strain_ikd[i] = 0.0
    for b in range(first_i[i + 1] - first_i[i]):
        p = first_i[i] + b
        c = t * T + types_i[j_p[p]]
        n, at, v = tables.n_c[c], offset_p[p], vector[b]
        for m in range(n):
            along = acc[b, 0, m]
            gx, gy, gz = acc[b, 1, m] + along * v[0], acc[b, 2, m] + along * v[1], acc[b, 3, m] + along * v[2]
            dG[at + m], dG[at + n + m], dG[at + 2 * n + m] = scale * gx, scale * gy, scale * gz
            d = tables.d_cm[c, m]
            strain_ikd[i, 0, d] -= gx * v[0]
            strain_ikd[i, 1, d] -= gy * v[1]
            strain_ikd[i, 2, d] -= gz * v[2]
            strain_ikd[i, 3, d] -= 0.5 * (gx * v[1] + gy * v[0])
            strain_ikd[i, 4, d] -= 0.5 * (gy * v[2] + gz * v[1])
            strain_ikd[i, 5, d] -= 0.5 * (gz * v[0] + gx * v[2])


@njit(**KERNEL)
def symmetry_functions(
    counters, me, tables, first_i, types_i, j_p, r_pc, offset_p, space, G_id, dG, strain_ikd
):
    """G, ∂G/∂r and the strain directions; ``dG`` without numbers: G alone."""
    vector, pair, kind = space.vector[me], space.pair[me], space.kind[me]
    R, acc = space.R[me], space.acc[me]
    angle, factor = space.angle[me], space.factor[me]
    T = tables.n_types
    while True:
        i = take(counters, me, 0, len(types_i))
        if i >= len(types_i):
            break
        t, G = types_i[i], G_id[i]
        G[:] = 0.0
        n_near = _pairs_of(i, tables, first_i, types_i, j_p, r_pc, vector, pair, kind, R, acc, G)
        for x in range(n_near):
            b1, s1 = pair[x], kind[x]
            for y in range(x + 1, n_near):
                b2, s2 = pair[y], kind[y]
                if s1 <= s2:
                    a = (t * T + s1) * T + s2
                    if tables.n_a[a] > 0:
                        _triple(tables, t, a, b1, b2, vector, R, angle, factor, acc, G)
                else:
                    a = (t * T + s2) * T + s1
                    if tables.n_a[a] > 0:
                        _triple(tables, t, a, b2, b1, vector, R, angle, factor, acc, G)
        if len(dG) > 0:
            _store(i, tables, first_i, types_i, j_p, offset_p, vector, acc, dG, strain_ikd)
