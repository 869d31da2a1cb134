"""FHI-aims: its output, for single points, relaxation and molecular dynamics.

The geometry of the first cycle stands in the header; each cycle is followed by the geometry "as used in
the preceding time step" (dynamics) or preceded by an "Updated atomic structure" (relaxation)::

      | Unit cell:                                 three rows; none for an open system
      | Atomic structure:
      Begin self-consistency loop: Re-initialization.
      Self-consistency cycle converged.
      | Electronic free energy        :  -2.98E+03 eV
      Total atomic forces (unitary forces cleaned) [eV/Ang]:
      |  Analytical stress tensor - Symmetrized  |     eV/Å³, positive under tension

The electronic free energy is the one whose derivatives the forces are.

Source: the FHI-aims manual (fhi-aims.org), and outputs as ASE and dpdata are tested with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from kalmandp.formats.programs.steps import TRUNCATED, Lines, Step, volume

WHAT = "an output of FHI-aims"

#: Without its beginning a file does not say whether the system is periodic.
NO_HEADER = (
    "the beginning of the file is missing; expected '| Atomic structure:' and, in a crystal, '| Unit cell:' "
    "before the first SCF cycle"
)

_FREE_ENERGY = re.compile(r"\|\s*Electronic free energy\s*:.*?([-+.\dEe]+)\s*eV\s*$")
_STRESS = re.compile(r"(Analytical|Numerical) stress tensor")


def read_aims(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the cycles of an output of FHI-aims; see `steps.frames_in`."""
    cell = positions = None
    symbols: list[str] = []
    step: Step | None = None
    running, had_forces = False, False
    for line in lines:
        if "Invoking FHI-aims" in line:
            running = True
        elif "| Unit cell:" in line:
            cell = lines.table(3, 1, 3)
        elif "| Atomic structure:" in line and positions is None:
            symbols, positions = _header(lines)
        elif "Begin self-consistency loop" in line:
            if step is not None:
                had_forces |= step.forces is not None
                yield _finish(step)
            running = True  # where what stands before was cut away
            step = Step(symbols, positions, cell, converged=None, pbc=(cell is not None,) * 3)
        elif "in the preceding time step" in line or "Updated atomic structure" in line:
            updated = "Updated" in line
            symbols, positions, cell = _geometry(lines, len(symbols), cell)
            if updated and step is not None:
                had_forces |= step.forces is not None
                yield _finish(step)
                step = None
            elif step is not None:
                step.symbols, step.positions, step.cell = symbols, positions, cell
        elif step is None:
            continue
        elif "Self-consistency cycle converged" in line:
            step.converged = True
        elif "elf-consistency cycle not converged" in line:
            step.converged = False
        elif found := _FREE_ENERGY.search(line):
            step.energy = float(found[1])
        elif "Total atomic forces" in line and "[eV/Ang]" in line:
            step.forces = lines.table(len(symbols), 2, 3)
        elif _STRESS.search(line) and step.cell is not None:
            step.virial = -_stress(lines) * volume(step.cell)
        elif "Pressure:" in line and "eV/A" in line and step.virial is not None:
            step.pressure = float(line.split("Pressure:")[1].split()[0])
        elif "Have a nice day" in line:
            running = False
    if step is not None:
        if running and (step.energy is None or (had_forces and step.forces is None)):
            step = Step(problem=TRUNCATED)
        yield _finish(step)


def _finish(step: Step) -> Step:
    if not step.symbols:
        step.problem = NO_HEADER
    elif step.problem is None and step.energy is None and not step.converged:
        step.problem = "its SCF cycle has no end in the file; expected an energy"
    return step


def _header(lines: Lines) -> tuple[list[str], np.ndarray]:
    #   |    1: Species N              1.000000            1.000000            1.000000
    symbols: list[str] = []
    rows: list[list[float]] = []
    while True:
        words = lines.take().split()
        if len(words) >= 7 and words[2] == "Species":
            symbols.append(lines.element(words[3]))
            rows.append([float(word) for word in words[4:7]])
        elif symbols:
            return symbols, np.array(rows)


def _geometry(lines: Lines, n: int, cell):
    """Elements, positions and cell of a block of ``lattice_vector``, ``atom`` and ``velocity``."""
    symbols: list[str] = []
    rows: list[list[float]] = []
    vectors: list[list[float]] = []
    fractional = False
    while len(rows) < n:
        words = lines.take().split()
        if words[:1] == ["lattice_vector"]:
            vectors.append([float(word) for word in words[1:4]])
        elif words[:1] in (["atom"], ["atom_frac"]) and len(words) >= 5:
            fractional = words[0] == "atom_frac"
            symbols.append(lines.element(words[4]))
            rows.append([float(word) for word in words[1:4]])
    cell = np.array(vectors) if len(vectors) == 3 else cell
    positions = np.array(rows)
    return symbols, positions @ cell if fractional else positions, cell


def _stress(lines: Lines) -> np.ndarray:
    #  |  x       0.00123456       0.00000000       0.00000000  |
    rows: list[list[float]] = []
    while len(rows) < 3:
        words = lines.take().replace("|", " ").split()
        if len(words) >= 4 and words[0] == "xyz"[len(rows)]:
            rows.append([float(word) for word in words[1:4]])
    return np.array(rows)
