"""What several ranks would take: bytes, messages and seconds of a step, from parts measured on one rank.

A step on R ranks is modelled as ::

    seconds = rows · (largest share of the rows of H)     each chunk of rows, or frame, is made by one rank
            + update · (largest share of the tiles of P)   as ranks make it: `engines.cpu.covariance.shared`
            + alone                                        S = CCᵀ, and neighbours and prediction of a frame
                                                           that all ranks measure: on every rank
            + bytes received / bandwidth + messages · latency

Computing and sending are not overlapped, as in the code. Bytes and messages of the update are counted by
`engines.cpu.covariance.shares.traffic`; to them come the rows of H, of which every rank receives all that
it has not made, and small objects.
"""

from __future__ import annotations

from math import ceil, log2
from typing import NamedTuple

from kalmandp.engines.cpu.covariance.shares import NUMBER, traffic
from kalmandp.kalman.blocks import Blocks

#: Collective calls of a step with small objects: the batch is agreed on, what was measured is told.
SMALL_CALLS = 2
#: Bytes per second and seconds per message, where nothing else is said.
BANDWIDTH, LATENCY = 25e9, 2e-6


class Parts(NamedTuple):
    """Seconds of a step on one rank: making the rows of H, updating P, and what no rank is spared."""

    rows: float
    update: float
    alone: float


class Rates(NamedTuple):
    """What a machine takes, measured on a small case: seconds of one rank.

    row : of one number of H, per weight; of a batch with its neighbours and prediction, made frame by frame
    operation : a multiplication and an addition of an update of P
    predicted : of the prediction, per weight, on every rank
    ready : of neighbours and environment of a step, whatever the weights, on every rank
    """

    row: float
    operation: float
    predicted: float
    ready: float

    def parts(self, blocks: Blocks, step: Step) -> Parts:
        """The same for a P of these blocks."""
        m, N = step.numbers, blocks.n_weights
        update, factor = operations(blocks, m)
        return Parts(
            self.row * step.rows * N,
            self.operation * step.updates * update,
            self.ready + self.predicted * N + self.operation * step.updates * factor,
        )


def operations(blocks: Blocks, m: int) -> tuple[float, float]:
    """Operations of an update by m numbers: those that ranks share, and S = CCᵀ, which each makes.

    2 n_l² m for P Hᵀ and n_l² m for P − GᵀG of each block, 2 N m² for H P Hᵀ and C⁻¹K; m³/3.
    """
    squares = sum(float(n) * n for n in blocks.sizes)
    return 3.0 * squares * m + 2.0 * blocks.n_weights * m * m, m**3 / 3.0


class Step(NamedTuple):
    """What a step measures.

    numbers : m, of one update;  updates : in a step
    pieces : chunks of rows, or frames of a batch, that are made by one rank each; 1 if every rank makes all
    sent : rows of H that travel in a step, 0 if every rank makes all
    """

    numbers: int
    updates: int
    pieces: int
    sent: int

    @property
    def rows(self) -> int:
        """Rows of H that are made in a step, on all ranks together."""
        return max(self.sent, self.numbers * self.updates)


class Network(NamedTuple):
    """bandwidth : bytes per second that a rank receives;  latency : seconds of a message"""

    bandwidth: float = BANDWIDTH
    latency: float = LATENCY


class OnRanks(NamedTuple):
    """A step on several ranks, of the rank that has most to do.

    n_ranks : R;  memory : bytes of P on it;  rows_memory : bytes of H and K on it
    received : bytes it receives in a step;  messages : those it waits for, one after another
    seconds : of a step, None if nothing was measured;  travelling : the part of it that is the network's
    """

    n_ranks: int
    memory: int
    rows_memory: int
    received: int
    messages: int
    seconds: float | None
    travelling: float


def on_ranks(
    blocks: Blocks, n_ranks: int, step: Step, parts: Parts | None, network: Network | None = None,
    dtype: str = "float64", coupled: bool = False,
) -> OnRanks:  # fmt: skip
    """The model above.

    Parameters
    ----------
    blocks : of P;  n_ranks : R;  step : what is measured
    parts : measured on one rank; None if only bytes are asked for
    network : by default 25 GB/s and 2 µs
    dtype, coupled : of P

    Returns
    -------
    OnRanks
    """
    R, N, network = n_ranks, blocks.n_weights, Network() if network is None else network
    moved = traffic(blocks, R, step.numbers, dtype, coupled)
    to_all = ceil(log2(R)) if R > 1 else 0
    largest = ceil(step.pieces / R) / step.pieces
    received = step.updates * float(moved.received_r.max()) if R > 1 else 0.0
    received += NUMBER * step.sent * N * (1.0 - 1.0 / min(R, step.pieces))
    messages = step.updates * moved.messages + SMALL_CALLS * to_all + (to_all if step.sent else 0)
    travelling = received / network.bandwidth + messages * network.latency if R > 1 else 0.0
    seconds = None
    if parts is not None:
        spread = largest if step.pieces > 1 else 1.0
        seconds = parts.rows * spread + parts.update * float(moved.tiles_r.max()) + parts.alone + travelling
    held = max(step.numbers, step.sent)
    rows_memory = NUMBER * (held * N + step.numbers * ceil(N * float(moved.tiles_r.max())))
    return OnRanks(
        R, int(moved.memory_r.max()), rows_memory, round(received), round(messages), seconds, travelling
    )
