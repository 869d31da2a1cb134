"""Start programs on several ranks, with a limit of time; what is missing for that is a reason to skip."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

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


def start(ranks: int, *command: str, limit: float = LIMIT) -> subprocess.CompletedProcess:
    """Run a Python program on so many ranks, each with one thread."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env |= dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    words = [mpiexec() or "mpiexec", "-n", str(ranks), sys.executable, *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=limit, env=env, check=False)
