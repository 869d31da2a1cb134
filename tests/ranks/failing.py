"""``failing.py RANK STEP WHERE WORDS…``: the command ``kalmandp WORDS``, in which one rank fails at a step.

WHERE is "batch" (its frame cannot be used), "update" (the filter finds something on this rank alone) or
"memory" (an update finds no memory).
"""

from __future__ import annotations

import sys

from kalmandp.cli import main
from kalmandp.errors import InputError
from kalmandp.ranks.team import team_of
from kalmandp.training.loop import Run
from kalmandp.training.trainers.kalman import KalmanTrainer

ERRORS = {"update": InputError("planted"), "memory": MemoryError("planted")}


def plant(rank: int, step: int, where: str) -> None:
    team = team_of()
    if team is None or team.rank != rank:
        return
    owner, name = (Run, "_next_batch") if where == "batch" else (KalmanTrainer, "update")
    whole, calls = getattr(owner, name), 0

    def fails(self, *args):
        nonlocal calls
        calls += 1
        if where == "batch" and calls == step:
            numbers, sample = whole(self, *args)
            raise InputError(f"{sample.frames[0].source}: planted")
        if where != "batch" and self.filter.updates >= step - 1:
            raise ERRORS[where]
        return whole(self, *args)

    setattr(owner, name, fails)


if __name__ == "__main__":
    plant(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    sys.argv = ["kalmandp", *sys.argv[4:]]
    sys.exit(main())
