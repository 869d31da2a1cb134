"""What is asked of the ranks that work together, and the one rank of a program without MPI.

Every method is called by all ranks alike. Nothing is ever summed by MPI: parts are gathered and added up in
an order of their own (`ranks.tree`), so that a sum has the same bits for any number of ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from kalmandp.errors import InputError, KalmanDPError
from kalmandp.ranks.launched import is_alone, under_mpi


class Team(Protocol):
    """Some ranks; ``rank`` is our number among ``size``, ``local_rank`` that on this machine."""

    rank: int
    size: int
    local_rank: int

    def gather(self, own: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """The flat arrays of all ranks, one behind the other, on every rank: (Σ counts,) float64.

        Parameters
        ----------
        own : of any shape, counts[rank] numbers of float64
        counts : (R,) how many numbers each rank gives, known to all
        """
        ...

    def exchange(self, to_r: Sequence[np.ndarray], counts: Sequence[int]) -> list[np.ndarray]:
        """Send ``to_r[r]`` to each rank r; return what each sent to us.

        Parameters
        ----------
        to_r : for each rank a flat float64 array
        counts : (R,) how many numbers come from each

        Returns
        -------
        For each rank r an array (counts[r],)
        """
        ...

    def all(self, value: Any) -> list:
        """A small object of each rank that can be pickled: the list of them (R), on every rank."""
        ...

    def of_first(self, value: Any) -> Any:
        """The object that rank 0 gives, on every rank."""
        ...

    def to_first(self, own: np.ndarray | None, sender: int) -> Any:
        """An array, of any shape, that the rank ``sender`` has: rank 0 returns it, the others None."""
        ...

    def all_agree(self, seconds: float) -> bool:
        """Whether all ranks come here within so many seconds: the same answer on all that come.

        For what only all can do together, asked by a rank that does not know whether the others are in
        another call, which they will never leave without it. After a False it is not asked again.
        """
        ...

    def all_failed(self, seconds: float) -> bool:
        """The same for the end of a program: whether all ranks have failed."""
        ...

    def end_all(self, status: int) -> None:
        """End the program on all ranks at once."""
        ...

    def close(self) -> None:
        """Give back what the team has made of its communicator; all ranks call it, and nothing after it."""
        ...


class Alone:
    """One rank, without MPI."""

    rank, size, local_rank = 0, 1, 0

    def gather(self, own: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        return own

    def exchange(self, to_r: Sequence[np.ndarray], counts: Sequence[int]) -> list[np.ndarray]:
        return list(to_r)

    def all(self, value: Any) -> list:
        return [value]

    def of_first(self, value: Any) -> Any:
        return value

    def to_first(self, own: np.ndarray | None, sender: int) -> Any:
        return own

    def all_agree(self, seconds: float) -> bool:
        return True

    def all_failed(self, seconds: float) -> bool:
        return True

    def end_all(self, status: int) -> None:
        raise SystemExit(status)

    def close(self) -> None:
        pass


def team_of(comm: Any = None) -> Team | None:
    """The team of a communicator of mpi4py's, or of the launcher's world; None where there is neither.

    The communicator is duplicated: what its owner sends and receives is not touched.
    """
    if comm is None and (not under_mpi() or (is_alone() and find_spec("mpi4py") is None)):
        return None
    if isinstance(comm, Alone):
        return comm
    from kalmandp.ranks.mpi import MpiTeam, world

    return world() if comm is None else MpiTeam(comm)


def in_turn(team: Team, n: int, make: Callable[[int], Any]) -> list:
    """``[make(k) for k in range(n)]`` on every rank, of which rank r makes those with k mod R = r.

    Parameters
    ----------
    team : the ranks, all of which make this call
    n : how many
    make : what is made must be small, and must not call the other ranks

    Raises
    ------
    KalmanDPError, RuntimeError
        What ``make`` raised first on the first rank with an error, on all ranks alike.
    """
    own: list = []
    failed: Exception | None = None
    try:
        own = [make(k) for k in range(team.rank, n, team.size)]
    except Exception as error:  # whatever it is, the others wait for our part
        if team.size == 1:
            raise
        failed = error
    agree(team, failed)
    every = team.all(own)
    return [every[k % team.size][k // team.size] for k in range(n)]


def share(sizes: np.ndarray, n_ranks: int) -> np.ndarray:
    """First piece of each rank, and the end: consecutive pieces, their sizes as even as they can be."""
    ends = np.concatenate([[0], np.cumsum(sizes)])
    targets = ends[-1] * np.arange(1, n_ranks) / n_ranks
    return np.array([0, *(int(np.argmin(np.abs(ends - x))) for x in targets), len(sizes)])


def agree(team: Team, failed: Exception | None) -> None:
    """Raise the error of the first rank that has one, on all ranks alike; it names the rank of several.

    An error that is none of this package's becomes a RuntimeError, which says what it was.
    """
    told = None
    if failed is not None:
        own = isinstance(failed, KalmanDPError)
        told = (type(failed), str(failed)) if own else (RuntimeError, f"{type(failed).__name__}: {failed}")
    for rank, error in enumerate(team.all(told)):
        if error is not None:
            kind, message = error
            alone = team.size == 1 or message.startswith("rank ")
            raise kind(message if alone else f"rank {rank}: {message}") from failed


def require_alike(team: Team, values: dict[str, Any]) -> None:
    """Refuse ranks that were given different things, which would train without a word at cross purposes.

    Parameters
    ----------
    team : the ranks, all of which make this call
    values : what must be the same, by what a message calls it: bytes, or something with a `repr`

    Raises
    ------
    InputError
        On all ranks alike: it names the first rank that differs from rank 0, and in what.
    """
    text = lambda value: value if isinstance(value, bytes) else repr(value).encode()
    own = {name: hashlib.sha256(text(value)).digest() for name, value in values.items()}
    first, *others = team.all(own)
    for rank, theirs in enumerate(others, start=1):
        for name in values:
            if theirs[name] != first[name]:
                raise InputError(
                    f"rank {rank}: {name} differs from that of rank 0; expected the same on all ranks"
                )
