"""RLEKF, Theorem 1 in numbers: how fast the filter forgets, and why its steps fall as 1/t.

With the forgetting factor λ_t, and Λ_t = Π_{i≤t} λ_i = 1/α_t² (the paper's α), the recursion of the
information P_t⁻¹ = λ_t P_{t−1}⁻¹ + H_tᵀ R⁻¹ H_t has the solution ::

    P_t⁻¹ = Λ_t P_0⁻¹ + Σ_k (Λ_t/Λ_k) H_kᵀ R⁻¹ H_k

For components of H that are independent, of mean 0 and variance σ², the sum tends to S(t) σ²/R · 1 with
S(t) = Σ_k Λ_t/Λ_k, which grows as t because λ_t → 1. So P_t falls as 1/t, and K_t with it: the weights
converge.

(Two misprints in the paper: its limit of α_t² is that of Λ_t = 1/α_t²; and E[P_t⁻¹] has the unit matrix
without its factor Λ_t. Neither changes the theorem.)
"""

from __future__ import annotations

import math


def forgetting_factor(t: int, lam: float, nu: float) -> float:
    """λ_t = 1 − (1 − λ₁) ν^(t−1): RLEKF, Theorem 1; what Algorithm 1, l. 14 gives after t − 1 updates.

    Parameters
    ----------
    t : number of the update, from 1
    lam, nu : λ₁ and ν

    Examples
    --------
    >>> forgetting_factor(1, 0.98, 0.9987)
    0.98
    >>> round(forgetting_factor(2000, 0.98, 0.9987), 4)
    0.9985
    """
    return 1.0 - (1.0 - lam) * nu ** (t - 1)


def remembered(t: int, lam: float, nu: float) -> float:
    """Λ_t = Π_{i=1…t} λ_i = 1/α_t²: RLEKF, eq. (5). The share of what was known at first.

    For ν < 1 it tends to the q-Pochhammer symbol (1 − λ₁; ν)_∞ > 0: RLEKF never forgets entirely.

    Parameters
    ----------
    t : number of updates
    lam, nu : λ₁ and ν
    """
    return math.prod(forgetting_factor(i, lam, nu) for i in range(1, t + 1))


def effective_measurements(t: int, lam: float, nu: float) -> float:
    """S(t) = Σ_k Λ_t/Λ_k: RLEKF, Theorem 1. How many measurements the t made so far are worth now.

    S(t) = λ_t S(t−1) + 1: one more, after what was there has faded.

    Parameters
    ----------
    t : number of updates
    lam, nu : λ₁ and ν
    """
    S = 0.0
    for i in range(1, t + 1):
        S = forgetting_factor(i, lam, nu) * S + 1.0
    return S
