"""Errors of a potential on frames that the ranks look at in turn; gathered in the order of frames."""

from __future__ import annotations

import numpy as np

from kalmandp.ranks.team import Team, in_turn
from kalmandp.training.report.metrics import Comparison, compare

#: Frames that one rank predicts together: a constant, as predictions of several frames share work.
FRAMES = 4


def compare_over(team: Team, potential, frames) -> Comparison:
    """`metrics.compare` of frames that are read by number; on every rank.

    Parameters
    ----------
    team : the ranks, all of which make this call
    potential : Potential
    frames : labelled frames by number, e.g. a Dataset

    Raises
    ------
    InputError
        On all ranks alike, if a frame cannot be used; it names the rank.
    """
    n = len(frames)

    def some(chunk: int) -> Comparison:
        first = chunk * FRAMES
        return compare(potential, [frames[k] for k in range(first, min(first + FRAMES, n))])

    parts = in_turn(team, -(-n // FRAMES), some)
    if not parts:
        return compare(potential, [])
    lists = [[x for part in parts for x in getattr(part, name)] for name in Comparison._fields[1:]]
    return Comparison(np.concatenate([part.n_atoms for part in parts]), *lists)
