"""Dataset as a sequence: length, indices, slices, subsets, and what it tells about itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from frame_makers import assert_same_frames, random_frame

from kalmandp.errors import FileError, InputError
from kalmandp.frames.dataset import Dataset


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    shapes = ["OHH", "OHHOHH", "HHO", "OHH", "SiO", "OHHOHH", "OHH"]
    symbols = [["Si", "O"] if s == "SiO" else list(s) for s in shapes]
    return [random_frame(rng, s, type_map=("O", "H", "Si")) for s in symbols]


@pytest.fixture
def data(tmp_path, frames):
    Dataset.write(tmp_path / "a.h5", frames)
    with Dataset(tmp_path / "a.h5") as data:
        yield data


def test_is_a_sequence_in_the_order_of_its_source(data, frames):
    assert len(data) == 7
    assert_same_frames(list(data), frames)
    assert_same_frames([data[-1], data[np.int64(0)]], [frames[-1], frames[0]])
    assert_same_frames(list(reversed(data)), frames[::-1])
    for k in (7, -8):
        with pytest.raises(IndexError, match=f"index {k} is outside of the data set of 7 frames"):
            data[k]
    for k in ("0", 1.0, None, True):
        with pytest.raises(InputError, match="expected an integer or a slice"):
            data[k]


def test_slices_and_subsets_share_the_files(data, frames):
    assert_same_frames(list(data[1:6:2]), frames[1:6:2])
    assert_same_frames(list(data[::-1][:2]), [frames[6], frames[5]])
    assert_same_frames(list(data.subset([5, 0, -1])), [frames[5], frames[0], frames[6]])
    assert_same_frames(list(data.subset(np.arange(7) % 2 == 1)), frames[1::2])
    assert_same_frames([data[2:].subset([0])[0]], [frames[2]])
    assert len(data[3:3]) == 0
    assert len(data.subset([])) == 0
    for wrong in ([0.5], [[0]], np.ones(3, bool), ["a"]):
        with pytest.raises(InputError, match="expected integers"):
            data.subset(wrong)
    with pytest.raises(IndexError, match="index 7 is outside"):
        data.subset([0, 7])


def test_what_it_tells(data, frames, tmp_path):
    assert data.type_map == ("O", "H", "Si")
    assert data.labels == ("energy", "forces", "virial")
    assert [data.natoms(k) for k in range(7)] == [len(f) for f in frames]
    table = {s.address.rpartition("#/")[2]: (s.formula, s.n_frames, s.n_atoms) for s in data.systems}
    assert table == {
        "O1H2": ("O1H2", 3, 3), "O2H4": ("O2H4", 2, 6), "O1H2_1": ("O1H2", 1, 3),
        "O1Si1": ("O1Si1", 1, 2),
    }  # fmt: skip
    assert {s.formula: s.n_frames for s in data[:2].systems} == {"O1H2": 1, "O2H4": 1}
    assert data.source(2) == data[2].source == f"{tmp_path}/a.h5#/O1H2_1 frame 0"
    assert "7 frames, 4 systems" in repr(data)
    assert data.attributes[str(tmp_path / "a.h5")]["energy_unit"] == "eV"


def test_labels_of_a_subset(tmp_path):
    rng = np.random.default_rng(0)
    kinds = [("energy",), ("energy", "virial"), ()]
    Dataset.write(tmp_path / "a.h5", [random_frame(rng, labels=kind) for kind in kinds])
    data = Dataset(tmp_path / "a.h5")
    assert data.labels == ("energy", "virial")
    assert data[:1].labels == ("energy",)
    assert data[2:].labels == ()


def test_several_files_one_after_the_other(tmp_path, frames):
    Dataset.write(tmp_path / "a.h5", frames[:4])
    Dataset.write(tmp_path / "b.h5", frames[4:])
    with Dataset([tmp_path / "b.h5", tmp_path / "a.h5"]) as data:
        assert_same_frames(list(data), frames[4:] + frames[:4])
        assert len(data.attributes) == 2


def test_closed_files_are_an_error_and_not_a_crash(tmp_path, frames):
    Dataset.write(tmp_path / "a.h5", frames)
    with Dataset(tmp_path / "a.h5") as data:
        data[0]
        part = data[:2]
    for closed in (data, part):
        with pytest.raises(FileError):
            closed[0]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("missing.h5", FileError, "missing.h5: no such file or folder"),
        ("missing.h5#/a", FileError, "missing.h5: no such file or folder"),
        ("missing", FileError, "no such file or folder"),
        ("empty_folder", FileError, "holds no system"),
        ("empty.h5", FileError, "is empty"),
        ("text.h5", FileError, "is not an HDF5 file"),
        ("\0", InputError, "is not the name of a file"),
        (3, InputError, "3 is not the name of a file"),
        (b"a.h5", InputError, "is not the name of a file"),
    ],
)
def test_paths_that_lead_nowhere(tmp_path, monkeypatch, path, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(error, match=message):
        Dataset([path])


def test_no_systems_and_no_frames(tmp_path):
    with pytest.raises(InputError, match="systems is an empty list"):
        Dataset([])
    with pytest.raises(InputError, match="type_map is 'Si'; expected a list of names"):
        Dataset(tmp_path, type_map="Si")
    with pytest.raises(InputError, match="no frames to write"):
        Dataset.write(tmp_path / "a.h5", [])
    assert not (tmp_path / "a.h5").exists()


def test_frames_are_read_one_by_one(tmp_path):
    """Opening and reading one frame of a large file takes neither its time nor its memory."""
    import tracemalloc

    rng = np.random.default_rng(0)
    one = random_frame(rng, "OHH" * 64)
    Dataset.write(tmp_path / "a.h5", (one for _ in range(3000)))
    assert (tmp_path / "a.h5").stat().st_size > 25e6
    tracemalloc.start()
    with Dataset(tmp_path / "a.h5") as data:
        assert_same_frames([data[2999]], [one])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


def test_an_outline_is_the_frame_without_its_arrays(data, frames):
    for k in (0, 3, -1):
        frame, outline = data[k], data.outline(k)
        assert (outline.source, len(outline)) == (frame.source, len(frame))
        for label in ("energy", "forces", "virial", "atomic_energies"):
            assert (getattr(outline, label) is None) == (getattr(frame, label) is None)


def test_the_frames_with_the_smallest_cells(tmp_path):
    """Of each system; of a subset those that are in it."""
    rng = np.random.default_rng(4)
    made = []
    for k, scale in enumerate([1.0, 0.9, 1.1, 0.8, 1.2, 0.95]):
        frame = random_frame(rng, ["O", "H"] if k % 2 else ["O"], type_map=("O", "H"))
        made.append(replace(frame, cell=scale * 9.0 * np.eye(3), pbc=(True, True, True)))
    Dataset.write(tmp_path / "cells.h5", made)
    with Dataset(tmp_path / "cells.h5") as data:
        assert data.densest(1).tolist() == [0, 3]
        assert data.densest(2).tolist() == [0, 1, 2, 3]
        part = data.subset([5, 4, 1, 2])
        assert part.densest(1).tolist() == [2, 3]
