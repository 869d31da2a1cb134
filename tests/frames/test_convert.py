"""convert: every way there and back, other libraries' formats, and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from frame_makers import assert_same_frames, random_frame, write_system

import kalmandp
from kalmandp.cli import main
from kalmandp.errors import FileError, InputError, MissingPackage
from kalmandp.formats.convert import convert
from kalmandp.formats.extxyz import write_extxyz
from kalmandp.frames.dataset import Dataset


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    kinds = [
        ("OHH", (True,) * 3, ("energy", "forces", "virial")),
        ("OHHOHH", (True,) * 3, ("energy", "forces", "virial", "atomic_energies")),
        ("HHO", (True, True, False), ("energy", "forces")),
        ("OHH", (True,) * 3, ("energy", "forces", "virial")),
        ("O", (False,) * 3, ("energy",)),
        ("H", (True,) * 3, ()),
    ]
    return [random_frame(rng, s, pbc=p, labels=labels) for s, p, labels in kinds]


@pytest.fixture
def source(tmp_path, frames):
    path = tmp_path / "source.extxyz"
    write_extxyz(path, frames)
    return path


def load(path):
    if str(path).endswith("xyz"):
        convert(path, f"{path}.h5")
        path = f"{path}.h5"
    with Dataset(path) as data:
        return list(data)


@pytest.mark.parametrize("way", list(itertools.permutations(["a.h5", "npy", "b.extxyz"])))
def test_every_way_round_keeps_everything(tmp_path, source, frames, way):
    path = source
    for step in (*way, "last.hdf5"):
        done = convert(path, tmp_path / step)
        assert done.frames == 6
        assert done.labels == {"energy": 5, "forces": 4, "virial": 3, "atomic_energies": 1}
        assert done.skipped == done.ignored == ()
        path = tmp_path / step
        assert_same_frames(load(path), frames)
    assert done.path == str(tmp_path / "last.hdf5")
    assert done.systems == 5
    with Dataset(path) as data:
        assert data.type_map == ("O", "H")


def test_is_public():
    assert kalmandp.convert is convert


@pytest.mark.parametrize(
    ("index", "numbers"),
    [
        (None, range(6)),
        ("1:4", range(1, 4)),
        ("::2", range(0, 6, 2)),
        (slice(4, None), (4, 5)),
        ("-2:", (4, 5)),
        ("::-1", range(5, -1, -1)),
        (slice(None, -4), (0, 1)),
    ],
)
def test_some_of_the_frames(tmp_path, source, frames, index, numbers):
    convert(source, tmp_path / "a.h5", index=index)
    assert_same_frames(load(tmp_path / "a.h5"), [frames[k] for k in numbers])


@pytest.mark.parametrize("index", ["3", "a:b", 3, "::0", "1:2:3:4", slice("a"), (0, 1)])
def test_indices_that_are_none(tmp_path, source, index):
    with pytest.raises(InputError, match="index is"):
        convert(source, tmp_path / "a.h5", index=index)


def test_several_sources_types_attributes_and_progress(tmp_path, source, frames):
    convert(source, tmp_path / "a.h5", index=":2")
    seen = []
    done = convert(
        [tmp_path / "a.h5", source], tmp_path / "b.h5", type_map=["H", "Si", "O"],
        attributes={"note": "two"}, compression="gzip", progress=seen.append,
    )  # fmt: skip
    assert done.frames == 8
    assert seen == list(range(1, 9))
    with Dataset(tmp_path / "b.h5", type_map=["H", "Si", "O"]) as data:
        assert_same_frames(list(data), frames[:2] + frames)
        assert data.attributes[str(tmp_path / "b.h5")]["note"] == "two"
    with pytest.raises(InputError, match="species O is not in the type_map"):
        convert(source, tmp_path / "c.h5", type_map=["H"])
    assert not (tmp_path / "c.h5").exists()


def test_frames_that_cannot_be_used(tmp_path):
    bad = "1\nenergy={}\nH 0 0 0\n"
    (tmp_path / "a.xyz").write_text(bad.format(1) + bad.format("nan") + bad.format(2))
    with pytest.raises(InputError, match="frame 1: energy is nan"):
        convert(tmp_path / "a.xyz", tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()
    done = convert(tmp_path / "a.xyz", tmp_path / "a.h5", skip_invalid=True)
    assert [f.energy for f in load(tmp_path / "a.h5")] == [1.0, 2.0]
    assert len(done.skipped) == 1
    assert done.skipped[0].endswith("a.xyz frame 1: energy is nan; expected a finite number")
    (tmp_path / "b.xyz").write_text(bad.format("nan"))
    with pytest.raises(InputError, match=r"no frame of .*b.xyz can be used: .* energy is nan"):
        convert(tmp_path / "b.xyz", tmp_path / "b.h5", skip_invalid=True)


def test_names_of_labels_and_what_is_left_behind(tmp_path):
    text = "1\nREF_energy=1 temperature=3\nH 0 0 0\n"
    (tmp_path / "a.xyz").write_text(text)
    assert convert(tmp_path / "a.xyz", tmp_path / "a.h5").ignored == ("REF_energy", "temperature")
    done = convert(tmp_path / "a.xyz", tmp_path / "a.h5", keys={"energy": "REF_energy"})
    assert done.labels == {"energy": 1}
    assert done.ignored == ("temperature",)
    with pytest.raises(InputError, match=r"keys is given, and .* expected extended XYZ"):
        convert(tmp_path / "a.h5", tmp_path / "b.h5", keys={"energy": "x"})
    write_system(tmp_path / "npy")
    np.save(tmp_path / "npy" / "set.000" / "fparam.npy", np.zeros((2, 1)))
    assert convert(tmp_path / "npy", tmp_path / "c.h5").ignored == ("fparam",)


def test_a_name_given_for_a_label_that_no_frame_has_is_an_error(tmp_path, capsys):
    head = 'Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-2'
    source, target = tmp_path / "a.xyz", tmp_path / "a.h5"
    source.write_text(2 * f"1\n{head}\nH 0 0 0 0 0 1\n")
    with pytest.raises(InputError, match=r"has 'REF_energi', which keys gives for energy; .*REF_energy"):
        convert(source, target, keys={"energy": "REF_energi", "forces": "REF_forces"})
    assert not target.exists()
    assert main(["convert", str(source), str(target), "--key", "forces=REF_forces"]) == 0
    noted = capsys.readouterr().err
    assert "no frame has energy; if REF_energy is it, add --key energy=REF_energy" in noted
    assert "has forces" not in noted


def test_a_file_may_be_converted_into_itself(tmp_path, source, frames):
    convert(source, tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "a.h5", index="1:3")
    assert_same_frames(load(tmp_path / "a.h5"), frames[1:3])
    convert(source, source, index="1:3")
    assert_same_frames(load(source), frames[1:3])


@pytest.mark.parametrize(
    ("src", "dst", "options", "error", "message"),
    [
        ("gone.h5", "a.h5", {}, FileError, "gone.h5: no such file"),
        ("gone.xyz", "a.h5", {}, FileError, "gone.xyz"),
        ("gone.traj", "a.h5", {}, FileError, "gone.traj: no such file"),
        ("source.extxyz", "a.json", {}, InputError, "a.json: ends in .json; expected .h5"),
        ("source.extxyz", "no/a.h5", {}, FileError, "there is no folder"),
        ("source.extxyz", "a.h5", {"format": "vasp"}, InputError, "format is 'vasp'; expected"),
        ("source.extxyz", "a.h5", {"format": "ase:nonsense"}, FileError, "ASE cannot read it"),
        ("source.extxyz", "a.h5", {"format": "dpdata:no"}, FileError, "dpdata cannot read it"),
        ("source.extxyz", "a.h5", {"format": "deepmd/npy"}, FileError, "is not an HDF5 file"),
        ("source.extxyz", "a.xyz", {"compression": "gzip"}, InputError, "compression is given"),
        ("source.extxyz", "a", {"attributes": {"x": "y"}}, InputError, "attributes is given"),
        ("source.extxyz", "source.extxyz", {"overwrite": False}, FileError, "exists"),
        ([], "a.h5", {}, InputError, "src is an empty list"),
    ],
)
def test_refusals(tmp_path, source, monkeypatch, src, dst, options, error, message):
    monkeypatch.chdir(tmp_path)
    if "ase" in str(options) or src == "gone.traj":
        pytest.importorskip("ase")
    if "dpdata" in str(options):
        pytest.importorskip("dpdata")
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(error, match=message):
        convert(src, dst, **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


# --- other people's formats -----------------------------------------------------------------------


def test_through_ase(tmp_path):
    io = pytest.importorskip("ase.io")
    from ase.build import bulk
    from ase.calculators.emt import EMT

    images = []
    for strain in (0.0, 0.02):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell * (1 + strain), scale_atoms=True)
        atoms.rattle(0.1, seed=1)
        atoms.calc = EMT()
        atoms.get_forces(), atoms.get_stress()
        images.append(atoms)
    io.write(tmp_path / "a.traj", images)
    io.write(tmp_path / "b.json", images)
    for name, options in (("a.traj", {}), ("b.json", {}), ("a.traj", {"format": "ase:traj"})):
        done = convert(tmp_path / name, tmp_path / "a.h5", **options)
        assert done.labels == {"energy": 2, "forces": 2, "virial": 2, "atomic_energies": 2}
        for frame, atoms in zip(load(tmp_path / "a.h5"), images, strict=True):
            assert frame.energy == atoms.get_potential_energy()
            np.testing.assert_array_equal(frame.forces, atoms.get_forces())
            wanted = -atoms.get_stress(voigt=False) * atoms.get_volume()
            # the same product of the same numbers
            np.testing.assert_allclose(frame.virial, wanted, rtol=1e-14)


N2P2 = """begin
comment two hydrogen atoms and an oxygen atom, in bohr and hartree
lattice 10.0 0.0 0.0
lattice 0.0 11.0 0.0
lattice 0.0 0.0 12.0
atom 0.0 0.0 {z} H 0.0 0.0 0.01 0.02 0.03
atom 0.0 1.0 0.0 H 0.0 0.0 0.00 0.00 -0.03
atom 1.5 0.0 0.0 O 0.0 0.0 -0.01 -0.02 0.0
energy -1.5
charge 0.0
end
"""


def test_input_data_of_runner(tmp_path):
    bohr, hartree = 0.529177249, 27.2113838  # to the digits that all tables agree on
    (tmp_path / "input.data").write_text(N2P2.format(z=0.0) + N2P2.format(z=0.5))
    done = convert(tmp_path / "input.data", tmp_path / "a.h5")
    assert (done.frames, done.labels) == (2, {"energy": 2, "forces": 2})
    frame = load(tmp_path / "a.h5")[1]
    assert frame.symbols == ["H", "H", "O"]
    np.testing.assert_allclose(frame.cell, np.diag([10, 11, 12]) * bohr, rtol=1e-6)
    np.testing.assert_allclose(frame.positions[0], [0, 0, 0.5 * bohr], rtol=1e-6)
    np.testing.assert_allclose(frame.energy, -1.5 * hartree, rtol=1e-6)
    np.testing.assert_allclose(frame.forces[1, 2], -0.03 * hartree / bohr, rtol=1e-6)


def test_raw_text_folders_through_dpdata(tmp_path):
    pytest.importorskip("dpdata")
    arrays = write_system(tmp_path / "npy")
    (tmp_path / "raw").mkdir()
    for name, values in arrays.items():
        np.savetxt(tmp_path / "raw" / f"{name}.raw", values.reshape(2, -1), fmt="%.17g")
    for name in ("type.raw", "type_map.raw"):
        (tmp_path / "raw" / name).write_text((tmp_path / "npy" / name).read_text())
    convert(tmp_path / "raw", tmp_path / "a.h5")
    assert_same_frames(load(tmp_path / "a.h5"), load(tmp_path / "npy"))


@pytest.mark.parametrize(("name", "extra"), [("ase", "ase"), ("dpdata", "data")])
def test_a_missing_package_is_named_with_its_install_line(tmp_path, monkeypatch, name, extra):
    import sys

    monkeypatch.setitem(sys.modules, name, None)  # how Python itself marks a module as not there
    monkeypatch.setitem(sys.modules, f"{name}.io", None)
    monkeypatch.setitem(sys.modules, f"{name}.system", None)
    (tmp_path / "h2.log").write_text("x")
    format = "ase" if name == "ase" else "dpdata:gaussian/log"
    with pytest.raises(MissingPackage, match=rf'pip install "kalmandp\[{extra}\]"'):
        convert(tmp_path / "h2.log", tmp_path / "a.h5", format=format)


def test_frames_are_left_out_by_their_numbers(tmp_path):
    for name, energies in (("a.xyz", (0, 1, 2)), ("b.xyz", (3, 4, 5))):
        (tmp_path / name).write_text("".join(f"1\nenergy={e}\nH 0 0 0\n" for e in energies))
    sources, target = [tmp_path / "a.xyz", tmp_path / "b.xyz"], tmp_path / "c.h5"
    for without in ("1, 3–4", "3-4,1", [1, 3, 4], np.array([4, 3, 1])):
        assert convert(sources, target, without=without).frames == 3
        assert [f.energy for f in load(target)] == [0, 2, 5]
    convert(sources, target, without="1", index="1:3")
    assert [f.energy for f in load(target)] == [2, 3]
    # a frame that cannot be used is no obstacle once it is left out
    (tmp_path / "b.xyz").write_text("1\nenergy=nan\nH 0 0 0\n1\nenergy=4\nH 0 0 0\n")
    assert main(["convert", *map(str, sources), str(target), "--without", "3"]) == 0
    assert [f.energy for f in load(target)] == [0, 1, 2, 4]
    for without in ("", "x", "4-3", "-1", "3;4"):
        with pytest.raises(InputError, match="expected numbers of frames such as"):
            convert(sources, tmp_path / "d.h5", without=without)
    with pytest.raises(InputError, match="without goes from 3 to 9; expected 0 to 4"):
        convert(sources, tmp_path / "d.h5", without=[3, 9])
    assert not (tmp_path / "d.h5").exists()
