"""A filter on an (emulated) GPU goes on from its state with the same bits, and moves to the host and back."""

from __future__ import annotations

import numpy as np
import on_device
import pytest
from cuda_filters import FIVES, ODD, RTOL, compare, pair
from filter_checks import random_updates
from numpy.testing import assert_allclose
from textbook import bits

from kalmandp.engines.cuda.filter import CudaRLEKF, for_the_host
from kalmandp.kalman import RLEKF


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_restart_goes_on_with_the_same_bits(dtype):
    device = on_device.emulated()
    _, twin = pair(ODD, dtype, device=device)
    updates = list(random_updates(261, 5, FIVES))
    for H, error, R in updates[:4]:
        twin.update(device.xp.asarray(H), error, R)
    again = CudaRLEKF.from_state(twin.state(), device=device)
    for H, error, R in updates[4:]:
        for filter_ in (twin, again):
            filter_.update(device.xp.asarray(H), error, R)
    assert bits(again) == bits(twin)


@pytest.mark.parametrize("covariance", ["dense", "tiled"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_checkpoint_moves_between_host_and_device(covariance, dtype):
    device = on_device.emulated()
    kalman = RLEKF(np.zeros(261), ODD, covariance=covariance, dtype=dtype)
    for H, error, R in random_updates(261, 3, 5):
        kalman.update(H, error, R)
    twin = CudaRLEKF.from_state(kalman.state(), device=device)
    compare(kalman, twin, {"float64": 1e-14, "float32": 1e-6}[dtype])
    for H, error, R in random_updates(261, 3, 3, seed=8):
        kalman.update(H, error, R)
        twin.update(device.xp.asarray(H), error, R)
    back = RLEKF.from_state(for_the_host(twin.state()), covariance=covariance)
    assert back.covariance.dtype == dtype
    assert_allclose(back.weights, kalman.weights, rtol=0, atol=RTOL[dtype] * np.abs(kalman.weights).max())
    for l in range(len(ODD)):
        assert_allclose(back.covariance.dense(l), kalman.covariance.dense(l), rtol=0, atol=RTOL[dtype])
