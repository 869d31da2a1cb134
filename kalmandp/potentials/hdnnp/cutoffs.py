"""Functions that fall from 1 to 0: the cutoff functions of n2p2, types 0 to 8, and compact windows.

A cutoff function f_c(r) is 1 for r < α r_c and 0 from r_c on; between them, with
x = (r − α r_c)/(r_c − α r_c), it is a falling curve ::

    0  hard    1                              5  p1   (2x − 3) x² + 1
    1  cos     ½ (cos πx + 1)                 6  p2   ((15 − 6x) x − 10) x³ + 1
    2  tanh³   tanh³(1 − r/r_c), no α         7  p3   (x (x (20x − 70) + 84) − 35) x⁴ + 1
    3  tanh³   the same, 1 at r = 0           8  p4   (x (x ((315 − 70x) x − 540) + 420) − 126) x⁵ + 1
    4  exp     exp(1 − 1/(1 − x²))

A window C(x; l, r) is a falling curve on both sides of the middle, C = core(|x − m|/h) with m = (l + r)/2 and
h = (r − l)/2, and 0 outside. All are complex-safe: they compare real parts only.

Source: n2p2's documentation of `cutoff_type` and of compact symmetry functions (Bircher, Singraber,
Dellago, 2021).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from kalmandp.arrays import namespace
from kalmandp.errors import require

#: Coefficients of x⁰, x¹, … of the polynomial curves p1 to p4: 1 at 0, 0 at 1, flat at both ends.
POLYNOMIALS = {
    "p1": (1, 0, -3, 2),
    "p2": (1, 0, 0, -10, 15, -6),
    "p3": (1, 0, 0, 0, -35, 84, -70, 20),
    "p4": (1, 0, 0, 0, 0, -126, 420, -540, 315, -70),
}
#: What makes type 3 one at r = 0: 1/tanh³(1).
TANH3_AT_0 = (1.0 / math.tanh(1.0)) ** 3
#: The curve of each cutoff type.
CURVES = ("hard", "cos", "tanh3", "tanh3", "exp", "p1", "p2", "p3", "p4")
#: Types without an inner radius.
WITHOUT_ALPHA = (2, 3)


class Cutoff(NamedTuple):
    """kind : 0 to 8;  alpha : the inner radius in units of r_c, 0 ≤ α < 1 (0 for types 2 and 3)."""

    kind: int
    alpha: float


def checked_cutoff(kind, alpha=0.0) -> Cutoff:
    """The cutoff of that type and α, or an InputError."""
    require(kind in range(len(CURVES)), "cutoff_type", kind, f"a number from 0 to {len(CURVES) - 1}")
    alpha = float(alpha)
    require(0.0 <= alpha < 1.0, "alpha of cutoff_type", alpha, "0 ≤ alpha < 1")
    return Cutoff(int(kind), 0.0 if kind in WITHOUT_ALPHA else alpha)


def curve(name: str, x):
    """A falling curve and its slope, for 0 ≤ x < 1: core(x) and d core/dx."""
    xp = namespace(x)
    if name == "hard":
        return xp.ones_like(x), xp.zeros_like(x)
    if name == "cos":
        return 0.5 * (xp.cos(math.pi * x) + 1.0), -0.5 * math.pi * xp.sin(math.pi * x)
    if name == "tanh3":
        t = xp.tanh(1.0 - x)
        return t * t * t, -3.0 * t * t * (1.0 - t * t)
    if name == "exp":
        # d/dx (1 − 1/(1 − x²)) = −2x/(1 − x²)²
        y = 1.0 / (1.0 - x * x)
        value = xp.exp(1.0 - y)
        return value, -2.0 * x * y * y * value
    value, slope = 0.0 * x, 0.0 * x
    for c in reversed(POLYNOMIALS[name]):
        # Horner's rule, and its derivative
        value, slope = value * x + c, slope * x + value
    return value, slope


def cutoff_function(cutoff: Cutoff, r, rc: float):
    """f_c(r) and df_c/dr for distances ``r`` of any shape, in the unit of r_c."""
    xp = namespace(r)
    inner = cutoff.alpha * rc
    falling = (r.real >= inner) & (r.real < rc)
    x = xp.where(falling, (r - inner) / (rc - inner), 0.0)
    value, slope = curve(CURVES[cutoff.kind], x)
    factor = TANH3_AT_0 if cutoff.kind == 3 else 1.0
    value = xp.where(falling, factor * value, xp.where(r.real < inner, 1.0, 0.0))
    return value, xp.where(falling, factor * slope / (rc - inner), 0.0)


def window(name: str, x, low: float, high: float, asymmetric: bool = False):
    """C(x; low, high) and dC/dx; ``asymmetric`` puts (2 − y) y for y = |x − m|/h, a faster fall."""
    xp = namespace(x)
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    inside = (x.real > low) & (x.real < high)
    sign = xp.where(x.real < middle, -1.0, 1.0)
    y = xp.where(inside, sign * (x - middle) / half, 0.0)
    u, du = ((2.0 - y) * y, 2.0 - 2.0 * y) if asymmetric else (y, 1.0)
    value, slope = curve(name, u)
    return xp.where(inside, value, 0.0), xp.where(inside, slope * du * sign / half, 0.0)
