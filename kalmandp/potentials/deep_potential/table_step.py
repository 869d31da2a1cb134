"""How fine the embedding's table must be: the largest of the steps h, h/2, h/4, … whose own error is small.

A grid has the nodes of all coarser ones, so the values G of one grid tell the errors of all their tables,
each from the nodes of its own step. The step that is found therefore depends on the weights and the frame
alone; where the search for it begins only saves time. Engines supply two things: G on a grid, and the size of
its differences there. All that follows from them is computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import comb, factorial, prod
from typing import TypeVar

import numpy as np

from kalmandp.potentials.deep_potential.table import TableGrid

Values = TypeVar("Values")

#: The estimated error that a table of the smallest step may have: of nets so sharp training still goes on,
#: with ∂F/∂w off by up to some millionths.
AT_WORST = 1e-9


def find_step(
    top: TableGrid, guess: int, tolerance: float, tabulate: Callable[[TableGrid], Values],
    estimate: Callable[[Values, int], list[float]],
) -> tuple[int, Values, float]:  # fmt: skip
    """Find how often the step of ``top`` must be halved, and the values of that grid.

    Parameters
    ----------
    top : the grid of the largest step
    guess : halvings to begin with: as many as the last search has found
    tolerance : the largest relative error of a table, as `relative_error` has it; `AT_WORST` at the smallest
        step
    tabulate : G on a grid
    estimate : errors of the tables of 0, 1, … n halvings, from the values of the grid of n

    Returns
    -------
    The number of halvings, the values of that grid and its table's error

    Raises
    ------
    InputError
        If the weights are so large that no step is small enough (`TableGrid.refined`).
    """
    finest = guess
    while True:
        values = tabulate(top.refined(finest))
        errors = estimate(values, finest)
        good = [n for n, error in enumerate(errors) if error <= tolerance]
        if not good and top.is_smallest(finest) and errors[finest] <= AT_WORST:
            good = [finest]
        if good:
            break
        finest += 1
    if good[0] != finest:
        values = tabulate(top.refined(good[0]))
    return good[0], values, errors[good[0]]


def estimate_windows(top: TableGrid, halvings: int, low: float, high: float) -> np.ndarray:
    """Nodes from which the errors of the steps h, h/2, …, h/2ⁿ are estimated (h of ``top``, n halvings).

    They are those that g in [low, high] is computed from, and one more, for a difference: what other frames
    did to the grid does not matter.

    Returns
    -------
    (n + 1, 3) int64: place of the first node in the finest grid, one past the last, and stride
    """
    windows = np.empty((halvings + 1, 3), dtype=np.int64)
    for n in range(halvings + 1):
        stride = 2 ** (halvings - n)
        first, last = top.refined(n).touched(low, high)
        windows[n] = first * stride, last * stride + 1, stride
    return windows


def binomials(order: int) -> np.ndarray:
    """(−1)ⁿ N!/(n!(N − n)!), the coefficients of an N-th difference, N the ``order`` of the polynomials."""
    return np.array([(-1.0) ** n * comb(order, n) for n in range(order + 1)])


def relative_error(difference: float, largest: float, order: int) -> float:
    """Error of the polynomials between nodes, relative to the largest |G|, from the nodes alone.

    The remainder half-way is Π(x − x_n)/n! · ΔⁿG = (½·3/2·5/2 … (n−1)/2)²/n! · ΔⁿG for n = ``order``.

    Parameters
    ----------
    difference : the largest difference |ΔⁿG| of node values
    largest : the largest |G|
    order : n
    """
    rounding = 2**order * np.finfo(float).eps * largest
    remainder = prod(k / 2 for k in range(1, order, 2)) ** 2 / factorial(order)
    return float(remainder * max(difference - rounding, 0.0) / max(largest, 1e-300))


def relative_errors(squares: Iterable, order: int) -> list[float]:
    """`relative_error` of several tables, from their largest |ΔⁿG|² and |G|²."""
    of_nodes = (np.sqrt(pair).tolist() for pair in squares)
    return [relative_error(difference, largest, order) for difference, largest in of_nodes]
