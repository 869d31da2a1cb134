"""Exercise 7: a vector turned into one number.

Give each component the sign of its own error, s_i = +1 where the label is above the prediction (or equal),
else −1, and take the mean. Return the error, and the H of the update:

    error = mean |Y − Ŷ|          H = ∂/∂w mean(s Ŷ)

    label (n,),  prediction (n,),  J = ∂Ŷ/∂w (n, N)   ->   error, a number;  H (N,)

Hint: with s fixed, mean(s Ŷ) is linear in Ŷ. A step along H must make every error smaller. (Line 6 as printed
takes |Y − Ŷ| after Ŷ was flipped. The authors' code takes it of the raw values, and so do we.)

Source: RLEKF paper, Algorithm 1, lines 1 to 7.
Check:  python examples/exercises/signed_mean.py
"""

import numpy as np  # noqa: F401 (for you)


def signed_mean(label, prediction, J):
    raise NotImplementedError("return error, H")


if __name__ == "__main__":
    import checks

    checks.main(__file__)
