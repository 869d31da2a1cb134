"""Damaged and random files: a clear error or whole frames, within seconds and bounded memory.

The cases run in processes of their own, with a limit on their memory and their time, because damage
of an HDF5 file has been seen to end in a crash or in no end at all.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
from frame_makers import random_frame, write_system

from kalmandp.errors import FileError, KalmanDPError
from kalmandp.files.global_heap import check_global_heaps
from kalmandp.frames.dataset import Dataset

ATTACK = """
import json, random, resource, sys, time
from kalmandp.errors import KalmanDPError
from kalmandp.frames.dataset import Dataset

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
seed, number, original, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
whole = open(original, "rb").read()
rng, slowest, outcome = random.Random(seed), 0.0, {}
for case in range(number):
    text, kind = bytearray(whole), rng.random()
    if kind < 0.3:
        text = text[: rng.randrange(len(text))]
    elif kind < 0.4:
        text = text[: rng.choice([0, 8, 100])] + bytearray(rng.randbytes(rng.randrange(4000)))
    else:
        for _ in range(rng.choice([1, 1, 2, 5, 50])):
            text[rng.randrange(len(text))] = rng.randrange(256)
    with open(path, "wb") as file:
        file.write(text)
    start = time.perf_counter()
    try:
        with Dataset(path) as data:
            atoms = sum(len(frame) for frame in data)
            told = (data.systems, data.labels, data.attributes, data.natoms(0))
        result = "frames"
    except KalmanDPError as error:
        result = "error"
        if path not in str(error):
            result = "error without the file's name: " + str(error)
    slowest = max(slowest, time.perf_counter() - start)
    outcome[result] = outcome.get(result, 0) + 1
print(json.dumps([outcome, slowest]))
"""


def attack(path, seed: int, number: int):
    """What came of ``number`` damaged versions of a file, and the longest time one took."""
    done = subprocess.run(
        [sys.executable, "-c", ATTACK, str(seed), str(number), str(path), f"{path}.damaged"],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, f"seed {seed}: exit {done.returncode}\n{done.stderr[-2000:]}"
    return json.loads(done.stdout)


def ours(path, **options):
    rng = np.random.default_rng(0)
    shapes = ["OHH", "OHHOHH", "OHH", "HHO"]
    frames = [random_frame(rng, s, pbc=(True, True, s != "HHO")) for s in shapes]
    Dataset.write(path, frames, **options)


def theirs(path, names):
    """A file without checksums, of the kind that other programs write."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["note"] = "a text of variable length"
        for name, n in (("a", 3), ("b", 4)):
            group = file.create_group(name)
            group["type.raw"] = np.zeros(n, dtype=int)
            group["type_map.raw"] = names
            for array, width in (("coord", 3 * n), ("box", 9), ("energy", 1), ("force", 3 * n)):
                group[f"set.000/{array}.npy"] = rng.uniform(1.0, 9.0, (3, width))


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("ours", ours),
        ("gzip", lambda path: ours(path, compression="gzip")),
        ("fixed", lambda path: theirs(path, np.array([b"H"]))),
        ("variable", lambda path: theirs(path, ["H"])),
    ],
)
def test_damaged_hdf5(tmp_path, kind, write):
    write(tmp_path / "a.h5")
    outcome, slowest = attack(tmp_path / "a.h5", seed=1, number=250)
    assert set(outcome) <= {"frames", "error"}
    assert sum(outcome.values()) == 250
    assert slowest < 5.0
    if kind == "ours":
        # checksums find nearly all damage; without them a fifth or more goes unnoticed
        assert outcome.get("frames", 0) < 15


def test_hdf5_truncated_at_every_length(tmp_path):
    ours(tmp_path / "a.h5")
    whole = (tmp_path / "a.h5").read_bytes()
    for length in range(0, len(whole), 199):
        (tmp_path / "b.h5").write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"b\.h5"):
            Dataset(tmp_path / "b.h5")


def test_a_flipped_byte_of_the_data_is_noticed(tmp_path):
    ours(tmp_path / "a.h5")
    whole = bytearray((tmp_path / "a.h5").read_bytes())
    with Dataset(tmp_path / "a.h5") as data:
        force = data[0].forces[1, 1]
    place = whole.index(np.float64(force).tobytes())
    whole[place + 3] ^= 1
    (tmp_path / "a.h5").write_bytes(whole)
    with Dataset(tmp_path / "a.h5") as data, pytest.raises(FileError, match=r"force.npy: .*damaged"):
        list(data)


def test_global_heaps_that_have_no_end(tmp_path):
    theirs(tmp_path / "a.h5", ["H"])
    check_global_heaps(str(tmp_path / "a.h5"))
    whole = (tmp_path / "a.h5").read_bytes()
    heap = whole.index(b"GCOL")
    for place, value in ((heap + 16 + 8, 255), (heap + 9, 0), (heap + 15, 127)):
        damaged = bytearray(whole)
        damaged[place] = value
        (tmp_path / "b.h5").write_bytes(damaged)
        with pytest.raises(FileError, match=f"b.h5: is damaged .global heap at byte {heap}"):
            Dataset(tmp_path / "b.h5")


def test_sizes_that_a_file_cannot_hold(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["type.raw"] = [0]
        file["type_map.raw"] = np.array([b"H"])
        file["nopbc"] = True
        file.create_dataset("set.000/coord.npy", shape=(10**12, 3), chunks=(10, 3), dtype="f8")
    with pytest.raises(FileError, match="does not fit into a file of"):
        Dataset(tmp_path / "a.h5")


@pytest.mark.parametrize("kind", ["V8", "S8", "c16"])
def test_arrays_of_other_things_than_numbers(tmp_path, kind):
    arrays = write_system(tmp_path / "npy", energy=None)
    np.save(tmp_path / "npy" / "set.000" / "energy.npy", np.zeros(2, dtype=kind))
    with pytest.raises(FileError, match=r"energy.npy: is of type .*; expected numbers"):
        Dataset(tmp_path / "npy")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["type.raw"] = [0, 1, 1]
        file["type_map.raw"] = np.array([b"O", b"H"])
        for name in ("coord", "box"):
            file[f"set.000/{name}.npy"] = arrays[name]
        file["set.000/energy.npy"] = np.zeros(2, dtype=kind)
    with pytest.raises(FileError, match=r"energy.npy is of type .*; expected numbers"):
        Dataset(tmp_path / "a.h5")


class Mine:
    """Something that must never be unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("unpickled",))


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_system(tmp_path / "npy", energy=None)
    np.save(tmp_path / "npy" / "set.000" / "energy.npy", np.array([Mine(), Mine()]), allow_pickle=True)
    with pytest.raises(FileError, match=r"energy.npy: is of type object; expected numbers"):
        Dataset(tmp_path / "npy")
    (tmp_path / "npy" / "set.000" / "energy.npy").write_bytes(pickle.dumps(Mine()))
    with pytest.raises(FileError, match=r"energy.npy: cannot be read or is damaged"):
        Dataset(tmp_path / "npy")
    assert not (tmp_path / "unpickled").exists()


def test_damaged_npy(tmp_path):
    rng = np.random.default_rng(0)
    write_system(tmp_path / "npy")
    path = tmp_path / "npy" / "set.000" / "force.npy"
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"force\.npy"):
            Dataset(tmp_path / "npy")
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, 128, rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            list(Dataset(tmp_path / "npy"))
        except KalmanDPError as error:
            assert "npy" in str(error)


def test_a_file_cut_short_while_it_is_open(tmp_path):
    write_system(tmp_path / "npy", sets=(50,))
    with Dataset(tmp_path / "npy") as data:
        data[49]
        os.truncate(tmp_path / "npy" / "set.000" / "coord.npy", 1000)
        with pytest.raises(FileError, match=r"coord\.npy"):
            data[49]
