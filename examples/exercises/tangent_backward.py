"""Exercise 3: the backward pass of a tangent, the heart of ∂F/∂w.

    y = tanh(x W + b),      ẏ = φ′(a) ȧ,      a = x W + b,  ȧ = ẋ W

Given ẏ̄ = ∂L/∂ẏ of a number L that depends on ẏ alone, return ∂L/∂x, ∂L/∂ẋ, ∂L/∂W, ∂L/∂b.

    x, x_dot (rows, n),  W (n, m),  b (m,),  y_dot_bar (rows, m)
        ->  x_bar, x_dot_bar (rows, n),  W_bar (n, m),  b_bar (m,)

Hint: ẏ depends on a through φ′(a), so φ″ comes in: ā = ẏ̄ φ″(a) ȧ. It depends on ȧ directly: ǡ = ẏ̄ φ′(a). For
tanh φ″ = −2 φ φ′. The weights W occur in a and in ȧ: both contribute to W̄.

Source: RLEKF paper, Algorithm 1, line 7, for forces. Gallery: 04_backpropagation_through_the_force.py.
Check:  python examples/exercises/tangent_backward.py
"""

import numpy as np  # noqa: F401 (for you)


def tangent_backward(x, x_dot, W, b, y_dot_bar):
    raise NotImplementedError("return x_bar, x_dot_bar, W_bar, b_bar")


if __name__ == "__main__":
    import checks

    checks.main(__file__)
