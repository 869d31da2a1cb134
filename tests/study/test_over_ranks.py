"""The runs of a study shared by ranks of MPI: each by one of them, the tables by the first."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ranks"))

from starting import ROOT, missing, start


@pytest.mark.skipif(bool(missing()), reason=missing() or "never")
def test_each_run_is_made_once(data, tmp_path):
    command = [str(ROOT / "examples" / "study" / "study.py"), "table1", "-o", str(tmp_path), "--smoke"]
    command += ["--optimizers", "adam", "--processes", "1", *(f"--data={d}" for d in data)]
    done = start(2, *command)
    assert done.returncode == 0, done.stderr
    assert "1 run to do, 0 done before" in done.stderr  # of the first; the other has one, too
    results = sorted(tmp_path.glob("runs/*/*/result.json"))
    assert len(results) == 2 and all(json.loads(path.read_text()) for path in results)
    table = (tmp_path / "tables" / "table1.md").read_text(encoding="utf-8")
    assert "| A " in table and "| B " in table
    assert (tmp_path / "rank 1" / "workers.log").exists()
    again = start(2, *command)
    assert again.returncode == 0 and "to do" not in again.stderr, again.stderr
