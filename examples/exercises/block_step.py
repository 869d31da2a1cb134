"""Exercise 9: the same step for a P that is kept in blocks.

P = diag(P_1, …, P_L). ``blocks`` is a list of L slices of w, ``P`` the list of the L matrices.

    S = λ R + Σ_l H_l P_l H_lᵀ
    for each block l:   K_l = P_l H_lᵀ,    w_l ← w_l + K_l error / S,    P_l ← (P_l − K_l K_lᵀ / S) / λ
    λ ← ν λ + 1 − ν

    w (N,),  P list of (n_l, n_l),  blocks,  H (N,),  error, noise R, λ, ν numbers   ->   w (N,),  P,  λ

Do not change the arrays that come in.

Hint: the blocks share one S. Compute it first, from all of them; two loops.

Source: RLEKF paper, Algorithm 1, lines 8 to 16.
Check:  python examples/exercises/block_step.py
"""

import numpy as np  # noqa: F401 (for you)


def block_step(w, P, blocks, H, error, noise, lam, nu):
    raise NotImplementedError("return w, P, lam")


if __name__ == "__main__":
    import checks

    checks.main(__file__)
