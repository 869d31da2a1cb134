"""Exercise 1: the switch and its two derivatives.

    w(u) = u³(−6u² + 15u − 10) + 1,      u = (r − r_s)/(r_c − r_s) clipped to 0 … 1

Given distances r (n,) in Å, return w, dw/dr (1/Å) and d²w/dr² (1/Å²), each (n,).

Hint: differentiate by u first; each derivative by r then divides by r_c − r_s once more. Inside r_s and
beyond r_c nothing changes, so both derivatives are 0 there.

Source: RLEKF paper, "Problem Setup", step 1. Gallery: 01_smooth_cutoff.py.
Check:  python examples/exercises/cutoff_derivative.py
"""

import numpy as np  # noqa: F401 (for you)


def switch_and_derivatives(r, rcut_smth, rcut):
    raise NotImplementedError("return w, dw, d2w")


if __name__ == "__main__":
    import checks

    checks.main(__file__)
