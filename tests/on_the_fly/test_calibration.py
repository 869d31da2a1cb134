"""f and r of a calibration by closed forms; a P that is widened."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp.errors import InputError
from kalmandp.kalman import RLEKF, prediction_variance
from kalmandp.kalman.calibration import Calibration, widen


def seen(scale, floor=0.0, n=12, spread=(0.5, 2.0)):
    rng = np.random.default_rng(3)
    calibration = Calibration()
    for _ in range(n):
        v = np.exp(rng.uniform(*np.log(spread), 1000))
        error = rng.normal(size=1000) * np.sqrt(scale**2 * v + floor**2)
        calibration.see("force", error, v)
    return calibration


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_normal_errors_give_their_scale(scale):
    calibration = seen(scale)
    # the quantiles of 12,000 numbers are known to some percent
    assert_allclose(calibration.variance("force", 1.0), scale**2, rtol=0.1)
    assert calibration.floor("force") < 0.4 * scale


@pytest.mark.parametrize("floor", [0.3, 0.8, 3.0])
def test_errors_with_a_floor_are_within_sigma(floor):
    calibration, rng = seen(1.0, floor, spread=(0.1, 10.0)), np.random.default_rng(8)
    v = np.exp(rng.uniform(*np.log((0.1, 10.0)), 4000))
    error = np.abs(rng.normal(size=4000)) * np.sqrt(v + floor**2)
    sigma = np.sqrt(calibration.variance("force", v))
    assert 0.66 < np.mean(error < sigma) < 0.74
    assert 0.94 < np.mean(error < 2 * sigma) < 0.97
    # the ratios that are tried are some 1.8 apart
    assert_allclose(calibration.floor("force"), floor, rtol=0.35)


def test_errors_that_do_not_follow_P_are_not_laid_to_it():
    """Errors of 130 meV/Å beside √(H P Hᵀ) of 6 to 10 gave f = 13: a label was wanted at each step."""
    rng, calibration = np.random.default_rng(4), Calibration()
    for _ in range(6):
        calibration.see_residual("force", 0.09**2)  # of the labels, which the model bends towards
        calibration.see("force", 0.13 * rng.normal(size=96), rng.uniform(0.006, 0.010, 96) ** 2)
    assert_allclose(calibration.floor("force"), 0.13, rtol=0.1)
    assert calibration.factor("force") * 0.010 < 0.02
    assert calibration.residual("force") == 0.09


def test_learned_errors_are_r_until_others_are_seen():
    calibration = Calibration()
    calibration.see_residual("force", 4.0)
    assert calibration.floor("force") == 2.0
    calibration.see("force", np.ones(50), np.ones(50))
    assert calibration.floor("force") < 1.0


def test_all_predictions_count_where_nothing_changes():
    calibration = Calibration(batches=None)
    for k in range(60):
        calibration.see("energy", [float(k)], [1.0])
    assert_allclose(calibration.variance("energy", 1.0), np.quantile(np.arange(60.0) ** 2, 0.6827))


def test_nothing_seen_leaves_what_P_says():
    calibration = Calibration()
    assert calibration.factor("energy") == 1.0 and calibration.floor("energy") == 0.0
    assert calibration.variance("energy", 2.5) == 2.5


def test_heavy_tails_widen_sigma_until_two_of_it_hold_95_percent():
    calibration, rng = Calibration(), np.random.default_rng(1)
    errors = rng.standard_t(2.5, size=4000)
    calibration.see("force", errors, np.ones(4000))
    assert np.mean(np.abs(errors) < 2 * np.sqrt(calibration.variance("force", 1.0))) > 0.95


def test_old_predictions_are_forgotten_and_single_numbers_kept_longer():
    calibration = seen(5.0)
    for _ in range(12):
        calibration.see("force", np.ones(200), np.ones(200))
    assert_allclose(calibration.variance("force", 1.0), 1.0)
    for k in range(40):
        calibration.see("energy", [float(k)], [1.0])
    # the last 24 of them, 16 … 39: their 68.27 % quantile
    assert_allclose(calibration.variance("energy", 1.0), np.quantile(np.arange(16.0, 40) ** 2, 0.6827))


def test_state_gives_the_same_bits():
    calibration = seen(2.0, 0.3)
    again = Calibration.from_state(calibration.state())
    assert again.factor("force") == calibration.factor("force")
    again.see("force", [1.0, 2.0], [1.0, 1.0])
    calibration.see("force", [1.0, 2.0], [1.0, 1.0])
    assert again.factor("force") == calibration.factor("force")


def test_shapes_that_differ_are_named():
    with pytest.raises(InputError, match=r"variance_q's shape is \(3,\); expected \(2,\)"):
        Calibration().see("force", [1.0, 2.0], [1.0, 1.0, 1.0])


@pytest.mark.parametrize("covariance", ["dense", "tiled", "dense coupled", "tiled coupled"])
def test_widened_P_is_q_times_P(covariance):
    rng = np.random.default_rng(2)
    kalman = RLEKF(np.zeros(40), (30, 10), P0=1.0, lam=1.0, covariance=covariance)
    for _ in range(5):
        kalman.update(rng.normal(size=(12, 40)), np.zeros(12), 0.1)
    H = rng.normal(size=(20, 40))
    before = prediction_variance(kalman, H)
    error = 2.0 * np.sqrt(before + 0.1)
    q = widen(kalman, error, before, 0.1, P0=100.0)
    assert_allclose(q, 4.0)
    # the window of a coupled P may end here: then P is cut to its blocks
    rtol = 0.5 if "coupled" in covariance else 1e-12
    assert_allclose(prediction_variance(kalman, H), 4.0 * before, rtol=rtol)
    assert widen(kalman, 0.1 * error, before, 0.1, P0=100.0) == 1.0
    # not beyond the prior
    widen(kalman, 1e6 * error, before, 0.1, P0=1.0)
    assert_allclose(kalman.covariance.trace().sum(), 40.0)
