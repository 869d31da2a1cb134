"""ABINIT's main output (.abo, .out): single points, relaxation and molecular dynamics, several data sets.

A run with moving ions prints, for each SCF cycle, the stress, then coordinates (bohr), forces (Ha/bohr)
and energy (Ha), each with all digits; a single point prints them once, after "iterations are completed"::

     Cartesian components of stress tensor (hartree/bohr^3)
     Cartesian coordinates (xcart) [bohr]
     Cartesian forces (fcart) [Ha/bohr]; max,rms= …
     Total energy (etotal) [Ha]= -8.21233007544974E+00

     cartesian coordinates (angstrom) at end:
     cartesian forces (hartree/bohr) at end:
     total_energy        : -8.20945865197141E+00

etotal contains −TS of the smearing. The stress is positive under tension. "was not enough SCF cycles to
converge" is how ABINIT tells a cycle that did not. The cell is R(1), R(2), R(3) in bohr: rprim alone is
in units of acell.

Source: https://docs.abinit.org and outputs of the versions 7.8 to 9.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from kalmandp.errors import FileError
from kalmandp.formats.programs.steps import TRUNCATED, Lines, Step, volume
from kalmandp.formats.units import BOHR, GIGAPASCAL, HARTREE
from kalmandp.frames.elements import ELEMENTS

WHAT = "an output of ABINIT"

_ECHO = re.compile(r"^-?\s*P?\s*(natom|ntypat|typat|znucl)(\d*)\s+(.*)")
_PER_SET = re.compile(r"^-?\s*P?\s*(natom|ntypat|typat|znucl)\d+\s")


def read_abinit(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the SCF cycles of an output of ABINIT; see `steps.frames_in`."""
    symbols = _symbols(lines)
    n = len(symbols)
    cell: np.ndarray | None = None
    stress = None
    step, moved, inside = Step(symbols), False, bool(n)
    for line in lines:
        if line.startswith("== DATASET"):
            if step.energy is not None:
                yield _finish(step, cell, stress)
            step, stress, moved = Step(symbols), None, False
        elif line.startswith(" R(1)="):
            rows = [line, lines.take(), lines.take()]
            cell = np.array([row.split("=")[1].split()[:3] for row in rows], dtype=np.float64) * BOHR
        elif "Real space primitive translations (rprimd) [bohr]" in line:
            cell = lines.table(3, 0, 3) * BOHR
        elif "was not enough SCF cycles to converge" in line:
            step.converged = False
        elif "Cartesian components of stress tensor (hartree/bohr^3)" in line:
            stress = _stress(lines)
        elif "[Pressure=" in line:
            step.pressure = float(line.split("[Pressure=")[1].split()[0].replace("D", "E")) * GIGAPASCAL
        elif "Cartesian coordinates (xcart) [bohr]" in line:
            step.positions = lines.table(n, 0, 3) * BOHR
        elif "Cartesian forces (fcart) [Ha/bohr]" in line:
            step.forces = lines.table(n, 0, 3) * (HARTREE / BOHR)
        elif "Total energy (etotal) [Ha]" in line:
            step.energy = float(line.split("=")[1]) * HARTREE
            yield _finish(step, cell, stress)
            step, stress, moved = Step(symbols), None, True
        elif not moved and "cartesian coordinates (angstrom) at end" in line:
            step.positions = lines.table(n, 1, 3)
        elif not moved and "cartesian forces (hartree/bohr) at end" in line:
            step.forces = lines.table(n, 1, 3) * (HARTREE / BOHR)
        elif not moved and line.startswith("total_energy  "):
            step.energy = float(line.split(":")[1]) * HARTREE
        elif not moved and ">>>>>>>>> Etotal=" in line:
            step.energy = float(line.split("=")[1].replace("D", "E")) * HARTREE
        elif line.startswith("== END DATASET"):
            inside = False
            if step.energy is not None:
                yield _finish(step, cell, stress)
            break
    if inside:
        yield Step(problem=TRUNCATED)


def _finish(step: Step, cell, stress) -> Step:
    step.cell = cell
    if step.positions is None or cell is None:
        step.problem = "its coordinates are not in the file; expected them with its forces"
    elif stress is not None:
        # W = −σV
        step.virial = -stress * volume(cell)
    return step


def _symbols(lines: Lines) -> list[str]:
    """Elements of the atoms, out of the echo of the input variables; the echo is read to its end."""
    values: dict[str, list[float]] = {}
    name = ""
    for line in lines:
        if "echo values of preprocessed input variables" in line:
            break
    for line in lines:
        if line.startswith(("== DATASET", "=" * 60)) and "typat" in values and "znucl" in values:
            break
        if _PER_SET.match(line):
            raise FileError(
                f"{lines.path} line {lines.number}: the atoms differ between data sets "
                f"({line.split()[0]}); expected the same atoms in all of them"
            )
        if found := _ECHO.match(line):
            name = found[1]
            values[name] = []
            line = found[3]
        elif not line.startswith(" " * 12) or re.match(r"\s*-?\s*P?\s*[A-Za-z]", line):
            name = ""
        if name:
            values[name] += [float(word.replace("D", "E")) for word in line.split()]
    else:
        return []
    types, numbers = values["typat"], values["znucl"]
    n_atoms = int(values.get("natom", [1])[0])
    if len(types) != n_atoms:
        raise ValueError(f"typat has {len(types)} numbers; expected {n_atoms}")
    return [ELEMENTS[round(numbers[int(t) - 1])] for t in types]


def _stress(lines: Lines) -> np.ndarray:
    #   sigma(1 1)=  4.02063464E-04  sigma(3 2)=  0.00000000E+00
    rows = [re.findall(r"=\s*(\S+)", lines.take()) for _ in range(3)]
    if any(len(row) != 2 for row in rows):
        raise ValueError("expected the six components of the stress")
    (xx, yz), (yy, zx), (zz, xy) = ([float(word) for word in row] for row in rows)
    return np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]) * (HARTREE / BOHR**3)
