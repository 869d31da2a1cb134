"""The filter alone, on something that is not about atoms: a damped oscillation, point by point.

    python examples/embedding/curve_fit.py [--smoke]

All the filter wants is h(w) and ∂h/∂w. With λ = 1 it forgets nothing, and for a model that is nearly linear
over the width of its error, P is the covariance of the estimate: error bars come for free.
"""

from __future__ import annotations

import argparse

import numpy as np

from kalmandp import RLEKF

TRUTH = np.array([1.5, 0.25, 2.0, 0.4])  # A, γ, ω, φ
SIGMA = 0.05


def oscillation(w, t):
    """h = A e^(−γt) cos(ωt + φ) at times t (m,), and H = ∂h/∂w (m, 4)."""
    A, gamma, omega, phi = w
    decay, c, s = np.exp(-gamma * t), np.cos(omega * t + phi), np.sin(omega * t + phi)
    h = A * decay * c
    H = np.stack([decay * c, -t * h, -A * decay * t * s, -A * decay * s], axis=1)
    return h, H


def main(n_points: int) -> None:
    rng = np.random.default_rng(0)
    t = rng.uniform(0, 10, n_points)
    y = oscillation(TRUTH, t)[0] + SIGMA * rng.normal(size=n_points)

    fit = RLEKF(np.array([1.0, 0.2, 1.9, 0.5]), P0=0.05, lam=1.0, nu=1.0)
    for t_q, y_q in zip(t, y, strict=True):
        h, H = oscillation(fit.weights, np.array([t_q]))
        fit.update(H, y_q - h, noise=SIGMA**2)

    # least squares says the same: cov = σ² (Σ HᵀH)⁻¹ at its solution
    _, H = oscillation(fit.weights, t)
    linear = SIGMA * np.sqrt(np.diag(np.linalg.inv(H.T @ H)))
    bars = np.sqrt(fit.covariance.diagonal())
    print(f"{'':3} {'truth':>7} {'estimate':>9} {'± filter':>9} {'± least squares':>16}")
    for name, true, w, a, b in zip("Aγωφ", TRUTH, fit.weights, bars, linear, strict=True):
        print(f"{name:3} {true:7.3f} {w:9.3f} {a:9.4f} {b:16.4f}")
    assert (np.abs(fit.weights - TRUTH) < 4 * bars).all()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="as it is: it takes no time")
    parser.parse_args()
    main(400)
