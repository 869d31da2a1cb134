"""Count what updates of a P that ranks share receive, and compare it with `shares.traffic`: every byte.

A whole window of updates is counted, so that a fold is in it. Ends with status 1 if a rank has another sum.
"""

from __future__ import annotations

import sys

import numpy as np

from kalmandp.engines.cpu.covariance.shared import shared_class
from kalmandp.engines.cpu.covariance.shares import traffic
from kalmandp.engines.cpu.covariance.tiled import PENDING
from kalmandp.kalman import RLEKF, Blocks
from kalmandp.ranks.team import team_of

#: Blocks within ranks, over several of them, and of one tile; m numbers, also more than go through P at once.
CASES = (
    ((700,), 8, False), ((40, 300, 7, 500), 4, False), ((300, 200), 24, False), ((260, 300), 8, True),
    ((500, 40, 300), PENDING, False),
)  # fmt: skip


class Counted:
    """A team whose received numbers are counted."""

    def __init__(self, team):
        self.team, self.rank, self.size, self.received = team, team.rank, team.size, 0

    def gather(self, own, counts):
        self.received += 8 * (sum(counts) - counts[self.rank])
        return self.team.gather(own, counts)

    def exchange(self, to_r, counts):
        self.received += 8 * (sum(counts) - counts[self.rank])
        return self.team.exchange(to_r, counts)


def main() -> int:
    world, rng, wrong = team_of(), np.random.default_rng(0), 0
    for sizes, m, coupled in CASES:
        team, blocks = Counted(world), Blocks(sizes)
        kalman = RLEKF(np.zeros(sum(sizes)), blocks, covariance=shared_class(team, coupled), lam=0.99)
        updates = PENDING // m
        expected = 0.0
        for u in range(updates):
            kalman.update(rng.normal(size=(m, sum(sizes))), rng.normal(size=m), 1.0)
            moved = traffic(blocks, world.size, m, "float64", coupled, pending=m * u)
            expected += moved.received_r[world.rank]
        if not coupled:
            kalman.covariance.fold()
        memory = moved.memory_r[world.rank]
        wrong += (team.received, kalman.covariance.nbytes) != (expected, memory)
        print(sizes, m, world.rank, team.received, expected, kalman.covariance.nbytes, memory, flush=True)
    return int(any(world.all(wrong)))


if __name__ == "__main__":
    sys.exit(main())
