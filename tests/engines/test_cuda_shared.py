"""P on the devices of several ranks: the bits of one, the numbers of the plain filter, any number of blocks.

Ranks are threads here, each with an emulated device, that meet in a `Crew`; under MPI they are judged in
tests/ranks.
"""

from __future__ import annotations

import ctypes

import numpy as np
import on_device
import pytest
from crew import together
from filter_checks import random_updates
from numpy.testing import assert_allclose, assert_array_equal

from kalmandp.engines.cuda.covariance import CudaCovariance
from kalmandp.engines.cuda.exchange import HostExchange, NcclExchange, exchange_of
from kalmandp.engines.cuda.filter import CudaRLEKF
from kalmandp.engines.cuda.shared import SharedCudaCovariance, SharedCudaRLEKF
from kalmandp.errors import FilterError
from kalmandp.kalman import RLEKF, Blocks
from kalmandp.kalman.coupled import WINDOW

ODD = Blocks((1, 65, 130, 64, 1))


def placed(team) -> dict:
    device = on_device.emulated()
    return {"device": device, "exchange": HostExchange(team, device)}


def trained(team, m, updates, coupled=False, dtype="float64", blocks=ODD, stop=None):
    """A shared filter after some updates, half of them asynchronous; all that it knows."""
    w0 = np.random.default_rng(0).normal(size=blocks.n_weights)
    kalman = SharedCudaRLEKF(w0, blocks, dtype=dtype, coupled=coupled, process_noise=1e-3, **placed(team))
    xp = kalman.device.xp
    for n, (H, error, R) in enumerate(random_updates(blocks.n_weights, m, updates)):
        if n % 2:
            kalman.enqueue(xp.asarray(H), xp.asarray(error), R)
        else:
            info = kalman.update(xp.asarray(H), error, R)
    kalman.synchronize()
    P = kalman.covariance
    known = [kalman.weights, P.diagonal(), P.trace(), *(P.dense(l) for l in range(len(blocks)))]
    return [x.get() for x in known], info, P.nbytes


@pytest.mark.parametrize(
    ("m", "updates", "coupled", "dtype"),
    [
        (1, 3, False, "float64"), (13, WINDOW // 13 + 1, False, "float64"), (3, 2, False, "float32"),
        (13, WINDOW // 13 + 1, True, "float64"), (2, 3, True, "float64"), (WINDOW + 6, 1, True, "float64"),
    ],
)  # fmt: skip
def test_the_bits_of_one_and_the_plain_filter(m, updates, coupled, dtype):
    one, info, _ = together(1, lambda team: trained(team, m, updates, coupled, dtype))[0]
    for n in (2, 7):  # seven: more ranks than blocks
        for known, _, _ in together(n, lambda team: trained(team, m, updates, coupled, dtype)):
            for a, b in zip(one, known, strict=True):
                assert_array_equal(a, b)
    w0 = np.random.default_rng(0).normal(size=ODD.n_weights)
    plain = RLEKF(
        w0, ODD, dtype=dtype, covariance="dense" + " coupled" * coupled, process_noise=1e-3
    )  # fmt: skip
    for H, error, R in random_updates(ODD.n_weights, m, updates):
        plain.update(H, error, R)
    rtol = {"float64": 1e-11, "float32": 2e-5}[dtype]
    assert_allclose(one[0], plain.weights, rtol=0, atol=rtol * np.abs(plain.weights).max())
    for l, P in enumerate(one[3:]):
        assert_allclose(P, plain.covariance.dense(l), rtol=0, atol=rtol * np.abs(P).max())


def test_memory_of_a_rank():
    """1/R + 5 % of many blocks."""
    blocks = Blocks((64,) * 40)
    one = together(1, lambda team: trained(team, 2, 2, blocks=blocks)[2])[0]
    for n in (2, 4):
        assert max(together(n, lambda team: trained(team, 2, 2, blocks=blocks)[2])) <= (1 / n + 0.05) * one
        most = SharedCudaCovariance.needs(blocks, "float64", 2, n)
        assert most <= (1 / n + 0.05) * CudaCovariance.needs(blocks, "float64", 2)


def test_a_step_that_is_not_finite_on_one_device_is_refused_by_all():
    w0 = np.zeros(ODD.n_weights)
    w0[-1] = 1.795e308  # of the last block: with the step it is not finite

    def refused(team):
        kalman = SharedCudaRLEKF(w0, ODD, P0=1e306, **placed(team))
        xp = kalman.device.xp
        H = np.zeros((1, ODD.n_weights))
        H[0, -1] = 1e-153
        kalman.enqueue(xp.asarray(H), xp.asarray(np.array([8e153])), 1e-30)
        with pytest.raises(FilterError, match="step of the weights is not finite"):
            kalman.synchronize()
        return kalman.weights.get(), kalman.updates, kalman.covariance.diagonal().get()

    for weights, updates, variance in together(3, refused):
        assert_array_equal(weights, w0)
        assert updates == 0
        assert_array_equal(variance, np.full(ODD.n_weights, 1e306))


@pytest.mark.parametrize("coupled", [False, True])
def test_stored_and_taken_up_by_another_number(coupled):
    """A state of three ranks goes on on two, on one device without ranks, and one of the host's on two."""

    def stored(team):
        return _through_first(team, filter_of(team))

    def filter_of(team):
        w0 = np.random.default_rng(0).normal(size=ODD.n_weights)
        kalman = SharedCudaRLEKF(w0, ODD, coupled=coupled, **placed(team))
        return learn(kalman, 0, 7)

    def learn(kalman, first, end):
        for H, error, R in list(random_updates(ODD.n_weights, 3, end))[first:]:
            kalman.update(kalman.device.xp.asarray(H), error, R)
        return kalman

    state = together(3, stored)[0]
    whole = together(1, lambda team: learn(filter_of(team), 7, 12).weights.get())[0]
    again = lambda team: SharedCudaRLEKF.from_state(state, **placed(team))
    for weights in together(2, lambda team: learn(again(team), 7, 12).weights.get()):
        assert_array_equal(weights, whole)
    alone = learn(CudaRLEKF.from_state(state, device=on_device.emulated()), 7, 12)
    assert_allclose(alone.weights.get(), whole, rtol=1e-11)
    host = RLEKF(np.ones(ODD.n_weights), ODD, covariance="tiled" + " coupled" * coupled)
    for H, error, R in list(random_updates(ODD.n_weights, 3, 12))[:7]:
        host.update(H, error, R)
    state = host.state()
    for H, error, R in list(random_updates(ODD.n_weights, 3, 12))[7:]:
        host.update(H, error, R)
    for weights in together(2, lambda team: learn(again(team), 7, 12).weights.get()):
        assert_allclose(weights, host.weights, rtol=1e-10)


class FakeNccl:
    """CuPy's module as one rank of a crew sees it: a broadcast of a group is done where the group ends."""

    NCCL_FLOAT64 = 8

    def __init__(self, team):
        self.team, self.asked = team, None

    def get_unique_id(self):
        return tuple(range(128))

    def NcclCommunicator(self, n, name, rank):
        assert (n, rank, name) == (self.team.size, self.team.rank, tuple(range(128)))
        return self

    def groupStart(self):
        self.asked = []

    def bcast(self, pointer, count, number, root, stream):
        assert number == self.NCCL_FLOAT64 and stream == 0
        self.asked.append((pointer, count, root))

    def groupEnd(self):
        own = [
            (root, ctypes.string_at(pointer, 8 * count) if root == self.team.rank else None)
            for pointer, count, root in self.asked
        ]
        every = self.team.all(own)
        for n, (pointer, count, root) in enumerate(self.asked):
            assert {theirs[n][0] for theirs in every} == {root}
            ctypes.memmove(pointer, every[root][n][1], 8 * count)
        self.asked = None


def test_nccl_gathers_what_the_hosts_do():
    def gathered(team, identity=None):
        device = on_device.emulated()
        device.nccl, device.identity = FakeNccl(team), identity or team.rank
        exchange = exchange_of(team, device)
        own = device.xp.asarray(np.arange(2.0 * team.rank).reshape(2, -1))
        counts = [2 * r for r in range(team.size)]
        return (
            type(exchange),
            exchange.gather(own, counts).get(),
            HostExchange(team, device).gather(own, counts).get(),
        )

    for kind, one, two in together(3, gathered):
        assert kind is NcclExchange
        assert_array_equal(one, two)
        assert_array_equal(one, [0, 1, 0, 1, 2, 3])
    for kind, *_ in together(3, lambda team: gathered(team, "one GPU for all")):
        assert kind is HostExchange
    assert together(1, gathered)[0][0] is HostExchange


def _through_first(team, kalman) -> dict:
    """The state, read by rank 0 from all."""
    from kalmandp.ranks.rows import Rows, written_by_first

    state, found = kalman.state(), {}

    def write():
        for name, value in state.items():
            found[name] = value[:] if isinstance(value, Rows) else value

    written_by_first(team, state, write)
    return found
