"""What cannot be taken in is named, and leaves the filter as it was, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from filter_checks import random_updates
from textbook import bits

from kalmandp.errors import FilterError, InputError
from kalmandp.kalman import RLEKF, prediction_variance

N = 40
ONE = np.ones(N)
TWO = np.ones((2, N)) + np.eye(2, N)


def spoilt(array, value, *at):
    array = np.array(array, dtype=float)
    array[at] = value
    return array


BAD_UPDATES = [
    ((np.ones(39), 1.0, 1.0), InputError, r"H's shape is \(39,\); expected \(m, 40\)"),
    ((np.ones((2, 3, N)), [1, 1], 1.0), InputError, r"H's shape is \(2, 3, 40\)"),
    ((np.ones((0, N)), [], 1.0), InputError, "the number of measurements is 0; expected at least 1"),
    ((TWO, 1.0, 1.0), InputError, r"error's shape is \(\); expected \(2,\) as H has 2 rows"),
    ((TWO, [1, 2, 3], 1.0), InputError, r"error's shape is \(3,\)"),
    ((TWO, [1, 2], [1, 2, 3]), InputError, r"noise's shape is \(3,\); expected \(\) or \(2,\)"),
    (("words", 1.0, 1.0), InputError, "H is str; expected an array of numbers"),
    ((ONE, None, None), FilterError, "error"),
    ((spoilt(TWO, np.nan, 1, 7), [1, 2], 1.0), FilterError, r"H\[1, 7\] is nan; expected a finite number"),
    ((spoilt(ONE, -np.inf, 3), 1.0, 1.0), FilterError, r"H\[0, 3\] is -inf"),
    ((TWO, [1, np.inf], 1.0), FilterError, r"error\[1\] is inf"),
    ((ONE, 1.0, np.nan), FilterError, "noise is nan"),
    ((TWO, [1, 2], [1.0, -0.1]), InputError, "the smallest noise is -0.1; expected a variance ≥ 0"),
    ((TWO, [1, 2], [[1, 0.5], [0.2, 1]]), InputError, "the asymmetry of noise"),
    (
        (TWO, [1, 2], [[1, 1e3], [1e3, 1]]),
        FilterError,
        "S is not positive definite: pivot .* at measurement 1",
    ),
    ((np.zeros(N), 1.0, 0.0), FilterError, "S is not positive definite: pivot 0.000e.00 at measurement 0"),
    ((np.stack([ONE, ONE]), [1, 2], 0.0), FilterError, "S is not positive definite"),
    ((1e200 * ONE, 1.0, 1.0), FilterError, "H P Hᵀ is not finite"),
    ((1e-3 * ONE, 1e308, 1e-300), FilterError, "the step of the weights is not finite"),
]


@pytest.mark.parametrize("covariance", ["dense", "tiled"])
@pytest.mark.parametrize(("update", "error", "message"), BAD_UPDATES)
def test_a_refused_update_changes_nothing(update, error, message, covariance):
    kalman, undisturbed = (RLEKF(np.zeros(N), (15, 25), covariance=covariance) for _ in range(2))
    for good in random_updates(N, 2, 5):
        kalman.update(*good)
        undisturbed.update(*good)
    before = bits(kalman)
    with pytest.raises(error, match=message):
        kalman.update(*update)
    assert bits(kalman) == before
    for good in random_updates(N, 2, 5, seed=6):
        kalman.update(*good)
        undisturbed.update(*good)
    assert bits(kalman) == bits(undisturbed)


@pytest.mark.parametrize("covariance", ["dense", "tiled"])
def test_an_indefinite_covariance_is_noticed(covariance):
    kalman = RLEKF(np.zeros(N), (15, 25), covariance=covariance)
    kalman.covariance.assign(1, np.diag(np.linspace(1, -3, 25)))
    before = bits(kalman)
    with pytest.raises(FilterError, match=r"H P Hᵀ is -2\.500e\+01 .* no longer positive definite"):
        kalman.update(np.where(np.arange(N) < 15, 0, 1), 1.0, 1.0)
    assert bits(kalman) == before


@pytest.mark.parametrize(
    ("arguments", "choices", "message"),
    [
        ((np.zeros((2, 3)),), {}, r"weights' shape is \(2, 3\)"),
        (([],), {}, "shape is"),
        (([1.0, np.inf],), {}, "weights hold a number that is not finite"),
        (("abc",), {}, "weights is str; expected an array of numbers"),
        ((ONE, (20, 21)), {}, "the blocks' sum is 41; expected 40, the number of weights"),
        ((ONE,), {"lam": 0.0}, r"lam is 0.0; expected a number in \(0, 1\]"),
        ((ONE,), {"lam": 1.2}, "lam is 1.2"),
        ((ONE,), {"nu": -1}, "nu is -1"),
        ((ONE,), {"P0": 0.0}, "P0 is 0.0; expected variances > 0"),
        ((ONE,), {"P0": spoilt(ONE, -1, 3)}, "P0 is not positive throughout"),
        ((ONE,), {"P0": np.ones(3)}, r"P0's shape is \(3,\); expected \(\) or \(40,\)"),
        ((ONE,), {"process_noise": -0.1}, "process_noise is -0.1; expected a finite number ≥ 0"),
        ((ONE,), {"covariance": "sparse"}, "covariance is 'sparse'; expected one of cuda, cuda coupled,"),
        ((ONE,), {"dtype": "float16"}, "dtype is float16; expected float32 or float64"),
    ],
)
def test_a_filter_that_cannot_be_made(arguments, choices, message):
    with pytest.raises(InputError, match=message):
        RLEKF(*arguments, **choices)


def test_prediction_variance_of_the_wrong_model():
    with pytest.raises(InputError, match=r"H's shape is \(39,\); expected \(m, 40\)"):
        prediction_variance(RLEKF(ONE), np.ones(39))
