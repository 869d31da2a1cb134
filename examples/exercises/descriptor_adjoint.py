"""Exercise 4: from the descriptor back to its moments.

    D_ms = Σ_k T_mk T_sk,      m = 0 … M−1,   s = 0 … M‹−1,   M‹ < M,   k = 0 … 3

Given D̄ = ∂L/∂D, return T̄ = ∂L/∂T.

    T (M, 4),  D_bar (M, M‹)   ->   T_bar (M, 4)

Hint: each T_mk occurs as the first factor in row m of D. If m < M‹ it occurs as the second factor, too, in
column m. Add both.

Source: RLEKF paper, "Problem Setup", step 3. Gallery: 02_descriptor_symmetries.py.
Check:  python examples/exercises/descriptor_adjoint.py
"""

import numpy as np  # noqa: F401 (for you)


def descriptor_adjoint(T, D_bar):
    raise NotImplementedError("return T_bar")


if __name__ == "__main__":
    import checks

    checks.main(__file__)
