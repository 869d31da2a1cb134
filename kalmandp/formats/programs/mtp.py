"""The .cfg of MLIP (moment tensor potentials): frames between ``BEGIN_CFG`` and ``END_CFG``::

    BEGIN_CFG
     Size
        2
     Supercell                         a row for each periodic direction; none for an open system
     AtomData:  id type cartes_x cartes_y cartes_z fx fy fz
     Energy
        -10.8
     PlusStress:  xx yy zz yz xz xy    W = −σV, eV
     Feature   EFS_by  VASP
    END_CFG

Å, eV. Types are numbered from 0, 0 where there is no column of them: the user names their elements. A value
may stand in the line of its key. ``EFS_by`` says whose energies, forces and stresses these are.

Source: the manual of MLIP-2 (https://gitlab.com/ashapeev/mlip-2, "CFG format"); files that
``mlp calculate_efs``, ``mlp calculate_grade`` and LAMMPS's pair_style mlip write.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.errors import InputError
from kalmandp.formats.programs.steps import Lines, Step

WHAT = "a .cfg of MLIP"

#: Columns of the atoms that are read here.
CARTESIAN, FRACTIONS = ("cartes_x", "cartes_y", "cartes_z"), ("direct_x", "direct_y", "direct_z")
FORCES = ("fx", "fy", "fz")
READ = {"id", "type", *CARTESIAN, *FRACTIONS, *FORCES}
VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


def read_cfg(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the frames of a .cfg; see `steps.frames_in`."""
    for line in lines:
        if line.split() == ["BEGIN_CFG"]:
            yield _frame(lines, ignored)
        elif line.split() == ["BEGIN"]:
            raise InputError(
                f"{lines.path}: is a .cfg in MLIP's first form (BEGIN … END), which is not read; expected "
                "BEGIN_CFG … END_CFG"
            )
        elif line.strip():
            raise ValueError("expected BEGIN_CFG")


def _frame(lines: Lines, ignored: set[str]) -> Step:
    step, n, types = Step(pbc=(False, False, False)), 0, np.zeros(0, int)
    words: list[str] | None = None
    while True:
        words = lines.take().split() if words is None else words
        key, rest, words = (words[0].rstrip(":") if words else ""), words[1:], None
        if key == "END_CFG":
            break
        if key == "Size":
            n = int(_value(lines, rest))
        elif key in ("Supercell", "SuperCell"):
            words = _cell(step, lines)
        elif key in ("AtomData", "Atomic_data"):
            types = _atoms(step, lines, rest, n, ignored)
        elif key == "Energy":
            step.energy = float(_value(lines, rest))
        elif key == "PlusStress":
            step.virial = _stress(lines, rest)
        elif key in ("Stress", "Virial"):
            raise ValueError("expected PlusStress, the one name whose sign and unit are known")
        elif key == "Feature":
            _whose(lines, rest)
        elif key == "Features":
            lines.take()
        elif key:
            ignored.add(key)
    if step.positions is None:
        raise ValueError("expected AtomData between BEGIN_CFG and END_CFG")
    if lines.type_map is None or types.max(initial=0) >= len(lines.type_map):
        given = "" if lines.type_map is None else f" ({len(lines.type_map)} are given)"
        raise InputError(
            f"{lines.path}: numbers its types from 0 to {types.max(initial=0)} and names no elements; "
            f"expected their names in this order{given}:  --type-map "
            + " ".join(f"EL{k}" for k in range(types.max(initial=0) + 1))
        )
    step.symbols = [lines.type_map[t] for t in types]
    return step


def _value(lines: Lines, rest: list[str]) -> str:
    """The one number of a key, in its line or in the next that is not empty."""
    while not rest:
        rest = lines.take().split()
    if len(rest) > 1:
        raise ValueError("expected one number")
    return rest[0]


def _cell(step: Step, lines: Lines) -> list[str]:
    """The lattice vectors; what is between two of them is the next key, whose words are returned."""
    rows: list[list[float]] = []
    words = lines.take().split()
    while len(rows) < 3 and words and words[0][0] in "+-.0123456789":
        if len(words) != 3:
            raise ValueError("expected 3 numbers")
        rows.append([float(word) for word in words])
        words = lines.take().split()
    if rows:
        step.pbc = tuple(k < len(rows) for k in range(3))  # type: ignore[assignment]
        step.cell = np.array(rows + [[0.0] * 3] * (3 - len(rows)))
    return words


def _stress(lines: Lines, names: list[str]) -> np.ndarray:
    """W from the six numbers below their names."""
    values = lines.take().split()
    if set(names) != set(VOIGT) or len(values) != 6:
        raise ValueError(f"expected six numbers below PlusStress: {' '.join(VOIGT)}")
    given = dict(zip(names, map(float, values), strict=True))
    xx, yy, zz, yz, xz, xy = (given[name] for name in VOIGT)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _atoms(step: Step, lines: Lines, names: list[str], n: int, ignored: set[str]) -> np.ndarray:
    """Positions and forces from the table of the atoms; their types."""
    rows = [lines.take().split() for _ in range(n)]
    if any(len(row) != len(names) for row in rows):
        raise ValueError(f"expected {len(names)} columns: {' '.join(names)}")
    at = {name: k for k, name in enumerate(names)}

    def columns(*wanted: str):
        if not set(wanted) <= set(at):
            return None
        return np.array([[row[at[name]] for name in wanted] for row in rows], dtype=np.float64)

    if "ghost" in at and any(row[at["ghost"]] == "true" for row in rows):
        raise InputError(
            f"{lines.path}: marks atoms as ghosts, images of others; expected a file that was written "
            "without them, for their share of forces and energy is not known"
        )
    step.positions = columns(*CARTESIAN)
    if step.positions is None:
        fractions = columns(*FRACTIONS)
        if fractions is None or step.cell is None or not all(step.pbc):
            raise ValueError("expected columns cartes_x, cartes_y, cartes_z")
        step.positions = fractions @ step.cell
    step.forces = columns(*FORCES)
    if step.forces is None and set(FORCES) & set(at):
        raise ValueError("only some of the forces; expected fx, fy and fz, or none of them")
    ignored |= set(names) - READ - {"ghost"}
    types = columns("type")
    return np.zeros(n, int) if types is None else types[:, 0].astype(int)


def _whose(lines: Lines, words: list[str]) -> None:
    """Note labels that a potential has made, not a calculation."""
    if words[:1] == ["EFS_by"] and any(name in "".join(words[1:]).upper() for name in ("MTP", "MLIP")):
        lines.told.note(
            f"energies, forces and stresses are those of a potential, as the file says (EFS_by "
            f"{' '.join(words[1:])[:40]})"
        )
