"""A `Team` whose ranks are threads of one process: for tests of what several ranks do, without MPI."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

#: Seconds that a rank waits for the others.
PATIENCE = 60.0


class Crew:
    """One rank; all of them share ``board`` and ``meet``. Each call puts something up, and reads all."""

    def __init__(self, rank: int, board: list, meet: threading.Barrier):
        self.rank, self.size, self.local_rank = rank, len(board), rank
        self._board, self._meet = board, meet

    def all(self, value) -> list:
        self._board[self.rank] = value
        self._meet.wait(PATIENCE)
        found = list(self._board)
        self._meet.wait(PATIENCE)
        return found

    def gather(self, own, counts):
        parts = self.all(np.array(own, dtype=float).ravel())
        assert [len(p) for p in parts] == list(counts)
        return np.concatenate(parts)

    def exchange(self, to_r, counts):
        parts = [theirs[self.rank] for theirs in self.all(list(to_r))]
        assert [len(p) for p in parts] == list(counts)
        return parts

    def of_first(self, value):
        return self.all(value)[0]

    def to_first(self, own, sender):
        found = self.all(own)[sender]
        return found if self.rank == 0 else None


def together(n: int, work) -> list:
    """What ``work(team)`` returns on each of n ranks; the first error of a rank is raised."""
    board, meet = [None] * n, threading.Barrier(n)

    def run(rank: int):
        try:
            return work(Crew(rank, board, meet))
        except BaseException:
            meet.abort()
            raise

    with ThreadPoolExecutor(n) as pool:
        runs = [pool.submit(run, rank) for rank in range(n)]
    errors = [r.exception() for r in runs if r.exception() is not None]
    real = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)]
    for error in real or errors:
        raise error
    return [r.result() for r in runs]
