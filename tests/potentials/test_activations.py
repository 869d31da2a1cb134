"""The logistic function and its derivatives keep their digits where they are nearly 0 or 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_allclose

from kalmandp.engines.cpu.activation import apply
from kalmandp.engines.cpu.hdnnp.nets import _further, activation_code
from kalmandp.potentials.activations import activation

FAR = (-700.0, -40.0, -3.0, -0.1, 0.0, 0.1, 3.0, 40.0, 700.0)


def closed(a: float) -> tuple[float, float, float]:
    """s, 1 − s and s′ = e^−|a|/(1 + e^−|a|)² of the logistic function."""
    e = math.exp(-abs(a))
    near, far = 1.0 / (1.0 + e), e / (1.0 + e)
    s, c = (near, far) if a > 0 else (far, near)
    return s, c, e / (1.0 + e) ** 2


def reference(name: str, a: float) -> list[float]:
    return [float(x[0]) for x in activation(name)(np.array([a]))]


@njit
def _fused(code, a, out):
    if code >= 100:
        out[0, 0], out[1, 0], out[2, 0] = _further(code, a[0])
    else:
        apply(code, 0.0, False, a, out[0], out[1], out[2])


def fused(name: str, a: float) -> list[float]:
    out = np.empty((3, 1))
    _fused(activation_code(name), np.array([a]), out)
    return list(out[:, 0])


@pytest.mark.parametrize("of", [reference, fused])
@pytest.mark.parametrize("a", FAR)
def test_logistic_functions_keep_their_digits(of, a):
    s, c, d = closed(a)
    dd = -d * math.tanh(0.5 * a)
    softplus = max(a, 0.0) + math.log1p(math.exp(-abs(a)))
    wanted = {
        "sigmoid": (s, d, dd),
        "complement": (c, -d, -dd),
        "softplus": (softplus, s, d),
        "silu": (a * s, s + a * d, 2 * d + a * dd),
    }
    for name, values in wanted.items():
        # a few roundings; φ″ near 0 is a difference of numbers of the order of one
        assert_allclose(of(name, a), values, rtol=1e-14, atol=1e-17 if abs(a) < 1 else 0, err_msg=name)
