"""The judges of derivatives: they pass what is right, refuse what is wrong, and say how it is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from kalmandp.testing import WrongDerivative, check_jacobian

rng = np.random.default_rng(0)
A, W = rng.normal(size=(3, 4)), rng.normal(size=4)


def h(w):
    return np.tanh(A @ w)


RIGHT = (1 - h(W) ** 2)[:, None] * A
ONE_ENTRY = RIGHT + 0.1 * (np.arange(12).reshape(3, 4) == 6)
WRONG = {
    "−1 times": -RIGHT,
    "0.5 times": 0.5 * RIGHT,
    "entry [1, 2]: it is": ONE_ENTRY,
    "has shape (4, 3); expected (3, 4)": RIGHT.T,
    "not finite at [0, 0]": RIGHT * np.nan,
    "expected": 0 * RIGHT,
}


@pytest.mark.parametrize("complex_safe", [True, False])
def test_the_message_says_how_a_jacobian_is_wrong(complex_safe):
    judge = lambda J: check_jacobian(h, J, W, rng, complex_safe=complex_safe, name="∂h/∂w")
    judge(RIGHT)
    for words, J in WRONG.items():
        with pytest.raises(WrongDerivative) as caught:
            judge(J)
        assert words in str(caught.value) and str(caught.value).startswith("∂h/∂w"), str(caught.value)


def test_a_function_that_drops_the_imaginary_part_is_told_apart_from_a_wrong_jacobian():
    real_only = lambda w: h(np.asarray(w).real)
    with pytest.raises(WrongDerivative, match="complex_safe=False"):
        check_jacobian(real_only, RIGHT, W, rng)
    check_jacobian(real_only, RIGHT, W, rng, complex_safe=False)


def test_a_number_and_a_constant():
    check_jacobian(lambda w: w @ w, 2 * W, W, rng)
    check_jacobian(lambda w: 0 * w + 1, np.zeros((4, 4)), W, rng)
