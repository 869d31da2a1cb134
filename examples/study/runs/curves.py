"""How soon a run reaches a baseline, and how many times sooner than another: spans, their ratios and medians.

A cost that is known is a span with two equal ends. A run of length T that never reached the baseline costs
at least T: the span from T to infinity. So a ratio to it is a bound, and is told as one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .markdown import MISSING, number
from .results import Result

#: Columns of a curve that a run may be charged in.
COSTS = ("epoch", "updates", "seconds")
#: A baseline is reached where so many evaluations in a row are at or below it: an energy error that swings
#: about zero touches any baseline by chance.
HOLD = 2


class Span(NamedTuple):
    """A positive number that lies between these two."""

    low: float
    high: float

    @property
    def is_known(self) -> bool:
        return self.low == self.high

    def __str__(self) -> str:
        """12.3, "> 12.3", "< 0.81", "1.2 to 3.4", or "–" where nothing is known."""
        if self.is_known:
            return number(self.low)
        if self.low <= 0 and np.isinf(self.high):
            return MISSING
        if np.isinf(self.high):
            return f"> {number(self.low)}"
        if self.low <= 0:
            return f"< {number(self.high)}"
        return f"{number(self.low)} to {number(self.high)}"


def baseline(results: list[Result], kind: str, factor: float) -> float:
    """``factor`` × the smallest final test RMSE of these runs."""
    return factor * min(result.final[f"{kind}_test"] for result in results)


def reached(
    result: Result, kind: str, limit: float, seconds_per_step: float | None = None, hold: int = HOLD
) -> dict[str, Span]:
    """What the run had cost when its test RMSE came to ``limit`` or below, by `COSTS`.

    That is the first of ``hold`` evaluations in a row at or below it; at the run's end fewer will do.

    Parameters
    ----------
    result : of the run
    kind : "energy" or "force"
    limit : eV/atom or eV/Å
    seconds_per_step : as measured by themselves; by default the run's own clock counts
    hold : 1 for the first touch
    """
    curve = dict(result.curve)
    if seconds_per_step is not None:
        curve["seconds"] = seconds_per_step * curve["step"]
    is_below = curve[kind] <= limit
    below = [k for k in range(len(is_below)) if is_below[k : k + hold].all()]
    if len(below):
        return {name: Span(float(curve[name][below[0]]), float(curve[name][below[0]])) for name in COSTS}
    return {name: Span(float(curve[name][-1]), np.inf) for name in COSTS}


def soonest(costs: list[dict[str, Span]]) -> dict[str, Span]:
    """Of several runs with one optimizer (shorter and longer schedules) the one first there.

    If none is, the longest says how much is not enough.
    """
    there = [c for c in costs if c["seconds"].is_known]
    if there:
        return min(there, key=lambda c: c["seconds"].low)
    return max(costs, key=lambda c: c["seconds"].low)


def ratio(slow: Span, fast: Span) -> Span:
    """How many times as much ``slow`` costs: the least and the most it can be."""
    low = 0.0 if np.isinf(fast.high) else slow.low / fast.high
    high = np.inf if fast.low == 0 else slow.high / fast.low
    return Span(low, high)


def median(spans: list[Span]) -> Span:
    """The median of numbers of which some are only bounded: bounds of it, which may well be equal."""
    if not spans:
        return Span(0.0, np.inf)
    ends = np.sort(np.array(spans), axis=0)
    middle = [(len(spans) - 1) // 2, len(spans) // 2]
    return Span(*(float(ends[middle, end].mean()) for end in (0, 1)))


def at_frames(result: Result, kind: str, frames: int) -> float:
    """Test RMSE after so many steps (of one frame), NaN if the curve has no such point."""
    at = np.flatnonzero(result.curve["step"] == frames)
    return float(result.curve[kind][at[0]]) if len(at) else float("nan")
