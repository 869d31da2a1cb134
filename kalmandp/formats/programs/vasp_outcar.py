"""VASP's OUTCAR.

An ionic step is written in this order: the electronic iterations, the stress ("in kB", xx yy zz xy yz
zx, positive under compression), the lattice, positions with forces, and at last the energy::

    ------------------- Iteration      1(   8)  -------------------
      in kB      11.94963   542.65825   254.27300  -198.64687  -417.61224   160.70981
     POSITION                                       TOTAL-FORCE (eV/Angst)
      free  energy   TOTEN  =        -6.50202886 eV

"free  energy   TOTEN" (two blanks, three blanks) is the energy whose derivatives the forces are, at
any smearing; "energy(sigma->0)" is not. Positions have five decimals: vasprun.xml has more.

The step did not converge if the number of its iterations reached NELM, or if VASP 6 says so; up to
5.4 the line "EDIFF is reached" comes in either case. Frames predicted by VASP's own machine-learned
force field ("TOTAL-FORCE (eV/Angst) (ML)", "free  energy ML TOTEN") are not labels and are passed over.

Source: https://www.vasp.at/wiki/index.php/OUTCAR and the files of seven versions, 5.2 to 6.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from kalmandp.errors import FileError
from kalmandp.formats.programs.steps import TRUNCATED, Lines, Step, element, volume
from kalmandp.formats.programs.vasp_poscar import compare_species
from kalmandp.formats.units import KILOBAR

WHAT = "an OUTCAR of VASP"

_ITERATION = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")
_NELM = re.compile(r"\bNELM\s*=\s*(\d+)")
#   external pressure =      149.24 kB  Pullay stress =        0.00 kB
_PRESSURE = re.compile(r"external pressure =\s*([-\d.]+) kB(?:\s+Pullay stress =\s*([-\d.]+) kB)?")
_ISPIN = re.compile(r"\bISPIN\s*=\s*2")


def read_outcar(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the ionic steps of an OUTCAR; see `steps.frames_in`."""
    header = _Header(lines.path)
    cell = None
    step, kilobar, begun = Step(), None, False
    for line in lines:
        if header.read(line):
            continue
        if "Iteration" in line and (found := _ITERATION.search(line)):
            begun = True
            if step.positions is None:  # iterations after the forces are those of linear response
                in_time = header.nelm is None or int(found[1]) < header.nelm
                step.converged = bool(step.converged) and in_time
        elif "EDIFF was not reached" in line and step.positions is None:
            step.converged = False
        elif line.startswith("  in kB"):
            kilobar = _numbers(line.split()[2:8], 6)
        elif "external pressure =" in line and (printed := _PRESSURE.search(line)):
            step.pressure = (float(printed[1]) + float(printed[2] or 0.0)) * KILOBAR
        elif "VOLUME and BASIS-vectors are now" in line:
            lines.skip(4)
            cell = np.array([_columns(lines.take()) for _ in range(3)])
        elif "TOTAL-FORCE (eV/Angst)" in line and "(ML)" not in line:
            step.symbols = header.symbols(lines)
            lines.skip(1)
            table = lines.table(len(step.symbols), 0, 6)
            step.positions, step.forces = table[:, :3], table[:, 3:]
        elif "free  energy   TOTEN" in line:
            yield _finish(step, line, cell, kilobar)
            step, kilobar, begun = Step(), None, False
        elif "free  energy ML TOTEN" in line:
            step, kilobar, begun = Step(), None, False
        elif "General timing and accounting" in line:
            begun = False
    if header.spin:
        ignored.add("magnetic moments")
    if begun:
        yield Step(problem=TRUNCATED)


def _finish(step: Step, line: str, cell, kilobar) -> Step:
    step.energy, step.cell = float(line.split("=")[1].split()[0]), cell
    if step.positions is None or cell is None:
        step.problem = "its positions are not in the file; expected them with its forces (NWRITE is 0?)"
    elif kilobar is not None:
        xx, yy, zz, xy, yz, zx = kilobar
        # printed with the sign of a pressure:  W = −σV = +(in kB)·V
        step.virial = np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]) * KILOBAR * volume(cell)
    return step


class _Header:
    """What the beginning of the file tells once: species and their numbers, NELM, ISPIN."""

    def __init__(self, path: str):
        self.path = path
        self.titles: list[str] = []
        self.potcars: list[str] = []
        self.counts: list[int] = []
        self.nelm: int | None = None
        self.spin = False
        self.compared = False

    def read(self, line: str) -> bool:
        """Take what the line tells; True if it was for us."""
        if line.startswith(" POTCAR:"):
            #  POTCAR:    PAW_PBE Ti_pv 07Sep2000
            self.potcars.append(line.split()[2])
            return True
        if "=" not in line:
            return False
        if "TITEL" in line:
            #   TITEL  = PAW_PBE Ti_pv 07Sep2000
            self.titles.append(line.split("=")[1].split()[1])
        elif "ions per type" in line:
            self.counts = [int(word) for word in line.split("=")[1].split()]
        elif self.nelm is None and (found := _NELM.search(line)):
            self.nelm = int(found[1])
        elif "ISPIN" in line and _ISPIN.search(line):
            self.spin = True
        else:
            return False
        return True

    def symbols(self, lines: Lines) -> list[str]:
        # every POTCAR is named twice
        titles = self.titles or self.potcars[: len(self.potcars) // 2]
        if not titles or len(titles) != len(self.counts):
            raise FileError(
                f"{self.path}: names {len(titles)} species (TITEL) and {len(self.counts)} numbers of "
                "ions per type; expected one number for each (vasprun.xml may have them)"
            )
        symbols = [element(t) for t, n in zip(titles, self.counts, strict=True) for _ in range(n)]
        if not self.compared:
            compare_species(self.path, symbols, lines.told)
            self.compared = True
        return symbols


def _columns(line: str) -> list[float]:
    """Three numbers in columns of 13, which may touch each other."""
    return [float(line[start : start + 13]) for start in (3, 16, 29)]


def _numbers(words: list[str], count: int) -> list[float]:
    if len(words) != count:
        raise ValueError(f"expected {count} numbers")
    return [float(word) for word in words]
