"""Draws from P against H P Hᵀ, and what a check decides by them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_frames import DP, NEP, frames

import kalmandp
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.kalman import RLEKF, prediction_variance
from kalmandp.kalman.uncertainty import draws
from kalmandp.on_the_fly.learner import FAR, LEAST_FACTOR, Learner
from kalmandp.training.measurements.measurement import make_sample, predict
from kalmandp.training.screening import DRAWS, EPSILON, Screen
from kalmandp.training.uncertainty import variances


def filter_of(covariance, m=12, blocks=(30, 10)):
    rng = np.random.default_rng(2)
    kalman = RLEKF(np.zeros(40), blocks, P0=1.0, lam=1.0, covariance=covariance)
    for _ in range(5):
        kalman.update(rng.normal(size=(m, 40)), np.zeros(m), 0.1)
    return kalman


@pytest.mark.parametrize("covariance", ["dense", "tiled"])
@pytest.mark.parametrize("blocks", [(40,), (30, 10)])
def test_draws_have_the_variance_of_P(covariance, blocks):
    kalman = filter_of(covariance, blocks=blocks)
    H = np.random.default_rng(4).normal(size=(20, 40))
    step_kw = draws(kalman, 20000, np.random.default_rng(5))
    # a mean of 20,000 squares is known to 1 %; 4 σ of it for the worst of twenty
    assert_allclose(((H @ step_kw.T) ** 2).mean(axis=1), prediction_variance(kalman, H), rtol=0.04)


def test_nothing_is_drawn_from_a_P_that_is_coupled_or_none():
    assert draws(filter_of("tiled coupled"), 2, np.random.default_rng(0)) is None
    kalman = filter_of("tiled")
    P = kalman.covariance.dense(1)
    P[0, 0] = -1.0
    kalman.covariance.assign(1, P)
    assert draws(kalman, 2, np.random.default_rng(0)) is None


def test_a_P_that_is_singular_to_rounding_is_drawn_from():
    kalman = filter_of("tiled", blocks=(40,))
    a = np.random.default_rng(1).normal(size=(39, 40))
    P = a.T @ a
    P -= 1e-15 * np.trace(P) * np.eye(40)
    kalman.covariance.assign(0, P)
    step_kw = draws(kalman, 4000, np.random.default_rng(0))
    assert_allclose((step_kw**2).mean(), np.trace(P) / 40, rtol=0.1)


@pytest.fixture(params=[NEP, DP], ids=["nep", "se_e2_a"])
def learner(request):
    rng = np.random.default_rng(1)
    potential = kalmandp.Potential.create(("A", "B"), frames=frames(), rng=rng, **request.param)
    learner = Learner(kalmandp.OnlineTrainer(potential, rng=rng, preset="matrix"), 0)
    for frame in frames(3):
        learner.learn(frame)
    return learner


def test_a_screen_has_the_variance_of_its_draws_and_the_exact_one_that_of_P(learner):
    potential, kalman, frame = learner.potential, learner.online.filter, frames(1, seed=9)[0]
    screen = Screen(potential, kalman, np.random.default_rng(3))
    sample = make_sample(potential, [frame])
    now = predict(potential, sample)
    H = potential.force_jacobian(frame, np.eye(12).reshape(12, 4, 3))
    step_kw = np.array([member.weights - potential.weights for member in screen.members]) / EPSILON
    assert len(step_kw) == DRAWS
    linear_i = ((H @ step_kw.T) ** 2).mean(axis=1).reshape(4, 3).mean(axis=1)
    # forces bend over a step of ε σ_w by some 10⁻³ of themselves
    assert_allclose(screen.variance(sample, now), linear_i, rtol=1e-2)
    exact_i = variances(potential, kalman, frame)[1].forces.mean(axis=1)
    assert_allclose(screen.exact(sample, now, np.arange(4)), exact_i, rtol=1e-12)
    assert_allclose(screen.exact(sample, now, [3, 1]), exact_i[[3, 1]], rtol=1e-9)


def test_a_check_finds_the_atom_that_P_does_not_know(learner):
    frame = frames(1, seed=9)[0]
    f = max(learner.online.calibration.factor("force"), LEAST_FACTOR)
    pairs = neighbour_pairs(frame, learner.potential.form.cutoff)
    result, found = variances(learner.potential, learner.online.filter, frame)
    largest = f * np.sqrt(found.forces.mean(axis=1).max())
    for share, far in ((0.5, True), (0.999, True)):
        checked = learner.check(frame, pairs, 7, lambda forces, share=share: share * largest / FAR)
        assert checked.wanted == far
        # four atoms are all looked at near the threshold
        assert_allclose(checked.largest, largest, rtol=1e-9)
        assert_allclose(checked.result.forces, result.forces, rtol=1e-12, atol=1e-14)
    assert not learner.check(frame, pairs, 7, lambda forces: 1e3 * largest).wanted


def test_a_label_is_wanted_for_the_share_that_it_may_bring_within_the_tolerance(learner, monkeypatch):
    frame, calibration = frames(1, seed=9)[0], learner.online.calibration
    pairs = neighbour_pairs(frame, learner.potential.form.cutoff)
    monkeypatch.setattr(Screen, "variance", lambda self, sample, now: np.array([0.25, 0.25, 0.0, 0.0]))
    for r, share, floor, wanted in (
        (0.0, 0.0228, 0.0, False),  # half of the atoms have t = 2 σ: 4.55 % of theirs are beyond
        (0.5, 0.1013, 0.0455, True),  # the half of 15.73 % and of 4.55 %
        (2.0, 0.6221, 0.6171, False),  # most is beyond, and no label changes that
    ):
        monkeypatch.setattr(calibration, "_fitted", {"force": (1.0, r**2)})
        checked = learner.check(frame, pairs, 7, lambda forces: 1.0)
        assert_allclose([checked.share, checked.floor], [share, floor], atol=1e-3)
        assert checked.wanted == wanted


def test_draws_belong_to_the_labels_and_the_step(learner):
    first = learner._screen(3)
    assert learner._screen(999) is first
    later = learner._screen(1000)
    assert (later.members[0].weights != first.members[0].weights).any()
    again = learner._screen(3)
    assert (again.members[0].weights == first.members[0].weights).all()
