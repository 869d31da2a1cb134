"""The learning curve: what was recorded on the way, and `lcurve.out` in DeePMD-kit's columns."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from kalmandp.errors import require
from kalmandp.files import naming, replacing


class Record(NamedTuple):
    """What the training loop yields.

    step, n_steps : batches done and in all;  epoch : passes over the data, a fraction
    updates : Kalman (or Adam) updates so far;  seconds : of training so far, restarts included
    rmse_e, rmse_v (eV/atom), rmse_f (eV/Å) : on the current batch, before it was learnt, of the optimizer's
        own weights
    valid_e, valid_f, valid_v : on validation frames, of the model that is saved (`Run.result`)
    lam : λ of the filter;  lr : learning rate of Adam
    diagnostics : dict of the last updates: innovation, normalised innovation squared, …
    event : "step", "display" (a line of the learning curve), "checkpoint", or "end"
    valid_frames : validation frames that valid_e, valid_f and valid_v are of: all of a small set; of a large
        one a sample on the way and all at the end
    """

    step: int
    epoch: float
    n_steps: int
    updates: int
    seconds: float
    rmse_e: float
    rmse_f: float
    rmse_v: float
    valid_e: float
    valid_f: float
    valid_v: float
    lam: float
    lr: float
    diagnostics: dict
    event: str
    valid_frames: int = 0


#: Columns of a line of the history, in this order.
COLUMNS = (
    "step", "epoch", "updates", "seconds", "valid_e", "rmse_e", "valid_f", "rmse_f",
    "valid_v", "rmse_v", "lam", "lr", "valid_frames",
)  # fmt: skip
#: Columns of checkpoints before 0.7.0, which do not tell the frames.
OLD_COLUMNS = COLUMNS[:-1]


class History:
    """Lines of the learning curve, as an array that a checkpoint can carry."""

    def __init__(self, rows=None):
        table = np.asarray([] if rows is None else rows, dtype=float)
        if table.ndim == 2 and table.shape[1] == len(OLD_COLUMNS):
            table = np.column_stack([table, np.zeros(len(table))])
        table = table.reshape(-1, len(COLUMNS))
        counts = table[:, [COLUMNS.index(name) for name in ("step", "updates")]]
        finite = bool(np.isfinite(counts).all())
        require(finite, "the history's list of steps and updates", "not all finite", "counts")
        self.rows: list[list[float]] = table.tolist()

    def add(self, record: Record) -> None:
        """Add a line; it takes the place of one for the same step."""
        row = [float(getattr(record, name)) for name in COLUMNS]
        if self.rows and self.rows[-1][0] == record.step:
            last = self.rows.pop()
            row = [old if np.isnan(new) else new for new, old in zip(row, last, strict=True)]
        self.rows.append(row)

    @property
    def array(self) -> np.ndarray:
        return np.array(self.rows, dtype=float).reshape(-1, len(COLUMNS))

    def __getitem__(self, column: str) -> np.ndarray:
        return self.array[:, COLUMNS.index(column)]

    def write(self, path) -> None:
        """Write ``lcurve.out``: DeePMD-kit's columns first, then ours. Renamed once complete."""
        whole = ("step", "updates", "valid_frames")
        names = {
            "step": "step", "valid_e": "rmse_e_val", "rmse_e": "rmse_e_trn",
            "valid_f": "rmse_f_val", "rmse_f": "rmse_f_trn", "valid_v": "rmse_v_val",
            "rmse_v": "rmse_v_trn", "lr": "lr", "lam": "lambda", "epoch": "epoch",
            "updates": "updates", "seconds": "seconds", "valid_frames": "frames_val",
        }  # fmt: skip
        lines = ["#" + " ".join(f"{title:>13}" for title in names.values())[1:]]
        for row in self.rows:
            values = dict(zip(COLUMNS, row, strict=True))
            cells = [
                f"{int(values[n]):>13d}" if n in whole else f"{values[n]:>13.6e}"
                for n in names
            ]
            lines.append(" ".join(cells))
        with replacing(path) as beside, naming(path):
            Path(beside).write_text("\n".join(lines) + "\n", encoding="utf-8")
