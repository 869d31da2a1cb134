"""What the machine itself can do, measured in the same run: reads of P, and the nets' matrix products."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numba
import numpy as np

from kalmandp.kalman import RLEKF

from .turns import Clock, clock


def read_by_gemv(squares: list[np.ndarray], rng: np.random.Generator) -> Clock:
    """One full read of P by BLAS: P_l x for every block."""
    x = [rng.normal(size=len(P_ww)) for P_ww in squares]
    return clock(lambda: [P_ww @ x_w for P_ww, x_w in zip(squares, x, strict=True)])


def read_halves(kalman: RLEKF) -> Clock:
    """One read of what a tiled covariance holds, half of P, as plain sums."""
    tiles = kalman.covariance._tiles.reshape(-1)
    pool = ThreadPoolExecutor(numba.get_num_threads())
    halves = np.array_split(tiles, numba.get_num_threads())
    return clock(lambda: list(pool.map(np.sum, halves)))


def products(n_atoms: int, widths: tuple[int, ...], rng: np.random.Generator) -> Clock:
    """The matrix products of one pass of a net of these widths for all atoms, by BLAS."""
    X = [rng.normal(size=(n_atoms, n)) for n in widths]
    W = [rng.normal(size=shape) for shape in pairwise(widths)]
    return clock(lambda: [np.matmul(x, w, out=y) for x, w, y in zip(X[:-1], W, X[1:], strict=True)])
