"""Readers of programs' outputs: our own small calculations (outputs/make_outputs.py), and texts of VASP's
layout written here, because VASP's files are not ours to ship.

Units and signs are judged by physics where a trajectory allows it: forces are the derivatives of the
energy along the path, stresses along the strain.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
from pathlib import Path

import numpy as np
import pytest
from frame_makers import random_frame

from kalmandp.errors import FileError, InputError
from kalmandp.formats.convert import convert
from kalmandp.formats.programs.registry import recognise
from kalmandp.formats.programs.steps import element
from kalmandp.formats.runner import write_runner
from kalmandp.formats.sources import Source, guess_format
from kalmandp.formats.units import BOHR, HARTREE, KILOBAR, RYDBERG
from kalmandp.frames.dataset import Dataset

OUTPUTS = Path(__file__).parent / "outputs"


def read(path, **options):
    """Frames, and messages of what was left out."""
    source = Source(str(path), guess_format(str(path)), **options)
    frames = list(source.frames())
    return frames, source.left_out, source.ignored


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


def test_half_a_number_is_not_a_number(tmp_path, silica):
    (tmp_path / "OUTCAR").write_text(outcar(silica[:1]))
    for path, mark in (
        (tmp_path / "OUTCAR", "free  energy   TOTEN  ="),
        (OUTPUTS / "water_scf.out", "ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:"),
        (OUTPUTS / "si8_scf.pwo", "!    total energy              ="),
    ):
        text = path.read_text()
        number = text.index(mark) + len(mark)
        number += len(text[number:]) - len(text[number:].lstrip())
        cut = tmp_path / path.name
        cut.write_text(text[: number + 5])  # such as "-34.1"
        frames, left_out, _ = read(cut)
        assert (frames, left_out) == ([], [f"{cut} frame 0: the file ends within it"])


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


# --- VASP -------------------------------------------------------------------------------------------


def outcar(frames, *, nelm=60, iterations=None, end=True) -> str:
    """Frames in the layout of an OUTCAR of VASP 6."""
    first = frames[0]
    species = list(dict.fromkeys(first.symbols))
    counts = [first.symbols.count(s) for s in species]
    text = [" vasp.6.4.2 20Jul23 complex"]
    text += [f" POTCAR:    PAW_PBE {s} 05Jan2001" for s in species * 2]
    text += [f"   TITEL  = PAW_PBE {s}_pv 05Jan2001" for s in species]
    text += [f"   ions per type =  {' '.join(map(str, counts))}", f"   NELM   = {nelm:6d};   NELMIN=  2"]
    text += ["   ISPIN  =      2    spin polarized calculation?"]
    for k, frame in enumerate(frames):
        for n in range(1, (iterations or [9] * len(frames))[k] + 1):
            text.append(f"----------- Iteration {k + 1:6d}({n:4d})  -----------")
            text.append(f"  free energy    TOTEN  = {0.0:18.8f} eV")
        text.append("----------- aborting loop because EDIFF is reached -----------")
        w = frame.virial / frame.volume / KILOBAR
        row = "".join(f"{x:12.5f}" for x in (w[0, 0], w[1, 1], w[2, 2], w[0, 1], w[1, 2], w[2, 0]))
        text += ["  FORCE on cell =-STRESS in cart. coord.  units (eV):", *["  contribution"] * 13]
        text += [f"  in kB  {row}"]
        text += [" VOLUME and BASIS-vectors are now :", " ---", "  energy-cutoff", "  volume of cell"]
        text += ["      direct lattice vectors                 reciprocal lattice vectors"]
        text += ["   " + "".join(f"{x:13.9f}" for x in (*v, 0.0, 0.0, 0.0)) for v in frame.cell]
        text += [" POSITION                                       TOTAL-FORCE (eV/Angst)", " ---"]
        text += [
            " " + "".join(f"{x:13.5f}" for x in r) + "    " + "".join(f"{x:14.6f}" for x in f)
            for r, f in zip(frame.positions, frame.forces, strict=True)
        ]
        text += [f"  free  energy   TOTEN  = {frame.energy:18.8f} eV"]
        text += ["", f"  energy  without entropy=  {0.0:16.8f}  energy(sigma->0) =  {0.0:16.8f}"]
    return "\n".join(text + [" General timing and accounting informations for this job:"] * end) + "\n"


def vasprun(frames, *, nelm=60, iterations=9, end=True) -> str:
    """Frames in the layout of a vasprun.xml."""
    rows = lambda name, array: (
        f'<varray name="{name}">'
        + "".join(f"<v> {' '.join(f'{x:16.8f}' for x in row)} </v>" for row in array)
        + "</varray>"
    )
    atoms = "".join(f"<rc><c>{s} </c><c> 1</c></rc>" for s in frames[0].symbols)
    text = ['<?xml version="1.0"?>', "<modeling>", f'<parameters><i name="NELM">{nelm}</i>']
    text += ['<i name="NELM"> 1</i></parameters>']
    text += [f'<atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>']
    for frame in frames:
        basis = rows("basis", frame.cell)
        places = rows("positions", frame.positions @ np.linalg.inv(frame.cell))
        text += ["<calculation>", "<scstep></scstep>" * iterations]
        text += [f"<structure><crystal>{basis}</crystal>{places}</structure>"]
        text += [rows("forces", frame.forces), rows("stress", frame.virial / frame.volume / KILOBAR)]
        text += [f'<energy><i name="e_fr_energy">{frame.energy:.8f}</i><i name="e_0_energy">0</i></energy>']
        text += ["</calculation>"]
    return "\n".join(text + ["</modeling>"] * end)


@pytest.fixture
def silica():
    rng = np.random.default_rng(3)
    frames = [random_frame(rng, ["Si", "O", "O"]) for _ in range(3)]
    for frame in frames:
        frame.virial[:] = (frame.virial + frame.virial.T) / 2
    return frames


def close(got, wanted, *, positions, forces, virial):
    for g, w in zip(got, wanted, strict=True):
        assert g.symbols == w.symbols
        np.testing.assert_allclose(g.cell, w.cell, atol=1e-8)  # eight or nine decimals
        np.testing.assert_allclose(g.positions, w.positions, atol=positions)
        np.testing.assert_allclose(g.energy, w.energy, atol=1e-8)
        np.testing.assert_allclose(g.forces, w.forces, atol=forces)
        np.testing.assert_allclose(g.virial, w.virial, atol=virial)


def test_outcar(tmp_path, silica):
    (tmp_path / "run.out").write_text(outcar(silica))
    frames, left_out, ignored = read(tmp_path / "run.out")
    assert (left_out, ignored) == ([], {"magnetic moments"})
    # five and six decimals; 1e-5 kB of a cell of 500 Å³ are 3e-6 eV
    close(frames, silica, positions=6e-6, forces=6e-7, virial=6e-6)


def test_outcar_against_dpdata(tmp_path, silica):
    system = pytest.importorskip("dpdata.system")
    (tmp_path / "OUTCAR").write_text(outcar(silica))
    ours, _, _ = read(tmp_path / "OUTCAR")
    data = system.load_format("vasp/outcar").from_labeled_system(str(tmp_path / "OUTCAR"))
    for k, frame in enumerate(ours):
        np.testing.assert_array_equal(frame.positions, data["coords"][k])
        np.testing.assert_array_equal(frame.forces, data["forces"][k])
        assert frame.energy == data["energies"][k]
        # constants of other years
        np.testing.assert_allclose(frame.virial, data["virials"][k], rtol=1e-6)


@pytest.mark.parametrize(("suffix", "module"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma)])
def test_compressed_files(tmp_path, silica, suffix, module):
    for name, text in (("OUTCAR", outcar(silica)), ("vasprun.xml", vasprun(silica))):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(module.compress(text.encode()))
        assert len(read(path)[0]) == 3
        path.write_bytes(module.compress(text.encode())[:-30])
        with pytest.raises(FileError, match=path.name):
            read(path)


def test_unconverged_steps_of_vasp(tmp_path, silica):
    (tmp_path / "OUTCAR").write_text(outcar(silica, nelm=10, iterations=[9, 10, 3]))
    frames, left_out, _ = read(tmp_path / "OUTCAR")
    assert [f.energy for f in frames] == pytest.approx([silica[0].energy, silica[2].energy], abs=1e-8)
    assert left_out == [f"{tmp_path / 'OUTCAR'} frame 1: its SCF cycle did not converge"]
    frames, left_out, _ = read(tmp_path / "OUTCAR", keep_unconverged=True)
    assert (len(frames), left_out) == (3, [])
    (tmp_path / "vasprun.xml").write_text(vasprun(silica, nelm=9))
    assert len(read(tmp_path / "vasprun.xml")[1]) == 3
    said = outcar(silica).replace("aborting loop because EDIFF is", "aborting loop EDIFF was not", 1)
    (tmp_path / "OUTCAR").write_text(said)
    assert len(read(tmp_path / "OUTCAR")[1]) == 1


def test_vasprun(tmp_path, silica):
    (tmp_path / "vasprun.xml").write_text(vasprun(silica))
    frames, left_out, _ = read(tmp_path / "vasprun.xml")
    assert left_out == []
    close(frames, silica, positions=1e-7, forces=1e-8, virial=1e-7)
    # PSTRESS:  F = H − pV
    text = vasprun(silica).replace("<parameters>", '<parameters><i name="PSTRESS">10.0</i>')
    (tmp_path / "vasprun.xml").write_text(text)
    frames, _, _ = read(tmp_path / "vasprun.xml")
    wanted = silica[0].energy - 10.0 * KILOBAR * silica[0].volume
    np.testing.assert_allclose(frames[0].energy, wanted, atol=1e-7)


@pytest.mark.parametrize(("name", "write"), [("OUTCAR", outcar), ("vasprun.xml", vasprun)])
def test_a_killed_run_of_vasp_gives_the_steps_it_finished(tmp_path, silica, name, write):
    text = write(silica, end=False)
    path = tmp_path / name
    path.write_text(text)
    assert [len(x) for x in read(path)[:2]] == [3, 0]
    counts = set()
    for length in np.linspace(len(text) * 0.1, len(text) - 1, 40).astype(int):
        path.write_text(text[:length])
        try:
            frames, left_out, _ = read(path)
        except FileError as error:
            assert str(path) in str(error)
            continue
        for frame, wanted in zip(frames, silica, strict=False):
            np.testing.assert_allclose(frame.energy, wanted.energy, atol=1e-8)
        counts.add((len(frames), len(left_out)))
    assert {(1, 1), (2, 1)} <= counts


def test_steps_of_a_machine_learned_force_field_are_no_labels(tmp_path, silica):
    learned = outcar(silica[:1]).splitlines()
    learned = [
        line.replace("(eV/Angst)", "(eV/Angst) (ML)").replace("free  energy   TOTEN", "free  energy ML TOTEN")
        for line in learned[9:-1]
        if "Iteration" not in line
    ]
    text = outcar(silica[1:]).replace(" General", "\n".join(learned) + "\n General")
    (tmp_path / "OUTCAR").write_text(text)
    frames, left_out, _ = read(tmp_path / "OUTCAR")
    assert (len(frames), left_out) == (2, [])


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


# --- input.data -------------------------------------------------------------------------------------


def test_input_data_both_ways(tmp_path):
    rng = np.random.default_rng(5)
    labels = ("energy", "forces")
    shapes = [("OHH", True), ("SiOO", True), ("H", False), ("OHHOHH", True)]
    frames = [
        random_frame(rng, s if s != "SiOO" else ["Si", "O", "O"], pbc=(p,) * 3, labels=labels)
        for s, p in shapes
    ]
    assert write_runner(tmp_path / "input.data", frames) == 4
    got, _, ignored = read(tmp_path / "input.data")
    assert ignored == set()
    for g, w in zip(got, frames, strict=True):
        assert (g.symbols, g.pbc) == (w.symbols, w.pbc)
        for name in ("positions", "energy", "forces", "cell"):
            if getattr(w, name) is not None:
                # to bohr and hartree and back: two roundings
                np.testing.assert_allclose(getattr(g, name), getattr(w, name), rtol=5e-16)
    done = convert(tmp_path / "input.data", tmp_path / "all.h5")
    assert (done.frames, done.systems) == (4, 4)
    with Dataset(tmp_path / "all.h5") as data:
        assert data.type_map == ("O", "H", "Si")


def test_charges_of_input_data_are_left_out_by_name(tmp_path):
    text = "begin\natom 0 0 0 H 0.1 0.2 0 0 0\nenergy -1\ncharge 1\nend"  # no end of the last line
    (tmp_path / "input.data").write_text(text)
    # a lone atom: no distance tells the unit
    with pytest.raises(InputError, match="its units are not stated and no distances tell"):
        convert(tmp_path / "input.data", tmp_path / "a.h5")
    done = convert(tmp_path / "input.data", tmp_path / "a.h5", units={"length": "bohr", "energy": "hartree"})
    assert done.ignored == ("atom energies", "atomic charges", "charge")


def test_what_input_data_cannot_hold_is_named(tmp_path):
    done = convert(OUTPUTS / "si8_md.pwo", tmp_path / "a.data")
    assert done.ignored == ("virial",)
    assert done.labels == {"energy": 4, "forces": 4}


def test_input_data_refuses_what_it_cannot_say(tmp_path):
    rng = np.random.default_rng(5)
    for options, message in (
        ({"labels": ("forces",)}, "has no energy or no forces"),
        ({"pbc": (True, True, False)}, "input.data knows all or none"),
    ):
        with pytest.raises(InputError, match=message):
            write_runner(tmp_path / "a.data", [random_frame(rng, **options)])
        assert not (tmp_path / "a.data").exists()
