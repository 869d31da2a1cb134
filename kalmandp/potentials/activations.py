"""Activation functions φ with φ′ and φ″: the names and definitions of DeePMD-kit 3.

Each function takes an array ``a`` and returns ``(φ(a), φ′(a), φ″(a))``. The forward pass needs φ,
backpropagation φ′, and the derivative of a force with respect to a weight φ″.
All are written so that a complex argument a + iε gives φ(a) + iε φ′(a): the oracle of the complex step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kalmandp.arrays import namespace
from kalmandp.errors import InputError

#: Curvature of the tanh form of gelu, √(2/π), and its cubic coefficient.
GELU_SCALE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715
#: Where silut leaves silu when no threshold is named.
SILUT_THRESHOLD = 3.0


def _tanh(a):
    # φ′ = 1 − φ²,  φ″ = −2 φ φ′
    xp = namespace(a)
    t = xp.tanh(a)
    d = 1.0 - t * t
    return t, d, -2.0 * t * d


def _linear(a):
    xp = namespace(a)
    return a, xp.ones_like(a), xp.zeros_like(a)


def _relu(a):
    xp = namespace(a)
    on = (a.real > 0).astype(a.dtype)
    return a * on, on, xp.zeros_like(a)


def _relu6(a):
    xp = namespace(a)
    on = ((a.real > 0) & (a.real < 6)).astype(a.dtype)
    return a * on + 6.0 * (a.real >= 6), on, xp.zeros_like(a)


def _logistic(a):
    """Of the logistic function s = 1/(1 + e⁻ᵃ): (s, 1 − s, s′, s″), each with all its digits::

        e = e^−|a|,   s = 1/(1 + e) or e/(1 + e) for a > 0 or not,   s′ = e/(1 + e)²
        s″ = s′ ((1 − s) − s) = ∓ s′ (1 − e)/(1 + e)
    """
    xp = namespace(a)
    sign = xp.where(a.real > 0, 1.0, -1.0)
    e = xp.exp(-a * sign)  # of |a|, complex-safe
    large = 1.0 / (1.0 + e)
    small = e * large
    s, rest = xp.where(a.real > 0, large, small), xp.where(a.real > 0, small, large)
    d = small * large
    return s, rest, d, -sign * d * (1.0 - e) * large


def _sigmoid(a):
    s, _, d, dd = _logistic(a)
    return s, d, dd


def _softplus(a):
    # φ = ln(1 + eᵃ) = max(a, 0) + ln(1 + e^−|a|),  φ′ = the sigmoid
    xp = namespace(a)
    size = a * xp.where(a.real > 0, 1.0, -1.0)  # |a|, complex-safe
    s, _, d, _ = _logistic(a)
    return xp.log1p(xp.exp(-size)) + a * (a.real > 0), s, d


def _gelu(a):
    # φ = ½ a (1 + tanh z),  z = √(2/π) (a + 0.044715 a³)
    xp = namespace(a)
    z1 = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * a * a)
    z2 = GELU_SCALE * 6.0 * GELU_CUBIC * a
    t = xp.tanh(GELU_SCALE * (a + GELU_CUBIC * a * a * a))
    t1 = (1.0 - t * t) * z1
    t2 = (1.0 - t * t) * (z2 - 2.0 * t * z1 * z1)
    return 0.5 * a * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * a * t1, t1 + 0.5 * a * t2


def _silu(a):
    # φ = a s(a) with the sigmoid s:  φ′ = s + a s′,  φ″ = 2 s′ + a s″
    s, d, dd = _sigmoid(a)
    return a * s, s + a * d, 2.0 * d + a * dd


def _silut(threshold: float):
    """silu below the threshold T; above it tanh(slope (a − T)) + silu(T), C¹ at T."""
    s = 1.0 / (1.0 + math.exp(-threshold))
    value = threshold * s
    slope = s + threshold * s * (1.0 - s)

    def silut(a):
        xp = namespace(a)
        above = a.real >= threshold
        low = _silu(xp.where(above, 0.0, a))
        t, d, dd = _tanh(slope * xp.where(above, a - threshold, 0.0))
        high = (t + value, slope * d, slope * slope * dd)
        return tuple(xp.where(above, h, x) for h, x in zip(high, low, strict=True))

    return silut


_TABLE: dict[str, Callable] = {
    "tanh": _tanh,
    "linear": _linear,
    "none": _linear,
    "relu": _relu,
    "relu6": _relu6,
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "gelu": _gelu,
    "gelu_tf": _gelu,
    "silu": _silu,
}

def _complement(a):
    # 1 − the sigmoid
    _, rest, d, dd = _logistic(a)
    return rest, -d, -dd


def _gaussian(a):
    # φ = exp(−a²/2),  φ′ = −a φ,  φ″ = (a² − 1) φ
    g = namespace(a).exp(-0.5 * a * a)
    return g, -a * g, (a * a - 1.0) * g


def _cosine(a):
    xp = namespace(a)
    c = xp.cos(a)
    return c, -xp.sin(a), -c


def _exponential(a):
    # φ = e⁻ᵃ
    e = namespace(a).exp(-a)
    return e, -e, e


def _harmonic(a):
    # φ = a²
    xp = namespace(a)
    return a * a, 2.0 * a, 2.0 * xp.ones_like(a)


#: Further ones of n2p2, for HDNNPs only.
_N2P2: dict[str, Callable] = {
    "complement": _complement,
    "gaussian": _gaussian,
    "cosine": _cosine,
    "exponential": _exponential,
    "harmonic": _harmonic,
}

#: Their names.
N2P2_NAMES = tuple(_N2P2)

#: Every name that ``activation`` knows of DeePMD-kit's; ``silut:T`` and ``custom_silu:T`` take a threshold.
NAMES = (*_TABLE, "silut", "custom_silu")


def with_threshold(name: str) -> tuple[str, float]:
    """A name that `activation` knows, without its threshold, and the threshold: "silut:5" → "silut", 5."""
    kind, _, threshold = name.lower().partition(":")
    return kind, float(threshold) if threshold else SILUT_THRESHOLD


def activation(name: str) -> Callable:
    """Return the function a ↦ (φ, φ′, φ″) of that name.

    Raises
    ------
    InputError
        If the name is not one of ``NAMES``.
    """
    key = str(name).lower()
    if key in _TABLE or key in _N2P2:
        return _TABLE.get(key) or _N2P2[key]
    if key.partition(":")[0] in ("silut", "custom_silu"):
        try:
            _, threshold = with_threshold(key)
            if math.isfinite(threshold):
                return _silut(threshold)
        except (ValueError, OverflowError):
            pass
    raise InputError(f"activation function is {name!r}; expected one of {', '.join(NAMES)}")
