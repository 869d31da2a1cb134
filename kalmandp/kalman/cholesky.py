"""S = C Cᵀ and z = C⁻¹ error of an update, with the same bits whatever the number of BLAS threads."""

from __future__ import annotations

from math import sqrt

import numpy as np


def cholesky(S_qq: np.ndarray, error_q: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Factor S column by column, and solve for the error, without BLAS.

    Parameters
    ----------
    S_qq : (m, m), symmetric
    error_q : (m,)

    Returns
    -------
    C_qq : (m, m), the lower triangle C of S = C Cᵀ
    z_q : (m,), C⁻¹ error
    n : m; or the number of the column where S is not positive definite, the pivot being C[n, n] then
    """
    C, m = S_qq.copy(), len(S_qq)
    smallest_q = smallest_pivots(S_qq)
    for q in range(m):
        pivot = C[q, q]
        if not smallest_q[q] < pivot < np.inf:
            return C, error_q, q
        C[q:, q] /= sqrt(pivot)
        C[q + 1 :, q + 1 :] -= C[q + 1 :, q, None] * C[q + 1 :, q]
    C = np.tril(C)
    return C, _solve_lower(C, error_q), m


def smallest_pivots(S_qq: np.ndarray) -> np.ndarray:
    """Bounds (m,): a pivot below them is rounding."""
    return len(S_qq) * np.finfo(S_qq.dtype).eps * np.diagonal(S_qq)


def _solve_lower(C_qq: np.ndarray, b_q: np.ndarray) -> np.ndarray:
    """Return C⁻¹b for a lower triangle C, by forward substitution."""
    z_q = b_q.copy()
    for q in range(len(z_q)):
        z_q[q] /= C_qq[q, q]
        z_q[q + 1 :] -= C_qq[q + 1 :, q] * z_q[q]
    return z_q
