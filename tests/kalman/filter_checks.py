"""What any RLEKF must satisfy. Each check takes a class like `RLEKF` and raises AssertionError."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.testing import assert_allclose
from textbook import TextbookEKF, Wave, dense_covariance, wave_updates

#: The same quantity by other formulas, in a well-conditioned problem: rounding alone.
ROUNDING = 1e-10


def random_updates(N, m, updates, seed=3):
    rng = np.random.default_rng(seed)
    for _ in range(updates):
        yield rng.normal(size=(m, N)), rng.normal(size=m), rng.uniform(0.5, 2.0, m)


def equals_ridge(make, m=1):
    """λ = 1, one block, linear model: the weights minimise |(y − Hw)/σ|² + |w − w₀|²/P₀."""
    rng = np.random.default_rng(1)
    N, T, P0 = 7, 30, 4.0
    truth, w0 = rng.normal(size=N), rng.normal(size=N)
    H, sigma = rng.normal(size=(T, m, N)), rng.uniform(0.5, 2, size=(T, m))
    y = H @ truth + 0.1 * rng.normal(size=(T, m))
    kalman = make(w0, P0=P0, lam=1.0)
    for t in range(T):
        kalman.update(H[t], y[t] - H[t] @ kalman.weights, sigma[t] ** 2)
    A = (H / sigma[..., None]).reshape(-1, N)
    normal = A.T @ A + np.eye(N) / P0
    w = np.linalg.solve(normal, A.T @ (y / sigma).reshape(-1) + w0 / P0)
    assert_allclose(kalman.weights, w, rtol=ROUNDING)
    assert_allclose(dense_covariance(kalman), np.linalg.inv(normal), rtol=ROUNDING, atol=ROUNDING)


def equals_ridge_that_forgets(make, m=1):
    """One block, linear model: sample t of T counts Π_{s>t} λ_s, the prior Π_s λ_s."""
    rng = np.random.default_rng(2)
    N, T, lam, nu = 6, 40, 0.9, 0.98
    H, y = rng.normal(size=(T, m, N)), rng.normal(size=(T, m))
    kalman = make(np.zeros(N), lam=lam, nu=nu)
    lams = [lam]
    for t in range(T):
        kalman.update(H[t], y[t] - H[t] @ kalman.weights, 0.3)
        lams.append(nu * lams[-1] + 1 - nu)
    assert_allclose(kalman.lam, lams[-1], rtol=1e-14)
    weight_t = np.array([np.prod(lams[t + 1 : T]) for t in range(T)])
    A = np.einsum("t,tmv,tmw->vw", weight_t, H, H) / 0.3 + np.eye(N) * np.prod(lams[:T])
    b = np.einsum("t,tmw,tm->w", weight_t, H, y) / 0.3
    assert_allclose(kalman.weights, np.linalg.solve(A, b), rtol=ROUNDING)


def equals_the_textbook(make, m=1):
    """One block, 50 updates of a nonlinear model: Joseph form, weights, P and λ."""
    model = Wave()
    w0 = np.random.default_rng(5).normal(size=model.size)
    kalman, textbook = make(w0, P0=2.0), TextbookEKF(w0, P0=2.0)
    for x, y in wave_updates(model, m, 50):
        R = 0.01 * np.eye(m) + 0.002 if m > 1 else 0.01
        for f in (kalman, textbook):
            f.update(model.jacobian(f.weights, x), y - model.values(f.weights, x), R)
    # a nonlinear model amplifies rounding from update to update
    assert_allclose(kalman.weights, textbook.weights, rtol=1e-8)
    assert_allclose(dense_covariance(kalman), textbook.P, rtol=1e-7, atol=1e-9)
    assert_allclose(kalman.lam, textbook.lam, rtol=1e-14)


def information_adds_up(make, m=1):
    """P⁻¹ₜ = λ P⁻¹ₜ₋₁ + Hᵀ R⁻¹ H, update by update, for one block."""
    kalman = make(np.zeros(8), P0=np.linspace(0.5, 2, 8), lam=0.95)
    for H, error, R in random_updates(8, m, 20):
        lam, before = kalman.lam, np.linalg.inv(dense_covariance(kalman))
        kalman.update(H, error, R)
        after = np.linalg.inv(dense_covariance(kalman))
        assert_allclose(after, lam * before + H.T @ np.diag(1 / R) @ H, rtol=1e-9, atol=1e-9)


def one_matrix_update_equals_several(make, m=4):
    """λ = 1 and independent noise: m numbers at once, or one after another with the error predicted anew."""
    at_once, in_turn = (make(np.zeros(9), P0=3.0, lam=1.0) for _ in range(2))
    for H, y, R in random_updates(9, m, 10):
        at_once.update(H, y - H @ at_once.weights, R)
        for q in range(m):
            in_turn.update(H[q], y[q] - H[q] @ in_turn.weights, R[q])
    assert_allclose(at_once.weights, in_turn.weights, rtol=ROUNDING)
    assert_allclose(dense_covariance(at_once), dense_covariance(in_turn), rtol=ROUNDING, atol=ROUNDING)


def blocks_share_nothing_but_S(make, m=1, sizes=(3, 1, 6, 2)):
    """Each block by itself, from its own P and H; S is the sum of λR and every block's H P Hᵀ."""
    N = sum(sizes)
    ends = np.cumsum([0, *sizes])
    rng = np.random.default_rng(7)
    w = rng.normal(size=N)
    P = [2.0 * np.eye(n) for n in sizes]
    kalman = make(w, sizes, P0=2.0, lam=0.97)
    lam = 0.97
    for H, error, R in random_updates(N, m, 12):
        H_l = [H[:, a:b] for a, b in pairwise(ends)]
        S = lam * np.diag(R) + sum(h @ p @ h.T for h, p in zip(H_l, P, strict=True))
        a = np.linalg.inv(S)
        step = np.concatenate([p @ h.T @ a @ error for h, p in zip(H_l, P, strict=True)])
        P = [(p - p @ h.T @ a @ h @ p) / lam for h, p in zip(H_l, P, strict=True)]
        w, lam = w + step, kalman.nu * lam + 1 - kalman.nu
        info = kalman.update(H, error, R)
        assert_allclose(info.innovation_variance, S, rtol=ROUNDING, atol=ROUNDING)
        assert_allclose(info.nis, error @ a @ error, rtol=ROUNDING)
        assert_allclose(info.step_norm, np.linalg.norm(step), rtol=ROUNDING)
    assert_allclose(kalman.weights, w, rtol=ROUNDING)
    for l, p in enumerate(P):
        assert_allclose(kalman.covariance.dense(l), p, rtol=ROUNDING, atol=ROUNDING)
    assert_allclose(kalman.covariance.trace(), [np.trace(p) for p in P], rtol=ROUNDING)


CHECKS = [
    equals_ridge,
    equals_ridge_that_forgets,
    equals_the_textbook,
    information_adds_up,
    one_matrix_update_equals_several,
    blocks_share_nothing_but_S,
]
