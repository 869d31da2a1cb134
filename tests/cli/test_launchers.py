"""Launchers of MPI: one process needs none of it, and several without mpi4py are told what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def kalmandp(*words: str, **env: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    command = [sys.executable, "-m", "kalmandp", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False)


@pytest.mark.parametrize("size", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_one_process_of_a_launcher_is_as_without_it(size):
    """Slurm's srun sets PMI_RANK or PMIX_RANK for whatever it starts."""
    done = kalmandp("info", "nowhere.dp", PMIX_RANK="0", **{size: "1"})
    assert done.returncode == 1
    assert done.stderr == "error: nowhere.dp: no such file\n"


@pytest.mark.skipif(find_spec("mpi4py") is not None, reason="mpi4py is installed")
def test_several_without_mpi4py():
    done = kalmandp("train", "nowhere.json", PMIX_RANK="0", SLURM_STEP_NUM_TASKS="2")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "mpi4py" in done.stderr
