"""The POSCAR beside an output of VASP: its species are a comment, those of POTCAR were computed."""

from __future__ import annotations

import os
from collections.abc import Sequence

from kalmandp.formats.programs.steps import beside, element
from kalmandp.formats.told import Told
from kalmandp.frames.hdf5.storage import reading


def compare_species(path: str, symbols: Sequence[str], told: Told) -> None:
    """Note where the POSCAR beside ``path`` names other species, or in another order, than POTCAR had."""
    poscar = beside(path, "POSCAR")
    if not os.path.isfile(poscar):
        return
    with reading(poscar), open(poscar, encoding="utf-8", errors="replace") as file:
        lines = [next(file, "") for _ in range(7)]
    names, counts = lines[5].split(), lines[6].split()
    if not names or names[0].isdigit() or not all(word.isdigit() for word in counts[: len(names)]):
        return  # VASP 4 names no species there
    try:
        listed = [element(name) for name, n in zip(names, counts, strict=False) for _ in range(int(n))]
    except ValueError:
        return
    if listed != list(symbols):
        order = lambda atoms: " ".join(dict.fromkeys(atoms))
        told.note(
            f"the POSCAR beside it names {order(listed)}, the POTCAR {order(symbols)}. VASP computes what "
            "the POTCAR says, and the frames have its elements. Were both meant to be in the same order?"
        )
