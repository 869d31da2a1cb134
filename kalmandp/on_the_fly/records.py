"""The log of learning on the fly: one line for each label, rewritten as a whole with each of them."""

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


class Records:
    """The lines so far, and their file."""

    def __init__(self, folder):
        self.path = Path(folder) / FILE
        self.rows: list[Record] = []

    def add(self, record: Record) -> None:
        self.rows.append(record)
        self.write()

    def write(self) -> None:
        """Write the file anew, completely or not at all."""
        lines = ["# " + " ".join(f"{name:>10}" for name in Record._fields)]
        for row in self.rows:
            lines.append("  " + " ".join(f"{value:>10.5g}" for value in row))
        with replacing(self.path) as beside, naming(self.path):
            Path(beside).write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def array(self) -> np.ndarray:
        return np.array(self.rows, dtype=float).reshape(-1, len(Record._fields))

    def restore(self, array) -> None:
        """Take the rows of `array`."""
        self.rows = [Record(int(row[0]), int(row[1]), *map(float, row[2:])) for row in np.asarray(array)]


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
