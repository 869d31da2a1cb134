"""Coupled blocks of P on an (emulated) GPU, with `kalman.coupled` as the reference; restarts and moves."""

from __future__ import annotations

import numpy as np
import on_device
import pytest
from cuda_filters import FIVES, ODD, RTOL, compare, pair, run_both
from filter_checks import random_updates
from numpy.testing import assert_allclose
from textbook import bits

from kalmandp.engines.cuda.covariance import CoupledCudaCovariance
from kalmandp.engines.cuda.filter import CudaRLEKF, for_the_host
from kalmandp.kalman import RLEKF
from kalmandp.kalman.coupled import WINDOW


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("m", "updates"), [
    (2, WINDOW // 2 + 4), (5, FIVES), (12, WINDOW // 12 + 2), (WINDOW // 2 + 8, 2),
])  # fmt: skip
def test_coupled_blocks(dtype, m, updates):
    """Through the end of a window and into the next; `kalman.coupled` is the reference."""
    kalman, twin = pair(ODD, dtype, coupled=True)
    assert isinstance(twin.covariance, CoupledCudaCovariance)
    run_both(kalman, twin, m, updates)
    compare(kalman, twin, RTOL[dtype])
    cut, _ = pair(ODD, dtype)
    for H, error, R in random_updates(261, m, updates, 3):
        cut.update(H, error, R)
    # more than half a window end it at once, and are then no other than Algorithm 1's
    assert (np.abs(cut.weights - kalman.weights).max() > 1e-3) == (m <= WINDOW // 2)


def test_coupled_updates_of_different_sizes():
    """P is cut where the reference cuts it: an update for which the window has no room is not split."""
    kalman, twin = pair(ODD, coupled=True)
    for seed, m in enumerate((*[2] * (WINDOW // 2 - 1), 8, 1, 5, WINDOW + 8, 3)):
        run_both(kalman, twin, m, 1, seed)
    compare(kalman, twin, RTOL["float64"])


def test_a_coupled_filter_moves_between_host_and_device():
    device = on_device.emulated()
    _, twin = pair(ODD, device=device, coupled=True)
    updates = list(random_updates(261, 2, 14))
    for H, error, R in updates[:6]:
        twin.update(device.xp.asarray(H), error, R)
    again = CudaRLEKF.from_state(twin.state(), device=device)  # in the middle of a window
    for H, error, R in updates[6:]:
        for filter_ in (twin, again):
            filter_.update(device.xp.asarray(H), error, R)
    assert bits(again) == bits(twin)
    here = RLEKF.from_state(for_the_host(twin.state()), covariance="tiled coupled")
    there = CudaRLEKF.from_state(here.state(), device=device)
    assert there.state()["covariance"] == "cuda coupled"
    for H, error, R in random_updates(261, 2, 7, 9):  # what was known of two blocks together came along
        for filter_ in (twin, there):
            filter_.update(device.xp.asarray(H), error, R)
        here.update(H, error, R)
    assert_allclose(there.weights.get(), twin.weights.get(), rtol=0, atol=1e-11)
    compare(here, there, 1e-11)
