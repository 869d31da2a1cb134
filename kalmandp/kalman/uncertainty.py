"""How sure the model is of a prediction, from the covariance of its weights. P is only read."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import require
from kalmandp.kalman.filter import RLEKF

#: Rows of H that go through P together, enough for the speed of a matrix product; fewer where K, of so many
#: rows of N weights, would have more than this many numbers.
ROWS_AT_ONCE, FEWEST, NUMBERS = 256, 32, 1 << 22

#: What is added to the diagonal of a P that is not positive definite to rounding, as a share of it.
JITTERS = (0.0, 1e-13, 1e-11, 1e-9)


def padded(H_qw: Any, N: int) -> Any:
    """H with zeros behind it, (m, N): of weights that the numbers do not depend on."""
    xp, n = namespace(H_qw), H_qw.shape[1]
    return H_qw if n == N else xp.concatenate([H_qw, xp.zeros((len(H_qw), N - n))], axis=1)


def prediction_variance(kalman: RLEKF, H: Any) -> Any:
    """Return the variance of predictions h(w) due to the uncertainty of w.

    To first order in the weights, var h_q = H_q P H_qᵀ = Σ_l H_lq P_l H_lqᵀ, the noise of a measurement
    not included. (Its use for choosing the frames worth labelling: ALKPU, arXiv 2411.13850.)

    Parameters
    ----------
    kalman : the filter; it is not changed
    H : ∂h/∂w of the predictions, (m, N) or (N,)

    Returns
    -------
    (m,) variances in the units of h²
    """
    xp = namespace(kalman.weights)
    H_qw = xp.atleast_2d(xp.asarray(H, dtype="float64"))
    N = len(kalman.weights)
    require(H_qw.ndim == 2 and H_qw.shape[1] == N, "H's shape", np.shape(H), f"(m, {N})")
    at_once = max(FEWEST, min(ROWS_AT_ONCE, NUMBERS // N))
    variance_q = xp.empty(len(H_qw))
    for first in range(0, len(H_qw), at_once):
        q = slice(first, first + at_once)
        # var h_q = H_q · P H_qᵀ
        variance_q[q] = xp.diagonal(kalman.covariance.project(H_qw[q])[1])
    # rounding may leave a variance that is almost zero below it
    return xp.maximum(variance_q, 0.0)


def draws(kalman: RLEKF, n: int, rng: np.random.Generator) -> np.ndarray | None:
    """Draw steps of the weights from N(0, P).

    δw = C z with z ~ N(0, 1) and P_l = C_l C_lᵀ, block by block: the mean over many of (H δw)² is H P Hᵀ.

    Parameters
    ----------
    kalman : the filter; P is only read
    n : how many
    rng : numpy Generator

    Returns
    -------
    (n, N) of NumPy; None if P has cross-block covariance that is kept (`kalman.coupled`), or is not positive
    definite to rounding
    """
    if kalman.covariance.coupled:
        return None
    step_kw = rng.normal(size=(n, len(kalman.weights)))
    for l, w in enumerate(kalman.blocks):
        C_ww = _root(kalman, to_numpy(kalman.covariance.dense(l)))
        if C_ww is None:
            return None
        step_kw[:, w] = np.einsum("wv,kv->kw", C_ww, step_kw[:, w])
    return step_kw


def _root(kalman: RLEKF, P_ww: np.ndarray) -> np.ndarray | None:
    """C of P = CCᵀ. Where rounding has spoilt the smallest eigenvalues, of P with a little more diagonal."""
    diagonal_w, nothing = np.diagonal(P_ww).copy(), np.zeros(len(P_ww))
    for more in JITTERS:
        np.fill_diagonal(P_ww, diagonal_w * (1.0 + more))
        C_ww, _, m = kalman.covariance.cholesky(P_ww, nothing)
        if m == len(P_ww):
            return C_ww
    return None
