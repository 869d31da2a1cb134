"""The gate: measurements that are too far from what the filter expects are left out, and listed.

For each kind c of number in a measurement (energy, force, virial, atomic energy), n_c = mean error_q²/S_qq is
how far off the labels are against what the filter expected of them (`report.diagnostics`). With noise that
is stated too small or too large n_c is far from 1 for every frame; so it is compared with its own kind:

    left out if, for any c,   n_c > bound · median of the last WINDOW n_c of its kind

``bound = 100`` leaves out what is ten times as far off as usual. A step may make several measurements of one
kind, one after another: the first of them decides for all of its kind in this step, and only its n_c joins
the window. A filter that has just begun is far off everywhere, and so is one that is disturbed for a while;
leaving out good labels then would keep it so:

- nothing is left out in the first pass over the data (or the first `LATEST` steps, of a long one or of
  frames that come one by one and do not come again), and nothing of a kind before WARM_UP of it have
  been judged;
- after IN_A_ROW steps in a row in which something was left out, the next step is taken in as it is: wrong
  labels are few, so it is the filter that is off;
- the median is over all steps, those left out included: it follows a change that stays.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from kalmandp.files import naming, replacing
from kalmandp.training.report.diagnostics import KINDS, Innovation

#: The list of what was left out, in the folder of a run.
LEFT_OUT_FILE = "left_out.out"
#: Measurements of a kind whose median is what is usual, and how many must be known.
WINDOW, WARM_UP = 256, 32
#: Steps with something left out after which one is taken in.
IN_A_ROW = 3
#: The gate is at work from this step on, or from the second pass over the data if that is earlier.
LATEST = 1000


class Refusal(NamedTuple):
    """Why a measurement was left out: the kind that was off, its n_c, and the median it exceeds."""

    kind: str
    nis: float
    usual: float


class Gate:
    """Decides which measurements are left out, and remembers them.

    Parameters
    ----------
    bound : of n_c against its running median
    """

    def __init__(self, bound: float):
        self.bound = bound
        #: Set from outside after the first pass: something may be left out before `LATEST` steps, too.
        self.at_work = False
        #: Steps before this one.
        self.steps = 0
        self._judged = False  # anything in this step
        self._in_a_row, self._left_out_now = 0, False
        self._step: dict[str, Refusal | None] = {}  # what was decided for each kind in this step
        self._recent: dict[str, deque] = {kind: deque(maxlen=WINDOW) for kind in KINDS}
        self.left_out = LeftOut()

    def begin_step(self) -> None:
        """Start a new batch; idempotent."""
        if not self._judged:
            return
        self.steps, self._judged = self.steps + 1, False
        self._in_a_row = self._in_a_row + 1 if self._left_out_now else 0
        self._left_out_now, self._step = False, {}

    def judge(self, found: dict[str, Innovation]) -> Refusal | None:
        """None if a measurement may be taken in; otherwise why not."""
        self._judged = True
        for kind, (nis, _) in found.items():
            if kind not in self._step:
                self._step[kind] = self._decide(kind, nis)
                self._recent[kind].append(nis)
        # what is left out is left out as a whole, whatever kind is off
        refused = [why for kind in found if (why := self._step[kind]) is not None]
        self._left_out_now |= bool(refused)
        return max(refused, key=lambda why: why.nis / why.usual, default=None)

    def _decide(self, kind: str, nis: float) -> Refusal | None:
        recent = self._recent[kind]
        at_work = self.at_work or self.steps >= LATEST
        if not at_work or self._in_a_row >= IN_A_ROW or len(recent) < WARM_UP:
            return None
        usual = median(recent)
        return Refusal(kind, nis, usual) if nis > self.bound * usual else None

    def state(self) -> dict:
        """Arrays for a checkpoint."""
        recent = {f"recent/{kind}": np.array(values) for kind, values in self._recent.items()}
        row = {"in_a_row": self._in_a_row, "left_out_now": int(self._left_out_now)}
        row |= {"steps": self.steps, "judged": int(self._judged)}
        return {**recent, **row, "left_out": self.left_out.array}

    def restore(self, state: dict) -> None:
        """Go on from what `state` returned; from nothing if the run had no gate before."""
        for kind, recent in self._recent.items():
            recent.clear()
            recent.extend(np.asarray(state.get(f"recent/{kind}", [])).tolist())
        self._in_a_row, self._step = int(state.get("in_a_row", 0)), {}  # a checkpoint lies between steps
        self._left_out_now = bool(state.get("left_out_now", False))
        self.steps, self._judged = int(state.get("steps", 0)), bool(state.get("judged", False))
        self.left_out = LeftOut(state.get("left_out"))


class LeftOut:
    """The list of what was left out: step, epoch, number of the frame in the data, why."""

    #: Columns of `array`; kind as its place in `KINDS`.
    COLUMNS = ("step", "epoch", "frame", "kind", "nis", "usual")

    def __init__(self, rows=None):
        self.rows: list[list[float]] = [] if rows is None else np.asarray(rows).tolist()

    def add(self, step: int, epoch: int, frame: int, why: Refusal) -> None:
        self.rows.append([step, epoch, int(frame), KINDS.index(why.kind), why.nis, why.usual])

    @property
    def array(self) -> np.ndarray:
        return np.array(self.rows, dtype=float).reshape(-1, len(self.COLUMNS))

    def summary(self, sources) -> list[str]:
        """A line for each frame: how often its measurements were left out, and why; the worst first."""
        frames: dict[int, list] = {}
        for row in self.rows:
            frames.setdefault(int(row[2]), []).append(row)
        lines = []
        for k, rows in sorted(frames.items(), key=lambda item: (-len(item[1]), item[0])):
            kinds = " and ".join(dict.fromkeys(KINDS[int(row[3])] for row in rows))
            times, epoch = len(rows), int(rows[-1][1]) + 1
            most = max(nis / usual for *_, nis, usual in rows) ** 0.5
            lines.append(
                f"{sources(k)}: {kinds}, {times} measurement{'s' * (times > 1)}, the last in epoch {epoch}, "
                f"up to {most:.0f} times as far off as usual"
            )
        return lines

    def write(self, path, sources) -> None:
        """Write the list as text; ``sources(k)`` names frame k. Renamed once complete."""
        head = f"#{'step':>8} {'epoch':>6} {'frame':>7} {'kind':>13} {'nis':>11} {'usual':>11}  source"
        lines = [head]
        for step, epoch, frame, kind, nis, usual in self.rows:
            lines.append(
                f"{int(step):>9} {int(epoch) + 1:>6} {int(frame):>7} {KINDS[int(kind)]:>13} "
                f"{nis:>11.4e} {usual:>11.4e}  {sources(int(frame))}"
            )
        with replacing(path) as beside, naming(path):
            Path(beside).write_text("\n".join(lines) + "\n", encoding="utf-8")
