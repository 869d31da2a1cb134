"""PWmat's MOVEMENT: one block per ionic step, between lines of dashes::

     32 atoms,Iteration (fs) = 0.0E+00, Etot,Ep,Ek (eV) = -4.6E+03 -4.6E+03 0.0E+00, SCF = 9
     Lattice vector (Angstrom)
      7.2 0.0 0.0     stress (eV):  0.1 0.0 0.0          three rows
     Pressure Internal(Hartree/bohr^3)                   three rows, not in every file
     Position (normalized), move_x, move_y, move_z       atomic number, fractions of the cell
     Force (-force, eV/Angstrom)                         atomic number, ∂E/∂r

Ep is the energy. The virial's size is that of "stress (eV)"; its sign is the one that the block's
"Pressure" has: PWmat prints σV, positive under tension, so W = −(stress). Files that other tools make
(without that line) have W itself there.

A cycle is taken for unconverged if it took as many iterations as PWmat allows by default, 100 in the
first step and 40 later.

Source: http://www.pwmat.com/pwmat-resource/Manual.pdf ("MOVEMENT").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from kalmandp.formats.programs.steps import TRUNCATED, Lines, Step, volume
from kalmandp.formats.units import BOHR, HARTREE
from kalmandp.frames.elements import ELEMENTS

WHAT = "a MOVEMENT of PWmat"

#: First line of a block.
BLOCK = re.compile(r"^\s*(\d+)\s+atoms?\s*,\s*Iteration.*?=\s*([-+.\dEeDd]+)")
#: Iterations of the SCF cycle that PWmat allows by default, in the first step and in later ones.
FIRST, LATER = 100, 40
#: Share by which a pressure times the volume may differ from the stress.
AGREE = 0.05

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][-+]?\d+)?")


def read_movement(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the blocks of a MOVEMENT; see `steps.frames_in`."""
    for line in lines:
        if found := BLOCK.match(line):
            yield _block(lines, line, int(found[1]), ignored)


def _block(lines: Lines, head: str, n: int, ignored: set[str]) -> Step:
    step = Step(energy=_energy(head), converged=_converged(head))
    cell = stress = pressure = fractions = None
    for line in lines:
        if line.lstrip().startswith("-----"):
            break
        if "Lattice vector" in line:
            rows = [lines.take() for _ in range(3)]
            cell = np.array([_numbers(row.split("stress")[0], 3) for row in rows])
            if "stress" in rows[0]:
                stress = np.array([_numbers(row.split(":", 1)[1], 3) for row in rows])
                stress = stress * (n if "natom" in line + rows[0] else 1)
        elif "Pressure" in line and "Hartree/bohr" in line:
            pressure = np.array([_numbers(lines.take(), 3) for _ in range(3)]) * (HARTREE / BOHR**3)
        elif "Position" in line and "nonperiodic" not in line:
            table = lines.table(n, 0, 4)
            fractions = table[:, 1:]
            step.symbols = [ELEMENTS[int(z)] for z in table[:, 0]]
        elif line.lstrip().startswith("Force"):
            # forces are printed as ∂E/∂r
            step.forces = -lines.table(n, 0, 4)[:, 1:]
        elif "Atomic-Energy" in line:
            ignored.add("atomic energies of PWmat")
    else:
        return Step(problem=TRUNCATED)
    if cell is None or fractions is None:
        step.problem = (
            "its cell or its positions are missing; expected 'Lattice vector' and 'Position' in its block"
        )
        return step
    step.cell, step.positions = cell, fractions @ cell
    if stress is not None:
        step.virial, step.problem = _virial(stress, pressure, cell, lines)
    return step


def _virial(stress, pressure, cell, lines: Lines):
    """W, and what is wrong with it or None."""
    if pressure is None:
        lines.told.note(
            "the MOVEMENT has no 'Pressure' lines, as files that PWmat did not write; its stress is taken as "
            "W = −dE/dε"
        )
        return stress, None
    W = pressure * volume(cell)
    for sign in (-1.0, 1.0):
        if np.abs(sign * stress - W).max() <= AGREE * np.abs(W).max() + 1e-3:
            return sign * stress, None
    return (
        stress,
        "its 'stress' is not its 'Pressure' times the volume, with either sign; expected the same size",
    )


def _energy(head: str) -> float:
    """Ep of "Etot,Ep,Ek (eV) = …", or Etot where that stands alone."""
    after = head.split("Etot", 1)[1].split("=", 1)[1]
    numbers = [float(x.replace("D", "E")) for x in _NUMBER.findall(after.split(",")[0])]
    return numbers[1] if "Ep" in head.split("Etot", 1)[1].split("=", 1)[0] else numbers[0]


def _converged(head: str) -> bool:
    count = re.search(r"SCF\s*=\s*(\d+)", head)
    found = BLOCK.match(head)
    later = found is not None and float(found[2].replace("D", "E")) > 0
    return count is None or int(count[1]) < (LATER if later else FIRST)


def _numbers(text: str, count: int) -> list[float]:
    numbers = [float(x.replace("D", "E")) for x in _NUMBER.findall(text)]
    if len(numbers) < count:
        raise ValueError(f"expected {count} numbers")
    return numbers[:count]
