"""A filter on the emulated device beside the plain one: made alike, updated alike, compared."""

from __future__ import annotations

import numpy as np
import on_device
from filter_checks import random_updates
from numpy.testing import assert_allclose

from kalmandp.engines.cuda.filter import CudaRLEKF
from kalmandp.kalman import RLEKF, Blocks
from kalmandp.kalman.coupled import WINDOW

#: Sizes around the tile's (64 in float64, 128 in float32), a block of more tiles than a strip, one weight.
ODD = Blocks((1, 65, 130, 64, 1))
LONG = Blocks((600, 3))
#: Updates of five numbers that fill the window and go on in the next one.
FIVES = WINDOW // 5 + 2
#: Rounding: of the numbers of P, and (float32) of a few dozen updates of it.
RTOL = {"float64": 1e-11, "float32": 2e-5}


def pair(blocks, dtype="float64", device=None, make=CudaRLEKF, **choices):
    """The plain filter and the one on the device, with the same random weights."""
    w0 = np.random.default_rng(0).normal(size=blocks.n_weights)
    same = {name: value for name, value in choices.items() if name != "coupled"}
    plain = RLEKF(w0, blocks, dtype=dtype, covariance="dense" + " coupled" * ("coupled" in choices), **same)
    return plain, make(w0, blocks, dtype=dtype, device=device or on_device.emulated(), **choices)


def run_both(kalman, twin, m, updates, seed=3):
    for H, error, R in random_updates(len(kalman.weights), m, updates, seed):
        info = kalman.update(H, error, R)
        other = twin.update(twin.device.xp.asarray(H), error, R)
    same_info(other, info, 1e-4 if twin.covariance.dtype == "float32" else 1e-9)


def same_info(got, wanted, rtol):
    for name in ("innovation_variance", "nis", "step_norm", "gain_norm", "lam"):
        a, b = getattr(got, name), getattr(wanted, name)
        assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max(), err_msg=name)


def compare(kalman, twin, rtol):
    """Weights, and P block by block relative to the block's largest entry."""
    scale = np.abs(kalman.weights).max()
    assert_allclose(twin.weights.get(), kalman.weights, rtol=0, atol=rtol * scale)
    for l in range(len(kalman.blocks)):
        P = kalman.covariance.dense(l)
        assert_allclose(twin.covariance.dense(l).get(), P, rtol=0, atol=rtol * np.abs(P).max())
    assert_allclose(twin.covariance.diagonal().get(), kalman.covariance.diagonal(), rtol=10 * rtol)
    assert_allclose(twin.covariance.trace().get(), kalman.covariance.trace(), rtol=rtol)
