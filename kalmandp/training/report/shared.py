"""Errors of a potential on frames that the ranks look at in turn; gathered in the order of frames."""

from __future__ import annotations

import numpy as np

from kalmandp.errors import InputError, KalmanDPError
from kalmandp.ranks.team import Team
from kalmandp.training.report.metrics import Comparison, compare

#: Frames that one rank predicts together: a constant, as predictions of several frames share work.
FRAMES = 4


def compare_over(team: Team, potential, frames) -> Comparison:
    """`metrics.compare` of frames that are read by number; on every rank.

    Raises
    ------
    InputError
        On all ranks alike, if a frame cannot be used; it names the rank.
    """
    n, own, failed = len(frames), [], None
    for chunk, first in enumerate(range(0, n, FRAMES)):
        if chunk % team.size == team.rank and failed is None:
            try:
                some = [frames[k] for k in range(first, min(first + FRAMES, n))]
                own.append((chunk, compare(potential, some)))
            except KalmanDPError as error:
                failed = f"rank {team.rank}: {error}"
    told = team.all((failed, own))
    for message, _ in told:
        if message is not None:
            raise InputError(message)
    parts = [c for _, c in sorted((pair for _, theirs in told for pair in theirs), key=lambda x: x[0])]
    if not parts:
        return compare(potential, [])
    lists = [[x for part in parts for x in getattr(part, name)] for name in Comparison._fields[1:]]
    return Comparison(np.concatenate([part.n_atoms for part in parts]), *lists)
