"""Exercise 2: the backward pass of one layer.

    y = tanh(x W + b) + x

Rows of x are independent inputs. Given ȳ = ∂L/∂y of a number L, return ∂L/∂x, ∂L/∂W, ∂L/∂b.

    x (rows, n),  W (n, n),  b (n,),  y_bar (rows, n)   ->   x_bar (rows, n),  W_bar (n, n),  b_bar (n,)

Hint: write a = xW + b. A small change gives dL = Σ ȳ dy and dy = φ′(a) da + dx. Begin with ā = ȳ φ′(a). For
tanh φ′ = 1 − φ². Shapes decide which factor is transposed; x reaches y on two ways.

Source: RLEKF paper, "Problem Setup", steps 2 and 4. Gallery: 03_backpropagation_by_hand.py.
Check:  python examples/exercises/layer_backward.py
"""

import numpy as np  # noqa: F401 (for you)


def layer_backward(x, W, b, y_bar):
    raise NotImplementedError("return x_bar, W_bar, b_bar")


if __name__ == "__main__":
    import checks

    checks.main(__file__)
