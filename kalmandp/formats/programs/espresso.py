"""Quantum ESPRESSO's pw.x: the text it prints, for scf, relax, vc-relax and md.

A configuration is printed first (the header, later ATOMIC_POSITIONS with or without CELL_PARAMETERS),
its results follow::

    !    total energy              =     -62.45360083 Ry
         estimated scf accuracy    <          7.2E-09 Ry
         convergence has been achieved in  13 iterations
         Forces acting on atoms (cartesian axes, Ry/au):
         total   stress  (Ry/bohr**3)                   (kbar)     P=       30.49

The energy after "!" contains −TS of the smearing, so that the forces are its derivatives. The stress
has the sign of a pressure. The text has 7 to 10 decimals; data-file-schema.xml has all digits.

A cycle did not converge if "convergence NOT achieved" is printed, or if "convergence has been achieved"
comes with an estimated accuracy above the threshold: what pw.x says with ``scf_must_converge = .false.``.

Source: https://www.quantum-espresso.org/Doc/INPUT_PW.html and the outputs of twenty versions, 4.0 to 6.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from kalmandp.formats.programs.steps import TRUNCATED, Lines, Step, volume
from kalmandp.formats.units import BOHR, KILOBAR, RYDBERG

WHAT = "an output of pw.x"

_NUMBER = re.compile(r"[-+]?\d+\.\d*(?:[EeDd][-+]?\d+)?")
_VECTOR = re.compile(r"=\s*\((.*)\)")


def read_pw(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the ionic steps of an output of pw.x; see `steps.frames_in`."""
    now = _Configuration()
    step: Step | None = None
    threshold = accuracy = last_energy = None
    running = False
    earlier: set[str] = set()
    for line in lines:
        if _begins_configuration(line):
            # what has been printed since the last configuration belongs to that
            if step is not None:
                earlier |= _labels(step)
                yield step
                step = None
            running |= "Program PWSCF" in line
            now.read(line, lines)
        elif line.startswith("!") and "total energy" in line:
            if step is not None and step.forces is not None:
                earlier |= _labels(step)
                yield step
                step = None
            # "!!": the last of the outer cycle of a hybrid functional
            energy = float(_NUMBER.findall(line)[0]) * RYDBERG
            step, accuracy = now.step(energy, step), None
        elif "total energy  " in line and "=" in line:
            last_energy = float(_NUMBER.findall(line)[0]) * RYDBERG
        elif "scf convergence threshold" in line:
            threshold = float(line.split("=")[1].replace("D", "E"))
        elif "estimated scf accuracy" in line and "<" in line:
            accuracy = float(line.split("<")[1].split()[0].replace("D", "E"))
        elif "convergence has been achieved" in line and step is not None:
            if threshold is not None and accuracy is not None:
                step.converged = accuracy <= threshold
        elif "convergence NOT achieved" in line:
            if step is None:
                step = now.step(last_energy, None)
            step.converged = False
        elif "Forces acting on atoms" in line and step is not None:
            step.forces = _forces(lines, now.n_atoms)
        elif "total   stress" in line and step is not None:
            # printed with the sign of a pressure:  W = −σV
            stress = lines.table(3, 0, 3) * RYDBERG / BOHR**3
            step.virial = stress * volume(step.cell)
            if printed := re.search(r"P=\s*([-+\d.]+)", line):
                step.pressure = float(printed[1]) * KILOBAR
        elif "Magnetic moment per site" in line or "total magnetization" in line:
            ignored.add("magnetic moments")
        elif "This run was terminated on" in line or "JOB DONE" in line or line.startswith("     PWSCF  "):
            running = False
    if step is not None:
        if running and not _labels(step) >= (earlier or {"forces"}):
            step.problem = TRUNCATED
        yield step
    elif running and now.fresh:
        yield Step(problem=TRUNCATED)


def _begins_configuration(line: str) -> bool:
    return (
        "Program PWSCF" in line
        or "celldm(1)=" in line
        or "crystal axes:" in line
        or "number of atoms/cell" in line
        or ("site n." in line and "cryst" not in line)
        or line.startswith(("CELL_PARAMETERS", "ATOMIC_POSITIONS"))
    )


def _labels(step: Step) -> set[str]:
    return {name for name in ("forces", "virial") if getattr(step, name) is not None}


def _forces(lines: Lines, n_atoms: int) -> np.ndarray:
    """The table of forces, Ry/bohr; its first lines differ between versions."""
    forces: list[list[float]] = []
    while len(forces) < n_atoms:
        line = lines.take()
        if "force =" in line and "atom" in line:
            forces.append([float(word) for word in line.split("force =")[1].split()[:3]])
        elif line.strip() and forces:
            raise ValueError(f"expected {n_atoms} forces")
    return np.array(forces) * (RYDBERG / BOHR)


class _Configuration:
    """The configuration that the results to come belong to."""

    def __init__(self):
        self.n_atoms = 0
        self.alat = 0.0
        self.cell = np.zeros((3, 3))
        self.symbols: list[str] = []
        self.positions = np.zeros((0, 3))
        self.fresh = False

    def step(self, energy, old: Step | None) -> Step:
        """A step with this configuration; an energy for the same configuration replaces the older."""
        if energy is None or len(self.symbols) != self.n_atoms or not self.n_atoms:
            raise ValueError("expected a configuration and then its energy")
        self.fresh = False
        step = old or Step()
        step.symbols, step.cell, step.positions = self.symbols, self.cell, self.positions
        step.energy, step.converged = energy, True
        return step

    def read(self, line: str, lines: Lines) -> None:
        self.fresh = True
        if "celldm(1)=" in line:
            # celldm(1) has more digits than "lattice parameter"
            self.alat = float(line.split()[1]) * BOHR
        elif "number of atoms/cell" in line:
            self.n_atoms = int(line.split("=")[1])
        elif "crystal axes:" in line:
            self.cell = np.array([self._vector(lines.take()) for _ in range(3)]) * self.alat
        elif "site n." in line:
            self._sites(lines)
        elif line.startswith("CELL_PARAMETERS"):
            self.cell = lines.table(3, 0, 3) * self._unit(line)
        elif line.startswith("ATOMIC_POSITIONS"):
            rows = [lines.take().split() for _ in range(self.n_atoms)]
            self.symbols = [lines.element(row[0]) for row in rows]
            numbers = np.array([row[1:4] for row in rows], dtype=np.float64)
            self.positions = numbers @ self.cell if "crystal" in line.lower() else numbers * self._unit(line)

    def _sites(self, lines: Lines) -> None:
        #      1           Si  tau(   1) = (   0.0020000  0.0300000 -0.0100000  )
        rows = [lines.take() for _ in range(self.n_atoms)]
        self.symbols = [lines.element(row.split()[1]) for row in rows]
        self.positions = np.array([self._vector(row) for row in rows]) * self.alat

    @staticmethod
    def _vector(line: str) -> list[float]:
        found = _VECTOR.search(line)
        numbers = _NUMBER.findall(found[1]) if found else []
        if len(numbers) != 3:
            raise ValueError("expected a vector")
        return [float(n) for n in numbers]

    def _unit(self, line: str) -> float:
        """Å in the unit in the brackets of ``CELL_PARAMETERS (alat=  10.26310258)``."""
        unit = line.lower().split(maxsplit=1)[1].strip("(){} \n") if len(line.split()) > 1 else "alat"
        if unit.startswith("alat"):
            given = _NUMBER.findall(unit)
            return float(given[0]) * BOHR if given else self.alat
        known = {"angstrom": 1.0, "bohr": BOHR}
        if unit not in known:
            raise ValueError(f"the unit is {unit!r}; expected alat, bohr, angstrom or crystal")
        return known[unit]
