"""Every reference result, in the order of the calls, in one HDF5 file that is never half written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kalmandp.frames.dataset import Dataset
from kalmandp.frames.frame import Frame

FILE = "labels.h5"


class Labels(Sequence):
    """The labelled frames of a folder; `add` has the new one on the disk when it returns.

    The file is an ordinary data set (`Dataset` reads it, `kalmandp train` trains with it). It is written
    anew, under another name, and renamed: some milliseconds per thousand frames of a hundred atoms.

    Parameters
    ----------
    folder : where ``labels.h5`` is or will be
    """

    def __init__(self, folder):
        self.path = Path(folder) / FILE
        self.frames: list[Frame] = []
        if os.path.exists(self.path):
            with Dataset(self.path) as data:
                self.frames = [replace(frame, source=f"label {n}") for n, frame in enumerate(data)]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, n):
        return self.frames[n]

    def add(self, frame: Frame) -> Frame:
        """Write a labelled frame; it is there even if the process ends now."""
        frame = replace(frame, source=f"label {len(self)}")
        self.frames.append(frame)
        try:
            Dataset.write(self.path, self.frames, type_map=frame.type_map)
        except BaseException:
            self.frames.pop()
            raise
        return frame


def same_atoms(one: Frame, other: Frame) -> bool:
    """Whether two frames are one configuration, to the last bit."""
    if one.symbols != other.symbols or one.pbc != other.pbc or (one.cell is None) != (other.cell is None):
        return False
    same_cell = one.cell is None or other.cell is None or np.array_equal(one.cell, other.cell)
    return same_cell and np.array_equal(one.positions, other.positions)
