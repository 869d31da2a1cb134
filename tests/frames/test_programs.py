"""Readers of programs' outputs: our own small calculations (outputs/make_outputs.py), and texts of VASP's
layout written here, because VASP's files are not ours to ship.

Units and signs are judged by physics where a trajectory allows it: forces are the derivatives of the
energy along the path, stresses along the strain.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from source_files import read_whole as read

from kalmandp.errors import FileError, InputError
from kalmandp.formats.convert import convert
from kalmandp.formats.programs.registry import recognise
from kalmandp.formats.programs.steps import element
from kalmandp.formats.sources import Source
from kalmandp.formats.units import BOHR, HARTREE, RYDBERG

OUTPUTS = Path(__file__).parent / "outputs"


CASES = [
    ("si8_scf.pwo", "espresso/pw", 1, 8),
    ("si8_md.pwo", "espresso/pw", 4, 8),
    ("si8_vcrelax.pwo", "espresso/pw", 3, 8),
    ("water_scf.out", "cp2k", 1, 6),
    ("water_npt.out", "cp2k", 4, 6),
    ("si2_md.abo", "abinit", 4, 2),
    ("si2_two.abo", "abinit", 2, 2),
]


@pytest.mark.parametrize(("name", "format", "n_frames", "n_atoms"), CASES)
def test_frames_and_labels(name, format, n_frames, n_atoms):
    assert recognise(str(OUTPUTS / name)) == format
    frames, left_out, ignored = read(OUTPUTS / name)
    assert (len(frames), left_out, ignored) == (n_frames, [], set())
    for frame in frames:
        assert len(frame) == n_atoms
        assert frame.pbc == (True, True, True)
        assert all(x is not None for x in (frame.energy, frame.forces, frame.virial))
        # programs print forces that sum to zero (Γ-point CP2K with a coarse grid: to 0.4 Ha/bohr)
        if format != "cp2k":
            np.testing.assert_allclose(frame.forces.sum(axis=0), 0.0, atol=2e-5 * n_atoms)


@pytest.mark.parametrize("name", ["si8_md.pwo", "si2_md.abo"])
def test_forces_are_the_derivative_of_the_energy_along_the_path(name):
    frames, _, _ = read(OUTPUTS / name)
    for a, b in itertools.pairwise(frames):
        # trapezium rule:  E_b − E_a = −½ (F_a + F_b)·(r_b − r_a) + O(Δr³)
        work = 0.5 * ((a.forces + b.forces) * (b.positions - a.positions)).sum()
        np.testing.assert_allclose(b.energy - a.energy, -work, rtol=0.05, atol=1e-6)
    assert abs(frames[-1].energy - frames[0].energy) > 3e-4  # a judge with nothing to judge is none


def test_cp2k_forces_and_stress_are_the_derivatives_of_the_energy_along_the_path():
    frames, _, _ = read(OUTPUTS / "water_npt.out")
    work = 0.0
    for a, b in itertools.pairwise(frames):
        # r_b = r_a h_a⁻¹h_b + δr;  ε = h_a⁻¹h_b − 1;  dE = −F·δr − W:ε
        moved = np.linalg.solve(a.cell, b.cell)
        work += 0.5 * ((a.forces + b.forces) * (b.positions - a.positions @ moved)).sum()
        work += 0.5 * ((a.virial + b.virial) * (moved - np.eye(3))).sum()
    # per step the coarse grid is felt, a third of an eV of egg box; over the path it cancels
    np.testing.assert_allclose(frames[-1].energy - frames[0].energy, -work, rtol=0.08)


def test_virial_is_minus_the_derivative_of_the_energy_along_the_strain():
    frames, _, _ = read(OUTPUTS / "si2_two.abo")
    a, b = frames
    strain = np.log(b.volume / a.volume) / 3
    np.testing.assert_allclose(b.cell, a.cell * np.exp(strain), rtol=1e-6)  # seven decimals printed
    # E_b − E_a = −½ tr(W_a + W_b) ε; a basis that grows with the cell (fixed cut-off) adds a Pulay term
    work = -0.5 * np.trace(a.virial + b.virial) * strain
    np.testing.assert_allclose(b.energy - a.energy, work, rtol=0.35)


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("si8_unconverged.pwo", 2),
        ("si8_stopped.pwo", 1),
        ("water_unconverged.out", 1),
        ("si2_unconverged.abo", 1),
    ],
)
def test_unconverged_steps_are_left_out_and_told(tmp_path, name, frames):
    found, left_out, _ = read(OUTPUTS / name)
    assert found == []
    assert left_out == [f"{OUTPUTS / name} frame {k}: its SCF cycle did not converge" for k in range(frames)]
    with pytest.raises(InputError, match=r"no frame of .* can be used: .* frame 0: its SCF cycle"):
        convert(OUTPUTS / name, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()
    done = convert(OUTPUTS / name, tmp_path / "a.h5", keep_unconverged=True)
    assert (done.frames, done.skipped) == (frames, ())


def test_converged_and_unconverged_together(tmp_path):
    done = convert([OUTPUTS / "si8_md.pwo", OUTPUTS / "si8_unconverged.pwo"], tmp_path / "a.h5")
    assert (done.frames, len(done.skipped), done.systems) == (4, 2, 1)


@pytest.mark.parametrize(("name", "format", "n_frames", "n_atoms"), CASES)
def test_a_file_cut_anywhere_gives_whole_steps_or_a_clear_error(tmp_path, name, format, n_frames, n_atoms):
    whole, _, _ = read(OUTPUTS / name)
    text = (OUTPUTS / name).read_text()
    for beside in OUTPUTS.glob(f"{Path(name).stem}-*"):
        (tmp_path / beside.name).write_text(beside.read_text())
    cut = tmp_path / name
    for length in np.linspace(0, len(text) - 1, 60).astype(int):
        cut.write_text(text[:length])
        try:
            source = Source(str(cut), format)
            frames = list(source.frames())
        except (FileError, InputError) as error:
            assert str(cut) in str(error)
            continue
        assert len(frames) <= n_frames
        for frame, wanted in zip(frames, whole, strict=False):
            # a step may lack what was printed last, the stress; what it has is that of the whole file
            assert frame.energy == wanted.energy
            np.testing.assert_array_equal(frame.positions, wanted.positions)
            if frame.forces is not None:
                np.testing.assert_array_equal(frame.forces, wanted.forces)


@pytest.mark.parametrize(("name", "format", "n_frames", "n_atoms"), CASES)
def test_damaged_files_end_in_a_clear_error(tmp_path, name, format, n_frames, n_atoms):
    rng = np.random.default_rng(0)
    lines = (OUTPUTS / name).read_text().splitlines(keepends=True)
    for beside in OUTPUTS.glob(f"{Path(name).stem}-*"):
        (tmp_path / beside.name).write_text(beside.read_text())
    damaged = tmp_path / name
    for _ in range(60):
        hurt = list(lines)
        for k in rng.integers(0, len(lines), 3):
            hurt[k] = rng.choice(
                ["", "\n", "*****\n", hurt[k][: len(hurt[k]) // 2] + "\n", "nan inf = ( : \x00\n"]
            )
        damaged.write_text("".join(hurt))
        try:
            list(Source(str(damaged), format, skipped=[]).frames())
        except (FileError, InputError) as error:
            assert str(tmp_path) in str(error)


def test_pw_against_ase(tmp_path):
    """Two readers of the same text: energies to the constants' years, positions to the last digit."""
    io = pytest.importorskip("ase.io")
    for name in ("si8_md.pwo", "si8_vcrelax.pwo"):
        frames, _, _ = read(OUTPUTS / name)
        # after this line ASE looks for the eigenvalues, which have been taken out
        text = (OUTPUTS / name).read_text().replace("End of self-consistent calculation", "")
        (tmp_path / name).write_text(text)
        images = list(io.iread(tmp_path / name, ":", format="espresso-out"))
        for frame, atoms in zip(frames, images, strict=True):
            np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-6)
            np.testing.assert_allclose(frame.energy, atoms.get_potential_energy(), rtol=1e-7)
            np.testing.assert_allclose(frame.forces, atoms.get_forces(), atol=1e-6)
            wanted = -atoms.get_stress(voigt=False) * atoms.get_volume()
            np.testing.assert_allclose(frame.virial, wanted, rtol=1e-6, atol=1e-6)


def test_cp2k_takes_the_stress_without_the_ions_motion():
    frames, _, _ = read(OUTPUTS / "water_npt.out")
    text = (OUTPUTS / "water_npt.out").read_text()
    first = text.split("Analytical stress tensor [GPa]")[1].splitlines()[2].split()
    np.testing.assert_allclose(frames[0].virial[0, 0], float(first[2]) / 160.2176634 * frames[0].volume)
    assert len({frame.volume for frame in frames}) > 1  # the cell of each step, not the first


def test_cp2k_of_2025_prints_the_same_otherwise(tmp_path):
    old = (OUTPUTS / "water_scf.out").read_text()
    head, table = old.split(" ATOMIC FORCES in [a.u.]")
    table, tail = table.split(" SUM OF ATOMIC FORCES")
    rows = [line.split() for line in table.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    new = [" FORCES| Atomic forces [hartree/bohr]", " FORCES|   Atom     x     y     z     |f|"]
    new += [f" FORCES| {row[0]:>6} {' '.join(row[3:])} {0.0:.8E}" for row in rows]
    text = head.replace("energy [a.u.]:", "energy [hartree]") + "\n".join([*new, " FORCES| Sum 0 0 0", tail])
    (tmp_path / "a.out").write_text(text)
    (frame,), _, _ = read(tmp_path / "a.out")
    (wanted,), _, _ = read(OUTPUTS / "water_scf.out")
    assert frame.energy == wanted.energy
    np.testing.assert_array_equal(frame.forces, wanted.forces)
    np.testing.assert_array_equal(frame.virial, wanted.virial)


def test_cp2k_names_the_trajectory_it_misses(tmp_path):
    (tmp_path / "water_npt.out").write_text((OUTPUTS / "water_npt.out").read_text())
    with pytest.raises(FileError, match=r"is a run of type MD; expected its coordinates in .*-pos-1\.xyz"):
        read(tmp_path / "water_npt.out")


# --- all programs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("OUTCAR", "nothing of the kind\n", "OUTCAR: holds no ionic step; expected an OUTCAR of VASP"),
        ("vasprun.xml", "<modeling>\n", "is not a whole vasprun.xml of VASP"),
        ("vasprun.xml", "not xml", "is not a whole vasprun.xml of VASP"),
        ("a.xml", "<?xml ?>\n<qes:espresso x>\n", "is the XML of pw.x.*expected the text that pw.x prints"),
        ("cp.out", "     Program CP v.6.7\n", "is what cp.x prints; expected the files of its trajectory"),
        ("a-pos-1.xyz", "1\n i = 0, time = 0.0, E = -1.0\nH 0 0 0\n", "is a trajectory of CP2K; expected"),
        ("input.data", "beginn\n", "line 1: is 'beginn'; expected 'begin'"),
        ("input.data", "begin\natom 1 2 3 H\nend\n", "line 2.*is not what an input.data"),
        ("input.data", "begin\natom 1 2 x H 0 0 0 0 0\nend\n", "line 2.*is not what an input.data"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(FileError, match=message):
        convert(tmp_path / name, tmp_path / "a.h5")


def test_labels_of_atoms():
    assert [element(x) for x in ("Fe", "Fe2", "fe_pv", "O-w", "H1", "SI", "Ow", "c")] == [
        "Fe", "Fe", "Fe", "O", "H", "Si", "O", "C",
    ]  # fmt: skip
    for wrong in ("", "1", "Qq", "*"):
        with pytest.raises(ValueError, match="is named after no element"):
            element(wrong)


def test_constants():
    assert HARTREE / RYDBERG == 2.0
    # the Coulomb energy of two unit charges at one bohr: e²/(4πε₀a₀) = 14.3996454784 eV Å / a₀
    np.testing.assert_allclose(HARTREE * BOHR, 14.3996454784, rtol=1e-10)
