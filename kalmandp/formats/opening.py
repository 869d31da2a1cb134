"""Frames in a file of another format, opened as a data set without a file on disk."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

from kalmandp.errors import KalmanDPError
from kalmandp.formats.convert import convert
from kalmandp.formats.sources import guess_format


def as_hdf5(path: str) -> bytes | None:
    """The content of an HDF5 file with all frames of ``path``; None if no format of ours is recognised.

    Parameters
    ----------
    path : a file of frames: extended XYZ, the output of a program, input.data, …

    Raises
    ------
    FileError, InputError
        If the format is recognised and the file cannot be read.

    Warns
    -----
    UserWarning
        If frames were left out (SCF not converged, …), with their number and the first reason.
    """
    try:
        if guess_format(path) in ("ase", "deepmd"):  # by its name it is HDF5 itself
            return None
    except KalmanDPError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / "frames.h5"
        done = convert(path, str(beside))
        if done.skipped:
            n = len(done.skipped)
            warnings.warn(
                f"{path}: {n} {'frame is' if n == 1 else 'frames are'} left out: {done.skipped[0]}"
                f"{', …' if n > 1 else ''}", stacklevel=2,
            )  # fmt: skip
        return beside.read_bytes()
