"""An array whose rows lie on all ranks, in the order of ranks, read by rank 0 piece by piece.

Rank 0 reads (and writes a file) in `written_by_first`, while the others give what it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kalmandp.ranks.team import Team, agree


class Rows:
    """Rows of an array, ``own`` of them here; rank r has ``counts[r]``.

    Parameters
    ----------
    team : the ranks
    name : by which rank 0 asks for it
    own : (own rows, …)
    counts : rows of each rank
    """

    def __init__(self, team: Team, name: str, own: np.ndarray, counts: Sequence[int]):
        self.team, self.name, self.own = team, name, own
        self.first_r = np.concatenate([[0], np.cumsum(counts)])
        self.shape, self.dtype = (int(self.first_r[-1]), *own.shape[1:]), own.dtype
        self.ndim, self.size = own.ndim, int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows, on rank 0 alone: the others must be in `written_by_first`."""
        asked = rows.indices(len(self))
        self.team.of_first((self.name, asked))
        return self.send(asked)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def send(self, asked: tuple[int, int, int]) -> Any:
        """What rank 0 asked for, to rank 0."""
        k = np.arange(*asked)
        parts = []
        for sender in range(self.team.size):
            low, high = self.first_r[sender], self.first_r[sender + 1]
            theirs = k[(k >= low) & (k < high)]
            if not len(theirs):
                continue
            own = None
            if sender == self.team.rank:
                i = theirs - low
                own = np.ascontiguousarray(self.own[i[0] : i[-1] + 1 : asked[2]])
            parts.append(self.team.to_first(own, sender))
        if self.team.rank:
            return None
        return np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)


def written_by_first(team: Team, state: dict[str, Any], write: Callable[[], None]) -> None:
    """Call ``write`` on rank 0, which may read the `Rows` of a state while the other ranks give them.

    Parameters
    ----------
    team : the ranks, all of which make this call
    state : arrays and numbers, some of them `Rows`
    write : what rank 0 does with it

    Raises
    ------
    KalmanDPError, RuntimeError
        What ``write`` raised, on all ranks alike (`agree`).
    """
    if team.rank:
        by_name = {x.name: x for x in state.values() if isinstance(x, Rows)}
        while (request := team.of_first(None)) is not None:
            name, asked = request
            by_name[name].send(asked)
        agree(team, None)
        return
    failed: Exception | None = None
    try:
        write()
    except Exception as error:  # whatever it is, the others wait to be asked
        if team.size == 1:
            raise
        failed = error
    team.of_first(None)
    agree(team, failed)
