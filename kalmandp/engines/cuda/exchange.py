"""What goes from the GPU of one rank to those of the others: through NCCL, or through the hosts.

NCCL works between devices that are all different; it sends in the caller's stream, and nobody waits. Where
CuPy has no NCCL, or two ranks have one GPU, arrays go to the host, through MPI, and back. Nothing is ever
summed on the way (`kalmandp.ranks.team`): either way the bits are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.ranks.team import Team


class Exchange(Protocol):
    """How arrays of devices travel; every method is called by all ranks of ``team`` alike."""

    team: Team

    def gather(self, own: Any, counts: Sequence[int]) -> Any:
        """The float64 arrays of all ranks, one behind the other, on every device: (Σ counts,).

        Parameters
        ----------
        own : of any shape, contiguous, counts[rank] numbers
        counts : (R,) how many numbers each rank gives, known to all
        """
        ...


class HostExchange:
    """Through the hosts and their MPI: each call waits for the device."""

    def __init__(self, team: Team, device: Any):
        self.team, self.xp = team, device.xp

    def gather(self, own: Any, counts: Sequence[int]) -> Any:
        return self.xp.asarray(self.team.gather(to_numpy(own), counts))


class NcclExchange:
    """From device to device by NCCL, in the current stream; the host goes on at once.

    Parameters
    ----------
    team : the ranks, each with a device of its own
    device : ours, whose ``nccl`` is CuPy's module of that name
    """

    def __init__(self, team: Team, device: Any):
        self.team, self.xp, self.nccl = team, device.xp, device.nccl
        name = team.of_first(self.nccl.get_unique_id() if team.rank == 0 else None)
        self.comm = self.nccl.NcclCommunicator(team.size, name, team.rank)

    def gather(self, own: Any, counts: Sequence[int]) -> Any:
        every, first_r = self.xp.empty(sum(counts)), np.cumsum([0, *counts]).tolist()
        me, stream = self.team.rank, self.xp.cuda.get_current_stream().ptr
        every[first_r[me] : first_r[me + 1]] = own.reshape(-1)
        number = self.nccl.NCCL_FLOAT64
        self.nccl.groupStart()
        for rank, count in enumerate(counts):
            if count:  # parts differ in length: each goes out from its rank
                place = every.data.ptr + every.itemsize * first_r[rank]
                self.comm.bcast(place, count, number, rank, stream)
        self.nccl.groupEnd()
        return every


def exchange_of(team: Team, device: Any) -> Exchange:
    """NCCL if every rank has it and a device of its own, else the hosts; all ranks make this call.

    Parameters
    ----------
    team : the ranks
    device : with ``nccl``, a module or None, and ``identity``, which no other device has
    """
    told = team.all((device.identity, device.nccl is not None))
    apart = len({identity for identity, _ in told}) == team.size
    if team.size > 1 and apart and all(has for _, has in told):
        return NcclExchange(team, device)
    return HostExchange(team, device)
