"""What comes through ASE and dpdata is looked at: labels, elements, cells, geometries, convergence."""

from __future__ import annotations

import numpy as np
import pytest

from kalmandp.errors import FileError, InputError
from kalmandp.formats.convert import convert
from kalmandp.formats.foreign.checks import UNCONVERGED, checked
from kalmandp.formats.programs.registry import recognise
from kalmandp.formats.programs.steps import LeftOut
from kalmandp.formats.sources import Source, check_format, guess_format
from kalmandp.formats.told import Told
from kalmandp.formats.units import BOHR, HARTREE
from kalmandp.frames.frame import Frame

GAUSSIAN = """ Entering Gaussian System, Link 0=g16
 Gaussian 16:  ES64L-G16RevA.03 25-Dec-2016
 ----------------------------------------------------------------------
 # force b3lyp/6-31g
 ----------------------------------------------------------------------
 Charge =  0 Multiplicity = 1
                          Input orientation:
 ---------------------------------------------------------------------
 Center     Atomic      Atomic             Coordinates (Angstroms)
 Number     Number       Type             X           Y           Z
 ---------------------------------------------------------------------
      1          1           0        0.000000    0.000000    0.000000
      2          1           0        0.000000    0.000000    0.900000
 ---------------------------------------------------------------------
{bad} SCF Done:  E(RB3LYP) =  -1.10000000000     A.U. after  129 cycles
            NFock=128  Conv=0.11D-01     -V/T= 2.0
 Forces (Hartrees/Bohr)
 Normal termination of Gaussian 16 at Mon Jan  1 00:00:00 2024.
"""


def look(frames, text="", *, stores=False, keep=False, path="x.log", tmp_path=None):
    """Frames after the checks, with what was told."""
    told = Told()
    if tmp_path is not None:
        path = str(tmp_path / "x.log")
        (tmp_path / "x.log").write_text(text)
    makers = iter([lambda f=f: f for f in frames])
    out = [make() for make in checked(makers, path, "ASE's reader", told, stores=stores, keep=keep)]
    return out, told


def h2(r=0.74, energy=-30.0, symbols=("H", "H"), **more):
    names = tuple(dict.fromkeys(symbols))
    types = [names.index(s) for s in symbols]
    return Frame([[0, 0, 0], [0, 0, r]], types, names, energy=energy, source="x.log frame 0", **more)


def test_a_cycle_that_did_not_converge_is_left_out(tmp_path):
    pytest.importorskip("ase")
    bad = tmp_path / "h2.log"
    bad.write_text(GAUSSIAN.format(bad=" >>>>>>>>>> Convergence criterion not met.\n"))
    with pytest.raises(InputError, match=r"frame 0: the file says 'Convergence criterion not met'"):
        convert(bad, tmp_path / "a.h5")
    done = convert(bad, tmp_path / "a.h5", keep_unconverged=True)
    assert done.frames == 1
    good = tmp_path / "good.log"
    good.write_text(GAUSSIAN.format(bad=""))
    done = convert([good, bad], tmp_path / "a.h5")
    assert (done.frames, done.reasons()) == (1, {"SCF not converged": 1})
    assert any("whether every SCF cycle converged is not known" in note for note in done.notes)
    assert any("the file mentions forces, and ASE's reader returns none" in note for note in done.notes)


@pytest.mark.parametrize(
    "text",
    [
        " Convergence failure -- run terminated.",  # Gaussian
        "SCF NOT CONVERGED AFTER 125 CYCLES",  # ORCA
        "Calculation failed to converge",  # NWChem
        "*Warning* max. SCF cycles performed but system has not reached the groundstate.",  # CASTEP
        "SCF_NOT_CONV: SCF did not converge",  # SIESTA
        "SCC is NOT converged, maximal SCC iterations exceeded",  # DFTB+
        "Did not converge!",  # GPAW
        "SCF failed to converge",  # Q-Chem
        "convergence has NOT been achieved!",  # ABACUS
        "WARNING! Self-consistency cycle not converged",  # FHI-aims
    ],
)
def test_words_for_no_convergence(tmp_path, text):
    assert UNCONVERGED.search(text)
    with pytest.raises(LeftOut, match="--keep-unconverged takes them"):
        look([h2()], f"something\n{text}\n", tmp_path=tmp_path)
    assert len(look([h2()], text, tmp_path=tmp_path, keep=True)[0]) == 1
    # a store of frames holds no cycles
    assert len(look([h2()], text, tmp_path=tmp_path, stores=True)[0]) == 1


def test_an_energy_of_exactly_zero_is_no_label():
    [f], told = look([h2(energy=0.0, forces=np.ones((2, 3)))])
    assert f.energy is None and f.forces is not None
    assert "energy (exactly 0)" in told.ignored and any("exactly 0" in note for note in told.notes)


@pytest.mark.parametrize("symbols", [("H", "He"), ("He", "H"), ("H", "He")])
def test_elements_that_are_numbers_of_types(symbols):
    with pytest.raises(
        InputError, match=r"its elements are H, He, which ASE's reader makes of types numbered 1 to 2"
    ):
        look([h2(symbols=symbols)])
    assert look([h2(symbols=("H", "O"))])[0]
    assert look([h2(symbols=("H", "H"))])[0]


def test_cells_that_vanish_and_labels_that_moved_on():
    cell = {"cell": 5 * np.eye(3), "pbc": True}
    with pytest.raises(FileError, match="has a cell, and frames before have none"):
        look([h2(), h2(0.8, **cell)])
    with pytest.raises(FileError, match="the same positions as frame 0, with another energy"):
        look([h2(**cell), h2(0.8, -29.9, **cell), h2(0.74, -29.0, **cell)])
    # the same again, with the same labels, is only a repetition
    assert len(look([h2(), h2(0.8), h2()])[0]) == 3
    # who stores frames may store what he likes
    assert len(look([h2(), h2(0.74, -29.0)], stores=True)[0]) == 2


def test_the_cell_of_an_open_system_is_not_lost_in_silence(tmp_path):
    io = pytest.importorskip("ase.io")
    from ase import Atoms

    io.write(tmp_path / "a.traj", Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[5, 5, 5], pbc=False))
    source = Source(str(tmp_path / "a.traj"), "ase")
    assert [f.cell for f in source.frames()] == [None]
    assert any("says that nothing is periodic" in note for note in source.told.notes)


def test_names_of_labels_for_what_ase_reads(tmp_path):
    io = pytest.importorskip("ase.io")
    from ase import Atoms

    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]], cell=[6, 6, 6], pbc=True)
    atoms.info |= {"REF_energy": -7.0, "REF_stress": np.array([1.0, 2, 3, 4, 5, 6])}
    atoms.arrays["REF_forces"] = np.array([[0, 0, 1.0], [0, 0, -1.0]])
    io.write(tmp_path / "a.xyz", atoms, format="extxyz")  # a .traj would drop such arrays
    done = convert(tmp_path / "a.xyz", tmp_path / "a.h5", format="ase:extxyz")
    assert done.labels == {} and {"REF_energy", "REF_forces", "REF_stress"} <= set(done.ignored)
    keys = {"energy": "REF_energy", "forces": "REF_forces", "stress": "REF_stress"}
    done = convert(tmp_path / "a.xyz", tmp_path / "a.extxyz", keys=keys, format="ase:extxyz")
    assert done.labels == {"energy": 1, "forces": 1, "virial": 1} and done.ignored == ()
    [f] = Source(str(tmp_path / "a.extxyz"), "extxyz").frames()
    assert f.energy == -7.0
    np.testing.assert_allclose(f.virial, -216 * np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3.0]]))
    with pytest.raises(InputError, match=r"no frame of .* has 'gone'"):
        convert(tmp_path / "a.xyz", tmp_path / "b.h5", keys={"energy": "gone"}, format="ase:extxyz")


def openmx(folder, converged: int = 1) -> None:
    """Invented steps of methane in the layout of OpenMX's System.Name.md and .dat."""
    symbols, rng = ["C", "H", "H", "H", "H"], np.random.default_rng(0)
    rows = "\n".join(f"{n + 1} {s} {n} 0.0 0.0 2.0 2.0" for n, s in enumerate(symbols))
    (folder / "Methane.dat").write_text(
        f"<Atoms.SpeciesAndCoordinates\n{rows}\nAtoms.SpeciesAndCoordinates>\n"
    )
    text = ""
    for k in range(3):
        text += f"5\n   time=  {k}.0 (fs) Energy= {-8.1 - k} (Hartree) Temperature=  300.0"
        text += f" Cell_Vectors= 10. 0. 0. 0. 10. 0. 0. 0. 10. scf_conv={converged if k == 1 else 1}\n"
        places, forces = np.arange(15).reshape(5, 3) / 2 + 0.1 * k, rng.normal(size=(5, 3))
        forces[0, 0] = 0.05 + k
        for s, r, f in zip(symbols, places, forces, strict=True):
            text += f"{s} " + " ".join(f"{x:.8f}" for x in (*r, *f, 0, 0, 0)) + "\n"
    (folder / "Methane.md").write_text(text)


@pytest.mark.parametrize("name", ["Methane", "Methane.md", "Methane.dat"])
def test_files_of_one_beginning_are_read_by_dpdata(tmp_path, name):
    pytest.importorskip("dpdata")
    openmx(tmp_path)
    source = Source(str(tmp_path / name), check_format("dpdata:openmx/md"))
    frames = list(source.frames())
    energies = [HARTREE * (-8.1 - k) for k in range(3)]
    np.testing.assert_allclose([f.energy for f in frames], energies, rtol=1e-6)
    assert frames[0].symbols == ["C", "H", "H", "H", "H"]
    assert frames[0].cell.tolist() == (10 * np.eye(3)).tolist()
    np.testing.assert_allclose([f.positions[1, 0] for f in frames], [1.5, 1.6, 1.7])
    forces = np.array([0.05, 1.05, 2.05]) * HARTREE / BOHR
    np.testing.assert_allclose([f.forces[0, 0] for f in frames], forces, rtol=1e-6)
    done = convert(tmp_path / name, tmp_path / "a.h5", format="dpdata:openmx/md")
    assert done.labels == {"energy": 3, "forces": 3}


def test_unconverged_steps_of_files_of_one_beginning_are_left_out(tmp_path):
    """dpdata only warns of them."""
    pytest.importorskip("dpdata")
    openmx(tmp_path, converged=0)
    source = Source(str(tmp_path / "Methane"), "dpdata:openmx/md")
    assert list(source.frames()) == []
    assert "the file says 'scf_conv=0'" in source.left_out[0]
    assert "dpdata warns: SCF not converged!" in source.told.notes
    kept = Source(str(tmp_path / "Methane"), "dpdata:openmx/md", keep_unconverged=True)
    assert len(list(kept.frames())) == 3


def test_the_two_files_of_dftb_plus_are_found(tmp_path):
    """dpdata is given two names; the folder, or one of them, is enough."""
    pytest.importorskip("dpdata")
    (tmp_path / "dftb_in.hsd").write_text(
        "Geometry = GenFormat {\n 2 C\n H\n 1 1 0.0 0.0 0.0\n 2 1 0.0 0.0 0.75\n}\nDriver = {}\n"
    )
    (tmp_path / "detailed.out").write_text(
        "Total Forces\n    1      0.0  0.0  0.02\n    2      0.0  0.0 -0.02\n\n"
        "Total energy:                      -0.6700000000 H          -18.2316 eV\n\n SCC converged\n"
    )
    for name in (".", "detailed.out", "dftb_in.hsd"):
        [f] = Source(str(tmp_path / name), "dpdata:dftbplus").frames()
        assert f.symbols == ["H", "H"] and f.cell is None
        np.testing.assert_allclose(f.energy, -0.67 * HARTREE, rtol=1e-6)
        np.testing.assert_allclose(f.forces[0, 2], 0.02 * HARTREE / BOHR, rtol=1e-6)
    text = (tmp_path / "dftb_in.hsd").read_text()
    text = text.replace("2 C", "2 S").replace("0.75\n", "0.75\n 0 0 0\n 5 0 0\n 0 5 0\n 0 0 5\n")
    (tmp_path / "dftb_in.hsd").write_text(text)
    with pytest.raises(FileError, match="is a periodic system, whose lattice vectors dpdata does not read"):
        list(Source(str(tmp_path), "dpdata:dftbplus").frames())
    (tmp_path / "detailed.out").unlink()
    with pytest.raises(FileError, match=r"has no detailed\.out; expected dftb_in\.hsd and detailed\.out"):
        list(Source(str(tmp_path / "dftb_in.hsd"), "dpdata:dftbplus").frames())


@pytest.mark.parametrize("name", ["Methane", "Methane.md"])
def test_a_beginning_without_frames_or_files(tmp_path, name):
    pytest.importorskip("dpdata")
    for suffix in ("md", "dat"):
        (tmp_path / f"Methane.{suffix}").write_text("nonsense\n")
    read = lambda path: list(Source(str(path), check_format("dpdata:openmx/md")).frames())
    with pytest.raises(FileError, match="dpdata finds no converged frames in it as openmx/md"):
        read(tmp_path / name)
    with pytest.raises(FileError, match="no such file or folder"):
        read(tmp_path / "Ethane")


@pytest.mark.parametrize("header", ["BEGIN header", " begin  header "])
def test_castep_is_no_input_data(tmp_path, header):
    (tmp_path / "x.md").write_text(f"{header}\n END header\n")
    assert recognise(str(tmp_path / "x.md")) is None
    (tmp_path / "x.md").write_text("begin\n")
    assert guess_format(str(tmp_path / "x.md")) == "runner"
