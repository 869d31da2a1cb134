"""Model files of every kind of potential, recognised by what they hold."""

from __future__ import annotations

from pathlib import Path

from kalmandp.errors import FileError, InputError
from kalmandp.potentials.potential import Potential
from kalmandp.registry import KINDS, load


def read_model(path) -> Potential:
    """The potential of a model file.

    Parameters
    ----------
    path : a file (or folder) that a kind of `registry.KINDS` recognises

    Raises
    ------
    FileError
        If it is missing or damaged.
    InputError
        If no kind of potential has such files.
    """
    if not Path(path).exists():
        raise FileError(f"{path}: no such file")
    found = [load(kind.files) for kind in KINDS.values() if load(kind.files).recognises(path)]
    if not found:
        wanted = "; ".join(load(place).FORMAT for place in dict.fromkeys(k.files for k in KINDS.values()))
        what = "is a folder" if Path(path).is_dir() else "is not a model file that can be read"
        raise InputError(f"{path}: {what}; expected {wanted}")
    return found[0].read(path)
