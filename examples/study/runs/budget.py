"""A run whose length is a number of seconds: how many steps one processor makes in them.

Optimizers are compared at equal seconds of one processor, their own work alone: neither other programs nor
the looks at the test frames count. A trial of a few steps says what a step takes. It is made before the run,
since a learning rate must know its end, and its outcome is kept beside the run: a run that is gone on with
has the length that it began with.
"""

from __future__ import annotations

import tempfile
import time
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
