"""A coupled P is the global filter's within a window, and is cut to its blocks between windows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp.kalman import RLEKF
from kalmandp.kalman.coupled import WINDOW, CoupledCovariance, is_over
from kalmandp.registry import COVARIANCES, find

COUPLED = ["dense coupled", "tiled coupled"]
assert find(COVARIANCES, COUPLED[0], "covariance") is CoupledCovariance
SIZES = (5, 40, 17)
N = sum(SIZES)


def take_in(kalman, rng, updates, m):
    for _ in range(updates):
        kalman.update(rng.normal(size=(m, N)), rng.normal(size=m), 0.1)


def pair(covariance, P0=1.0):
    """A coupled filter of several blocks, and the global one."""
    w0 = np.random.default_rng(1).normal(size=N)
    settings = {"P0": P0, "lam": 0.98, "nu": 0.99}
    return RLEKF(w0, SIZES, covariance=covariance, **settings), RLEKF(w0, (N,), **settings)


@pytest.mark.parametrize("covariance", COUPLED)
@pytest.mark.parametrize("m", [1, 2, 5, 8])
def test_is_the_global_filter_for_a_window(covariance, m):
    coupled, whole = pair(covariance)
    before_its_end = (WINDOW - 1) // m if m > 1 else WINDOW - 1
    for kalman in (coupled, whole):
        take_in(kalman, np.random.default_rng(2), before_its_end, m)
    # the same arithmetic in another order
    assert_allclose(coupled.weights, whole.weights, rtol=0, atol=1e-11)
    for w, l in zip(coupled.blocks, range(len(SIZES)), strict=True):
        assert_allclose(coupled.covariance.dense(l), whole.covariance.dense(0)[w, w], rtol=0, atol=1e-11)
    # and not that of Algorithm 1, which has forgotten something by then
    cut, _ = pair("dense")
    take_in(cut, np.random.default_rng(2), before_its_end, m)
    assert np.abs(cut.weights - whole.weights).max() > 1e-3


@pytest.mark.parametrize("covariance", COUPLED)
@pytest.mark.parametrize("m", [1, 2, 5, WINDOW // 2, WINDOW // 2 + 8])
def test_is_cut_after_the_window(covariance, m):
    """At its end P is the global filter's without what lies between the blocks; then the next begins."""
    coupled, whole = pair(covariance)
    updates = 1
    while not is_over(updates * m, m):
        updates += 1
    for kalman in (coupled, whole):
        take_in(kalman, np.random.default_rng(2), updates, m)
    P = whole.covariance.dense(0)
    for kalman, start in ((coupled, whole), (whole, whole)):
        kalman.weights[:] = start.weights
    for l, w in enumerate(coupled.blocks):
        assert_allclose(coupled.covariance.dense(l), P[w, w], rtol=0, atol=1e-11)
    H = np.random.default_rng(3).normal(size=(1, N))
    between = np.concatenate([P[w, w] @ H[0, w] for w in coupled.blocks])
    assert_allclose(coupled.covariance.project(H)[0][0], between, rtol=0, atol=1e-10)


@pytest.mark.parametrize("covariance", COUPLED)
@pytest.mark.parametrize("m", [1, 3, 7])
def test_p_stays_positive_definite(covariance, m):
    """Also where little noise makes every update take nearly all that is known of a direction."""
    rng = np.random.default_rng(4)
    kalman = RLEKF(np.zeros(N), SIZES, P0=100.0, lam=0.999, covariance=covariance)
    for _ in range(120):
        kalman.update(rng.normal(size=(m, N)), rng.normal(size=m), 1e-6)
        P_ww = kalman.covariance.project(np.eye(N))[0]
        least = np.linalg.eigvalsh((P_ww + P_ww.T) / 2).min()
        assert least > -1e-9 * np.abs(P_ww).max()  # rounding; an update cut in the middle makes it −0.1


#: Numbers of one update after another: one that the window has no room for, and one larger than a window.
MIXED = (*[2] * (WINDOW // 2 - 1), 8, 1, 5, WINDOW + 8, 3, WINDOW // 2 + 1, WINDOW // 2 - 1, 2, 1)


@pytest.mark.parametrize("covariance", COUPLED)
def test_updates_of_different_sizes(covariance):
    """P is cut after an update and never in it, and the twin cuts where the reference does."""
    rng = np.random.default_rng(4)
    settings = {"P0": 100.0, "lam": 0.999}
    kalman = RLEKF(np.zeros(N), SIZES, covariance=covariance, **settings)
    reference = RLEKF(np.zeros(N), SIZES, covariance=COUPLED[0], **settings)
    for m in 2 * MIXED:
        H, error = rng.normal(size=(m, N)), rng.normal(size=m)
        for k in (kalman, reference):
            k.update(H, error, 1e-3)
        P_ww = kalman.covariance.project(np.eye(N))[0]
        least = np.linalg.eigvalsh((P_ww + P_ww.T) / 2).min()
        assert least > -1e-9 * np.abs(P_ww).max()  # rounding, as above
    # P falls to 1e-5 of what it was, of which A − UᵀU keeps so many digits fewer; 2e-10 here
    assert_allclose(kalman.weights, reference.weights, rtol=0, atol=1e-8)


@pytest.mark.parametrize("covariance", COUPLED)
@pytest.mark.parametrize("updates", [3, WINDOW // 2, WINDOW // 2 + 4])
def test_goes_on_with_the_same_bits(covariance, updates):
    kalman, _ = pair(covariance)
    rng = np.random.default_rng(5)
    take_in(kalman, rng, updates, 2)
    again = RLEKF.from_state(kalman.state())
    for k in (kalman, again):
        take_in(k, np.random.default_rng(6), 20, 2)
    assert np.array_equal(kalman.weights, again.weights)
    assert np.array_equal(kalman.covariance.dense(1), again.covariance.dense(1))


@pytest.mark.parametrize("covariance", COUPLED)
@pytest.mark.parametrize("other", COUPLED)
def test_another_form_of_p_goes_on_in_the_same_window(covariance, other):
    kalman, _ = pair(covariance)
    take_in(kalman, np.random.default_rng(5), 5, 2)
    moved = RLEKF.from_state(kalman.state(), covariance=other)
    for k in (kalman, moved):
        take_in(k, np.random.default_rng(6), 20, 2)
    # rounding, of P = s(A − UᵀU) taken apart and put together
    assert_allclose(moved.weights, kalman.weights, rtol=0, atol=1e-11)


@pytest.mark.parametrize("covariance", COUPLED)
def test_variances_are_of_p(covariance):
    kalman, _ = pair(covariance, P0=2.0)
    take_in(kalman, np.random.default_rng(7), 5, 2)
    kalman.covariance.inflate(0.5)
    P_ww = kalman.covariance.project(np.eye(N))[0]
    assert_allclose(kalman.covariance.diagonal(), np.diagonal(P_ww), rtol=1e-12)
    trace = [np.trace(P_ww[w, w]) for w in kalman.blocks]
    assert_allclose(kalman.covariance.trace(), trace, rtol=1e-12)
    P = kalman.covariance.dense(2)
    kalman.covariance.assign(2, 3.0 * P)
    assert_allclose(kalman.covariance.dense(2), 3.0 * P, rtol=1e-12)
