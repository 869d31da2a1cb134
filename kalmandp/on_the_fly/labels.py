"""Every reference result, in the order of the calls, in HDF5 files that are never half written.

    labels.h5             the labels but the last few
    labels-from-NNNNNN.h5 those after them, the first being number NNNNNN; not there if there are none

To write all labels for each new one would take time that grows with their number. So the second file, which
is short, is written anew for each, and goes into the first when it has a share of `LATE` of all labels, or
at `Labels.gather`. A label costs the same then at the first and at the thousandth, on the mean.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kalmandp.errors import FileError
from kalmandp.files import naming
from kalmandp.frames.dataset import Dataset
from kalmandp.frames.frame import Frame

FILE = "labels.h5"
#: Labels that are not yet in ``labels.h5``, at most: this share of all, or one.
LATE = 1 / 32


class Labels(Sequence):
    """The labelled frames of a folder; `add` has the new one on the disk when it returns.

    The files are ordinary data sets (`Dataset` reads them, `kalmandp train` trains with them). Each is
    written beside and renamed as a whole.

    Parameters
    ----------
    folder : where ``labels.h5`` is or will be

    Raises
    ------
    FileError
        If labels between the two files are missing.
    """

    def __init__(self, folder):
        self.path = Path(folder) / FILE
        self.frames: list[Frame] = []
        if os.path.exists(self.path):
            self._read(self.path, 0)
        self._gathered = len(self.frames)
        for first, path in self._late():
            if first > len(self.frames):
                raise FileError(f"{path}: begins with label {first}; {FILE} has {len(self.frames)} labels")
            self._read(path, first)

    def _read(self, path: Path, first: int) -> None:
        """Take the labels of a file, the first being number ``first``, that are not there yet."""
        with Dataset(path) as data:
            for n in range(len(self.frames), first + len(data)):
                self.frames.append(replace(data[n - first], source=f"label {n}"))

    def _late(self) -> list[tuple[int, Path]]:
        """Files after ``labels.h5`` in the order of their labels. A killed process may leave two."""
        if not self.path.parent.is_dir():
            return []
        names = ((re.fullmatch(r"labels-from-(\d+)\.h5", p.name), p) for p in self.path.parent.iterdir())
        return sorted((int(match[1]), path) for match, path in names if match)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, n):
        return self.frames[n]

    def add(self, frame: Frame) -> Frame:
        """Write a labelled frame; it is there even if the process ends now."""
        frame = replace(frame, source=f"label {len(self)}")
        self.frames.append(frame)
        try:
            if len(self) - self._gathered > LATE * len(self):
                self.gather()
            else:
                late = self.path.with_name(f"labels-from-{self._gathered:06d}.h5")
                Dataset.write(late, self.frames[self._gathered :], type_map=frame.type_map)
        except BaseException:
            if self._gathered < len(self):
                self.frames.pop()
            raise
        return frame

    def gather(self) -> None:
        """Write all labels into ``labels.h5``, if they are not there."""
        if len(self) > self._gathered:
            Dataset.write(self.path, self.frames, type_map=self.frames[-1].type_map)
            self._gathered = len(self)
        for first, path in self._late():
            if first < self._gathered:  # what is in labels.h5 now
                with naming(path):
                    path.unlink()


def same_atoms(one: Frame, other: Frame) -> bool:
    """Whether two frames are one configuration, to the last bit."""
    if one.symbols != other.symbols or one.pbc != other.pbc or (one.cell is None) != (other.cell is None):
        return False
    same_cell = one.cell is None or other.cell is None or np.array_equal(one.cell, other.cell)
    return same_cell and np.array_equal(one.positions, other.positions)
