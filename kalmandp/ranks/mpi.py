"""A team of MPI's ranks, through mpi4py. No other file imports it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from kalmandp.errors import MissingPackage


def _MPI() -> Any:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):  # the latter without a library of MPI
        raise MissingPackage("mpi4py", "mpi", "a run under mpiexec") from None
    return MPI


class MpiTeam:
    """The ranks of a communicator, of which three duplicates are made: to work, to agree, and for the end.

    What a rank waits for on one of them is never answered by a message on another.
    """

    def __init__(self, comm: Any):
        self._MPI = _MPI()
        self.comm, self._agreement, self._end = comm.Dup(), comm.Dup(), comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        near = self.comm.Split_type(self._MPI.COMM_TYPE_SHARED)
        self.local_rank = near.Get_rank()
        near.Free()

    def gather(self, own: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        everything = np.empty(sum(counts))
        own = np.ascontiguousarray(own, dtype=float).ravel()
        self.comm.Allgatherv(own, (everything, list(counts)))
        return everything

    def exchange(self, to_r: Sequence[np.ndarray], counts: Sequence[int]) -> list[np.ndarray]:
        sizes = [len(x) for x in to_r]
        sent = np.concatenate(to_r) if len(to_r) > 1 else to_r[0]
        got = np.empty(sum(counts))
        self.comm.Alltoallv((sent, sizes), (got, list(counts)))
        return np.split(got, np.cumsum(counts)[:-1])

    def all(self, value: Any) -> list:
        return self.comm.allgather(value)

    def of_first(self, value: Any) -> Any:
        return self.comm.bcast(value, root=0)

    def to_first(self, own: np.ndarray | None, sender: int) -> Any:
        if sender == 0:
            return own if self.rank == 0 else None
        if self.rank == sender:
            self.comm.send(own, dest=0, tag=1)
        return self.comm.recv(source=sender, tag=1) if self.rank == 0 else None

    def all_agree(self, seconds: float) -> bool:
        return self._all_come(self._agreement, seconds)

    def all_failed(self, seconds: float) -> bool:
        return self._all_come(self._end, seconds)

    def _all_come(self, comm: Any, seconds: float) -> bool:
        """Who has met all others in time says so; all do what all have said.

        The others' barrier ends, too, where one has waited in vain and gone on: it then says No.
        """
        yes = np.array([_in_time(comm.Ibarrier(), seconds)], dtype=np.int8)
        said = np.zeros(self.size, dtype=np.int8)
        answers = comm.Iallgather(yes, said)
        return bool(yes[0]) and _in_time(answers, seconds) and bool(said.all())

    def end_all(self, status: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.comm.Abort(status)

    def close(self) -> None:
        for comm in (self.comm, self._agreement, self._end):
            comm.Free()


def _in_time(request: Any, seconds: float) -> bool:
    """Whether a request that is not waited for is answered within so many seconds."""
    until = time.monotonic() + seconds
    while not request.Test():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


@cache
def world() -> MpiTeam:
    """The team of all ranks that the launcher started."""
    return MpiTeam(_MPI().COMM_WORLD)
