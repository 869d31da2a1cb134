"""Whatever ase.io reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from kalmandp.errors import FileError, MissingPackage
from kalmandp.formats.foreign.calling import check_there, foreign
from kalmandp.formats.told import Told
from kalmandp.frames.frame import Frame, full_stress, stress_volume

#: What `Frame.from_ase` reads of a calculator's results.
READ = ("energy", "free_energy", "forces", "stress", "virial", "energies")


def read_ase(path: str, name: str, told: Told, keys: dict[str, str] | None = None) -> Iterator[partial]:
    """Frames of a file; ``name`` is one of ASE's formats, or empty to let it guess.

    Parameters
    ----------
    keys : label -> its name among the atoms' ``info``, ``arrays`` or results
    """
    try:
        from ase.io import iread
    except ImportError as error:
        raise MissingPackage("ase", "ase", f"reading {path}") from error
    check_there(path)
    whose = "ASE" if name else "its format is not recognised, and ASE"
    images = foreign(path, whose, lambda: iread(path, ":", format=name or None, do_not_split_by_at_sign=True))
    number = 0
    while True:
        atoms = foreign(path, whose, lambda: next(images, None))
        if atoms is None:
            break
        told.ignored |= _unread(atoms) - set((keys or {}).values())
        yield partial(_frame, atoms, f"{path} frame {number}", keys or {}, told)
        number += 1
    if not number:
        raise FileError(f"{path}: holds no frames; expected at least one")


def ase_format(path: str, name: str) -> str:
    """The name of the format as ASE guesses it; empty if it cannot."""
    if name:
        return name
    try:
        from ase.io.formats import filetype

        return filetype(path)
    except Exception:  # reading will say what is wrong
        return ""


def _frame(atoms, source: str, keys: dict[str, str], told: Told) -> Frame:
    frame = Frame.from_ase(atoms, source=source)
    if atoms.cell.rank == 3 and not any(atoms.pbc):
        told.note("the file has a cell, and ASE's reader says that nothing is periodic: the cell is left out")
    for label, name in keys.items():
        results = getattr(atoms.calc, "results", None) or {}
        value = next((d[name] for d in (results, atoms.info, atoms.arrays) if name in d), None)
        if value is None:
            continue
        told.names.setdefault(label, set()).add(name)
        if label == "stress":
            label, value = "virial", -full_stress(value, source) * stress_volume(np.array(atoms.cell), source)
        elif label == "virial" and np.size(value) == 9:
            value = np.reshape(value, (3, 3))
        frame = replace(frame, **{label: value})  # type: ignore[arg-type]
    return frame


def _unread(atoms) -> set[str]:
    """Names of what an Atoms carries and a Frame does not: moments, charges, other names of labels."""
    results = getattr(atoms.calc, "results", None) or {}
    names = {name for name, value in results.items() if value is not None and name not in READ}
    names |= {name for name in atoms.info if name not in ("energy", "virial")}
    names |= set(atoms.arrays) - {"numbers", "positions", "forces"}
    return names
