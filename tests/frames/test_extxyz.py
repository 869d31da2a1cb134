"""Extended XYZ: every digit survives, ASE agrees, and errors name frame and line."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
from frame_makers import assert_same_frames, frame_lists, random_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from kalmandp.errors import FileError, InputError, KalmanDPError
from kalmandp.formats.extxyz import read_extxyz, write_extxyz


def read(path, **options):
    return [make() for make in read_extxyz(path, **options)]


def read_text(tmp_path, text, **options):
    path = tmp_path / "a.xyz"
    path.write_text(text)
    return read(path, **options)


@settings(max_examples=40, deadline=None)
@given(frame_lists())
def test_writing_and_reading_lose_nothing(frames):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/a.extxyz"
        assert write_extxyz(path, frames) == len(frames)
        assert_same_frames(read(path), frames)


def test_ase_reads_what_is_written(tmp_path):
    io = pytest.importorskip("ase.io")
    rng = np.random.default_rng(0)
    frames = [
        random_frame(rng, "OHH", labels=("energy", "forces", "virial", "atomic_energies")),
        random_frame(rng, ["Si", "O"], pbc=(True, True, False), labels=("energy",)),
        random_frame(rng, "H", pbc=(False,) * 3, labels=()),
    ]
    write_extxyz(tmp_path / "a.extxyz", frames)
    for atoms, frame in zip(io.read(tmp_path / "a.extxyz", ":"), frames, strict=True):
        assert atoms.get_chemical_symbols() == frame.symbols
        assert tuple(atoms.pbc) == frame.pbc
        np.testing.assert_array_equal(atoms.positions, frame.positions)
        if frame.cell is not None:
            np.testing.assert_array_equal(atoms.cell, frame.cell)
        if frame.energy is not None:
            assert atoms.get_potential_energy() == frame.energy
        if frame.forces is not None:
            np.testing.assert_array_equal(atoms.get_forces(), frame.forces)
            np.testing.assert_array_equal(atoms.get_potential_energies(), frame.atomic_energies)
            np.testing.assert_array_equal(atoms.info["virial"], frame.virial)


def test_what_ase_writes_is_read(tmp_path):
    io = pytest.importorskip("ase.io")
    from ase.build import bulk, molecule
    from ase.calculators.emt import EMT

    images = []
    for atoms in (bulk("Cu", cubic=True), bulk("Cu") * (2, 1, 1), molecule("CH3OH")):
        atoms.rattle(0.1, seed=3)
        atoms.info.update(config_type="rattled, twice", number=3, key_without_value=True)
        atoms.calc = EMT()
        atoms.get_potential_energy()
        if atoms.pbc.all():
            atoms.get_stress()
        images.append(atoms)
    io.write(tmp_path / "a.extxyz", images)
    ignored: set[str] = set()
    frames = read(tmp_path / "a.extxyz", ignored=ignored)
    # ASE writes 8 decimals
    for atoms, frame in zip(images, frames, strict=True):
        assert frame.symbols == atoms.get_chemical_symbols()
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(frame.forces, atoms.get_forces(), atol=1e-8)
        np.testing.assert_allclose(frame.energy, atoms.get_potential_energy(), atol=1e-8)
        if atoms.pbc.all():
            wanted = -atoms.get_stress(voigt=False) * atoms.get_volume()
            np.testing.assert_allclose(frame.virial, wanted, atol=1e-6)
        else:
            assert frame.virial is None
    assert {"config_type", "number", "key_without_value"} <= ignored


def test_comment_line_in_all_its_forms(tmp_path):
    text = """
    1
    Lattice={1 0 0 2 3 0 0 0 4} Properties="species:S:1:pos:R:3:force:R:3" energy = -1.5 pbc='T F T' \
note="a \\" quote, = and {" list=[1, 2] flag virial="1 2 3 4 5 6 7 8 9" "odd key"=3
    H 0 0 1e-1 1 2 3

    1
    plain XYZ: no "keys
    Xx  1.0 2.0 3.0  and more
    1

    He 0 0 0
    """
    first, second, third = read_text(tmp_path, text)
    assert first.cell.tolist() == [[1, 0, 0], [2, 3, 0], [0, 0, 4]]
    assert first.pbc == (True, False, True)
    assert first.energy == -1.5
    assert first.forces.tolist() == [[1, 2, 3]]
    # column by column, as ASE reads it
    assert first.virial.tolist() == [[1, 4, 7], [2, 5, 8], [3, 6, 9]]
    assert second.symbols == ["Xx"]
    assert second.cell is None
    assert second.energy is None
    assert third.symbols == ["He"]


@pytest.mark.parametrize(
    ("comment", "energy", "keys"),
    [
        ("energy=1 free_energy=2", 2.0, None),
        ("energy=1 REF_energy=2", 1.0, None),
        ("energy=1 REF_energy=2", 2.0, {"energy": "REF_energy"}),
        ("REF_energy=2", None, None),
        ('energy="1"', 1.0, None),
    ],
)
def test_names_of_the_energy(tmp_path, comment, energy, keys):
    ignored: set[str] = set()
    [frame] = read_text(tmp_path, f"1\n{comment}\nH 0 0 0\n", keys=keys, ignored=ignored)
    assert frame.energy == energy
    assert ("REF_energy" in ignored) == ("REF_energy" in comment and keys is None)


def test_stress_becomes_the_virial(tmp_path):
    head = 'Properties=species:S:1:pos:R:3 Lattice="2 0 0 0 3 0 0 0 4"'
    [six] = read_text(tmp_path, f'1\n{head} stress="1 2 3 4 5 6"\nH 0 0 0\n')
    [nine] = read_text(tmp_path, f'1\n{head} stress="1 6 5 6 2 4 5 4 3"\nH 0 0 0\n')
    wanted = [[-24, -144, -120], [-144, -48, -96], [-120, -96, -72]]
    # the volume comes from a determinant, to rounding
    np.testing.assert_allclose([six.virial, nine.virial], [wanted] * 2, rtol=1e-14)
    agreeing = (
        f'1\n{head} stress="1 2 3 4 5 6" virial="-24.001 -144 -120 -144 -48 -96 -120 -96 -72"\nH 0 0 0\n'
    )
    [both] = read_text(tmp_path, agreeing)
    assert both.virial[0, 0] == -24.001
    apart = agreeing.replace("-24.001", "24")
    with pytest.raises(InputError, match=r"frame 0: its virial and −V·stress differ by 48 eV/atom"):
        read_text(tmp_path, apart)
    [chosen] = read_text(tmp_path, apart, keys={"virial": "virial"})
    assert chosen.virial[0, 0] == 24
    [chosen] = read_text(tmp_path, apart, keys={"stress": "stress"})
    np.testing.assert_allclose(chosen.virial, wanted, rtol=1e-14)
    slab = head.replace("0 0 4", "0 0 0") + ' pbc="T T F"'
    with pytest.raises(InputError, match="frame 0: there is a stress but the cell has no volume"):
        read_text(tmp_path, f'1\n{slab} stress="1 2 3 4 5 6"\nH 0 0 0\n')


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    path = tmp_path / "windows.xyz"
    path.write_bytes("\ufeff1\r\nenergy=-1.5\r\nH 0 0 0\r\n".encode())
    assert [make().energy for make in read_extxyz(path)] == [-1.5]


def test_atomic_numbers_instead_of_names(tmp_path):
    text = "2\nProperties=Z:I:1:pos:R:3\n1 0 0 0\n118 0 0 1\n"
    assert read_text(tmp_path, text)[0].symbols == ["H", "Og"]
    with pytest.raises(InputError, match="Z goes up to 200"):
        read_text(tmp_path, text.replace("118", "200"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.xyz: holds no frames"),
        ("\n\n", "a.xyz: holds no frames"),
        ("two\n\n", "a.xyz line 1: frame 0 begins with 'two'; expected the number of atoms"),
        ("1\n\nH 0 0 0\nH 0 0 1\n", "a.xyz line 4: frame 1 begins with 'H 0 0 1'"),
        ("-1\n", "line 1: frame 0 begins with '-1'"),
        ("3\n\nH 0 0 0\n", "a.xyz: ends within frame 0, after line 3; expected 2 more"),
        ("99999999999999999999\n\nH 0 0 0\n", "ends within frame 0"),
        ("1\n", "ends within frame 0, after line 1; expected 1 more"),
        ("1\n\nH 0 0\n", "frame 0: atom 0 has 3 columns; expected 4"),
        ("1\n\nH 0 0 x\n", "frame 0: the columns pos are not all numbers"),
        ("1\nProperties=species:S:1:pos:R:3\nH 0 0 0 0\n", "atom 0 has 5 columns; expected 4"),
        ("1\nProperties=species:S:1:pos:R:2\nH 0 0\n", "Properties is 'species:S:1:pos:R:2'"),
        ("1\nProperties=pos:R:3\n0 0 0\n", "Properties is 'pos:R:3'"),
        ("1\nProperties=species:S:1:pos:R:3:forces:Q:3\nH 0 0 0 1 1 1\n", "Properties is"),
        ("1\nProperties=species:S:1:pos:R\nH 0 0 0\n", "Properties is"),
        ("1\nProperties=species:S:1:pos:R:3:x:R:99999999999\nH 0 0 0\n", "Properties is"),
        ('1\nProperties=species:S:1:pos:R:3 Lattice="1 2"\nH 0 0 0\n', "Lattice has 2 numbers"),
        ('1\nProperties=species:S:1:pos:R:3 Lattice="a b"\nH 0 0 0\n', "Lattice is 'a b'; expected"),
        ("1\nProperties=species:S:1:pos:R:3 pbc=maybe\nH 0 0 0\n", "pbc is 'maybe'"),
        ("1\nProperties=species:S:1:pos:R:3 energy=low\nH 0 0 0\n", "energy is 'low'; expected numbers"),
        ('1\nProperties=species:S:1:pos:R:3 = "\nH 0 0 0\n', "expected pairs key=value"),
    ],
)
def test_malformed_files(tmp_path, text, message):
    with pytest.raises(FileError, match=message):
        read_text(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\nenergy=nan\nH 0 0 0\n", "frame 0: energy is nan"),
        ('1\nenergy="1 2"\nH 0 0 0\n', r"energy has shape \(2,\)"),
        ('1\nvirial="1 2"\nH 0 0 0\n', r"virial has shape \(2,\); expected \(3, 3\)"),
        ("1\nProperties=species:S:1:pos:R:3:forces:R:2\nH 0 0 0 0 0\n", r"forces has shape \(1, 2\)"),
        ("1\n\nH 0 0 inf\n", r"positions\[0, 2\] is inf"),
        ('1\nLattice="1 0 0 0 1 0 1 1 0"\nH 0 0 0\n', "the cell has volume 0"),
    ],
)
def test_numbers_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_text(tmp_path, text)


def test_a_bad_frame_can_be_passed_over(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nenergy=nan\nH 0 0 0\n1\nenergy=1\nH 0 0 0\n")
    first, second = list(read_extxyz(tmp_path / "a.xyz"))
    with pytest.raises(InputError):
        first()
    assert second().energy == 1.0


def test_keys_must_be_known(tmp_path):
    with pytest.raises(InputError, match=r"keys names \['charge'\]; expected some of \['energy'"):
        read_text(tmp_path, "1\n\nH 0 0 0\n", keys={"charge": "q"})
    with pytest.raises(FileError, match=r"gone\.xyz"):
        read(tmp_path / "gone.xyz")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_give_clear_errors(data):
    rng = np.random.default_rng(0)
    frames = [random_frame(rng, "OHH"), random_frame(rng, "OH", labels=("energy",))]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/a.xyz"
        write_extxyz(path, frames)
        with open(path, "rb") as file:
            text = bytearray(file.read())
        if data.draw(st.booleans()):
            text = text[: data.draw(st.integers(0, len(text)))]
        for _ in range(data.draw(st.integers(0, 4))):
            if text:
                text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
        with open(path, "wb") as file:
            file.write(text)
        try:
            read(path)
        except KalmanDPError as error:
            assert "a.xyz" in str(error)


def test_a_long_comment_does_not_take_long(tmp_path):
    for tail in ("=[" * 200_000, '="' * 199_999, "={" * 200_000, "\\" * 400_000, " " * 400_000 + '"'):
        (tmp_path / "a.xyz").write_text(f"1\nProperties=species:S:1:pos:R:3 a{tail}\nH 0 0 0\n")
        try:
            read(tmp_path / "a.xyz")
        except KalmanDPError:
            pass
