"""The gate: measurements that are too far from what the filter expects are left out, and listed.

For each kind c of number in a measurement (energy, force, virial), n_c = mean error_q²/S_qq is how far off
the labels are against what the filter expected of them (`training.diagnostics`). Early in training, or with
noise that is stated too small, n_c is far above 1 for every frame; so it is compared with its own kind:

    left out if, for any c,   n_c > bound · median of the last WINDOW n_c of its kind

``bound = 25`` leaves out what is five times as far off as usual. The median is taken over all of them, those
left out included: if what the model meets changes for good, the median follows after half a window, and
nothing stays shut out. Until WARM_UP measurements of a kind have been seen, none of that kind is left out.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from kalmandp.files import naming, replacing
from kalmandp.training.diagnostics import KINDS, Innovation

#: The list of what was left out, in the folder of a run.
LEFT_OUT_FILE = "left_out.out"
#: Measurements of a kind whose median is what is usual, and how many must be known.
WINDOW, WARM_UP = 256, 32


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
        self._recent: dict[str, deque] = {kind: deque(maxlen=WINDOW) for kind in KINDS}
        self.left_out = LeftOut()

    def judge(self, found: dict[str, Innovation]) -> Refusal | None:
        """None if a measurement may be taken in; otherwise why not. Each is judged once."""
        worst = None
        for kind, (nis, _) in found.items():
            recent = self._recent[kind]
            usual = median(recent) if len(recent) >= WARM_UP else np.inf
            if nis > self.bound * usual and (worst is None or nis / usual > worst.nis / worst.usual):
                worst = Refusal(kind, nis, usual)
            recent.append(nis)
        return worst

    def state(self) -> dict:
        """Arrays for a checkpoint."""
        recent = {f"recent/{kind}": np.array(values) for kind, values in self._recent.items()}
        return {**recent, "left_out": self.left_out.array}

    def restore(self, state: dict) -> None:
        """Go on from what `state` returned; from nothing if the run had no gate before."""
        for kind, recent in self._recent.items():
            recent.clear()
            recent.extend(np.asarray(state.get(f"recent/{kind}", [])).tolist())
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

    def write(self, path, sources) -> None:
        """Write the list as text; ``sources(k)`` names frame k. Written beside and renamed."""
        head = f"#{'step':>8} {'epoch':>6} {'frame':>7} {'kind':>7} {'nis':>11} {'usual':>11}  source"
        lines = [head]
        for step, epoch, frame, kind, nis, usual in self.rows:
            lines.append(
                f"{int(step):>9} {int(epoch) + 1:>6} {int(frame):>7} {KINDS[int(kind)]:>7} "
                f"{nis:>11.4e} {usual:>11.4e}  {sources(int(frame))}"
            )
        with replacing(path) as beside, naming(path):
            Path(beside).write_text("\n".join(lines) + "\n", encoding="utf-8")
