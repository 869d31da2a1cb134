"""An extended Kalman filter from a textbook, other formulas than the package's, and models to try it on.

Fading-memory filter in Joseph form (Simon, "Optimal State Estimation", 2006, eqs 5.19, 7.4 and 13.47)::

    P⁻ = P/λ,   K = P⁻Hᵀ (H P⁻Hᵀ + R)⁻¹,   w ← w + K e,   P = (I − K H) P⁻ (I − K H)ᵀ + K R Kᵀ
"""

from __future__ import annotations

import numpy as np


class TextbookEKF:
    """Joseph form, one full covariance, in float64."""

    def __init__(self, weights, P0=1.0, lam=0.98, nu=0.9987):
        self.weights = np.array(weights, dtype=float)
        self.P = np.diag(np.broadcast_to(np.asarray(P0, dtype=float), self.weights.shape)).copy()
        self.lam, self.nu = lam, nu

    def update(self, H, error, noise):
        H, error = np.atleast_2d(H), np.atleast_1d(error)
        R = np.asarray(noise) * np.eye(len(error)) if np.ndim(noise) < 2 else np.asarray(noise)
        prior = self.P / self.lam
        K = prior @ H.T @ np.linalg.inv(H @ prior @ H.T + R)
        rest = np.eye(len(self.weights)) - K @ H
        self.P = rest @ prior @ rest.T + K @ R @ K.T
        self.weights = self.weights + K @ error
        self.lam = self.nu * self.lam + 1 - self.nu


class Wave:
    """h(w; x) = Σ_k a_k tanh(b_k x + c_k), w = (a, b, c): nonlinear, with its Jacobian by hand."""

    def __init__(self, n: int = 4):
        self.n = n
        self.size = 3 * n

    def values(self, w, x):
        a, b, c = w.reshape(3, self.n)
        return np.tanh(np.outer(x, b) + c) @ a

    def jacobian(self, w, x):
        a, b, c = w.reshape(3, self.n)
        t = np.tanh(np.outer(x, b) + c)
        d = a * (1 - t * t)
        return np.concatenate([t, d * x[:, None], d], axis=1)


def wave_updates(model: Wave, m: int, updates: int, seed: int = 0):
    """Points (x, y), m at a time, of a function no `Wave` represents exactly."""
    rng = np.random.default_rng(seed)
    for _ in range(updates):
        x = rng.uniform(-2, 2, m)
        yield x, np.sin(2 * x) + 0.1 * x * x


def dense_covariance(kalman) -> np.ndarray:
    """The whole P of a filter, zeros between the blocks."""
    P = np.zeros((kalman.blocks.n_weights,) * 2)
    for l, w in enumerate(kalman.blocks):
        P[w, w] = kalman.covariance.dense(l)
    return P


def bits(kalman) -> dict[str, object]:
    """The state of a filter in a form in which equal means the same bits."""
    return {
        name: (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
        for name, value in kalman.state().items()
    }
