"""The filter against least squares, a textbook, and itself; and mistakes that these checks must find."""

from __future__ import annotations

import doctest
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from filter_checks import CHECKS, random_updates
from numpy.testing import assert_allclose
from textbook import dense_covariance

import kalmandp.kalman.filter
from kalmandp.errors import InputError
from kalmandp.kalman import RLEKF, DenseCovariance, prediction_variance

COVARIANCES = ["dense", "tiled"]


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("m", [1, 5])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_filter(check, m, covariance):
    check(partial(RLEKF, covariance=covariance), m)


class NoFactorInS(RLEKF):
    """S = R + H P Hᵀ: the factor λ before R forgotten."""

    def update(self, H, error, noise):
        return super().update(H, error, np.asarray(noise) / self.lam)


class NoForgetting(DenseCovariance):
    """P ← P − K S⁻¹ Kᵀ: the division by λ forgotten."""

    def downdate(self, G_qw, lam):
        super().downdate(G_qw, 1.0)


class HalfTheGain(DenseCovariance):
    """P ← (P − ½ K S⁻¹ Kᵀ)/λ: the weights right, their covariance wrong."""

    def downdate(self, G_qw, lam):
        super().downdate(np.sqrt(0.5) * G_qw, lam)


class NewFactorTooEarly(RLEKF):
    """λ changed before the update instead of after it."""

    def update(self, H, error, noise):
        self.lam = self.nu * self.lam + 1 - self.nu
        info = super().update(H, error, noise)
        self.lam = (self.lam - 1 + self.nu) / self.nu
        return info


class WrongSign(RLEKF):
    """error = h − y."""

    def update(self, H, error, noise):
        return super().update(H, -np.asarray(error), noise)


class WrongPartition(RLEKF):
    """The last weight of the first block put into the second one."""

    def __init__(self, weights, blocks=None, **choices):
        sizes = list(blocks or (len(weights) - 1, 0))
        super().__init__(weights, [sizes[0] - 1 if blocks else sizes[0], sizes[1] + 1, *sizes[2:]], **choices)


class OneBlockOnly(DenseCovariance):
    """Correlations between blocks left in: S right, P of the blocks wrong for later updates."""

    def project(self, H_qw):
        K_qw, HPH_qq = super().project(H_qw)
        return K_qw, HPH_qq + 0.01 * np.outer(H_qw[:, 0], H_qw[:, -1])


class NoiseOfTheFirst(RLEKF):
    """Every number of a measurement given the noise of the first."""

    def update(self, H, error, noise):
        return super().update(H, error, np.ravel(noise)[0])


MISTAKES = {
    NoFactorInS: {"equals_ridge_that_forgets", "equals_the_textbook", "information_adds_up"},
    NoForgetting: {"equals_ridge_that_forgets", "equals_the_textbook", "information_adds_up"},
    HalfTheGain: {"equals_ridge", "equals_the_textbook", "information_adds_up"},
    NewFactorTooEarly: {"equals_the_textbook", "information_adds_up"},
    WrongSign: {"equals_ridge", "equals_the_textbook"},
    WrongPartition: {"equals_ridge", "blocks_share_nothing_but_S"},
    OneBlockOnly: {"equals_ridge", "blocks_share_nothing_but_S"},
    NoiseOfTheFirst: {"equals_ridge", "one_matrix_update_equals_several"},
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_planted_mistakes_are_found(mistake):
    make = mistake if issubclass(mistake, RLEKF) else partial(RLEKF, covariance=mistake)
    found = set()
    for check in CHECKS:
        try:
            check(make, 5)
        except AssertionError:
            found.add(check.__name__)
    assert MISTAKES[mistake] <= found


def test_the_paper_is_m_1_and_noise_L():
    """Algorithm 1, line by line, for one number, two blocks and noise L = 2."""
    rng = np.random.default_rng(11)
    N, L = 9, 2
    kalman = RLEKF(np.zeros(N), (4, 5))
    w, P, lam = np.zeros(N), [np.eye(4), np.eye(5)], 0.98
    for _ in range(10):
        H, err = rng.normal(size=N), rng.normal()
        parts = (slice(0, 4), slice(4, 9))
        a = 1 / (L * lam + sum(H[s] @ P[l] @ H[s] for l, s in enumerate(parts)))
        for l, s in enumerate(parts):
            K = P[l] @ H[s]
            P[l] = (1 / lam) * (P[l] - a * np.outer(K, K))
            w[s] = w[s] + a * K * err
        lam = lam * 0.9987 + 1 - 0.9987
        kalman.update(H, err, L)
    assert_allclose(kalman.weights, w, rtol=1e-13)  # the same operations, grouped otherwise
    assert kalman.lam == lam and kalman.updates == 10
    for l in range(L):
        assert_allclose(kalman.covariance.dense(l), P[l], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_stored_trajectory(covariance):
    """Ten steps, stored once from the formulas in extended precision (make_trajectory.py)."""
    stored = json.loads((Path(__file__).parent / "trajectory.json").read_text())
    H_tw, error_t = np.array(stored["H"]), stored["error"]
    kalman = RLEKF(stored["w0"], stored["blocks"], P0=stored["P0"], covariance=covariance)
    for t, (H, error) in enumerate(zip(H_tw, error_t, strict=True)):
        kalman.update(H, error, stored["noise"])
        assert_allclose(kalman.weights, stored["w"][t], rtol=1e-12, atol=1e-14)
        assert_allclose(kalman.lam, stored["lam"][t], rtol=1e-14)
        assert_allclose(kalman.covariance.trace(), stored["trace"][t], rtol=1e-12)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_process_noise_and_the_n2p2_filter(covariance):
    """n2p2's EKF: A = HP Hᵀ + R, K = P Hᵀ A⁻¹, P ← P − K H P + q I, with λ = ν = 1."""
    kalman = RLEKF(np.zeros(6), (2, 4), lam=1.0, nu=1.0, P0=100.0, process_noise=0.01, covariance=covariance)
    single = RLEKF(np.zeros(6), P0=100.0, lam=1.0, process_noise=0.01, covariance=covariance)
    P, w = 100.0 * np.eye(6), np.zeros(6)
    for H, error, R in random_updates(6, 2, 8):
        kalman.update(H, error, R)
        single.update(H, error, R)
        K = P @ H.T @ np.linalg.inv(H @ P @ H.T + np.diag(R))
        w, P = w + K @ error, P - K @ H @ P + 0.01 * np.eye(6)
    assert kalman.lam == 1.0
    assert_allclose(single.weights, w, rtol=1e-10)
    assert_allclose(dense_covariance(single), P, rtol=1e-9, atol=1e-10)
    before = dense_covariance(kalman)
    kalman.covariance.inflate(0.5)
    assert_allclose(dense_covariance(kalman), before + 0.5 * np.eye(6), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_info_means_what_it_says(covariance):
    """Errors drawn from N(0, S): E[nis] = m and E|Δw|² = gain_norm²."""
    rng = np.random.default_rng(4)
    N, m, samples = 20, 3, 4000
    H, R = rng.normal(size=(m, N)), np.array([0.5, 1.0, 2.0])
    fresh = RLEKF(np.zeros(N), covariance=covariance)
    state = fresh.state()
    S = fresh.update(H, np.zeros(m), R).innovation_variance
    nis, steps = [], []
    for error in rng.multivariate_normal(np.zeros(m), S, samples):
        info = RLEKF.from_state(state).update(H, error, R)
        nis.append(info.nis)
        steps.append(info.step_norm**2)
    # means of `samples` draws: five standard errors (the variance of nis is 2m)
    assert_allclose(np.mean(nis), m, atol=5 * np.sqrt(2 * m / samples))
    assert_allclose(np.mean(steps), info.gain_norm**2, rtol=5 * np.std(steps) / np.mean(steps) / samples**0.5)
    assert info.lam == 0.98


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_prediction_variance_is_that_of_the_weights(covariance):
    """var(Hw) for w ~ N(0, P), block by block; P and the weights are only read."""
    kalman = RLEKF(np.zeros(12), (5, 7), covariance=covariance)
    for H, error, R in random_updates(12, 2, 5):
        kalman.update(H, error, R)
    H = np.random.default_rng(9).normal(size=(70, 12))
    before = kalman.state()
    expected = np.einsum("qv,vw,qw->q", H, dense_covariance(kalman), H)
    assert_allclose(prediction_variance(kalman, H), expected, rtol=1e-12)
    assert_allclose(prediction_variance(kalman, H[3]), expected[3:4], rtol=1e-12)
    for name, value in kalman.state().items():
        assert np.array_equal(value, before[name])


def test_it_knows_how_sure_it_is():
    """A fit of a line: the stated standard deviation of the prediction covers the truth as it should."""
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(300):
        a, b = rng.normal(size=2)
        line = RLEKF(np.zeros(2), P0=1.0, lam=1.0)
        for x in rng.uniform(-1, 1, 10):
            line.update([[x, 1.0]], a * x + b + 0.5 * rng.normal() - line.weights @ [x, 1.0], 0.25)
        sigma = np.sqrt(prediction_variance(line, [[0.7, 1.0]])[0])
        hits.append(abs(a * 0.7 + b - line.weights @ [0.7, 1.0]) < sigma)
    # 68.3 % of 300, five standard errors of a binomial
    assert_allclose(np.mean(hits), 0.683, atol=5 * np.sqrt(0.683 * 0.317 / 300))


def test_defaults_and_access():
    kalman = RLEKF(np.zeros(12000))
    assert max(kalman.blocks.sizes) <= 5120 and kalman.blocks.n_weights == 12000
    assert (kalman.lam, kalman.nu, kalman.updates, kalman.process_noise) == (0.98, 0.9987, 0, 0.0)
    w0 = np.ones(3, dtype=np.float32)
    small = RLEKF(w0)
    view = small.weights
    small.update(np.ones(3), 1.0, 1.0)
    assert view is small.weights and view.dtype == np.float64 and (w0 == 1).all()


def test_examples_in_docstrings():
    assert doctest.testmod(kalmandp.kalman.filter).failed == 0


def test_the_callers_own_array_is_changed_in_place_if_asked():
    w = np.zeros(3)
    f = RLEKF(w, copy=False)
    f.update(np.ones((1, 3)), 1.0, 1.0)
    assert f.weights is w and w.any()
    read_only = np.zeros(3)
    read_only.flags.writeable = False
    for wrong in ([0.0, 0.0], np.zeros(3, dtype="float32"), read_only):
        with pytest.raises(InputError, match=r"copy=False is .*; expected a writeable array of float64"):
            RLEKF(wrong, copy=False)
