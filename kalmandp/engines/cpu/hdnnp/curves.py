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
from kalmandp.potentials.hdnnp.cutoffs import TANH3_AT_0

#: float64 numbers in a vector.
LANES = 8
#: Curve of each cutoff type: a code of `tables.CURVE_CODES`.
CURVE_OF_KIND = (0, 1, 2, 2, 3, 4, 5, 6, 7)
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
def _curve(code, coefficients, row, x):
    """core(x) and its slope, 0 ≤ x < 1."""
    one = splat(row, 1.0)
    if code == 0:
        return one, zeros(row)
    if code == 1:
        # cos πx = −sin z, sin πx = cos z with z = π(x − ½)
        z = math.pi * (x - 0.5)
        z2, s, c = z * z, zeros(row), zeros(row)
        for a in SINE:
            s = s * z2 + a
        for a in COSINE:
            c = c * z2 + a
        return 0.5 * (one - s * z), (-0.5 * math.pi) * c
    if code == 2:
        _, m = _exponential(row, 2.0 * (one - x))
        t = m / (m + 2.0)
        return t * t * t, -3.0 * t * t * (one - t * t)
    if code == 3:
        y = 1.0 / (one - x * x)
        value, _ = _exponential(row, one - y)
        return value, -2.0 * x * y * y * value
    value, slope, polynomial = zeros(row), zeros(row), coefficients[code - 4]
    for n in range(len(polynomial) - 1, -1, -1):
        value, slope = value * x + polynomial[n], slope * x + value
    return value, slope


@njit(**PART)
def _window(code, coefficients, row, x, low, high, asymmetric):
    """C(x; low, high) and dC/dx."""
    none, middle, half = zeros(row), 0.5 * (low + high), 0.5 * (high - low)
    sign = where_less(x, splat(row, middle), splat(row, -1.0), splat(row, 1.0))
    y = sign * (x - middle) * (1.0 / half)
    u, du = y, splat(row, 1.0)
    if asymmetric:
        u, du = (2.0 - y) * y, 2.0 - 2.0 * y
    value, slope = _curve(code, coefficients, row, u)
    low, high = splat(row, low), splat(row, high)
    slope = slope * du * sign * (1.0 / half)
    value = where_less(low, x, where_less(x, high, value, none), none)
    return value, where_less(low, x, where_less(x, high, slope, none), none)


@njit(**PART)
def radial(tables, t, g, row, r, rc, fc, dfc):
    """R and R′ of group g; and r_c, f_c, f_c′, which functions of one cutoff, one after the other, share."""
    form = tables.radial[t, g]
    if form[WINDOW] != 0.0:
        asymmetric = form[ASYMMETRIC] != 0.0
        value, slope = _window(int(form[CURVE]), tables.coefficients, row, r, form[RL], form[RC], asymmetric)
        return value, slope, rc, fc, dfc
    if form[RC] != rc:
        rc = form[RC]
        width = rc - tables.alpha * rc
        x = (r - tables.alpha * rc) * (1.0 / width)
        fc, dfc = _curve(CURVE_OF_KIND[tables.cutoff_kind], tables.coefficients, row, x)
        none, one = zeros(row), splat(row, 1.0)
        factor = TANH3_AT_0 if tables.cutoff_kind == 3 else 1.0
        beyond = splat(row, rc)
        fc = where_less(r, beyond, where_less(x, none, one, factor * fc), none)
        dfc = where_less(r, beyond, where_less(x, none, none, (factor / width) * dfc), none)
    # R = exp(−η (r − r_s)²) f_c
    d = r - form[RS]
    gauss, _ = _exponential(row, -form[ETA] * d * d)
    return gauss * fc, gauss * (dfc - (2.0 * form[ETA]) * d * fc), rc, fc, dfc


@njit(**PART)
def angular(form, coefficients, lanes, cos):
    """A and dA/dcos θ; ``lanes`` is room for a vector."""
    one, none = splat(lanes, 1.0), zeros(lanes)
    if form[IS_WINDOW] != 0.0:
        store(lanes, 0, clip(cos, splat(lanes, -1.0), one))
        for k in range(LANES):
            lanes[k] = math.acos(lanes[k])
        low, high = form[LEFT], form[RIGHT]
        value, slope = _window(int(form[CURVE_A]), coefficients, lanes, load(lanes, 0), low, high, False)
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
