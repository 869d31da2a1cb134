"""A short, fixed budget of damaged files for every reader: accepted or a clear error, nothing else.

`driver.py` beside this file does the same at any length, by hand.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import driver
import pytest
import seeds
from targets import TARGETS

#: Cases per reader; drawing figures takes longer than reading.
CASES = 60
FEW = 8


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, Path]:
    return seeds.make(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("kind", TARGETS)
def test_damaged_files(kind, good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = driver.fuzz(kind, good[kind], tmp_path / "case", FEW if kind == "curve" else CASES, seed=0)
    assert set(report.counts) <= driver.GOOD, report.bad
    assert report.counts["clear"] > 0, "the damage is not real"
    assert report.slowest < driver.PATIENCE
    # nothing was written or run outside of the case's own folder
    assert os.listdir(tmp_path) == ["case"]


BAD = """
import os, time

def read(path):
    calls = path.parent.parent / "calls"
    number = calls.stat().st_size if calls.exists() else 0
    calls.write_text("x" * (number + 1))
    [lambda: 1 / 0, os.abort, lambda: time.sleep(60), lambda: bytearray(1 << 40), lambda: None][number]()

TARGETS = {"input": (read, "b")}
"""


def test_what_goes_wrong_is_counted(good, tmp_path, monkeypatch):
    """A reader that raises, crashes, hangs, asks for a terabyte, and reads."""
    folder = tmp_path / "bad"
    folder.mkdir()
    for name in ("worker.py", "damage.py"):
        shutil.copy(Path(__file__).parent / name, folder)
    (folder / "targets.py").write_text(BAD)
    monkeypatch.setattr(driver, "WORKER", folder / "worker.py")
    monkeypatch.setattr(driver, "PATIENCE", 4.0)
    report = driver.fuzz("input", good["input"], tmp_path / "case", 5, seed=0)
    assert report.counts == {"unclear": 2, "crash": 1, "hang": 1, "accepted": 1}
    assert [(case, result) for case, result, _ in report.bad] == [
        (0, "unclear"), (1, "crash"), (2, "hang"), (3, "unclear"),
    ]  # fmt: skip
