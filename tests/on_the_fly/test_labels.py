"""The two files of labels: what is written is there, whatever the moment at which a process ends."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from small_frames import frames

import kalmandp
from kalmandp.errors import FileError
from kalmandp.on_the_fly.labels import Labels
from kalmandp.on_the_fly.records import Record, Records, read_records

MANY = frames(140)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_label_is_on_the_disk_at_once_and_in_its_place(tmp_path):
    labels, late = Labels(tmp_path), 0
    for n, frame in enumerate(MANY):
        labels.add(frame)
        again = Labels(tmp_path)
        assert len(again) == n + 1
        assert_array_equal(again[n].forces, frame.forces)
        late = max(late, n + 1 - len(list(kalmandp.Dataset(tmp_path / "labels.h5"))))
    assert late == 140 // 32
    assert_array_equal([f.positions for f in Labels(tmp_path)], [f.positions for f in MANY])


def test_few_labels_and_gathered_labels_are_one_file(tmp_path):
    labels = Labels(tmp_path)
    for frame in MANY[:20]:
        labels.add(frame)
        assert names(tmp_path) == ["labels.h5"]
    for frame in MANY[20:70]:
        labels.add(frame)
    assert names(tmp_path) == ["labels-from-000069.h5", "labels.h5"]
    labels.gather()
    assert names(tmp_path) == ["labels.h5"]
    assert len(kalmandp.Dataset(tmp_path / "labels.h5")) == 70


def test_a_late_file_that_a_killed_process_left_is_no_second_label(tmp_path):
    labels = Labels(tmp_path)
    for frame in MANY[:70]:
        labels.add(frame)
    left = next(tmp_path.glob("labels-from-*.h5"))
    kept = left.read_bytes()
    labels.gather()
    left.write_bytes(kept)  # as if the process had ended before it was removed
    labels = Labels(tmp_path)
    assert len(labels) == 70
    labels.add(MANY[70])
    assert len(Labels(tmp_path)) == 71
    labels.gather()
    assert names(tmp_path) == ["labels.h5"]


def test_labels_that_are_missing_between_the_files_are_named(tmp_path):
    labels = Labels(tmp_path)
    for frame in MANY[:70]:
        labels.add(frame)
    kalmandp.Dataset.write(tmp_path / "labels.h5", MANY[:60])
    with pytest.raises(FileError, match=r"begins with label 69; labels.h5 has 60 labels"):
        Labels(tmp_path)


def test_a_label_that_cannot_be_written_is_not_counted(tmp_path, monkeypatch):
    labels = Labels(tmp_path)
    labels.add(MANY[0])

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(kalmandp.Dataset, "write", full)
    with pytest.raises(OSError, match="no space"):
        labels.add(MANY[1])
    assert len(labels) == 1 and len(Labels(tmp_path)) == 1


def test_the_log_gets_a_line_at_a_time_and_is_written_anew_where_it_was_left(tmp_path):
    rows = np.random.default_rng(0).integers(1, 9, (5, len(Record._fields))).astype(float)
    log = Records(tmp_path)
    log.restore(rows[:2])
    for row in rows[2:]:
        log.add(Record(*row))
    assert_array_equal(np.transpose(list(read_records(log.path).values())), rows)
    other = Records(tmp_path)  # a run that goes on before the last lines
    other.restore(rows[:1])
    other.add(Record(*rows[4]))
    assert_array_equal(np.transpose(list(read_records(log.path).values())), rows[[0, 4]])
