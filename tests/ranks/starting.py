"""Start programs on several ranks, with a limit of time, and compare what they leave.

What is missing for that is a reason to skip.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
#: Seconds of one start at most, compilation included.
LIMIT = 300


def mpiexec() -> str | None:
    """mpiexec, of this environment as a rule."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def missing() -> str:
    """Why several ranks cannot be started; empty if they can."""
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    return "" if mpiexec() else "there is no mpiexec"


def words(ranks: int, *command: str) -> list[str]:
    """The command line of a Python program on so many ranks."""
    return [mpiexec() or "mpiexec", "-n", str(ranks), sys.executable, *command]


def environment() -> dict[str, str]:
    """Of a rank: this package, and one thread."""
    threads = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(threads, "1")}


def start(ranks: int, *command: str, limit: float = LIMIT) -> subprocess.CompletedProcess:
    """Run a Python program on so many ranks, each with one thread."""
    return subprocess.run(
        words(ranks, *command), capture_output=True, text=True, timeout=limit, env=environment(), check=False
    )


def training(folder: Path, name: str, kind: str, **options) -> list[str]:
    """The words of ``train.py`` for a run of this kind in folder/name."""
    return [str(Path(__file__).with_name("train.py")), kind, str(folder), name, json.dumps(options)]


def run(ranks: int, folder: Path, name: str, kind: str, **options) -> subprocess.CompletedProcess:
    """Run ``train.py`` on so many ranks."""
    return start(ranks, *training(folder, name, kind, **options))


def state(folder: Path, name: str) -> dict:
    """All arrays of a run's checkpoint."""
    found = {}

    def add(place, item) -> None:
        if isinstance(item, h5py.Dataset) and not place.startswith(("json", "history")):
            found[place] = item[()]

    with h5py.File(folder / name / "model.ckpt.h5") as file:
        file.visititems(add)
    return found


def assert_same(one: dict, two: dict) -> None:
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
