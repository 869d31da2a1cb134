"""MLIP's .cfg, LAMMPS dumps with forces and .npz in the forms that programs and scripts write them.

Texts and numbers are invented; what varies is what public files and the programs' own readers show.
"""

from __future__ import annotations

import numpy as np
import pytest
from source_files import read, written

from kalmandp.errors import FileError, InputError, KalmanDPError
from kalmandp.formats.units import KCAL_MOL, given_units

NAMES = ("Na", "Cl")


CELL = "    4 0 0\n    0 4 0\n    0 0 4\n"
HEAD = " AtomData:  id type       cartes_x      cartes_y      cartes_z     fx          fy          fz\n"
ROWS = "     1    0       0 0 0   0.1 0.2 0.3\n     2    1       2 2 2   -0.1 -0.2 -0.3\n"
STRESS = " PlusStress:  xx          yy          zz          yz          xz          xy\n     1 2 3 4 5 6\n"


def cfg(cell=f" Supercell\n{CELL}", head=HEAD, rows=ROWS, rest=f" Energy\n    -3.5\n{STRESS}"):
    return f"BEGIN_CFG\n Size\n    2\n{cell}{head}{rows}{rest} Feature   EFS_by\tVASP\nEND_CFG\n\n"


def variants() -> dict[str, str]:
    """Files that say the same in other words."""
    whole = cfg()
    return {
        "keys at the margin": whole.replace("\n ", "\n"),
        "SuperCell": whole.replace("Supercell", "SuperCell"),
        "value beside its key": whole.replace("Size\n    2", "Size 2").replace(
            "Energy\n    -3.5", "Energy -3.5"
        ),
        "a blank line before the value": whole.replace("Energy\n", "Energy\n\n"),
        "no blank between keys and columns": whole.replace("PlusStress:  xx", "PlusStress: xx"),
        "stress in another order": whole.replace(
            "xx          yy          zz          yz          xz          xy\n     1 2 3 4 5 6",
            "xy xx yy zz yz xz\n 6 1 2 3 4 5",
        ),
        "stress before energy": cfg(rest=STRESS + " Energy\n -3.5\n"),
        "fractions": cfg(head=HEAD.replace("cartes", "direct"), rows=ROWS.replace("2 2 2", "0.5 0.5 0.5")),
        "16 digits": whole.replace("-3.5", "-3.5000000000000000e+00"),
        "many features": whole.replace("END_CFG", " Feature   mindist\t3.07\n Feature MV_grade 1.2\nEND_CFG"),
        "ghost column": cfg(head=HEAD[:-1] + "  ghost\n", rows=ROWS.replace("3\n", "3 false\n")),
        "line ends": whole.replace("\n", "\r\n"),
    }


@pytest.mark.parametrize("name", variants())
def test_forms_of_a_cfg(tmp_path, name):
    path = tmp_path / "train.cfg"
    path.write_bytes((variants()[name] * 2).encode())
    frames, source = read(path, type_map=NAMES)
    assert len(frames) == 2 and not source.ignored and not source.told.notes
    for f in frames:
        assert f.symbols == ["Na", "Cl"] and f.energy == -3.5 and f.pbc == (True,) * 3
        np.testing.assert_allclose(f.positions, [[0, 0, 0], [2, 2, 2]])
        assert f.forces.tolist() == [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]
        assert f.virial.tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


def test_cfg_of_mlip(tmp_path):
    path = written(tmp_path / "train.cfg", cfg() + cfg().replace("-3.5", "-3.6"))
    with pytest.raises(InputError, match=r"numbers its types from 0 to 1 .* --type-map EL0 EL1"):
        read(path)
    frames, _ = read(path, type_map=NAMES)
    assert [f.energy for f in frames] == [-3.5, -3.6]
    assert frames[0].virial.tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


def test_cfg_with_fewer_lattice_vectors_and_fewer_labels(tmp_path):
    """A wire, a slab, a cluster; configurations still to be computed; graded ones; predicted ones."""
    bare = HEAD.partition("fx")[0] + "\n"
    places = "     1    0       0 0 0\n     2    1       2 2 2\n"
    for rows, pbc in ((1, (True, False, False)), (2, (True, True, False)), (0, (False,) * 3)):
        lines = CELL.splitlines(keepends=True)[:rows]
        cell = " Supercell\n" + "".join(lines) if rows else ""
        [f], _ = read(written(tmp_path / "a.cfg", cfg(cell, bare, places, "")), type_map=NAMES)
        assert f.pbc == pbc and f.energy is None and f.forces is None and f.virial is None
        assert f.positions.tolist() == [[0, 0, 0], [2, 2, 2]]
    graded = cfg(
        head=bare[:-1] + " nbh_grades\n", rows=places.replace("0 0\n", "0 0 1.5\n").replace("2\n", "2 3.2\n")
    )
    [f], source = read(written(tmp_path / "b.cfg", graded), type_map=NAMES)
    assert f.energy == -3.5 and source.ignored == {"nbh_grades"}
    one_type = cfg(head=HEAD.replace("type", ""), rows="1 0 0 0 0 0 0\n2 2 2 2 0 0 0\n")
    [f], _ = read(written(tmp_path / "c.cfg", one_type), type_map=NAMES)
    assert f.symbols == ["Na", "Na"]
    predicted = cfg().replace("VASP", "MTP")
    _, source = read(written(tmp_path / "d.cfg", predicted), type_map=NAMES)
    assert "those of a potential, as the file says (EFS_by MTP)" in next(iter(source.told.notes))


REFUSED = {
    "another name of the stress": (
        cfg().replace("PlusStress", "Virial"), "expected PlusStress, the one name whose sign",
    ),
    "numbers for names of the stress": (
        cfg().replace("xx          yy          zz          yz          xz          xy", "0 0 0 0 0 0"),
        "expected six numbers below PlusStress: xx yy zz yz xz xy",
    ),
    "ghosts": (
        cfg(head=HEAD[:-1] + "  ghost\n", rows=ROWS.replace("3\n", "3 true\n")),
        "marks atoms as ghosts, images of others",
    ),
    "the first form of MLIP": (
        "BEGIN\n Size\n 1\n Lattice\n4 0 0\n0 4 0\n0 0 4\n AtmData\n0 0 0 0 0 0\nEND\n",
        r"MLIP's first form \(BEGIN",
    ),
    "no atoms": (cfg().replace(HEAD + ROWS, ""), "expected AtomData between BEGIN_CFG and END_CFG"),
    "a column too many": (cfg(rows=ROWS.replace("0.3\n", "0.3 1\n")), "expected 8 columns: id type cartes_x"),
    "fz missing": (
        cfg(head=HEAD.replace("fz", "charge")), "only some of the forces; expected fx, fy and fz",
    ),
    "one element": (
        cfg(rows=ROWS.replace("2    1 ", "2    5 ")), r"from 0 to 5 .* \(2 are given\):  --type-map EL0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_cfg_must_not_hold_is_named(tmp_path, name):
    text, message = REFUSED[name]
    with pytest.raises(KalmanDPError, match=message):
        frames, source = read(written(tmp_path / "a.cfg", text), type_map=NAMES)
        raise InputError("; ".join(source.left_out))  # a step that the file breaks off


# --- dumps ----------------------------------------------------------------------------------------

DUMP = """ITEM: TIMESTEP
100
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0.0000000000000000e+00 4.0000000000000000e+00
0.0000000000000000e+00 4.0000000000000000e+00
0.0000000000000000e+00 4.0000000000000000e+00
ITEM: ATOMS id type x y z fx fy fz
1 1 0 0 0 0.1 0.2 0.3
2 2 2 2 2 -0.1 -0.2 -0.3
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fx fy fz\n", "fx fy fz \n"),
        ("ITEM: TIMESTEP", "ITEM: UNITS\nmetal\nITEM: TIME\n0.5\nITEM: TIMESTEP"),
        ("id type x", "type id x"),
        (
            "1 1 0 0 0 0.1 0.2 0.3\n2 2 2 2 2 -0.1 -0.2 -0.3\n",
            "2 2 2 2 2 -0.1 -0.2 -0.3\n1 1 0 0 0 0.1 0.2 0.3\n",
        ),
        ("x y z", "xu yu zu"),
        ("BOX BOUNDS pp pp pp", "BOX BOUNDS xy xz yz pp pp pp"),
    ],
)  # fmt: skip
def test_forms_of_a_dump_with_forces(tmp_path, old, new):
    text = DUMP.replace(old, new)
    if "xy xz yz" in new:
        text = text.replace("e+00\n", "e+00 0.0\n")
    frames, _ = read(written(tmp_path / "dump.lammpstrj", text * 2), type_map=NAMES)
    assert len(frames) == 2
    for f in frames:
        assert f.symbols == ["Na", "Cl"] and f.pbc == (True,) * 3 and f.energy is None
        assert f.cell.tolist() == (4 * np.eye(3)).tolist()
        assert f.positions.tolist() == [[0, 0, 0], [2, 2, 2]]
        assert f.forces.tolist() == [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]


def test_dumps_with_more_columns_and_open_boundaries(tmp_path):
    text = DUMP.replace("BOUNDS pp pp pp", "BOUNDS mm fs pp").replace("fx fy fz", "fx fy fz vx vy vz c_pe q")
    text = text.replace("0.3\n", "0.3 1 2 3 -5 0\n")
    [f], source = read(written(tmp_path / "d.dump", text), type_map=NAMES)
    assert f.pbc == (False, False, True) and f.forces[0].tolist() == [0.1, 0.2, 0.3]
    assert source.ignored == {"vx", "vy", "vz", "c_pe", "q"}
    by_name = DUMP.replace("id type", "id element").replace("\n1 1", "\n1 Na").replace("\n2 2 2", "\n2 Cl 2")
    [f], _ = read(written(tmp_path / "e.dump", by_name))
    assert f.symbols == ["Na", "Cl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DUMP.replace("OF ATOMS", "OF ENTRIES"), "a dump of local or of grid quantities; expected ITEM: NUM"),
        (DUMP.replace("0.3\n", "\n"), "expected 8 columns: id type x y z fx fy fz"),
        (DUMP.replace(" fx fy fz", " fx fy q"), "only fx, fy of the forces; expected fx, fy, fz, or none"),
        (DUMP.replace("x y z", "a b c"), "expected the columns x y z"),
        (DUMP.replace("id type", "id mol"), "expected a column element or type"),
        ("---\ncreator: LAMMPS\ntimestep: 0\nnatoms: 2\n", "is a dump of LAMMPS in YAML"),
    ],
)  # fmt: skip
def test_what_a_dump_must_not_hold_is_named(tmp_path, text, message):
    with pytest.raises(KalmanDPError, match=message):
        read(written(tmp_path / "d.dump", text), type_map=NAMES)


# --- npz ------------------------------------------------------------------------------------------

R = np.array([[[0, 0, 0], [0, 0, 0.96], [0.9, 0, -0.2]]] * 2)
F, E = np.ones((2, 3, 3)), np.array([-600.0, -601.0])


def test_npz_of_sgdml_states_its_units_and_md17_does_not(tmp_path):
    R, F = np.array([[[0, 0, 0], [0, 0, 0.74]]] * 2), np.ones((2, 2, 3)) * [[[1], [-1]]]
    both = {"E": np.array([-600.0, -601.0]), "F": F, "R": R, "z": np.array([1, 1])}
    np.savez(tmp_path / "a.npz", **both, r_unit="Ang", e_unit="kcal/mol", name="h2")
    frames, source = read(tmp_path / "a.npz")
    np.testing.assert_allclose([f.energy for f in frames], np.array([-600.0, -601.0]) * KCAL_MOL)
    np.testing.assert_allclose(frames[0].forces[0], KCAL_MOL)
    assert not source.ignored and frames[0].pbc == (False,) * 3
    np.savez(tmp_path / "b.npz", coords=R, nuclear_charges=[1, 1], energies=both["E"], forces=F, charge=1)
    with pytest.raises(
        InputError, match=r"does not state the unit of its energies; expected  --unit energy="
    ):
        read(tmp_path / "b.npz")
    frames, source = read(tmp_path / "b.npz", units=given_units({"energy": "eV"}))
    assert frames[1].energy == -601.0 and source.ignored == {"charge"}
    np.savez(tmp_path / "c.npz", x=R)
    with pytest.raises(FileError, match=r"holds x; expected arrays R"):
        read(tmp_path / "c.npz")


def test_npz_of_sgdml_as_python_2_and_3_write_it(tmp_path):
    more = dict(
        theory="PBE+TS", type=b"d", md5=b"abc", E_min=-601.0, E_max=-600.0, F_var=1.0, lattice=9 * np.eye(3)
    )
    for name, unit in (("a", "kcal/mol"), ("b", b"kcal/mol"), ("c", np.array("kcal/mol", dtype=object))):
        np.savez(
            tmp_path / f"{name}.npz", R=R, z=[8, 1, 1], E=E[:, None], F=F, r_unit="Ang", e_unit=unit, **more
        )
    for name in "ab":
        frames, source = read(tmp_path / f"{name}.npz")
        np.testing.assert_allclose([f.energy for f in frames], E * KCAL_MOL)
        assert frames[0].symbols == ["O", "H", "H"] and frames[0].pbc == (True,) * 3
        assert not source.ignored
    with pytest.raises(InputError, match="does not state the unit of its energies"):
        read(tmp_path / "c.npz")


def test_npz_of_molecules_of_many_sizes(tmp_path):
    """Places beyond a molecule's last atom are filled with zeros, as PhysNet's sets are."""
    Z = np.array([[8, 1, 1], [1, 1, 0]])
    np.savez(tmp_path / "a.npz", N=[3, 2], Z=Z, R=R, E=E, F=F, Q=[0.0, 0.0], D=np.zeros((2, 3)), e_unit="eV")
    frames, source = read(tmp_path / "a.npz")
    assert [f.symbols for f in frames] == [["O", "H", "H"], ["H", "H"]]
    assert frames[1].positions.tolist() == R[1, :2].tolist() and frames[1].forces.shape == (2, 3)
    assert source.ignored == {"Q", "D"}
    np.savez(tmp_path / "b.npz", N=[3, 1], Z=Z, R=R, E=E, F=F, e_unit="eV")
    with pytest.raises(FileError, match=r"N says 1 and Z names 2 atoms of frame 1; expected the same"):
        read(tmp_path / "b.npz")


def test_npz_of_rmd17(tmp_path):
    arrays = dict(
        nuclear_charges=[8, 1, 1], coords=R, energies=E, forces=F, old_indices=[1, 2], old_energies=E
    )
    np.savez(tmp_path / "a.npz", **arrays, old_forces=F)
    with pytest.raises(InputError, match=r"expected  --unit energy=kcal/mol"):
        read(tmp_path / "a.npz")
    frames, source = read(tmp_path / "a.npz", units=given_units({"energy": "kcal/mol"}))
    np.testing.assert_allclose(frames[0].forces, KCAL_MOL)
    assert source.ignored == {"old_energies", "old_forces"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (dict(R=np.array([R, None], dtype=object), z=[1]), r"R is pickled; expected arrays of numbers"),
        (dict(R=R, z=[8, 1]), r"z names 2 atoms and R has 3; expected the same"),
        (dict(R=R, z=[8, 1, 1], E=E[:1], e_unit="eV"), r"E has 1 rows and R 2; expected the same"),
        (dict(R=R, z=[8, 1, 1], F=F[:, :2], e_unit="eV"), r"F has shape \(2, 2, 3\); expected \(2, 3, 3\)"),
        (dict(R=R, z=[0, 1, 1], E=E, e_unit="eV"), r"z goes from 0 to 1; expected atomic numbers"),
        (dict(R=R, z=[8, 1, 1], E=E, e_unit="foo"), r"the unit of energy is 'foo'"),
    ],
)
def test_what_an_npz_must_not_hold_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(KalmanDPError, match=message):
        read(tmp_path / "a.npz")
