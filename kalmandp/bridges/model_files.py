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
    found = [kind for kind in _formats() if kind.recognises(path)]
    if not found:
        wanted = "; ".join(kind.FORMAT for kind in _formats())
        what = "is a folder" if Path(path).is_dir() else "is not a model file that can be read"
        raise InputError(f"{path}: {what}; expected {wanted}{_meant(Path(path))}")
    return found[0].read(path)


def _meant(path: Path) -> str:
    """The model that is in a folder, or that a file is a part of, in words; "" if there is none."""
    beside = [path / kind.DEFAULT for kind in _formats()] if path.is_dir() else [path.parent]
    there = [place for place in beside if place.exists()]
    found = [place for place in there if any(kind.recognises(place) for kind in _formats())]
    return f" (did you mean {found[0]}?)" if found else ""


def _formats() -> list:
    """The modules of the model files of all kinds."""
    return [load(place) for place in dict.fromkeys(kind.files for kind in KINDS.values())]
