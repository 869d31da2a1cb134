"""Exercise 8: one step of the Kalman filter with a forgetting factor, for one number.

    S = λ R + H P Hᵀ
    K = P Hᵀ
    w ← w + K error / S
    P ← (P − K Kᵀ / S) / λ

    w (N,),  P (N, N) symmetric,  H (N,),  error = y − h(w), noise R and λ numbers   ->   w (N,),  P (N, N)

Do not change the arrays that come in.

Hint: both updates use the old P. K Kᵀ is a matrix: np.outer.

Source: RLEKF paper, Algorithm 1, lines 8 to 12, with one block. Gallery: 05_from_line_fit_to_rlekf.py.
Check:  python examples/exercises/kalman_step.py
"""

import numpy as np  # noqa: F401 (for you)


def kalman_step(w, P, H, error, noise, lam):
    raise NotImplementedError("return w, P")


if __name__ == "__main__":
    import checks

    checks.main(__file__)
