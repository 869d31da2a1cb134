"""What the potential fitted to the forces finds where frames are too far apart for steps between them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ase")
sys.path.insert(0, str(Path(__file__).parent))
from healthy_sets import EMT, Atoms, Icosahedron, _alloy, ar, bulk, cu, dynamics, lj, rattled

from kalmandp.doctor import examine
from kalmandp.formats.extxyz import write_extxyz

HARTREE, BOHR, KCAL = 27.211386245988, 0.529177210903, 1 / 23.060547830619


def said(frames, folder):
    write_extxyz(folder / "a.extxyz", frames)
    return [f for f in examine(folder / "a.extxyz") if f.severity != "note"]


def scaled(frames, energy=1.0, forces=1.0, virial=1.0):
    W = lambda f: None if f.virial is None else f.virial * virial
    return [replace(f, energy=f.energy * energy, forces=f.forces * forces, virial=W(f)) for f in frames]


@pytest.fixture(scope="module")
def strained():
    """Independent frames of copper, every cell another."""
    return rattled(cu, EMT(), 30)


@pytest.fixture(scope="module")
def one_cell():
    """Independent frames of one cell."""
    return rattled(cu, EMT(), 30, 0.08, 0.0)


@pytest.mark.parametrize(("shift", "word"), [(1, "before"), (-1, "after")])
def test_forces_of_the_next_frame_are_told_as_such(strained, tmp_path, shift, word):
    assert said(strained, tmp_path) == []
    n = len(strained)
    bad = [replace(f, forces=strained[(k - shift) % n].forces) for k, f in enumerate(strained)]
    [found] = said(bad, tmp_path)
    assert (found.severity, found.check) == ("error", "energy-force")
    assert f"they are those of the frame {word} it" in found.seen


def test_atomic_units_in_cells_that_all_differ(strained, tmp_path):
    """Virials in eV are the second sign, an error; without them the fit is alone, a warning."""
    bad = scaled(strained, 1 / HARTREE, BOHR / HARTREE)
    [found] = said(bad, tmp_path)
    assert (found.severity, found.check) == ("error", "energy-force")
    assert "energies in Hartree and forces in Hartree/bohr" in found.advice
    alone = [replace(f, virial=None) for f in bad]
    [found] = [f for f in said(alone, tmp_path) if f.check == "energy-force"]
    assert found.severity == "warning" and "Hartree/bohr" in found.advice


def test_one_unit_of_energies_and_forces_and_another_of_virials(one_cell, tmp_path):
    """Argon in kcal/mol is no stiffer than a metal: only its virials tell."""
    argon = rattled(ar, lj(), 30, 0.15, 0.0)
    for frames in (argon, one_cell):
        [found] = said(scaled(frames, 1 / KCAL, 1 / KCAL), tmp_path)
        assert (found.severity, found.check) == ("warning", "energy-force")
        assert "energies in kcal/mol and forces in kcal/mol/Å" in found.advice
    [found] = said(scaled(argon, virial=1 / HARTREE), tmp_path)
    assert found.check == "virial" and "virials in Hartree" in found.advice


def test_virials_of_one_cell_that_are_too_large(one_cell, tmp_path):
    """A factor of 1.7, which steps of one cell cannot know and a rough fit would not."""
    [found] = said(scaled(one_cell, virial=1.7), tmp_path)
    assert (found.severity, found.check) == ("warning", "virial")
    assert said(scaled(one_cell, virial=1.1), tmp_path) == []


@pytest.mark.parametrize("per_atom", [0.02, -0.05, 0.5])
def test_an_energy_that_contradicts_all_forces(one_cell, strained, tmp_path, per_atom):
    for frames in (one_cell, strained):
        bad = list(frames)
        for k in (4, 21):
            bad[k] = replace(bad[k], energy=bad[k].energy + per_atom * len(bad[k]))
        found = [f for f in said(bad, tmp_path) if f.check == "contradiction"]
        assert [f.frames for f in found] == [(4, 21)] and found[0].severity == "warning"
        told = float(found[0].seen.split("up to ")[1].split()[0])
        assert abs(told - 1e3 * abs(per_atom)) < 5.0


def test_energies_in_another_unit_are_no_single_wrong_ones(strained, tmp_path):
    assert {f.check for f in said(scaled(strained, 1 / HARTREE), tmp_path)} == {"energy-force"}


def _cut(f, k):
    kept = np.arange(len(f)) != k
    return replace(f, positions=f.positions[kept], types=f.types[kept], forces=f.forces[kept])


SETS = {
    "cluster": lambda: dynamics(lambda: Atoms(Icosahedron("Cu", 2)), EMT(), 20, 300),
    "liquid": lambda: dynamics(lambda: ar(2, 5.7), lj(), 20, 120, 10, 5, start=60),
    "alloy": lambda: rattled(lambda k: _alloy(["Cu", "Au"], lambda: cu(2, 3.85), k), EMT(), 20, 0.08, 0.0),
    "two of a set": lambda: (
        rattled(lambda: bulk("Cu", cubic=True, a=3.61) * (2, 2, 2), EMT(), 12)
        + rattled(lambda: bulk("Cu", cubic=True, a=3.61) * (2, 2, 1), EMT(), 8)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_an_atom_lost_anywhere(tmp_path, name):
    """Forces that do not add up, and a frame that has one atom less than others like it."""
    frames = SETS[name]()
    assert [f for f in said(frames, tmp_path) if f.severity == "error"] == []
    bad = [_cut(f, 3) if k == 17 else f for k, f in enumerate(frames)]
    assert [f.frames for f in said(bad, tmp_path) if f.check == "missing-atoms"] == [(17,)]
