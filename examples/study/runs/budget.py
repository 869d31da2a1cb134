"""A run whose length is a number of seconds of one processor: how many steps that is, and its end.

Optimizers are compared at equal seconds of one processor, their own work alone: neither other programs nor
the looks at the test frames count. Steps that compile count as others do.

A trial of a few steps before the run says what a step takes. Adam's learning rate must know its end, so its
run has the length that the trial foresees, and its seconds are about those asked for. No other optimizer
knows its end: its run ends after the step in which its seconds are over (`Clock`), and the trial only says
how far the run is. What the trial found, and what the run has used, is kept beside the run, which may be
stopped.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from kalmandp import read_input
from kalmandp.training.loop import Run

from .results import read_json, write_json
from .unit import NEVER, Unit

LENGTH = "length.json"
#: Steps whose time is not counted: they compile.
WARM_UP = 3
#: A trial ends after one pass over the data and some more steps, or with this share of the seconds.
SHARE, MORE = 0.15, 10


def with_length(unit: Unit, folder: Path) -> Unit:
    """The unit with a number of steps, if its length is stated in seconds."""
    if unit.seconds is None:
        return unit
    known = read_json(folder / LENGTH)
    if known is None:
        known = {"steps": max(1, round(unit.seconds / seconds_per_step(unit)))}
        write_json(folder / LENGTH, known)
    return replace(unit, frames=known["steps"], epochs=None)


def seconds_per_step(unit: Unit) -> float:
    """Median seconds of one processor for a step, by a trial; after the first pass, if there is time for it.

    In the first pass neighbours, and what else does not change, are found.
    """
    trial = replace(unit, frames=NEVER, epochs=None)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(read_input(trial.input()), folder)
        taken: list[float] = []
        end = WARM_UP + run.feed.steps_per_epoch + MORE
        while len(taken) < end and (len(taken) <= 2 * WARM_UP or sum(taken[WARM_UP:]) < SHARE * unit.seconds):
            began = time.process_time()
            run.step()
            taken.append(time.process_time() - began)
    return float(np.median(taken[-MORE:] if len(taken) >= WARM_UP + MORE else taken[WARM_UP:]))


class Clock:
    """Seconds of one processor that the steps of a run have used, stopped and gone on with or not.

    The first `WARM_UP` steps after a beginning compile; they count as the mean of the others.

    Parameters
    ----------
    unit : its ``seconds``; without them, and for Adam, the clock never ends a run
    folder : of the run
    """

    def __init__(self, unit: Unit, folder: Path):
        self.path = folder / LENGTH
        known = read_json(self.path) or {}
        self._known, self._begun = known, 0
        self.counted, self.sum = int(known.get("counted", 0)), float(known.get("sum", 0.0))
        knows_its_end = unit.sections["optimizer"]["type"] == "Adam"
        self.seconds = math.inf if unit.seconds is None or knows_its_end else unit.seconds

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count what is done inside as one step."""
        began = time.process_time()
        yield
        self._begun += 1
        if self._begun > WARM_UP:
            self.counted += 1
            self.sum += time.process_time() - began

    @property
    def per_step(self) -> float | None:
        """Mean seconds of a step, None before one was counted."""
        return self.sum / self.counted if self.counted else None

    @property
    def ends(self) -> bool:
        """Whether seconds end the run, and not a number of steps."""
        return math.isfinite(self.seconds)

    def is_over(self, steps: int) -> bool:
        """Whether so many steps have used the seconds of the run."""
        return self.ends and steps * (self.per_step or 0.0) >= self.seconds

    def keep(self) -> None:
        """Write what was used beside the run, for when it is gone on with."""
        write_json(self.path, {**self._known, "counted": self.counted, "sum": self.sum})
