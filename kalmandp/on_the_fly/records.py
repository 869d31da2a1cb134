"""The log of learning on the fly: one line for each label, put behind those before it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from kalmandp.errors import FileError
from kalmandp.files import naming, replacing

FILE = "on_the_fly.out"


class Record(NamedTuple):
    """What happened at one call.

    label : its number;  step : of the simulation
    limit, sigma : meV/Å, of a force component: what was allowed, and the largest σ of an atom
    error, largest : meV/Å, true errors before it was learned: RMS, and that of the worst atom
    after : meV/Å, RMS error after it was learned
    factor, floor : f and r (meV/Å) of the forces' calibration afterwards
    within : share of the components within one σ before it was learned
    reference, learning, model : seconds of this call, of learning it, and of all steps since the last one
    """

    label: int
    step: int
    limit: float
    sigma: float
    error: float
    largest: float
    after: float
    factor: float
    floor: float
    within: float
    reference: float
    learning: float
    model: float

    def steps_to_audit(self, audit: int, every: int) -> float:
        """Steps after this call at which the next one is due, whatever P says.

        ::

            audit · min(1, t/(2 e))       and no fewer than every, where audit is not

        With the tolerance t 95 % of normal errors are below it if their RMS e is t/2; a model that was off by
        more than that, before the frame was learned, is looked at sooner.
        """
        sooner = audit * self.limit / (2.0 * self.error) if self.error > 0 else audit
        return min(audit, max(every, sooner))


class Records:
    """The lines so far, and their file."""

    def __init__(self, folder):
        self.path = Path(folder) / FILE
        self.rows: list[Record] = []
        self._written = -1  # lines of the file, as far as this object has written it

    def add(self, record: Record) -> None:
        """Write one more line; the file anew, beside and renamed, if it is not this object's yet."""
        self.rows.append(record)
        if self._written != len(self.rows) - 1:
            self.write()
            return
        with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(_line(record))
        self._written += 1

    def write(self) -> None:
        """Write the file anew; written beside and renamed."""
        head = "# " + " ".join(f"{name:>10}" for name in Record._fields) + "\n"
        with replacing(self.path) as beside, naming(self.path):
            Path(beside).write_text(head + "".join(map(_line, self.rows)), encoding="utf-8")
        self._written = len(self.rows)

    @property
    def array(self) -> np.ndarray:
        return np.array(self.rows, dtype=float).reshape(-1, len(Record._fields))

    def restore(self, array) -> None:
        """Take the rows of `array`."""
        self.rows = [Record(int(row[0]), int(row[1]), *map(float, row[2:])) for row in np.asarray(array)]
        self._written = -1


def _line(row: Record) -> str:
    return "  " + " ".join(f"{value:>10.5g}" for value in row) + "\n"


def read_records(path) -> dict[str, np.ndarray]:
    """The columns of a log by name.

    Raises
    ------
    FileError
        If it is missing or no such log.
    """
    try:
        table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read as a log of learning on the fly ({error})") from None
    if table.shape[1] != len(Record._fields):
        raise FileError(f"{path}: has {table.shape[1]} columns; expected {len(Record._fields)}")
    return dict(zip(Record._fields, table.T, strict=True))
