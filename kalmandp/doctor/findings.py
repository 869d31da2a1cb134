"""What the doctor has to say: one `Finding` per thing seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

#: From what spoils a training run to what is good to know.
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing seen in a data set.

    Attributes
    ----------
    severity : "error" (training on it would be wrong), "warning" (look at it) or "note"
    check : the check that saw it, e.g. "duplicates"
    data : the data set, as it was named
    seen : what was seen, with the number
    advice : what to do
    frames : numbers of the frames concerned, from 0, in the order of the data set
    """

    severity: str
    check: str
    data: str
    seen: str
    advice: str
    frames: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "frames", tuple(int(k) for k in np.unique(np.asarray(self.frames, int))))

    def __str__(self) -> str:
        where = f"{ranges(self.frames)}: " if self.frames else ""
        return f"{self.severity}: {self.data}: {where}{self.seen}. {self.advice}"


def some_of(n: int, total: int, one: str, more: str) -> str:
    """1, 9, "repeats …", "repeat …" → "1 of 9 frames repeats …"."""
    return f"{n:,} of {total:,} frames {one if n == 1 else more}"


def ranges(frames: Iterable[int], most: int = 8) -> str:
    """[0, 1, 2, 7] → "frames 0–2, 7"; no more than ``most`` pieces."""
    runs: list[list[int]] = []
    numbers = sorted(set(frames))
    for k in numbers:
        if runs and k == runs[-1][1] + 1:
            runs[-1][1] = k
        else:
            runs.append([k, k])
    pieces = [str(a) if a == b else f"{a}–{b}" for a, b in runs]
    if len(pieces) > most:
        pieces = [*pieces[:most], f"… ({len(numbers):,} frames)"]
    return f"{'frame' if len(numbers) == 1 else 'frames'} {', '.join(pieces)}"
