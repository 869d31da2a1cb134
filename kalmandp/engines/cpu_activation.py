"""Numba twin of `potential.activations`: φ, φ′, φ″ of one number."""

from __future__ import annotations

import math

from numba import njit

from kalmandp.potential.activations import GELU_CUBIC, GELU_SCALE, SILUT_THRESHOLD

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
    kind, _, threshold = name.lower().partition(":")
    return CODES[kind], float(threshold) if threshold else SILUT_THRESHOLD


@njit(cache=True, inline="always")
def _silu(a):
    s = 0.5 * (1.0 + math.tanh(0.5 * a))
    d = s * (1.0 - s)
    return a * s, s + a * d, 2.0 * d + a * d * (1.0 - 2.0 * s)


@njit(cache=True)
def _rare(code, threshold, a):
    if code == 1:
        return a, 1.0, 0.0
    if code == 2:
        return (a, 1.0, 0.0) if a > 0 else (0.0, 0.0, 0.0)
    if code == 3:
        return (a, 1.0, 0.0) if 0 < a < 6 else ((6.0, 0.0, 0.0) if a >= 6 else (0.0, 0.0, 0.0))
    if code == 4:
        s = 0.5 * (1.0 + math.tanh(0.5 * a))
        return math.log1p(math.exp(-abs(a))) + max(a, 0.0), s, s * (1.0 - s)
    if code == 5:
        s = 0.5 * (1.0 + math.tanh(0.5 * a))
        d = s * (1.0 - s)
        return s, d, d * (1.0 - 2.0 * s)
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


@njit(cache=True, inline="always")
def phi_d1_d2(code, threshold, a):
    """φ(a), φ′(a), φ″(a) of the activation with that code."""
    if code == 0:
        t = math.tanh(a)
        d = 1.0 - t * t
        return t, d, -2.0 * t * d
    return _rare(code, threshold, a)
