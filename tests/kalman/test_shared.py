"""P as ranks share it, on one rank without MPI: numbers of the reference, the same bits for any threads."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from kalmandp.engines.cpu.covariance.shared import shared_class
from kalmandp.engines.cpu.covariance.shares import traffic
from kalmandp.engines.cpu.covariance.tiled import PANEL, PENDING, WAITING
from kalmandp.kalman import RLEKF, Blocks
from kalmandp.ranks.team import Alone, share

SIZES = [(300,), (40, 130, 7, 200)]
#: Few numbers, more than go through P at once, and many, which are matrix products; and few after them.
NUMBERS = (3, PANEL + 4, WAITING + 9, 2 * PENDING + 5, 2)


def updated(sizes, covariance, dtype="float64") -> list:
    """What a few updates leave: weights, P of each block, and the norms that are told."""
    rng, blocks = np.random.default_rng(3), Blocks(sizes)
    kalman = RLEKF(np.zeros(sum(sizes)), blocks, covariance=covariance, lam=0.97, dtype=dtype)
    told = []
    for m in NUMBERS:
        H = rng.normal(size=(m, blocks.n_weights)) / np.sqrt(blocks.n_weights)
        info = kalman.update(H, rng.normal(size=m), 0.3)
        told += [info.step_norm, info.gain_norm]
    return [kalman.weights, np.array(told), *(kalman.covariance.dense(l) for l in range(len(sizes)))]


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_against_the_reference(sizes, coupled):
    reference = updated(sizes, "dense coupled" if coupled else "dense")
    for one, two in zip(reference, updated(sizes, shared_class(Alone(), coupled)), strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-12)  # of numbers of order one, 200 sums deep


@pytest.mark.parametrize("sizes", SIZES)
def test_float32_is_the_same_to_its_digits(sizes):
    reference, found = updated(sizes, "dense"), updated(sizes, shared_class(Alone(), False), "float32")
    for one, two in zip(reference, found, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=3e-5)  # P has 7 digits


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
def test_threads_change_no_bit():
    sizes, found = (900, 200), []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            found.append(updated(sizes, shared_class(Alone(), False)))
    finally:
        numba.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_nothing_travels_on_one_rank():
    moved = traffic(Blocks((500, 300)), 1, 100)
    assert moved.received_r.tolist() == [0.0] and moved.messages == 0 and moved.tiles_r.tolist() == [1.0]


@pytest.mark.parametrize("n_ranks", [2, 4, 16])
def test_a_large_P_is_shared_evenly(n_ranks):
    """1/R + 5 %, of one block and of many."""
    for sizes in ((20_000,), (5120,) * 8):
        blocks = Blocks(sizes)
        one, several = (traffic(blocks, R, 2).memory_r for R in (1, n_ranks))
        assert several.max() <= (1 / n_ranks + 0.05) * one[0]
        assert several.sum() >= one[0] - 1


def test_share_is_of_consecutive_chunks():
    assert share(np.array([4, 1, 1, 4]), 2).tolist() == [0, 2, 4]
    assert share(np.array([10, 1]), 3).tolist() == [0, 0, 1, 2]
