"""Theorem 1 of the RLEKF paper, in numbers of the filter itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp.kalman import RLEKF
from kalmandp.kalman.theorem import effective_measurements, forgetting_factor, remembered

LAM, NU = 0.95, 0.99


def test_lambda_of_the_filter_is_the_closed_form():
    f = RLEKF(np.zeros(2), lam=LAM, nu=NU)
    for t in range(1, 200):
        assert_allclose(f.lam, forgetting_factor(t, LAM, NU), rtol=1e-13)  # rounding of t products
        f.update(np.ones((1, 2)), 0.0, 1.0)


def test_the_information_is_the_sum_of_what_is_remembered():
    """P_t⁻¹ = Λ_t P_0⁻¹ + Σ_k (Λ_t/Λ_k) H_kᵀ R⁻¹ H_k."""
    rng = np.random.default_rng(0)
    n, R, P0, t = 5, 3.0, 2.0, 60
    f, H = RLEKF(np.zeros(n), P0=P0, lam=LAM, nu=NU), rng.normal(size=(t, n))
    for H_k in H:
        f.update(H_k, rng.normal(), R)
    share = [remembered(t, LAM, NU) / remembered(k + 1, LAM, NU) for k in range(t)]
    information = remembered(t, LAM, NU) / P0 * np.eye(n) + (H.T * share) @ H / R
    # sixty updates of a well-conditioned P
    assert_allclose(np.linalg.inv(f.covariance.dense(0)), information, rtol=1e-9, atol=1e-9)
    assert_allclose(effective_measurements(t, LAM, NU), sum(share), rtol=1e-12)


def test_what_is_remembered_tends_to_the_q_pochhammer_symbol():
    symbol = np.prod(1.0 - (1.0 - LAM) * NU ** np.arange(5000.0))
    assert_allclose(remembered(3000, LAM, NU), symbol, rtol=1e-9)
    assert 0 < symbol < 0.01


@pytest.mark.parametrize(("nu", "slope"), [(0.9, -1.0), (1.0, 0.0)])
def test_the_gain_falls_as_one_over_t(nu, slope):
    """K_t = O(1/t) for λ → 1; with λ fixed (ν = 1, the planted opposite) it does not fall at all."""
    rng = np.random.default_rng(1)
    n, gains = 4, []
    f = RLEKF(np.zeros(n), lam=0.95, nu=nu)
    for _ in range(6000):
        H = rng.normal(size=(1, n))
        K = f.covariance.project(H)[0]
        info = f.update(H, 0.0, 1.0)
        gains.append(np.sqrt((K**2).sum()) / info.innovation_variance[0, 0])
    t = np.arange(1, len(gains) + 1)
    late = t > 600
    found = np.polyfit(np.log(t[late]), np.log(gains)[late], 1)[0]
    assert abs(found - slope) < 0.1  # 5,400 random gains: ± 0.02 from seed to seed
