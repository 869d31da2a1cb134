"""Numba twins of `hdnnp.cutoffs` and of the factors of `hdnnp.symmetry_functions`, for vectors of numbers.

Eight distances or angles are worked on at once (`cpu.vectors`), without branches that depend on them: where a
function is in pieces, all pieces are computed and one is chosen.
"""

from __future__ import annotations

import math

from numba import njit

from kalmandp.engines.cpu.activation import EXACT, EXPONENT, LN2_HIGH, LN2_LOW, LOG2_E, SERIES
from kalmandp.engines.cpu.hdnnp.tables import (
    ASYMMETRIC,
    CURVE,
    END,
    ETA,
    FACTOR,
    FALL,
    HALF,
    IS_WINDOW,
    LAM,
    MIDDLE,
    MIRRORED,
    RS,
    SCALE,
    WHOLE,
    ZETA,
)
from kalmandp.engines.cpu.threads import PART
from kalmandp.engines.cpu.vectors import (
    clip,
    floor,
    load,
    multiply_add,
    root,
    shift_to_exponent,
    splat,
    store,
    where_less,
    zeros,
)

#: float64 numbers in a vector.
LANES = 8
#: Beyond ± this the exponential function is taken at ± this: e^−500 is nothing, and products of two of them
#: are zero or far from the smallest numbers, which are slow.
LARGEST = 500.0
#: Of sin z/z and cos z as series of z², the highest first.
SINE = tuple((-1.0) ** n / math.factorial(2 * n + 1) for n in range(11, -1, -1))
COSINE = tuple((-1.0) ** n / math.factorial(2 * n) for n in range(11, -1, -1))


@njit(**EXACT)
def _exponential(row, x):
    """eˣ and eˣ − 1, as `cpu.activation` has them; ``row`` is any array of numbers of that type."""
    x = clip(x, splat(row, -LARGEST), splat(row, LARGEST))
    k = floor(multiply_add(x, splat(row, LOG2_E), splat(row, 0.5)))
    r = multiply_add(k, splat(row, -LN2_LOW), multiply_add(k, splat(row, -LN2_HIGH), x))
    q = zeros(row)
    for c in SERIES:
        q = multiply_add(q, r, splat(row, c))
    e = multiply_add(r * r, q, r)
    scale = shift_to_exponent(k + EXPONENT)
    return multiply_add(scale, e, scale), multiply_add(scale, e, scale - 1.0)


@njit(**PART)
def _falling(form, coefficients, row, x):
    """A curve core(|x − m|/h) or 1 before m, and its slope; see `tables.CURVE`."""
    one, none, scale, inverse = splat(row, 1.0), zeros(row), form[SCALE], 1.0 / form[HALF]
    away = x - form[MIDDLE]
    sign = where_less(away, none, none - one, one)
    y = sign * away * inverse
    u, du = y, inverse * sign
    if form[ASYMMETRIC] != 0.0:
        u, du = (2.0 - y) * y, du * (2.0 - 2.0 * y)
    code = int(form[CURVE])
    value, slope = one, none
    if code == 1:
        # cos πu = −sin z, sin πu = cos z with z = π(u − ½)
        z = math.pi * (u - 0.5)
        z2, s, c = z * z, none, none
        for a in SINE:
            s = s * z2 + a
        for a in COSINE:
            c = c * z2 + a
        value, slope = 0.5 * (one - s * z), (-0.5 * math.pi) * c
    elif code == 2:
        _, m = _exponential(row, 2.0 * (one - u))
        t = m / (m + 2.0)
        value, slope = t * t * t, -3.0 * t * t * (one - t * t)
    elif code == 3:
        v = 1.0 / (one - u * u)
        value, _ = _exponential(row, one - v)
        slope = -2.0 * u * v * v * value
    elif code > 3:
        value, polynomial = none, coefficients[code - 4]
        for n in range(len(polynomial) - 1, -1, -1):
            value, slope = value * u + polynomial[n], slope * u + value
    end = splat(row, form[END])
    value = where_less(x, end, where_less(y, one, scale * value, none), none)
    slope = where_less(x, end, where_less(y, one, scale * slope * du, none), none)
    if form[MIRRORED] == 0.0:
        value, slope = where_less(away, none, one, value), where_less(away, none, none, slope)
    return value, slope


@njit(**PART)
def radial(form, coefficients, row, r, fall, fc, dfc):
    """R and R′; and the number and values of the curve, which functions of one cutoff in turn share."""
    if form[FALL] != fall:
        fall = form[FALL]
        fc, dfc = _falling(form, coefficients, row, r)
    # R = exp(−η (r − r_s)²) f_c
    d = r - form[RS]
    gauss, _ = _exponential(row, -form[ETA] * d * d)
    return gauss * fc, gauss * (dfc - (2.0 * form[ETA]) * d * fc), fall, fc, dfc


@njit(**PART)
def angular(form, coefficients, lanes, cos):
    """A and dA/dcos θ; ``lanes`` is room for a vector."""
    one, none = splat(lanes, 1.0), zeros(lanes)
    if form[IS_WINDOW] != 0.0:
        store(lanes, 0, clip(cos, none - one, one))
        for k in range(LANES):
            lanes[k] = math.acos(lanes[k])
        value, slope = _falling(form, coefficients, lanes, load(lanes, 0))
        square = (one - cos) * (one + cos)
        return value, where_less(none, square, (none - slope) / root(square), none)
    u = one + form[LAM] * cos
    n = int(form[WHOLE])
    power = one
    if n > 0:
        n, square = n - 1, u
        while n > 0:
            if n & 1:
                power = power * square
            square = square * square
            n >>= 1
    else:
        store(lanes, 0, where_less(none, u, u, one))
        for k in range(LANES):
            lanes[k] = lanes[k] ** (form[ZETA] - 1.0)
        power = load(lanes, 0)
    power = where_less(none, u, form[FACTOR] * power, none)
    return power * u, (form[ZETA] * form[LAM]) * power
