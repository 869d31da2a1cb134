"""How sure the model is of a prediction, from the covariance of its weights. P is only read."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmandp.arrays import namespace
from kalmandp.errors import require
from kalmandp.kalman.filter import RLEKF

#: Rows of H that P multiplies together, enough for the speed of a matrix product; fewer, but at least FEWEST,
#: where K (rows × N) would have more than NUMBERS numbers.
ROWS_AT_ONCE, FEWEST, NUMBERS = 256, 32, 1 << 22


def padded(H_qw: Any, N: int) -> Any:
    """H padded with zero columns to (m, N), for weights that the numbers do not depend on."""
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

    Raises
    ------
    InputError
        For an H whose rows have not one entry for each weight.
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
