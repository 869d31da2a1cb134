"""Frames that are kept, and frames that are read before they are needed."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from kalmandp.errors import FileError
from kalmandp.frames import kept
from kalmandp.frames.kept import KeptFrames


class Source:
    """Twenty frames, of which one cannot be read; it notes who has read what."""

    def __init__(self, broken: int = -1):
        self.broken, self.read = broken, []
        self.go = threading.Event()
        self.go.set()

    def __len__(self):
        return 20

    def __getitem__(self, k):
        self.go.wait(10.0)
        self.read.append((k, threading.current_thread() is threading.main_thread()))
        if k == self.broken:
            raise FileError(f"frame {k}: damaged")
        return SimpleNamespace(number=k, with_type_map=lambda type_map: SimpleNamespace(number=k))


def frames_of(source, room=100):
    return KeptFrames(source, ("A",), lambda frame: 10 * frame.number, lambda frame, made: 1, room)


def test_announced_frames_are_read_by_a_thread_in_their_order():
    source = Source()
    frames = frames_of(source)
    frames.ahead([3, 1, 2])
    assert [frames[k][1] for k in (3, 1, 2)] == [30, 10, 20]
    assert source.read == [(3, False), (1, False), (2, False)]
    assert frames[3][0].number == 3 and frames[5][1] == 50
    assert source.read[3:] == [(5, True)]
    frames.ahead([1, 2, 5])  # all are kept
    assert frames[2][1] == 20 and len(source.read) == 4


def test_an_error_is_raised_where_the_frame_is_asked_for():
    frames = frames_of(Source(broken=2))
    frames.ahead([1, 2, 3])
    assert frames[1][1] == 10 and frames[3][1] == 30
    with pytest.raises(FileError, match="frame 2: damaged"):
        frames[2]
    with pytest.raises(FileError, match="frame 2: damaged"):  # and again, read anew
        frames[2]


def test_few_are_ahead_and_what_is_not_wanted_is_forgotten(monkeypatch):
    monkeypatch.setattr(kept, "AHEAD", 4)
    source = Source()
    source.go.clear()
    frames = frames_of(source)
    frames.ahead(range(10))
    frames.ahead([8, 9])
    source.go.set()
    assert frames[9][1] == 90 and frames[8][1] == 80
    assert {k for k, _ in source.read} <= {0, 8, 9}  # 0 was being read
    assert not frames._coming
