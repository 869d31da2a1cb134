"""PWmat, FHI-aims, LAMMPS dumps; and what VASP, CP2K and pw.x must not be misread for.

Texts are invented, in the layouts of the programs. Signs of virials are judged by what the file itself
says of pressure, or by strained copper whose energies are known.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from source_files import read, written

from kalmandp.errors import FileError, InputError
from kalmandp.formats.convert import convert
from kalmandp.formats.sources import Source, guess_format
from kalmandp.formats.units import BOHR, HARTREE, KCAL_MOL, KILOBAR, given_units
from kalmandp.frames.dataset import Dataset

OUTPUTS = Path(__file__).parent / "outputs"


# --- PWmat ----------------------------------------------------------------------------------------

STRESS = np.array([[3.0, 0.5, -0.2], [0.5, -1.0, 0.1], [-0.2, 0.1, 2.0]])  # σV, eV


def movement(steps=2, *, pressure=True, sign=1.0, scf=9, per_atom=False):
    """Blocks of two copper atoms in a cubic cell of 4 Å; the virial is −`STRESS`."""
    row = lambda numbers: "".join(f"{x:20.10E}" for x in numbers)
    text = []
    for k in range(steps):
        text += [
            f"  2 atoms,Iteration (fs) = {row([k])}, "
            f"Etot,Ep,Ek (eV) = {row([-7.5 + k, -8.0 + k, 0.5])}, SCF = {scf}"
        ]
        text += [" MD_INFO: METHOD(1-VV,2-NH) TIME(fs) TEMP(K)", "   1 0.5 300.0"]
        stress = sign * STRESS / (2 if per_atom else 1)
        text += [" Lattice vector (Angstrom)" + (", stress(eV/natom)" if per_atom else "")]
        text += [row(v) + "     stress (eV):" + row(s) for v, s in zip(4 * np.eye(3), stress, strict=True)]
        if pressure:
            text += [" Pressure Internal(Hartree/bohr^3)", *map(row, -STRESS / 64 / HARTREE * BOHR**3)]
        text += [" Position (normalized), move_x, move_y, move_z"]
        text += [f"  29 {row([0.1 * k, 0, 0])} 1 1 1", f"  47 {row([0.5, 0.5, 0.5])} 1 1 1"]
        text += [" Force (-force, eV/Angstrom)", f"  29 {row([0.1, 0, 0])}", f"  47 {row([-0.1, 0, 0])}"]
        text += [" Velocity (bohr/fs)", f"  29 {row([0, 0, 0])}", f"  47 {row([0, 0, 0])}"]
        text += [" -------------------------------------------------"]
    return "\n".join([*text, ""])


@pytest.mark.parametrize("name", ["MOVEMENT", "300K_MOVEMENT", "run.dat"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_movement_has_the_sign_of_its_own_pressure(tmp_path, name, sign):
    frames, source = read(written(tmp_path / name, movement(sign=sign)))
    assert [f.energy for f in frames] == [-8.0, -7.0] and frames[0].symbols == ["Cu", "Ag"]
    for f in frames:
        np.testing.assert_allclose(f.virial, -STRESS, rtol=1e-9)
        assert f.forces.tolist() == [[-0.1, 0, 0], [0.1, 0, 0]]
    np.testing.assert_allclose(frames[1].positions[0], [0.4, 0, 0])
    assert not source.told.notes


def test_movement_without_pressure_is_of_another_tool(tmp_path):
    frames, source = read(written(tmp_path / "MOVEMENT", movement(pressure=False)))
    np.testing.assert_allclose(frames[0].virial, STRESS, rtol=1e-9)
    assert "no 'Pressure' lines" in next(iter(source.told.notes))
    frames, _ = read(written(tmp_path / "MOVEMENT", movement(per_atom=True)))
    np.testing.assert_allclose(frames[0].virial, -STRESS, rtol=1e-9)


def test_movement_that_contradicts_itself_or_did_not_converge(tmp_path):
    frames, source = read(written(tmp_path / "MOVEMENT", movement(sign=3.0)))
    assert not frames and "'stress' is not its 'Pressure' times the volume" in source.left_out[0]
    # PWmat's defaults: 100 iterations in the first step, 40 later
    frames, source = read(written(tmp_path / "MOVEMENT", movement(3, scf=40)))
    assert len(frames) == 1 and all("did not converge" in text for text in source.left_out)
    text = movement()
    frames, source = read(written(tmp_path / "MOVEMENT", text[: text.rindex("Velocity")]))
    assert len(frames) == 1 and "the file ends before this step is complete" in source.left_out[0]


def test_the_data_tell_a_wrong_sign_at_conversion(tmp_path):
    """A file of strained copper without 'Pressure' whose stress is σV: energies and forces say so."""
    pytest.importorskip("ase")
    done = convert(written(tmp_path / "MOVEMENT", _copper()), tmp_path / "a.h5")
    assert any("opposite sign" in w for w in done.warnings), done.warnings
    done = convert(tmp_path / "MOVEMENT", tmp_path / "b.h5", units=None, look=False)
    assert done.warnings == ()
    done = convert(tmp_path / "a.h5", tmp_path / "c.h5", units={"virial": "-eV"})
    assert done.warnings == ()


def _copper():
    from ase.build import bulk
    from ase.calculators.emt import EMT

    rng, text = np.random.default_rng(1), []
    row = lambda numbers: "".join(f"{x:20.12f}" for x in numbers)
    for k in range(30):
        a = bulk("Cu", cubic=True, a=3.6) * (2, 2, 2)
        a.set_cell(a.cell @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
        a.positions += 0.08 * rng.normal(size=(32, 3))
        a.calc = EMT()
        e, s = a.get_potential_energy(), a.get_stress(voigt=False) * a.get_volume()
        text += [f" 32 atoms,Iteration (fs) = {k}.0, Etot,Ep,Ek (eV) = {e:.10f} {e:.10f} 0.0, SCF = 9"]
        text += [" Lattice vector (Angstrom)"]
        text += [f"{row(c)} stress (eV): {row(r)}" for c, r in zip(a.cell.array, s, strict=True)]
        text += [" Position (normalized)", *(f" 29 {row(r)} 1 1 1" for r in a.get_scaled_positions())]
        text += [" Force (-force, eV/Angstrom)", *(f" 29 {row(-f)}" for f in a.get_forces()), " ------"]
    return "\n".join([*text, ""])


# --- FHI-aims -------------------------------------------------------------------------------------


def test_aims_has_the_cell_and_the_positions_of_each_step():
    frames, source = read(OUTPUTS / "invented_aims_md.out")
    assert [f.positions[0, 0] for f in frames] == [1.0, 1.01, 1.02]
    assert [f.energy for f in frames] == [-2980.10, -2980.12, -2980.15]
    assert [f.forces[0, 0] for f in frames] == [0.5, 0.4, 0.3]
    assert all(f.pbc == (True, True, True) and f.cell.tolist() == (5 * np.eye(3)).tolist() for f in frames)
    assert not source.left_out


def test_aims_stress_is_that_of_its_pressure(tmp_path):
    text = (OUTPUTS / "invented_aims_md.out").read_text()
    stress = """
  +-------------------------------------------------------------------+
  |              Analytical stress tensor - Symmetrized               |
  |                  Cartesian components [eV/A**3]                   |
  |                x                y                z                |
  |  x         0.01000000       0.00200000       0.00000000           |
  |  y         0.00200000       0.02000000       0.00000000           |
  |  z         0.00000000       0.00000000       0.03000000           |
  |  Pressure:      PRESSURE   [eV/A**3]                              |
"""
    end = "Total atomic forces"
    for pressure, kept in (("-0.02000000", 3), ("0.02000000", 2)):
        first = text.replace(end, stress.replace("PRESSURE", pressure) + end, 1)
        frames, source = read(written(tmp_path / "aims.out", first))
        assert len(frames) == kept
        if kept == 3:
            np.testing.assert_allclose(frames[0].virial[0], [-1.25, -0.25, 0])
        else:
            assert "and the file prints 3.204 GPa" in source.left_out[0]


def test_aims_unconverged_and_cut(tmp_path):
    text = (OUTPUTS / "invented_aims_md.out").read_text()
    bad = text.replace("cycle converged", "cycle not converged", 1)
    frames, source = read(written(tmp_path / "a.out", bad))
    assert len(frames) == 2 and "frame 0: its SCF cycle did not converge" in source.left_out[0]
    for cut in np.linspace(0, len(text) - 1, 40).astype(int):
        try:
            frames, _ = read(written(tmp_path / "a.out", text[:cut]), type_map=None)
        except (FileError, InputError):
            continue
        assert [f.energy for f in frames] == [-2980.10, -2980.12, -2980.15][: len(frames)]


def test_aims_without_its_beginning_says_so(tmp_path):
    """Somebody kept the cycles only: whether there is a cell stood in what is gone."""
    text = (OUTPUTS / "invented_aims_md.out").read_text()
    short = text[text.index("Begin self-consistency loop") :]
    path = written(tmp_path / "aims.out", short)
    assert guess_format(str(path)) == "aims"
    frames, source = read(path)
    assert not frames and len(source.left_out) == 3
    assert all("the beginning of the file is missing; expected '| Atomic" in text for text in source.left_out)
    with pytest.raises(InputError, match="the beginning of the file is missing"):
        convert(path, tmp_path / "a.h5")
    unsaid = text.replace("  Self-consistency cycle converged.\n", "", 1)
    frames, source = read(written(tmp_path / "c.out", unsaid))
    assert len(frames) == 2 and "frame 0: the file does not say whether its SCF" in source.left_out[0]
    assert len(list(Source(str(tmp_path / "c.out"), "aims", keep_unconverged=True).frames())) == 3
    only_a_word = written(tmp_path / "b.out", "Self-consistency cycle converged.\n")
    with pytest.raises(FileError, match="holds no ionic step; expected an output of FHI-aims"):
        convert(only_a_word, tmp_path / "b.h5")


# --- LAMMPS ---------------------------------------------------------------------------------------

DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
1 5
0 4
0 4
ITEM: ATOMS id type x y z fx fy fz
2 2 3 2 2 -0.1 -0.2 -0.3
1 1 1 0 0 0.1 0.2 0.3
"""


def test_types_of_a_dump_are_asked_for_and_no_energy_is_invented(tmp_path):
    path = written(tmp_path / "d.dump", DUMP)
    with pytest.raises(InputError, match=r"numbers its types up to 2 .* --type-map EL1 EL2"):
        read(path)
    [f], source = read(path, type_map=("Na", "Cl"))
    assert f.symbols == ["Na", "Cl"] and f.energy is None
    assert f.positions.tolist() == [[0, 0, 0], [2, 2, 2]] and f.forces[0].tolist() == [0.1, 0.2, 0.3]
    assert "does not state its units" in next(iter(source.told.notes))


def test_units_and_elements_of_a_dump(tmp_path):
    text = "ITEM: UNITS\nreal\n" + DUMP.replace("id type", "id element").replace("2 2 3", "2 Cl 3").replace(
        "1 1 1 0", "1 Na 1 0"
    )
    [f], source = read(written(tmp_path / "d.dump", text))
    assert f.symbols == ["Na", "Cl"] and not source.told.notes
    np.testing.assert_allclose(f.forces[0, 0], 0.1 * KCAL_MOL)
    with pytest.raises(InputError, match="its units are 'lj'"):
        read(written(tmp_path / "d.dump", text.replace("real", "lj")))
    [f], _ = read(tmp_path / "d.dump", units=given_units({"force": "meV/Å"}))
    np.testing.assert_allclose(f.forces[0, 0], 0.1e-3)


def test_tilted_boxes_and_fractions_of_a_dump(tmp_path):
    text = DUMP.replace("BOX BOUNDS pp", "BOX BOUNDS xy xz yz pp").replace(
        "1 5\n0 4\n0 4", "0 5 1\n0 4 0\n0 4 0"
    )
    text = text.replace("x y z fx", "xs ys zs fx").replace("3 2 2 -0.1", "0.5 0.5 0 -0.1")
    [f], _ = read(written(tmp_path / "d.dump", text), type_map=("Na", "Cl"))
    assert f.cell.tolist() == [[4, 0, 0], [1, 4, 0], [0, 0, 4]]
    assert f.positions[1].tolist() == [2.5, 2, 0]


# --- VASP, CP2K, pw.x -----------------------------------------------------------------------------


def test_iterations_of_linear_response_are_no_scf_steps(tmp_path):
    scf = lambda n: "<scstep></scstep>" * n
    text = (
        "<modeling><parameters><i name='NELM'>6</i></parameters><atominfo><array name='atoms'><set>"
        "<rc><c>Si</c></rc></set></array></atominfo><calculation>"
        + scf(3)
        + "<structure><crystal><varray name='basis'><v>3 0 0</v><v>0 3 0</v><v>0 0 3</v></varray></crystal>"
        "<varray name='positions'><v>0 0 0</v></varray></structure>"
        + scf(5)
        + "<energy><i name='e_fr_energy'>-5.4</i></energy></calculation></modeling>"
    )
    frames, _ = read(written(tmp_path / "vasprun.xml", text))
    assert [f.energy for f in frames] == [-5.4]
    _, source = read(written(tmp_path / "vasprun.xml", text.replace(scf(3), scf(6))))
    assert "did not converge" in source.left_out[0]


OUTCAR = """ vasp.6.4.2 20Jul23
   TITEL  = PAW_PBE Si 05Jan2001
   TITEL  = PAW_PBE O 08Apr2002
   ions per type =   1   1
   NELM   =     60;   NELMIN=  2
----------- Iteration      1(   9)  -----------
  in kB      30.00000    20.00000    10.00000     0.00000     0.00000     0.00000
  external pressure =      {pressure} kB  Pullay stress =        {pulay} kB
 VOLUME and BASIS-vectors are now :
 ---
  energy-cutoff
  volume of cell
      direct lattice vectors                 reciprocal lattice vectors
     4.000000000  0.000000000  0.000000000  0.250000000  0.000000000  0.000000000
     0.000000000  4.000000000  0.000000000  0.000000000  0.250000000  0.000000000
     0.000000000  0.000000000  4.000000000  0.000000000  0.000000000  0.250000000
 POSITION                                       TOTAL-FORCE (eV/Angst)
 ---
      0.00000      0.00000      0.00000         0.000000      0.000000      0.000000
      1.60000      0.00000      0.00000         0.000000      0.000000      0.000000
----------- Iteration      1(  60)  -----------
  free  energy   TOTEN  =       -15.00000000 eV
 General timing and accounting
"""


def test_the_pressure_line_of_outcar_confirms_its_stress(tmp_path):
    # the iteration after the forces is of linear response: the step has converged
    for pressure, pulay, kept in (("20.00", "0.00", 1), ("15.00", "5.00", 1), ("-20.00", "0.00", 0)):
        frames, source = read(written(tmp_path / "OUTCAR", OUTCAR.format(pressure=pressure, pulay=pulay)))
        assert len(frames) == kept
    assert "its stress gives a pressure of 2 GPa, and the file prints -2 GPa" in source.left_out[0]
    frames, _ = read(written(tmp_path / "OUTCAR", OUTCAR.format(pressure="20.00", pulay="0.00")))
    np.testing.assert_allclose(frames[0].virial[0, 0], 30 * KILOBAR * 64)


def test_poscar_and_potcar_in_another_order(tmp_path):
    path = written(tmp_path / "OUTCAR", OUTCAR.format(pressure="20.00", pulay="0.00"))
    poscar = "c\n1.0\n4 0 0\n0 4 0\n0 0 4\n{}\n1 1\nDirect\n0 0 0\n0.4 0 0\n"
    written(tmp_path / "POSCAR", poscar.format("O Si"))
    _, source = read(path)
    assert "POSCAR beside it names O Si, the POTCAR Si O" in next(iter(source.told.notes))
    written(tmp_path / "POSCAR", poscar.format("Si O"))
    _, source = read(path)
    assert not source.told.notes


def cp2k_run(folder, energies, stated):
    """An MD of H2 whose trajectory states energies of its own."""
    out = [
        " CP2K| version string:    CP2K version 2023.1",
        " GLOBAL| Project name   T",
        " GLOBAL| Run type   MD",
    ]
    out += [
        f" CELL| Vector {n} [angstrom]: {' '.join(f'{x:.3f}' for x in 8 * np.eye(3)[k])} |{n}| = 8.000000"
        for k, n in enumerate("abc")
    ]
    out += [
        f" CELL| Angle ({x}), {y} [degree]:   90.0" for x, y in (("b,c", "a"), ("a,c", "b"), ("a,b", "g"))
    ]
    out += [" CELL| Periodicity  XYZ"]
    out += [f" ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]: {e:25.15f}" for e in energies]
    written(folder / "md.out", "\n".join([*out, " PROGRAM ENDED AT", ""]))
    text = "".join(
        f" 2\n i = {k}, time = 0.0, E = {e}\n H1 0 0 0\n H2 {0.7 + k / 10:.1f} 0 0\n"
        for k, e in enumerate(stated)
    )
    written(folder / "T-pos-1.xyz", text)
    return folder / "md.out"


def test_cp2k_energies_are_matched_within_their_rounding(tmp_path):
    E = [-17.200000001234567, -17.134364244979999, -17.200000001234567]
    frames, source = read(cp2k_run(tmp_path, E, [f"{e:.10f}" for e in E]))
    np.testing.assert_allclose([f.energy for f in frames], np.array(E) * HARTREE, rtol=1e-15)
    assert not source.left_out
    assert "H is one type here; the file tells apart H1, H2" in source.told.notes
    frames, source = read(cp2k_run(tmp_path, E, [f"{e:.10f}" for e in E[:2]] + ["-17.1999999"]))
    assert len(frames) == 2 and "no energy of the output is" in source.left_out[0]


def test_one_dead_output_of_many(tmp_path):
    good = written(tmp_path / "OUTCAR", OUTCAR.format(pressure="20.00", pulay="0.00"))
    empty = written(tmp_path / "vasprun.xml", "")
    junk = written(tmp_path / "b.xyz", "1\nenergy=-1\nH 0 0 0\njunk\n")
    with pytest.raises(FileError, match=r"vasprun\.xml"):
        convert([empty, good], tmp_path / "a.h5")
    done = convert([empty, good, junk], tmp_path / "a.h5", skip_invalid=True)
    assert done.frames == 2 and len(done.skipped) == 2
    assert done.reasons() == {"a file that cannot be read, or not to its end": 2}
    with Dataset(tmp_path / "a.h5") as data:
        assert {data[k].energy for k in range(2)} == {-15.0, -1.0}
    with pytest.raises(FileError, match=r"vasprun\.xml"):  # alone there is nothing else to take
        convert(empty, tmp_path / "c.h5", skip_invalid=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [("vaspout.h5", "is VASP's vaspout.h5"), ("a.lmdb", "is a data set in LMDB"), ("data.mdb", "in LMDB")],
)
def test_formats_that_are_not_read_are_named(tmp_path, name, message):
    written(tmp_path / name, "x")
    with pytest.raises(FileError, match=message):
        convert(tmp_path / name, tmp_path / "a.h5")
    with pytest.raises(FileError, match="in LMDB"):
        (tmp_path / "folder").mkdir()
        written(tmp_path / "folder" / "data.mdb", "x")
        convert(tmp_path / "folder", tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("line", "kind"), [("calculation md", "md"), ("calculation cell-relax", "relax"), ("", "scf")]
)
def test_abacus_folders_are_recognised(tmp_path, line, kind):
    (tmp_path / "OUT.ABACUS").mkdir()
    written(tmp_path / "INPUT", f"INPUT_PARAMETERS\n{line} # a comment\n")
    assert guess_format(str(tmp_path)) == f"dpdata:abacus/{kind}"
