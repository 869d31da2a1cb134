"""CP2K: the output of a run, with the trajectory files that belong to it.

A single point has everything in its output, at PRINT_LEVEL MEDIUM and with ``&FORCES`` printed. In
dynamics and relaxations the coordinates are in ``PROJECT-pos-1.xyz`` (Å), the forces there or in
``PROJECT-frc-1.xyz`` (Ha/bohr), the cell in ``PROJECT-1.cell``; they are found beside the output by the
project's name, and each of their frames is matched with the energy in the output that it states, to 2e-9 Ha.

The stress of the output is read (GPa or bar, sign of a pressure). ``PROJECT-1.stress`` is not: it
contains the ions' kinetic part, which is no derivative of the energy. "SCF run NOT converged", or an
outer loop that "FAILED to converge", is how CP2K tells a cycle that did not converge.

Source: https://manual.cp2k.org and outputs of the versions 6.1, 7.1 and 2023.1; the layout of 2025.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from kalmandp.errors import FileError
from kalmandp.formats.programs.steps import TRUNCATED, Lines, Step, beside, volume
from kalmandp.formats.units import BAR, BOHR, GIGAPASCAL, HARTREE
from kalmandp.frames.hdf5.storage import reading

WHAT = "an output of CP2K"

#: Ha: the trajectory prints energies with ten decimals, the output with more or as many.
SAME_ENERGY = 2e-9


def read_cp2k(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the energies of an output of CP2K; see `steps.frames_in`."""
    run = _Run(lines.path)
    steps = _evaluations(lines, run)
    first = next(steps, None)
    if first is None:
        return
    if run.kind not in ("MD", "GEO_OPT", "CELL_OPT"):
        yield first
        yield from steps
        return
    positions = beside(lines.path, f"{run.project}-pos-1.xyz")
    if not os.path.isfile(positions):
        raise FileError(f"{lines.path}: is a run of type {run.kind}; expected its coordinates in {positions}")
    evaluated = [step for step in (first, *steps) if step.energy is not None]
    yield from _trajectory(positions, run, evaluated, lines)


class _Run:
    """What the head of the output tells: name, type, cell."""

    def __init__(self, path: str):
        self.path, self.project, self.kind = path, "", ""
        self.cell: np.ndarray | None = None
        self.pbc = (True, True, True)
        self.cell_moves = False


def _evaluations(lines: Lines, run: _Run) -> Iterator[Step]:
    """Each energy of the output, with forces and stress printed after it."""
    step, converged, coordinates = None, True, None
    running = False
    for line in lines:
        if line.startswith(" GLOBAL|"):
            running = True
            if "Project name" in line:
                run.project = line.split()[-1]
            elif "Run type" in line:
                run.kind = line.split()[-1]
        elif "nsemble" in line and "NPT" in line:
            run.cell_moves = True
        elif line.startswith(" CELL| Vector a [angstrom]"):
            run.cell = _cell([line, *(lines.take() for _ in range(5))])
        elif line.startswith(" CELL| Periodicity"):
            x, y, z = (c in line.split()[-1] for c in "XYZ")
            run.pbc = (x, y, z)
        elif "COORDINATES IN" in line.upper() and "MODULE" in line:
            if "ANGSTROM" not in line.upper():
                raise ValueError("expected coordinates in angstrom")
            coordinates = _coordinates(lines)
        elif "SCF run NOT converged" in line or "outer SCF loop FAILED to converge" in line:
            converged = False
        elif line.startswith(" ENERGY| Total FORCE_EVAL"):
            if step is not None:
                yield _with_virial(step)
            step = Step(energy=float(line.split()[-1]) * HARTREE, converged=converged)
            converged = True
            if coordinates is not None:
                step.symbols, step.positions = coordinates
            step.cell, step.pbc = run.cell, run.pbc
        elif step is not None and _is_forces(line):
            step.forces = _forces(lines) * (HARTREE / BOHR)
        elif step is not None and step.virial is None and _is_stress(line):
            step.virial = _stress(line, lines)  # becomes W = −σV when the cell is known
        elif "PROGRAM ENDED" in line or "PROGRAM STOPPED" in line:
            running = False
    if step is not None:
        if running and step.forces is None:
            step.problem = TRUNCATED
        yield _with_virial(step)
    elif running:
        yield Step(problem=TRUNCATED)


def _with_virial(step: Step) -> Step:
    if step.virial is not None and step.cell is not None:
        # printed with the sign of a pressure:  W = −σV
        step.virial = step.virial * volume(step.cell)
    return step


def _cell(rows: list[str]) -> np.ndarray:
    """Lattice vectors, out of lines with three decimals of them and six of their lengths and angles."""
    printed = np.array([row.split("]:")[1].split()[:3] for row in rows[:3]], dtype=np.float64)
    a, b, c = (float(row.split("=")[1]) for row in rows[:3])
    alpha, beta, gamma = np.radians([float(row.split("]:")[1]) for row in rows[3:]])
    # lengths and angles tell the cell if a lies along x and b in the plane of x and y, as CP2K puts them
    x = np.cos(beta)
    y = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    cell = np.array(
        [[a, 0, 0], [b * np.cos(gamma), b * np.sin(gamma), 0], [c * x, c * y, c * np.sqrt(1 - x * x - y * y)]]
    )
    cell[np.abs(cell) < 1e-12 * a] = 0.0
    return cell if np.abs(cell - printed).max() < 1e-3 else printed


def _coordinates(lines: Lines) -> tuple[list[str], np.ndarray]:
    #   Atom Kind Element         X              Y              Z       Z(eff)     Mass
    symbols: list[str] = []
    positions = []
    while True:
        words = lines.take().split()
        if len(words) >= 7 and words[0].isdigit():
            symbols.append(lines.element(words[2], kind=words[1]))
            positions.append([float(word) for word in words[4:7]])
        elif symbols:
            return symbols, np.array(positions)


def _is_forces(line: str) -> bool:
    return "ATOMIC FORCES in [a.u.]" in line or "FORCES| Atomic forces [hartree/bohr]" in line


def _forces(lines: Lines) -> np.ndarray:
    """Both layouts: numbers 4 to 6 of a row in the older, 3 to 5 after ``FORCES|`` in the newer."""
    forces: list[list[float]] = []
    while True:
        words = lines.take().split()
        if words[:1] == ["FORCES|"]:
            #  FORCES|      1 -1.00000000E-01  2.00000000E-01 -3.00000000E-01   3.74165739E-01
            words = [words[1], "", "", *words[2:]]
        if len(words) >= 6 and words[0].isdigit():
            forces.append([float(word) for word in words[3:6]])
        elif words and forces:
            return np.array(forces)


def _is_stress(line: str) -> bool:
    named = "STRESS TENSOR [" in line or "nalytical stress tensor [" in line
    return named and "igen" not in line and "IGEN" not in line


def _stress(line: str, lines: Lines) -> np.ndarray:
    """(3, 3) eV/Å³, of the sign printed."""
    unit = {"GPa": GIGAPASCAL, "bar": BAR}.get(line.split("[")[1].split("]")[0])
    if unit is None:
        raise ValueError("expected GPa or bar")
    rows: list[list[float]] = []
    while len(rows) < 3:
        words = lines.take().replace("STRESS|", " ").split()
        if len(words) == 4 and words[0].lower() == "xyz"[len(rows)]:
            rows.append([float(word) for word in words[1:]])
    return np.array(rows) * unit


def _trajectory(path: str, run: _Run, evaluated: list[Step], lines: Lines) -> Iterator[Step]:
    """The frames of ``PROJECT-pos-1.xyz`` with labels from the output and the files beside it."""
    energies = np.array([step.energy for step in evaluated]) / HARTREE
    forces = beside(path, f"{run.project}-frc-1.xyz")
    cells = _cells(beside(path, f"{run.project}-1.cell"), run)
    frames, last = _xyz(path, lines), -1
    pushes = _xyz(forces, lines) if os.path.isfile(forces) else None
    for number, energy, symbols, positions in frames:
        same = np.flatnonzero(np.abs(energies - energy) <= SAME_ENERGY)
        if not len(same):
            yield Step(problem=f"no energy of the output is the {energy} Ha that {path} states")
            continue
        # of several that are equal, the next one
        last = int(next((k for k in same if k > last), same[-1]))
        found = evaluated[last]
        step = Step(symbols, positions, cells.get(number, run.cell), found.energy, found.forces)
        step.converged, step.pbc = found.converged, run.pbc
        if found.virial is not None and found.cell is not None:
            step.virial = found.virial * (volume(step.cell) / volume(found.cell))
        if pushes is not None:
            push = next((p for p in pushes if p[0] == number), None)
            if push is None:
                yield Step(problem=TRUNCATED)
                return
            step.forces = push[3] * (HARTREE / BOHR)
        yield step


def _xyz(path: str, run_lines: Lines) -> Iterator[tuple[int, float, list[str], np.ndarray]]:
    """Number, energy (Ha), elements and columns of each frame: ``i = 0, time = 0.000, E = -34.15``."""
    with reading(path):
        file = open(path, encoding="utf-8", errors="replace")
    with file:
        lines = Lines(path, file)
        for line in lines:
            count = int(line)
            parts = "".join(lines.take().split()).split(",")
            words = dict(part.split("=") for part in parts if "=" in part)
            rows = [lines.take().split() for _ in range(count)]
            columns = np.array([row[1:4] for row in rows], dtype=np.float64)
            yield int(words["i"]), float(words["E"]), [run_lines.element(row[0]) for row in rows], columns


def _cells(path: str, run: _Run) -> dict[int, np.ndarray]:
    """Step -> lattice vectors, where there is a file of them."""
    if not os.path.isfile(path):
        if run.cell_moves or run.kind == "CELL_OPT":
            raise FileError(f"{run.path}: the cell changes during the run; expected its vectors in {path}")
        return {}
    with reading(path):
        table = np.loadtxt(path, ndmin=2)
    return {int(row[0]): row[2:11].reshape(3, 3) for row in table}
