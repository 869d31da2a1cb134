"""A team of MPI's ranks, through mpi4py. No other file imports it."""

from __future__ import annotations

import os
import pickle
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


#: A rank that waits looks so often without a pause, then sleeps so many seconds after each look.
LOOKS, NAP = 50, 5e-5
#: Bytes of an object, its length first, that go in one message; of a larger one the whole goes in a second.
HEAD = 1024


class MpiTeam:
    """The ranks of a communicator, of which three duplicates are made: to work, to agree, and for the end.

    What a rank waits for on one of them is never answered by a message on another.

    MPI's own calls use a processor fully while they wait. Where that is one which another rank, or another
    program, needs (`crowded`), the message that is waited for comes later by it; so ranks sleep there.
    """

    def __init__(self, comm: Any):
        self._MPI = _MPI()
        self.comm, self._agreement, self._end = comm.Dup(), comm.Dup(), comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        near = self.comm.Split_type(self._MPI.COMM_TYPE_SHARED)
        self.local_rank = near.Get_rank()
        self.sleeps = crowded(near.allgather(_processors()))
        near.Free()

    def _wait(self, request: Any) -> None:
        if not self.sleeps:
            request.Wait()
            return
        looks = 0
        while not request.Test():
            looks += 1
            if looks > LOOKS:
                time.sleep(NAP)

    def gather(self, own: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        everything = np.empty(sum(counts))
        own = np.ascontiguousarray(own, dtype=float).ravel()
        self._wait(self.comm.Iallgatherv(own, (everything, list(counts))))
        return everything

    def exchange(self, to_r: Sequence[np.ndarray], counts: Sequence[int]) -> list[np.ndarray]:
        sizes = [len(x) for x in to_r]
        some = [x for x in to_r if len(x)] or [to_r[0]]
        sent = np.concatenate(some) if len(some) > 1 else some[0]  # none is copied for one of them
        got = np.empty(sum(counts))
        self._wait(self.comm.Ialltoallv((sent, sizes), (got, list(counts))))
        return np.split(got, np.cumsum(counts)[:-1])

    def all(self, value: Any) -> list:
        told = pickle.dumps(value)
        heads = np.empty((self.size, HEAD), dtype=np.uint8)
        self._wait(self.comm.Iallgather(_head(told), heads))
        sizes = heads[:, :8].copy().view(np.int64)[:, 0]
        if sizes.max() <= HEAD - 8:
            return [pickle.loads(head[8 : 8 + n].tobytes()) for head, n in zip(heads, sizes, strict=True)]
        every = np.empty(int(sizes.sum()), dtype=np.uint8)
        self._wait(self.comm.Iallgatherv(np.frombuffer(told, dtype=np.uint8), (every, sizes.tolist())))
        return [pickle.loads(part.tobytes()) for part in np.split(every, np.cumsum(sizes)[:-1])]

    def of_first(self, value: Any) -> Any:
        told = pickle.dumps(value) if self.rank == 0 else b""
        head = _head(told)
        self._wait(self.comm.Ibcast(head, root=0))
        size = int(head[:8].view(np.int64)[0])
        if size <= HEAD - 8:
            return pickle.loads(head[8 : 8 + size].tobytes())
        whole = np.frombuffer(told, dtype=np.uint8).copy() if told else np.empty(size, dtype=np.uint8)
        self._wait(self.comm.Ibcast(whole, root=0))
        return pickle.loads(whole.tobytes())

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


def _head(told: bytes) -> np.ndarray:
    """The length of these bytes and as many of them as fit into a first message."""
    text = len(told).to_bytes(8, sys.byteorder) + told[: HEAD - 8]
    return np.frombuffer(text.ljust(HEAD, b"\0"), dtype=np.uint8).copy()


def _processors() -> tuple[frozenset[int], int]:
    """Those that this process may use, and the threads that it will compute with."""
    own = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    own = own or frozenset(range(os.cpu_count() or 1))
    threads = os.environ.get("NUMBA_NUM_THREADS", "")
    return own, int(threads) if threads.isdigit() else len(own)


def crowded(ranks: Sequence[tuple[frozenset[int], int]]) -> bool:
    """Whether ranks of a machine, by processors and threads, or other programs, wait for a processor.

    Examples
    --------
    >>> crowded([(frozenset({0, 1}), 2)] * 2)
    True
    """
    processors = frozenset[int]().union(*(own for own, _ in ranks))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    # half a processor more than there are: what has just started with us is not in the way
    return sum(n for _, n in ranks) > len(processors) or load > (os.cpu_count() or 1) + 0.5


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
