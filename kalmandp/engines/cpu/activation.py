"""Numba twin of `potentials.activations`: φ, φ′, φ″ of one number, and of a row of numbers.

tanh is written out without branches, for a number and for a vector of them; with y = 2x ::

    tanh x = (eʸ − 1)/(eʸ + 1) = m/(m + 2)
    m = eʸ − 1 = 2ᵏ (eʳ − 1) + (2ᵏ − 1),      y = k ln 2 + r,  |r| ≤ ½ ln 2

and eʳ − 1 by its series. The error is at most 3 units in the last place.
"""

from __future__ import annotations

import math

from numba import njit, types

from kalmandp.engines.cpu.private import intrinsic, ir
from kalmandp.engines.cpu.threads import PART
from kalmandp.engines.cpu.vectors import (
    clip,
    divide,
    floor,
    load,
    multiply_add,
    shift_to_exponent,
    splat,
    store,
    zeros,
)
from kalmandp.potentials.activations import GELU_CUBIC, GELU_SCALE, with_threshold

CODES = {
    "tanh": 0,
    "linear": 1,
    "none": 1,
    "relu": 2,
    "relu6": 3,
    "softplus": 4,
    "sigmoid": 5,
    "gelu": 6,
    "gelu_tf": 6,
    "silu": 7,
    "silut": 8,
    "custom_silu": 8,
}


def activation_id(name: str) -> tuple[int, float]:
    """Code and threshold of an activation's name (already validated by the reference)."""
    kind, threshold = with_threshold(name)
    return CODES[kind], threshold


#: No licence to reorder: the sums below are made in the order that is exact.
EXACT = {**PART, "fastmath": {"contract"}}

#: Saturation: tanh x = 1 in double precision from half of this on.
LARGEST = 40.0
LOG2_E = 1.4426950408889634
#: ln 2 in two parts, the first of them so short that its product with k is exact.
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
#: Added to a small whole number k, it leaves k + 1023 in the lowest bits: the exponent of 2ᵏ.
EXPONENT = 1.5 * 2.0**52 + 1023.0


@intrinsic
def _power_of_two(typingctx, shifted):
    """2ᵏ from the double k + EXPONENT."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.IntType(64))
        bits = builder.shl(bits, ir.Constant(ir.IntType(64), 52))
        return builder.bitcast(bits, ir.DoubleType())

    return types.float64(types.float64), codegen


#: float64 numbers in a vector.
LANES = 8
#: 1/13!, 1/12!, …, 1/2!: of (eʳ − 1 − r)/r².
SERIES = tuple(1.0 / math.factorial(n) for n in range(13, 1, -1))


@njit(**EXACT)
def tanh(x):
    """tanh x; NaN stays NaN."""
    y = 2.0 * x
    y = LARGEST if y > LARGEST else y
    y = -LARGEST if y < -LARGEST else y
    k = math.floor(y * LOG2_E + 0.5)
    r = (y - k * LN2_HIGH) - k * LN2_LOW
    # (eʳ − 1 − r)/r² = 1/2! + r/3! + r²/4! + …
    q = 0.0
    for c in SERIES:
        q = q * r + c
    scale = _power_of_two(k + EXPONENT)
    m = scale * (r + r * r * q) + (scale - 1.0)
    return m / (m + 2.0)


@njit(**EXACT)
def _tanh_vector(row, start, phi, d1, d2):
    """φ, φ′, φ″ of `tanh` for a vector of numbers from ``start`` on: its lines once more."""
    none, one = zeros(row), splat(row, 1.0)
    y = multiply_add(splat(row, 2.0), load(row, start), none)
    y = clip(y, splat(row, -LARGEST), splat(row, LARGEST))
    k = floor(multiply_add(y, splat(row, LOG2_E), splat(row, 0.5)))
    r = multiply_add(k, splat(row, -LN2_LOW), multiply_add(k, splat(row, -LN2_HIGH), y))
    q = none
    for c in SERIES:
        q = multiply_add(q, r, splat(row, c))
    scale = shift_to_exponent(multiply_add(k, one, splat(row, EXPONENT)))
    e = multiply_add(multiply_add(r, r, none), q, r)
    m = multiply_add(scale, e, multiply_add(scale, one, splat(row, -1.0)))
    t = divide(m, multiply_add(m, one, splat(row, 2.0)))
    minus = multiply_add(t, splat(row, -1.0), none)
    d = multiply_add(t, minus, one)
    store(phi, start, t)
    store(d1, start, d)
    store(d2, start, multiply_add(multiply_add(minus, d, none), splat(row, 2.0), none))


@njit(**EXACT)
def logistic(a):
    """s, s′, s″ of the logistic function: the lines of the reference."""
    e = math.exp(-abs(a))
    large = 1.0 / (1.0 + e)
    small = e * large
    d = small * large
    dd = d * (1.0 - e) * large
    return (large, d, -dd) if a > 0 else (small, d, dd)


@njit(**EXACT)
def _silu(a):
    s, d, dd = logistic(a)
    return a * s, s + a * d, 2.0 * d + a * dd


@njit(**EXACT)
def _rare(code, threshold, a):
    if code == 1:
        return a, 1.0, 0.0
    if code == 2:
        return (a, 1.0, 0.0) if a > 0 else (0.0, 0.0, 0.0)
    if code == 3:
        return (a, 1.0, 0.0) if 0 < a < 6 else ((6.0, 0.0, 0.0) if a >= 6 else (0.0, 0.0, 0.0))
    if code == 4:
        s, d, _ = logistic(a)
        return math.log1p(math.exp(-abs(a))) + max(a, 0.0), s, d
    if code == 5:
        return logistic(a)
    if code == 6:
        z1 = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * a * a)
        t = math.tanh(GELU_SCALE * (a + GELU_CUBIC * a * a * a))
        t1 = (1.0 - t * t) * z1
        t2 = (1.0 - t * t) * (GELU_SCALE * 6.0 * GELU_CUBIC * a - 2.0 * t * z1 * z1)
        return 0.5 * a * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * a * t1, t1 + 0.5 * a * t2
    if code == 7 or a < threshold:
        return _silu(a)
    s = 1.0 / (1.0 + math.exp(-threshold))
    slope = s + threshold * s * (1.0 - s)
    t = math.tanh(slope * (a - threshold))
    d = 1.0 - t * t
    return t + threshold * s, slope * d, -2.0 * slope * slope * t * d


@njit(**EXACT)
def apply(code, threshold, linear, a, phi, d1, d2):
    """φ, φ′, φ″ of a row of numbers a (φ may be a itself); ``linear`` leaves them as they are."""
    n = len(a)
    if linear:
        for j in range(n):
            phi[j], d1[j], d2[j] = a[j], 1.0, 0.0
    elif code == 0:
        whole = n - n % LANES
        for j in range(0, whole, LANES):
            _tanh_vector(a, j, phi, d1, d2)
        for j in range(whole, n):
            t = tanh(a[j])
            d = 1.0 - t * t
            phi[j] = t
            d1[j] = d
            d2[j] = -2.0 * t * d
    else:
        for j in range(n):
            phi[j], d1[j], d2[j] = _rare(code, threshold, a[j])
