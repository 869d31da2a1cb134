"""Extended XYZ whatever its capitals, packing, name and line ends; units stated, given, or inferred."""

from __future__ import annotations

import bz2
import gzip
import lzma

import numpy as np
import pytest
from frame_makers import random_frame

from kalmandp.errors import FileError, InputError
from kalmandp.formats.convert import convert
from kalmandp.formats.runner import write_runner
from kalmandp.formats.sources import Source, guess_format
from kalmandp.formats.units import BOHR, GIGAPASCAL, HARTREE, KCAL_MOL, factor, given_units
from kalmandp.frames.dataset import Dataset

SALT = """2
Lattice="4 0 0 0 4 0 0 0 4" energy=-3.5 virial="0.1 0 0 0 0.2 0 0 0 0.3" \
Properties=species:S:1:pos:R:3:force:R:3
Na 0 0 0 0.01 0.02 0.03
Cl 2 2 2 -0.01 -0.02 -0.03
"""


def read(path, **options):
    source = Source(str(path), guess_format(str(path)), **options)
    return list(source.frames()), source.told


def read_text(tmp_path, text, name="a.xyz", **options):
    (tmp_path / name).write_text(text)
    return read(tmp_path / name, **options)


def is_salt(frame) -> bool:
    return (
        frame.energy == -3.5
        and frame.cell.tolist() == (4 * np.eye(3)).tolist()
        and frame.forces.tolist() == [[0.01, 0.02, 0.03], [-0.01, -0.02, -0.03]]
        and np.diag(frame.virial).tolist() == [0.1, 0.2, 0.3]
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Lattice", "lattice"), ("Properties", "properties"), ("energy", "ENERGY"), ("virial", "Virial"),
        ("force:", "Forces:"), ("species", "Species"), ("pos", "POS"), ("energy=-3.5", "energy = -3.5"),
        ('Lattice="', 'Lattice = "'),
    ],
)  # fmt: skip
def test_keys_have_no_case(tmp_path, old, new):
    frames, told = read_text(tmp_path, SALT.replace(old, new))
    assert [is_salt(f) for f in frames] == [True] and not told.ignored


def test_two_spellings_in_one_file(tmp_path):
    frames, told = read_text(
        tmp_path, SALT + SALT.replace("energy", "Energy") + SALT.replace("Properties", "properties")
    )
    assert [is_salt(f) for f in frames] == [True] * 3 and not told.ignored
    # both in one frame: the name as it is known, and the other is said to be left
    frames, told = read_text(tmp_path, SALT.replace("energy=-3.5", "energy=-3.5 Dipole=1 ENERGY=7"))
    assert frames[0].energy == -3.5 and told.ignored == {"Dipole", "ENERGY"}


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, bytes], ids=["gz", "bz2", "xz", "plain"]
)
@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.gz", "train.dat", "Extended.TXT"])
def test_packing_and_name_do_not_matter(tmp_path, pack, name):
    (tmp_path / name).write_bytes(pack(SALT.encode()))
    frames, _ = read(tmp_path / name)
    assert [is_salt(f) for f in frames] == [True]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_line_ends_and_encodings(tmp_path, end, encoding):
    (tmp_path / "a.xyz").write_bytes(SALT.replace("\n", end).encode(encoding))
    frames, _ = read(tmp_path / "a.xyz")
    assert [is_salt(f) for f in frames] == [True]


@pytest.mark.parametrize(
    ("head", "what"), [(b"\x28\xb5\x2f\xfd", "zstd"), (b"PK\x03\x04", "zip"), (b"7z\xbc\xaf\x27", "7z")]
)
def test_other_packings_are_named(tmp_path, head, what):
    (tmp_path / "a.xyz").write_bytes(head + b"0123456789")
    with pytest.raises(FileError, match=f"{what}.*expected it unpacked"):
        read(tmp_path / "a.xyz")


def test_periodic_without_a_lattice_is_a_contradiction(tmp_path):
    text = '1\nProperties=species:S:1:pos:R:3 pbc="T T T" Cell="4 0 0 0 4 0 0 0 4"\nNa 0 0 0\n'
    with pytest.raises(InputError, match=r"pbc is 'T T T' and there is no Lattice \(there is 'Cell'\)"):
        read_text(tmp_path, text)
    frames, _ = read_text(tmp_path, text.replace("T T T", "F F F"))
    assert frames[0].cell is None


def test_the_comment_of_i_pi_is_no_extended_xyz(tmp_path):
    text = "1\n# CELL(abcABC): 10 10 10 90 90 90 Step: 0 positions{angstrom} cell{atomic_unit}\nH 0 0 0\n"
    with pytest.raises(InputError, match="is XYZ of i-PI"):
        read_text(tmp_path, text)


def test_columns_that_no_properties_name_are_said_to_be_left(tmp_path):
    _, told = read_text(tmp_path, "1\nplain\nH 0 0 0 0.1 0.2 0.3\n")
    assert told.ignored == {"plain", "columns beyond x y z, which no Properties names"}


def test_weights_of_gpumd_go_through(tmp_path):
    text = SALT.replace("energy=", "weight=2 energy_weight=0.5 energy=") + SALT
    (tmp_path / "train.xyz").write_text(text)
    for target in ("a.h5", "folder", "b.xyz"):
        convert(tmp_path / "train.xyz", tmp_path / target)
        frames, _ = read(tmp_path / target)
        assert [(f.weight, f.energy_weight) for f in frames] == [(2.0, 0.5), (None, None)]
    with pytest.raises(InputError, match="weight is 0; expected more than 0"):
        read_text(tmp_path, SALT.replace("energy=", "weight=0 energy="))


# --- units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("length", "Å", 1.0), ("length", "Angstrom", 1.0), ("length", "Bohr", BOHR), ("length", "nm", 10.0),
        ("energy", "Hartree", HARTREE), ("energy", "kcal/mol", KCAL_MOL), ("energy", "Ry", HARTREE / 2),
        ("energy", "meV", 1e-3), ("virial", "-eV", -1.0), ("force", "hartree/bohr", HARTREE / BOHR),
        ("force", "eV/Å", 1.0), ("force", "kcal/mol/Angstrom", KCAL_MOL), ("force", "a.u.", HARTREE / BOHR),
        ("stress", "GPa", GIGAPASCAL), ("stress", "kbar", GIGAPASCAL / 10), ("stress", "eV/Å^3", 1.0),
        ("stress", "Ha/bohr**3", HARTREE / BOHR**3), ("stress", "eV/ang³", 1.0),
    ],
)  # fmt: skip
def test_names_of_units(kind, text, value):
    np.testing.assert_allclose(factor(kind, text), value, rtol=1e-15)


def test_units_that_are_not_known_are_refused():
    with pytest.raises(InputError, match="unit of energy is 'cubits'; expected eV, hartree"):
        factor("energy", "cubits")
    with pytest.raises(InputError, match="units names forces; expected some of length, energy, force"):
        given_units({"forces": "eV/Å"})


STATED = SALT.replace('virial="0.1 0 0 0 0.2 0 0 0 0.3"', 'stress="1 0 0 0 1 0 0 0 1"').replace(
    "energy=", "energy-unit=hartree force-unit=hartree/bohr stress-unit=GPa energy="
)


def test_units_that_a_file_states_are_obeyed(tmp_path):
    frames, told = read_text(tmp_path, STATED)
    [f] = frames
    # constants of CODATA 2018 on both sides
    np.testing.assert_allclose(f.energy, -3.5 * 27.211386245988, rtol=1e-14)
    np.testing.assert_allclose(f.forces[0], np.array([0.01, 0.02, 0.03]) * 51.42206747632590, rtol=1e-12)
    np.testing.assert_allclose(np.diag(f.virial), -64 / 160.2176634, rtol=1e-14)
    assert "the units are those that the file states" in told.notes and not told.ignored


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("energy-unit=hartree", "states the unit of energy and not that of force"),
        ("energy-unit=zloty force-unit=eV/A", "unit of energy is 'zloty'"),
        ("units=weird", "units is 'weird', which is not understood"),
        ('units="eV, bohr" energy_unit=hartree', "another key states another energy"),
    ],
)
def test_units_that_cannot_be_obeyed_are_refused(tmp_path, key, message):
    with pytest.raises(InputError, match=message):
        read_text(tmp_path, SALT.replace("energy=", f"{key} energy="))


def test_one_key_for_all_units(tmp_path):
    for key in ('units="atomic"', 'unit="bohr, hartree, hartree/bohr"'):
        frames, _ = read_text(tmp_path, SALT.replace("energy=", f"{key} energy="))
        np.testing.assert_allclose(frames[0].cell[0, 0], 4 * BOHR)
        np.testing.assert_allclose(frames[0].energy, -3.5 * HARTREE)
        np.testing.assert_allclose(frames[0].forces[0, 0], 0.01 * HARTREE / BOHR)
        np.testing.assert_allclose(frames[0].virial[0, 0], 0.1 * HARTREE)


def test_given_units_override(tmp_path):
    (tmp_path / "a.xyz").write_text(STATED)
    convert(tmp_path / "a.xyz", tmp_path / "a.h5", units={"energy": "Ry", "length": "bohr", "stress": "kbar"})
    with Dataset(tmp_path / "a.h5") as data:
        f = data[0]
    np.testing.assert_allclose(f.energy, -3.5 * HARTREE / 2)
    np.testing.assert_allclose(f.forces[0, 0], 0.01 * HARTREE / 2 / BOHR)  # follows from the two
    np.testing.assert_allclose(f.virial[0, 0], -64 * BOHR**3 * GIGAPASCAL / 10)
    # a data set of another make, and the sign of its virial
    convert(tmp_path / "a.h5", tmp_path / "b.h5", units={"virial": "-eV"})
    with Dataset(tmp_path / "b.h5") as data:
        np.testing.assert_allclose(data[0].virial, -f.virial)
        assert data[0].energy == f.energy


# --- input.data -----------------------------------------------------------------------------------

SILICON = """begin
comment in eV and angstrom, as n2p2 allows
lattice 8.0 0.0 0.0
lattice 0.0 8.0 0.0
lattice 0.0 0.0 8.0
atom 0.0 0.0 0.0 Si 0.0 0.0 0.1 0.0 0.0
atom 2.35 0.0 0.0 Si 0.0 0.0 -0.1 0.0 0.0
energy -10.8
charge 0.0
end
"""


def test_distances_tell_the_units_of_input_data(tmp_path):
    frames, told = read_text(tmp_path, SILICON, "input.data")
    assert (frames[0].energy, frames[0].cell[0, 0], frames[0].forces[0, 0]) == (-10.8, 8.0, 0.1)
    assert "taken as Å and eV, in which neighbours are 1.06 bond lengths apart" in next(iter(told.notes))
    frames, told = read_text(tmp_path, SILICON.replace("2.35", "4.44"), "input.data")
    np.testing.assert_allclose(frames[0].energy, -10.8 * HARTREE)
    np.testing.assert_allclose(frames[0].positions[1, 0], 4.44 * BOHR)
    assert "taken as bohr and hartree" in next(iter(told.notes))
    with pytest.raises(
        InputError, match=r"neighbours are 1\.42 bond lengths apart whether they are bohr or Å"
    ):
        read_text(tmp_path, SILICON.replace("2.35", "3.15"), "input.data")
    given = given_units({"length": "angstrom", "energy": "kcal/mol"})
    frames, _ = read_text(tmp_path, SILICON.replace("2.35", "3.15"), "input.data", units=given)
    np.testing.assert_allclose(frames[0].energy, -10.8 * KCAL_MOL)


def test_our_own_input_data_states_its_units(tmp_path):
    frame = random_frame(np.random.default_rng(0), "SiSi", labels=("energy", "forces"))
    write_runner(tmp_path / "input.data", [frame])
    [again], told = read(tmp_path / "input.data")
    np.testing.assert_allclose(again.positions, frame.positions, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(again.energy, frame.energy, rtol=1e-14)
    assert list(told.notes) == ["units as the comment states them: bohr hartree"]
