"""What is written: the same frames come back, other programs can read them, nothing is half there."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import pytest
from frame_makers import assert_same_frames, frame_lists, random_frame
from hypothesis import given, settings

import kalmandp
from kalmandp.errors import FileError, InputError
from kalmandp.files.hdf5_writing import Absorber, writing_hdf5
from kalmandp.files.replacing import replacing
from kalmandp.frames.dataset import Dataset
from kalmandp.frames.hdf5 import writing
from kalmandp.frames.hdf5.writing import write_npy


@settings(max_examples=25, deadline=None)
@given(frame_lists())
def test_hdf5_and_npy_give_the_frames_back(frames):
    with tempfile.TemporaryDirectory() as folder:
        for path, write in (("a.h5", Dataset.write), ("npy", write_npy)):
            path = os.path.join(folder, path)
            infos = write(path, frames)
            assert sum(info.n_frames for info in infos) == len(frames)
            with Dataset(path) as data:
                assert_same_frames(list(data), frames)
                told = lambda infos: sorted(i._replace(address="") for i in infos)
                assert told(data.systems) == told(infos)


def test_the_comparison_notices_a_last_bit():
    frame = random_frame(np.random.default_rng(0))
    for name in ("positions", "cell", "energy", "forces", "virial"):
        value = np.nextafter(getattr(frame, name), np.inf)
        with pytest.raises(AssertionError, match=name):
            assert_same_frames([dataclasses.replace(frame, **{name: value})], [frame])
    with pytest.raises(AssertionError):
        assert_same_frames([dataclasses.replace(frame, energy=None)], [frame])


@pytest.mark.parametrize("buffer", [0, 1000, 20000])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_blocks_are_joined_in_order(tmp_path, monkeypatch, buffer, compression):
    rng = np.random.default_rng(0)
    kinds = ["OHH", "OHHOHH", "H", "HHO"]
    frames = [random_frame(rng, kinds[rng.integers(4)], type_map=("O", "H")) for _ in range(50)]
    monkeypatch.setattr(writing, "BUFFER", buffer)
    Dataset.write(tmp_path / "a.h5", frames, compression=compression)
    write_npy(tmp_path / "npy", frames)
    for path in (tmp_path / "a.h5", tmp_path / "npy"):
        with Dataset(path) as data:
            assert_same_frames(list(data), frames)


def test_a_generator_is_written_without_being_kept(tmp_path, monkeypatch):
    import tracemalloc

    monkeypatch.setattr(writing, "BUFFER", 1 << 21)
    one = random_frame(np.random.default_rng(0), "OHH" * 64)
    frames = (one for _ in range(3000))
    tracemalloc.start()
    [info] = Dataset.write(tmp_path / "a.h5", frames)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert info.n_frames == 3000
    assert (tmp_path / "a.h5").stat().st_size > 25e6
    # the rows that wait, and a copy of them while they are joined
    assert peak < 3 * writing.BUFFER


def test_groups_by_composition_order_periodicity_and_labels(tmp_path):
    rng = np.random.default_rng(0)
    frames = [
        random_frame(rng, "OHH"),
        random_frame(rng, "HOH", type_map=("O", "H")),
        random_frame(rng, "OHH", pbc=(True, True, False)),
        random_frame(rng, "OHH", labels=("energy",)),
        random_frame(rng, "OHH"),
    ]
    infos = Dataset.write(tmp_path / "a.h5", frames)
    names = ["O1H2", "O1H2_1", "O1H2_2", "O1H2_3"]
    assert [info.address for info in infos] == [f"{tmp_path}/a.h5#/{name}" for name in names]
    assert [info.n_frames for info in infos] == [2, 1, 1, 1]
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["O1H2/set.000/coord.npy"].shape == (2, 9)
        assert file["O1H2/set.000/energy.npy"].shape == (2,)
        assert file["O1H2/set.000/frame_index.npy"][:].tolist() == [0, 4]
        assert file["O1H2_2/pbc.raw"][:].tolist() == [1, 1, 0]
        assert set(file["O1H2_3/set.000"]) == {
            "coord.npy", "box.npy", "energy.npy", "frame_index.npy",
        }  # fmt: skip


def test_one_system_has_only_the_standard_arrays(tmp_path):
    Dataset.write(tmp_path / "a.h5", [random_frame(np.random.default_rng(0), "OHH")])
    with h5py.File(tmp_path / "a.h5") as file:
        names = []
        file.visit(names.append)
        arrays = {name for name in names if "." in name.rpartition("/")[2]}
    assert arrays == {
        "O1H2/type.raw", "O1H2/type_map.raw", "O1H2/set.000", "O1H2/set.000/coord.npy",
        "O1H2/set.000/box.npy", "O1H2/set.000/energy.npy", "O1H2/set.000/force.npy",
        "O1H2/set.000/virial.npy",
    }  # fmt: skip


def test_units_sign_and_provenance_are_stated(tmp_path):
    notes = {"provenance": "LDA, 20 Ry\n" * 9000, "temperature": 300.0, "author": "Å. Ngström", "x": ""}
    Dataset.write(tmp_path / "a.h5", [random_frame(np.random.default_rng(0))], attributes=notes)
    [found] = Dataset(tmp_path / "a.h5").attributes.values()
    assert found == {
        **notes,
        "format": "deepmd/hdf5",
        "software": f"kalmandp {kalmandp.__version__}",
        "length_unit": "angstrom",
        "energy_unit": "eV",
        "force_unit": "eV/angstrom",
        "virial_unit": "eV",
        "virial_sign": "W = -dE/dstrain, row-major",
    }
    for wrong in ({"a": [1]}, {1: "a"}, {"energy_unit": "Hartree"}, {"format": "x"}):
        with pytest.raises(InputError, match="attributes"):
            Dataset.write(tmp_path / "b.h5", [], attributes=wrong)


def test_type_maps_of_frames_are_joined_or_given(tmp_path):
    rng = np.random.default_rng(0)
    frames = [random_frame(rng, ["Si"]), random_frame(rng, "OH", type_map=("H", "C", "O"))]
    Dataset.write(tmp_path / "a.h5", frames)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["Si1/type_map.raw"][:].tolist() == [b"Si", b"H", b"C", b"O"]
        assert file["H1O1/type.raw"][:].tolist() == [3, 1]
    Dataset.write(tmp_path / "a.h5", frames, type_map=["O", "H", "Si"])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["O1H1/type.raw"][:].tolist() == [0, 1]
    with pytest.raises(InputError, match=r"species Si is not in the type_map \['O', 'H'\]"):
        Dataset.write(tmp_path / "a.h5", frames, type_map=["O", "H"])
    assert len(Dataset(tmp_path / "a.h5")) == 2


def test_names_of_types_that_no_group_can_have(tmp_path):
    frame = random_frame(np.random.default_rng(0), ["H/2", "Ö"])
    [info] = Dataset.write(tmp_path / "a.h5", [frame])
    assert info.address.endswith("#/H_21_1")
    assert Dataset(tmp_path / "a.h5")[0].symbols == ["H/2", "Ö"]


def test_dpdata_reads_what_is_written(tmp_path):
    dpdata = pytest.importorskip("dpdata")
    rng = np.random.default_rng(0)
    shapes = ["OHH", "OHHOHH", "OHH", "OHHOHH", "HHO"]
    frames = [random_frame(rng, s, type_map=("O", "H")) for s in shapes]
    frames.append(random_frame(rng, "OH", pbc=(False,) * 3, type_map=("O", "H")))
    Dataset.write(tmp_path / "a.h5", frames)
    write_npy(tmp_path / "npy", frames)
    assert dpdata.MultiSystems().from_deepmd_hdf5(str(tmp_path / "a.h5")).get_nframes() == 6
    for group, numbers in (("O1H2", [0, 2]), ("O2H4", [1, 3]), ("O1H2_1", [4]), ("O1H1", [5])):
        for path, fmt in (("a.h5#/", "deepmd/hdf5"), ("npy/", "deepmd/npy")):
            system = dpdata.LabeledSystem(f"{tmp_path}/{path}{group}", fmt=fmt)
            assert system.nopbc == (group == "O1H1")
            for k, n in enumerate(numbers):
                frame = frames[n]
                assert [system["atom_names"][t] for t in system["atom_types"]] == frame.symbols
                np.testing.assert_array_equal(system["coords"][k], frame.positions)
                np.testing.assert_array_equal(system["energies"][k], frame.energy)
                np.testing.assert_array_equal(system["forces"][k], frame.forces)
                np.testing.assert_array_equal(system["virials"][k], frame.virial)
                if frame.cell is not None:
                    np.testing.assert_array_equal(system["cells"][k], frame.cell)


def test_what_dpdata_writes_is_read(tmp_path):
    dpdata = pytest.importorskip("dpdata")
    rng = np.random.default_rng(0)
    frames = [random_frame(rng, s, type_map=("O", "H")) for s in ("OHH", "OHHOHH", "OHH", "OHHH")]
    Dataset.write(tmp_path / "a.h5", frames)
    systems = dpdata.MultiSystems().from_deepmd_hdf5(str(tmp_path / "a.h5"))
    systems.to_deepmd_hdf5(str(tmp_path / "theirs.h5"))
    systems.to_deepmd_npy(str(tmp_path / "npy"))
    systems.to_deepmd_npy_mixed(str(tmp_path / "mixed"))
    systems.to_deepmd_hdf5_mixed(str(tmp_path / "mixed.h5"), atom_numb_pad=4)
    for name, rtol in (("theirs.h5", 0), ("npy", 1e-6), ("mixed", 1e-6), ("mixed.h5", 0)):
        with Dataset(tmp_path / name, type_map=["O", "H"]) as data:
            got = sorted(data, key=lambda f: f.energy)
        wanted = sorted(frames, key=lambda f: f.energy)
        assert [f.symbols for f in got] == [f.symbols for f in wanted]
        for g, w in zip(got, wanted, strict=True):
            # float64 where rtol is 0; dpdata may write npy in single precision
            np.testing.assert_allclose(g.positions, w.positions, rtol=rtol, atol=rtol * 10)
            np.testing.assert_allclose(g.forces, w.forces, rtol=rtol, atol=rtol)
            np.testing.assert_allclose(g.virial, w.virial, rtol=rtol, atol=rtol)


# --- places that cannot be written ----------------------------------------------------------------


def test_refusals_leave_the_old_file(tmp_path):
    frame = random_frame(np.random.default_rng(0))
    Dataset.write(tmp_path / "a.h5", [frame])
    before = (tmp_path / "a.h5").read_bytes()

    def broken():
        yield frame
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Dataset.write(tmp_path / "a.h5", broken())
    with pytest.raises(FileError, match=r"a.h5: exists; expected a new name, or overwrite=True"):
        Dataset.write(tmp_path / "a.h5", [frame], overwrite=False)
    with pytest.raises(InputError, match=r"frames\[1\] is a int; expected a Frame"):
        Dataset.write(tmp_path / "a.h5", [frame, 1])
    with pytest.raises(InputError, match="compression is 'zip'"):
        Dataset.write(tmp_path / "a.h5", [frame], compression="zip")
    assert (tmp_path / "a.h5").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_places_that_are_no_files(tmp_path):
    frames = [random_frame(np.random.default_rng(0))]
    with pytest.raises(FileError, match="there is no folder"):
        Dataset.write(tmp_path / "no" / "a.h5", frames)
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(FileError, match="is not a regular file"):
        Dataset.write(tmp_path / "folder.h5", frames)
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(FileError, match="is not a regular file"):
        Dataset.write(tmp_path / "pipe.h5", frames)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(FileError, match="is not an empty folder"):
        write_npy(tmp_path / "full", frames)
    assert sorted(os.listdir(tmp_path)) == ["folder.h5", "full", "pipe.h5"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link.h5").symlink_to(tmp_path / "real.h5")
    Dataset.write(tmp_path / "link.h5", [random_frame(np.random.default_rng(0))])
    assert (tmp_path / "link.h5").is_symlink()
    assert len(Dataset(tmp_path / "real.h5")) == 1


FULL_DISK = """
import resource, sys
import numpy as np
from kalmandp.frames.dataset import Dataset
from kalmandp.formats.extxyz import write_extxyz
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.writing import write_npy
from kalmandp.errors import FileError

def frames(rng):
    for k in range(600):
        n = 40 + k % 2
        yield Frame(rng.random((n, 3)) * 9, np.zeros(n, int), ("H",), np.eye(3) * 9, energy=1.0,
                    forces=rng.random((n, 3)))

limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for write, name in ((Dataset.write, "a.h5"), (write_extxyz, "a.xyz"), (write_npy, "npy")):
    try:
        write(name, frames(np.random.default_rng(0)))
    except FileError as error:
        print(name, error)
    else:
        print(name, "written")
"""


@pytest.mark.parametrize("limit", [1, 5000, 100_000, 600_000, 1_100_000])
def test_a_full_disk_is_an_error_and_leaves_the_old_files(tmp_path, limit):
    """In a process of its own, because HDF5 used to take the process with it."""
    (tmp_path / "a.h5").write_text("old")
    (tmp_path / "a.xyz").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(limit)], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line in done.stdout.splitlines():
        name, _, message = line.partition(" ")
        if name == "npy":  # its files are smaller
            assert (tmp_path / "npy").exists() == (message == "written")
        else:
            assert message.startswith(f"{name}: cannot be written (File too large"), line
            assert (tmp_path / name).read_text() == "old"
    assert set(os.listdir(tmp_path)) <= {"a.h5", "a.xyz", "npy"}


def test_the_writer_without_a_full_disk_is_as_h5py(tmp_path):
    values = np.random.default_rng(0).random((300, 70))
    with writing_hdf5(tmp_path / "a.h5") as writer:
        writer.file.create_dataset("x", data=values, chunks=(7, 70), compression="gzip")
        writer.file["text"] = "æ"
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["x"][:], values)
        assert file["text"].asstr()[()] == "æ"


def test_absorber_reads_back_what_it_could_not_write(tmp_path):
    """Random writes, seeks and reads, against bytes in memory, from a failure on that is planted."""
    rng = np.random.default_rng(0)
    absorber, wanted = Absorber(tmp_path / "a"), bytearray()
    for step in range(300):
        if step == 100:
            absorber.error = OSError(28, "No space left on device")
        place, length = int(rng.integers(0, 30000)), int(rng.integers(1, 9000))
        data = rng.bytes(length)
        absorber.seek(place)
        assert absorber.write(data) == length
        wanted.extend(bytes(max(0, place + length - len(wanted))))
        wanted[place : place + length] = data
        place, length = int(rng.integers(0, 30000)), int(rng.integers(1, 9000))
        buffer = bytearray(length)
        absorber.seek(place)
        absorber.readinto(buffer)
        assert buffer == wanted[place : place + length].ljust(length, b"\0")
    absorber.close()


def test_replacing_removes_what_is_half_there(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(str(tmp_path / "a")) as beside:
        with open(beside, "w") as file:
            file.write("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
