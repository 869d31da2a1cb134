"""Frames read in blocks: the same frames as one by one, the same messages, and bounded memory."""

from __future__ import annotations

import gzip
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from frame_makers import assert_same_frames, frame_lists, random_frame, write_system
from hypothesis import given, settings
from hypothesis import strategies as st

from kalmandp.errors import FileError, InputError
from kalmandp.formats.convert import convert
from kalmandp.formats.sources import guess_format
from kalmandp.frames.blocks import sound_frame, sound_frames
from kalmandp.frames.dataset import Dataset
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import NpyRows
from kalmandp.frames.hdf5.writing import write_npy


def one_by_one(data):
    return [data[k] for k in range(len(data))]


@settings(max_examples=40, deadline=None)
@given(st.lists(frame_lists(), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_blocks_give_what_single_reads_give(tmp_path_factory, lists, random):
    frames = [frame for part in lists for frame in part * 3]
    random.shuffle(frames)
    folder = tmp_path_factory.mktemp("blocks")
    Dataset.write(folder / "a.h5", frames)
    write_npy(folder / "npy", frames)
    write_npy(folder / "mixed", frames, mixed=True)
    for name in ("a.h5", "npy", "mixed"):
        with Dataset(folder / name) as data:
            some = data.subset([random.randrange(len(data)) for _ in range(12)])
            for part in (data, data[::2], data[::-1], some):
                swept = list(part)
                assert_same_frames(swept, one_by_one(part))
                for g, w in zip(swept, one_by_one(part), strict=True):
                    assert (g.source, g.type_map, g.weight) == (w.source, w.type_map, w.weight)
                    assert g.types.dtype == w.types.dtype and g.positions.flags.c_contiguous


def test_few_reads_make_many_frames(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    Dataset.write(tmp_path / "a.h5", [random_frame(rng, "OHH" if k % 2 else "OHHOHH") for k in range(200)])
    with Dataset(tmp_path / "a.h5") as data:
        reads = []
        for system in data._systems:
            block = system._block
            monkeypatch.setattr(system, "_block", lambda *a, block=block: reads.append(a) or block(*a))
        assert len(list(data)) == 200
    assert len(reads) == 2 * 5  # arrays of two systems


BAD = {
    "coord": (np.nan, r"positions\[1, 2\] is nan; expected a finite number"),
    "force": (np.inf, r"forces\[1, 2\] is inf; expected a finite number"),
    "energy": (np.nan, "energy is nan; expected a finite number"),
    "virial": (-np.inf, r"virial\[1, 2\] is -inf; expected a finite number"),
    "box": (0.0, "the cell has volume 0 Å³"),
}


@pytest.mark.parametrize("array", BAD)
def test_the_frame_that_cannot_be_used_is_named(tmp_path, array):
    """It alone raises; those before and after it come out of the same block."""
    value, message = BAD[array]
    write_system(tmp_path / "a", sets=(9,))
    path = tmp_path / "a" / "set.000" / f"{array}.npy"
    numbers = np.load(path)
    numbers[4].reshape(-1)[... if array in ("box", "energy") else 5] = value
    if array == "energy":
        numbers[4] = value
    np.save(path, numbers)
    with Dataset(tmp_path / "a") as data:
        makers = list(data.makers())
        with pytest.raises(InputError, match=rf"a frame 4: {message}") as found:
            makers[4]()
        with pytest.raises(InputError) as alone:
            data[4]
        assert str(found.value) == str(alone.value)
        good = [k for k in range(9) if k != 4]
        assert_same_frames([makers[k]() for k in good], [data[k] for k in good])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.booleans()] * 3))
def test_what_is_sound_is_what_a_frame_takes(seed, pbc):
    rng = np.random.default_rng(seed)
    values = {
        "positions": rng.normal(0, 3, (4, 2, 3)), "energy": rng.normal(size=4),
        "forces": rng.normal(size=(4, 2, 3)), "weight": rng.uniform(0.1, 1, 4),
    }  # fmt: skip
    if any(pbc):
        values["cell"] = 5 * np.eye(3) + rng.normal(size=(4, 3, 3))
    spoilt = rng.choice(list(values))
    bad = rng.choice([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e9, 1e8])
    rows = values[spoilt].reshape(4, -1)
    rows[1, rng.integers(rows.shape[1])] = bad
    if spoilt == "cell":
        values["cell"][2, rng.integers(3)] = values["cell"][2, 0] * rng.choice([0.0, 2.0])
    sound = sound_frames(values, pbc)
    for f in range(4):
        given_ = {name: value[f] for name, value in values.items()}
        try:
            frame = Frame(types=[0, 1], type_map=("O", "H"), pbc=pbc, source="x", **given_)
        except InputError:
            assert not sound[f]
            continue
        if sound[f]:
            quick = sound_frame(values, f, frame.types, ("O", "H"), pbc, "x")
            assert vars(quick).keys() == vars(frame).keys()
            for name, wanted in vars(frame).items():
                np.testing.assert_array_equal(getattr(quick, name), wanted)
        else:  # left to Frame, which completes the cell of a slab
            assert "cell" in values and not values["cell"][f].any(1).all()


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_an_npy_file(tmp_path, order):
    numbers = np.arange(60.0).reshape(5, 4, 3)
    np.save(tmp_path / "a.npy", np.asarray(numbers, order=order))
    rows = NpyRows(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(rows[3], numbers[3])
    np.testing.assert_array_equal(rows[1:4], numbers[1:4])


def test_memory_of_a_sweep(tmp_path):
    """A file of 27 MB is gone through in 10: two blocks of frames and what reading one takes."""
    rng = np.random.default_rng(0)
    one = random_frame(rng, "OHH" * 64)
    Dataset.write(tmp_path / "a.h5", (one for _ in range(3000)))
    assert (tmp_path / "a.h5").stat().st_size > 25e6
    tracemalloc.start()
    with Dataset(tmp_path / "a.h5") as data:
        assert sum(len(frame) for frame in data) == 3000 * 192
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6


def test_a_frame_holds_its_own_numbers_only(tmp_path):
    """One frame of many that is kept does not keep the block it came in."""
    rng = np.random.default_rng(0)
    Dataset.write(tmp_path / "a.h5", [random_frame(rng) for _ in range(20)])
    with Dataset(tmp_path / "a.h5") as data:
        frame = list(data)[7]
    assert all(getattr(frame, name).base is None for name in ("positions", "cell", "forces", "virial"))


def test_a_packed_hdf5_file_is_named(tmp_path):
    """Whatever its name is; it was handed to ASE, or called damaged."""
    Dataset.write(tmp_path / "a.h5", [random_frame(np.random.default_rng(0))])
    packed = gzip.compress((tmp_path / "a.h5").read_bytes())
    for name in ("a.h5.gz", "b.h5", "c.dat"):
        (tmp_path / name).write_bytes(packed)
        with pytest.raises(FileError, match=r"is a packed HDF5 file; expected it unpacked"):
            guess_format(str(tmp_path / name))


def test_energies_of_exactly_0_are_told(tmp_path):
    """What programs write where they have computed none; a lone atom may have it."""
    rng = np.random.default_rng(0)
    zero = lambda frame: replace(frame, energy=0.0)
    frames = [random_frame(rng), zero(random_frame(rng)), zero(random_frame(rng, "O"))]
    write_npy(tmp_path / "npy", frames)
    done = convert(tmp_path / "npy", tmp_path / "a.h5")
    told = lambda done: [w for w in done.warnings if "exactly 0" in w]
    assert told(done)[0].startswith("the energy of a frame is exactly 0")
    assert not told(convert(tmp_path / "a.h5", tmp_path / "b.h5", without="1"))
