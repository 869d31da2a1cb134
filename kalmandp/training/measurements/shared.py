"""Measurements that ranks share out: frames of a batch, and rows of H of a matrix measurement.

All ranks draw the same numbers. The bits do not depend on which rank measures what: each frame is measured by
itself, rows in chunks of `ROWS`, and all is gathered in the order of frames and rows on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import InputError, KalmanDPError
from kalmandp.potentials.atomic import Numbers
from kalmandp.ranks.team import Team
from kalmandp.training.config.presets import KalmanChoices
from kalmandp.training.measurements.measurement import Measurement, Sample, combine

#: Rows of H that one rank makes together, of one kind.
ROWS = 16


class SharedSample(NamedTuple):
    """The frames of a batch, of which each rank has made its own ready; stands in for a `Sample`.

    frames : Frames, or Outlines of those that other ranks measure
    part_f : for each frame its own Sample, None on the ranks that do not measure it
    """

    frames: list
    environment: Any
    first_f: np.ndarray
    part_f: list[Sample | None]

    @property
    def n_atoms(self) -> int:
        return int(self.first_f[-1])


def shared_pieces(choices: KalmanChoices, kinds_u: list[tuple[str, ...]], n_frames: int) -> tuple[int, int]:
    """Pieces of a step's measurements that are made by one rank each, and the rows of H that travel.

    Parameters
    ----------
    choices : of the filter
    kinds_u : kinds of the numbers of each update of a step
    n_frames : of the batch
    """
    if choices.measurement == "matrix":
        counts = [sum(kind == k for k in kinds) for kinds in kinds_u for kind in dict.fromkeys(kinds)]
        return sum(-(-n // ROWS) for n in counts), sum(counts)
    if n_frames == 1 or choices.candidates is not None:
        return 1, 0
    return n_frames, n_frames * sum(map(len, kinds_u))


def shared_sample(
    team: Team, numbers: Iterable[Any], make: Callable[[Any], Sample], frame_of: Callable[[Any], Any]
) -> SharedSample:
    """A batch of which we make the frames ready that are ours: frame f of the batch is that of rank f mod R.

    Parameters
    ----------
    team : the ranks
    numbers : what stands for each frame of the batch
    make : the Sample of such a frame
    frame_of : such a frame, which is not ours: itself, or its `frames.dataset.Outline`
    """
    frames, parts = [], []
    for f, k in enumerate(numbers):
        part = make(k) if f % team.size == team.rank else None
        frames.append(frame_of(k) if part is None else part.frames[0])
        parts.append(part)
    return SharedSample(frames, None, np.concatenate([[0], np.cumsum([len(f) for f in frames])]), parts)


class Gathers(Protocol):
    """Gathers arrays of the module that H is of: a `Team` those of NumPy, an exchange of GPUs its own."""

    def gather(self, own: Any, counts: Sequence[int]) -> Any: ...


def measured_together(
    team: Team, sample: SharedSample, measure: Callable[[int, Sample], Measurement | None],
    exchange: Gathers, xp: Any = np,
) -> Measurement:  # fmt: skip
    """The mean (`combine`) of a measurement of each frame, which its rank makes by ``measure(f, part)``.

    H, of arrays of ``xp``, goes through ``exchange``; all else, which is small, through the hosts.

    Raises
    ------
    InputError
        On all ranks alike, if a frame cannot be measured: it names the rank; the message names the frame.
    """
    own: dict[int, Measurement | None] = {}
    failed = None
    for f, part in enumerate(sample.part_f):
        if part is not None and failed is None:
            try:
                m = measure(f, part)
                own[f] = None if m is None else _small_on_host(m)
            except KalmanDPError as error:
                failed = f"rank {team.rank}: {error}"
    made = {f: m for f, m in own.items() if m is not None}
    rest = [(f, m.H_qw.shape, m._replace(H_qw=np.zeros((0, 0)))) for f, m in made.items()]
    told = team.all((failed, rest))
    for message, _ in told:
        if message is not None:
            raise InputError(message)
    every = exchange.gather(
        xp.concatenate([*(m.H_qw.reshape(-1) for m in made.values()), xp.zeros(0)]),
        [sum(rows * n_w for _, (rows, n_w), _ in theirs) for _, theirs in told],
    )
    found, start = {}, 0
    for _, theirs in told:
        for f, (rows, n_w), m in theirs:
            found[f] = m._replace(H_qw=every[start : start + rows * n_w].reshape(rows, n_w))
            start += rows * n_w
    mean = combine(found[f] for f in sorted(found))
    return mean._replace(error_q=xp.asarray(mean.error_q))


def _small_on_host(m: Measurement) -> Measurement:
    return m._replace(error_q=to_numpy(m.error_q), noise_q=to_numpy(m.noise_q))


def gathered(team: Team, n: int, rows_f: dict[int, np.ndarray]) -> np.ndarray:
    """Rows of all frames of a batch (n, …) in their order, of which ``rows_f`` are ours, one for each."""
    width = {f: len(row) for f, row in rows_f.items()}
    size = max(team.all(max(width.values(), default=0)))
    own = np.concatenate([*(rows_f[f] for f in sorted(rows_f)), np.zeros(0)])
    counts = [size * len(range(r, n, team.size)) for r in range(team.size)]
    every, first_r = team.gather(own, counts), np.cumsum([0, *counts])
    places = [int(first_r[f % team.size]) + size * (f // team.size) for f in range(n)]
    return np.stack([every[p : p + size] for p in places])


def shared_rows(
    team: Team, exchange: Gathers, engine, parameters, environment, forward, numbers: Numbers
) -> Any:  # fmt: skip
    """``engine.rows``, its chunks made by the ranks in turn: H_qw (m, N), the same on every rank.

    Parameters
    ----------
    team : the ranks, all of which make this call;  exchange : of the arrays of the engine
    engine, parameters, environment, forward, numbers : as ``engine.rows`` takes them
    """
    chunks = []
    for place, what in enumerate(numbers):
        for first in range(0, len(what), ROWS):
            none = [x[:0] for x in numbers]
            none[place] = what[first : first + ROWS]
            chunks.append(Numbers(*none))
    own = [
        engine.rows(parameters, environment, forward, chunk).reshape(-1)
        for c, chunk in enumerate(chunks)
        if c % team.size == team.rank
    ]
    n_w, xp = len(parameters.weights), namespace(parameters.weights)
    counts = [n_w * sum(c.n_rows for c in chunks[r :: team.size]) for r in range(team.size)]
    every = exchange.gather(xp.concatenate([*own, xp.zeros(0)]), counts)
    first_r = np.concatenate([[0], np.cumsum(counts)])[:-1]
    rows = []
    for c, chunk in enumerate(chunks):
        r = c % team.size
        rows.append(every[first_r[r] : first_r[r] + chunk.n_rows * n_w].reshape(-1, n_w))
        first_r[r] += chunk.n_rows * n_w
    return xp.concatenate(rows)
