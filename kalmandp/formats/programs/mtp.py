"""The .cfg of MLIP (moment tensor potentials): frames between ``BEGIN_CFG`` and ``END_CFG``::

    BEGIN_CFG
     Size
        2
     Supercell                         three rows; none for an open system
     AtomData:  id type cartes_x cartes_y cartes_z fx fy fz
     Energy
        -10.8
     PlusStress:  xx yy zz yz xz xy    W = −σV, eV
     Feature   EFS_by  VASP
    END_CFG

Å, eV. Types are numbered from 0: the user names their elements.

Source: the manual of MLIP-2 (https://gitlab.com/ashapeev/mlip-2, "CFG format").
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.errors import InputError
from kalmandp.formats.programs.steps import Lines, Step

WHAT = "a .cfg of MLIP"


def read_cfg(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the frames of a .cfg; see `steps.frames_in`."""
    for line in lines:
        if line.split() == ["BEGIN_CFG"]:
            yield _frame(lines, ignored)
        elif line.strip():
            raise ValueError("expected BEGIN_CFG")


def _frame(lines: Lines, ignored: set[str]) -> Step:
    step, n, types = Step(pbc=(False, False, False)), 0, np.zeros(0, int)
    while True:
        words = lines.take().split()
        key = words[0].rstrip(":") if words else ""
        if key == "END_CFG":
            break
        if key == "Size":
            n = int(lines.take())
        elif key in ("Supercell", "SuperCell"):
            step.cell, step.pbc = lines.table(3, 0, 3), (True, True, True)
        elif key == "AtomData":
            types = _atoms(step, lines, words[1:], n, ignored)
        elif key == "Energy":
            step.energy = float(lines.take())
        elif key in ("PlusStress", "Stress", "Virial"):
            if key != "PlusStress":
                raise ValueError("expected PlusStress, the one name whose sign is known")
            given = dict(zip(words[1:], (float(w) for w in lines.take().split()), strict=True))
            xx, yy, zz, yz, xz, xy = (given[k] for k in ("xx", "yy", "zz", "yz", "xz", "xy"))
            step.virial = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        elif key and key != "Feature":
            ignored.add(key)
    if lines.type_map is None or types.max(initial=0) >= len(lines.type_map):
        wanted = " ".join(f"EL{k}" for k in range(types.max(initial=0) + 1))
        raise InputError(
            f"{lines.path}: numbers its types from 0 to {types.max(initial=0)} and names no elements; "
            f"expected their names in this order:  --type-map {wanted}"
        )
    step.symbols = [lines.type_map[t] for t in types]
    return step


def _atoms(step: Step, lines: Lines, names: list[str], n: int, ignored: set[str]) -> np.ndarray:
    table = lines.table(n, 0, len(names))
    at = {name: k for k, name in enumerate(names)}
    columns = lambda *wanted: table[:, [at[name] for name in wanted]] if set(wanted) <= set(at) else None
    step.positions = columns("cartes_x", "cartes_y", "cartes_z")
    if step.positions is None:
        fractions = columns("direct_x", "direct_y", "direct_z")
        if fractions is None or step.cell is None:
            raise ValueError("expected columns cartes_x, cartes_y, cartes_z")
        step.positions = fractions @ step.cell
    step.forces = columns("fx", "fy", "fz")
    known = (
        "id",
        "type",
        "cartes_x",
        "cartes_y",
        "cartes_z",
        "direct_x",
        "direct_y",
        "direct_z",
        "fx",
        "fy",
        "fz",
    )
    ignored |= set(names) - set(known)
    return table[:, at["type"]].astype(int)
