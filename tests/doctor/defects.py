"""Defects to plant in a good data set, and what the doctor must say of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

HARTREE, BOHR, KCAL = 27.211386245988, 0.529177210903, 1 / 23.060547830619
KBAR, GPA = 6.241509074e-4, 6.241509074e-3


class Defect(NamedTuple):
    """``plant(frames, rng)`` gives the frames with the defect and the numbers of those that have it.

    check, says : the finding's check (one of several), and a part of its text or advice
    severity : of the finding
    needs : labels that the set must have
    share : of the planted frames that must be named
    """

    name: str
    plant: Callable
    check: str
    says: str
    severity: str = "error"
    needs: tuple[str, ...] = ("energy", "forces")
    share: float = 1.0


def scaled(energy=1.0, forces=1.0, virial=1.0):
    """Every frame's labels times a factor, which for the virial may be a function of the frame."""

    def plant(frames, rng):
        out = []
        for f in frames:
            w = virial(f) if callable(virial) else virial
            out.append(replace(
                f, energy=f.energy * energy, forces=f.forces * forces,
                virial=None if f.virial is None else f.virial * w,
            ))  # fmt: skip
        return out, []

    return plant


def on_some(change, count: int = 3):
    """``change(frame, rng)`` applied to some frames."""

    def plant(frames, rng):
        chosen = sorted(rng.choice(np.arange(1, len(frames) - 1), count, replace=False).tolist())
        return [change(f, rng) if k in chosen else f for k, f in enumerate(frames)], chosen

    return plant


def overlap(f, rng):
    i, j = rng.choice(len(f), 2, replace=False)
    positions = f.positions.copy()
    direction = rng.normal(size=3)
    positions[j] = positions[i] + 0.3 * direction / np.sqrt((direction**2).sum())
    return replace(f, positions=positions)


def without_atom(f, rng):
    kept = np.delete(np.arange(len(f)), rng.integers(len(f)))
    return replace(f, positions=f.positions[kept], types=f.types[kept], forces=f.forces[kept])


def in_bohr(frames, rng):
    return [
        replace(f, positions=f.positions / BOHR, cell=None if f.cell is None else f.cell / BOHR)
        for f in frames
    ], []


def moved(f, rng):
    """The same configuration: translated, wrapped into the cell, its atoms in another order."""
    order = rng.permutation(len(f))
    scaled_ic = (f.positions + rng.uniform(-5, 5, 3)) @ np.linalg.inv(f.cell)
    positions = (scaled_ic % 1.0) @ f.cell
    return replace(f, positions=positions[order], types=f.types[order], forces=f.forces[order])


def repeated(frames, rng):
    chosen = rng.choice(len(frames), 3, replace=False)
    return [*frames, *(moved(frames[k], rng) for k in chosen)], list(range(len(frames), len(frames) + 3))


def shuffled_forces(frames, rng):
    """Each frame has the forces of another one with as many atoms."""
    out = list(frames)
    for n in {len(f) for f in frames}:
        members = [k for k, f in enumerate(frames) if len(f) == n]
        for k, other in zip(members, np.roll(members, 1), strict=True):
            out[k] = replace(frames[k], forces=frames[other].forces)
    return out, []


def same_energy(frames, rng):
    return [replace(f, energy=frames[0].energy) for f in frames], []


def renamed_atom(f, rng):
    types = f.types.copy()
    types[0] = len(f.type_map)
    return replace(f, type_map=(*f.type_map, "Xx"), types=types)


def emptied(f, rng):
    return replace(f, cell=3.0 * f.cell)


def forgotten(f, rng):
    return replace(f, forces=None)


def noisy(f, rng):
    """Forces with errors that do not add up to zero, of 0.1 eV/Å or a little more."""
    noise = rng.normal(0.0, 0.1, f.forces.shape)
    noise += (0.1 * np.sqrt(3 * len(f)) - noise[:, 0].sum()) / len(f) * np.array([1.0, 0.0, 0.0])
    return replace(f, forces=f.forces + noise)


def pushed(f, rng):
    return replace(f, forces=f.forces + 1.0)


def off_by(per_atom):
    return on_some(lambda f, rng: replace(f, energy=f.energy + per_atom * len(f)))


VIRIAL = ("energy", "forces", "virial")
DEFECTS = [
    Defect("overlapping atoms", on_some(overlap), "overlap", "Å apart"),
    Defect("atom lost", on_some(without_atom), "missing-atoms", "labels of"),
    Defect("cell too large", on_some(emptied), "empty-cell", "per atom", "warning"),
    Defect("lengths in bohr", in_bohr, "lengths", "bohr"),
    Defect("frames repeated", repeated, "duplicates", "repeat", "warning"),
    Defect("energies in Hartree", scaled(energy=1 / HARTREE), "energy-force", "energies in Hartree"),
    Defect("energies in Rydberg", scaled(energy=2 / HARTREE), "energy-force", "energies in Rydberg"),
    Defect("energies in kcal/mol", scaled(energy=1 / KCAL), "energy-force", "energies in kcal/mol"),
    Defect("forces in Hartree/bohr", scaled(forces=BOHR / HARTREE), "energy-force", "forces in Hartree/bohr"),
    Defect("both in atomic units", scaled(1 / HARTREE, BOHR / HARTREE), "energy-force", "Hartree/bohr"),
    Defect("both in kcal/mol", scaled(1 / KCAL, 1 / KCAL), "energy-force", "kcal/mol", "warning"),
    Defect("gradients for forces", scaled(forces=-1.0), "energy-force", "opposite sign"),
    Defect("virial flipped", scaled(virial=-1.0), "virial", "opposite sign", needs=VIRIAL),
    Defect("pressure in kB", scaled(virial=lambda f: 1 / (KBAR * f.volume)), "virial", "", needs=VIRIAL),
    Defect("stress in GPa", scaled(virial=lambda f: -1 / (GPA * f.volume)), "virial", "GPa", needs=VIRIAL),
    Defect("forces of other frames", shuffled_forces, "energy-force", "do not follow"),
    Defect("energies off by 0.1 eV/atom", off_by(0.1), "energy-outlier contradiction", "meV/atom", "warning"),
    # at 1500 K frames are so far apart that the trapezoidal rule itself errs by as much
    Defect("energies off by 30 meV/atom", off_by(0.03), "contradiction", "meV/atom", "warning", share=0.6),
    Defect("energies constant", same_energy, "constant", "same energy"),
    Defect("forces missing", on_some(forgotten, 5), "labels", "no forces", "warning"),
    Defect("forces not read", on_some(lambda f, rng: replace(f, forces=0 * f.forces)), "constant", "zero"),
    Defect("net force small", on_some(noisy), "net-force", "add up", "warning"),
    Defect("net force large", on_some(pushed), "net-force", "add up"),
    Defect("rare species", on_some(renamed_atom), "rare-species", "Xx", "warning"),
]
