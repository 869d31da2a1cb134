"""What every update of the filter did, as a table that a checkpoint carries and `kalmandp plot` draws.

A measurement's numbers q are of kinds c: energy, force, virial, atomic energy. For each kind

    n_c = mean of error_q² / S_qq,        e_c = √mean error_q²        over the q of kind c

S_qq is the variance the filter expected of error_q, so that n_c is 1 on average where noise and P are
right, and far above where the filter is too sure of itself or a label is wrong. NIS/m =
errorᵀ S⁻¹ error/m says the same of all numbers together, correlations included.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

KINDS = ("energy", "force", "virial", "atomic_energy")

#: Columns of the table; NaN where a kind was not measured.
COLUMNS = (
    "update",  # count of the filter's updates, this one included
    "step",  # batch, from 1
    "frame",  # number in the training data of the (first) frame; NaN in a mean over different ones
    "nis",  # errorᵀ S⁻¹ error / m
    *(f"nis_{kind}" for kind in KINDS),  # n_c
    *(f"error_{kind}" for kind in KINDS),  # e_c: eV, eV/Å for forces
    "step_norm",  # |Δw|
    "gain_norm",  # √tr(K S⁻¹ Kᵀ)
    "lam",  # λ that the update used
    "left_out",  # 1 where the gate left the measurement out; in a mean the fraction
)  # fmt: skip

#: Lines that the table holds; when they are full, neighbours are averaged, which halves them.
CAPACITY = 1 << 16
#: Lines of traces, and numbers in all of them; every second line goes when there are more.
TRACES = 1 << 11
TRACE_NUMBERS = 1 << 20


class Innovation(NamedTuple):
    """n_c and e_c of one kind of number in a measurement."""

    nis: float
    error: float


def innovations(kind_q, error_q: np.ndarray, S_qq: np.ndarray) -> dict[str, Innovation]:
    """n_c and e_c of every kind that a measurement has.

    Parameters
    ----------
    kind_q : (m,) names out of `KINDS`
    error_q : (m,) y − h(w)
    S_qq : (m, m) the innovation variance
    """
    square_q = error_q * error_q
    ratio_q = square_q / np.diagonal(S_qq)
    found: dict[str, Innovation] = {}
    for kind in dict.fromkeys(kind_q):
        q = [n for n, k in enumerate(kind_q) if k == kind]
        found[kind] = Innovation(float(ratio_q[q].mean()), float(np.sqrt(square_q[q].mean())))
    return found


class Update(NamedTuple):
    """One update as the trainer saw it; `Diagnostics.add` makes a line of it."""

    update: int
    innovations: dict[str, Innovation]
    nis: float
    step_norm: float
    gain_norm: float
    lam: float
    left_out: bool


class Diagnostics:
    """The table of updates (`COLUMNS`), and the trace of each block of P now and then.

    Its size is bounded: beyond `CAPACITY` updates a line is the mean of 2, 4, … neighbouring ones. Beyond
    `TRACES` lines of traces, or `TRACE_NUMBERS` numbers in them, every second line goes; the first and the
    last stay.

    Parameters
    ----------
    state : what `state` returned, to go on from there
    """

    def __init__(self, state: dict | None = None):
        state = state or {}
        self._table = np.full((CAPACITY, len(COLUMNS)), np.nan)
        rows = np.asarray(state.get("updates", np.zeros((0, len(COLUMNS)))))
        self._table[: len(rows)] = rows
        self._n = len(rows)
        self.per_line = int(state.get("per_line", 1))
        self._part: list[list[float]] = np.asarray(state.get("part", np.zeros((0, len(COLUMNS))))).tolist()
        self._traces: list[np.ndarray] = list(np.asarray(state.get("traces", np.zeros((0, 1))), dtype=float))

    def add(self, u: Update, step: int, frame: int) -> None:
        """Add an update of batch ``step``, whose first frame is number ``frame`` of the data."""
        of = lambda field: [
            getattr(u.innovations[kind], field) if kind in u.innovations else np.nan for kind in KINDS
        ]
        line = [
            u.update, step, frame, u.nis, *of("nis"), *of("error"),
            u.step_norm, u.gain_norm, u.lam, float(u.left_out),
        ]  # fmt: skip
        self._part.append(line)
        if len(self._part) < self.per_line:
            return
        if self._n == CAPACITY:
            self._halve()
            if len(self._part) < self.per_line:
                return
        self._table[self._n] = line if self.per_line == 1 else _mean(np.array([self._part]))[0]
        self._n += 1
        self._part = []

    def _halve(self) -> None:
        pairs = self._table.reshape(-1, 2, len(COLUMNS))
        self._n = len(pairs)
        self._table[: self._n] = _mean(pairs)
        self._table[self._n :] = np.nan
        self.per_line *= 2

    def add_traces(self, update: int, trace_l) -> None:
        """Add the trace of each block of P after so many updates."""
        line = np.concatenate([[float(update)], np.asarray(trace_l, dtype=float)])
        self._traces.append(line)
        while len(self._traces) > max(2, min(TRACES, TRACE_NUMBERS // len(line))):
            del self._traces[1:-1:2]

    @property
    def updates(self) -> np.ndarray:
        """(lines, columns) the table."""
        return self._table[: self._n]

    def __getitem__(self, column: str) -> np.ndarray:
        return self.updates[:, COLUMNS.index(column)]

    @property
    def traces(self) -> np.ndarray:
        """(lines, 1 + L): count of updates, tr P_1, …, tr P_L."""
        return np.array(self._traces, dtype=float) if self._traces else np.zeros((0, 1))

    def state(self) -> dict:
        """Arrays and numbers for a checkpoint."""
        return {
            "updates": self.updates,
            "columns": " ".join(COLUMNS),
            "per_line": self.per_line,
            "part": np.array(self._part, dtype=float).reshape(-1, len(COLUMNS)),
            "traces": self.traces,
        }


def _mean(lines_nk: np.ndarray) -> np.ndarray:
    """Means over axis 1 of what is not NaN: (n, k, columns) → (n, columns)."""
    known = np.isfinite(lines_nk)
    count = known.sum(axis=1)
    total = np.where(known, lines_nk, 0.0).sum(axis=1)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    # a count is that of the last; a frame's number is kept if all have the same
    for last in ("update", "step"):
        mean[:, COLUMNS.index(last)] = lines_nk[:, -1, COLUMNS.index(last)]
    frame = lines_nk[..., COLUMNS.index("frame")]
    mean[:, COLUMNS.index("frame")] = np.where((frame == frame[:, :1]).all(axis=1), frame[:, 0], np.nan)
    return mean
