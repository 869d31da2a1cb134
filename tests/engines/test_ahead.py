"""Kernels compiled ahead: the processes that do it end with the run, and begin without what they need not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kalmandp.engines.cpu.ahead import FORKS

STOPPED = """
import time
from pathlib import Path
from kalmandp.engines.cpu.ahead import Compilation

def living(group):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state != "Z":
            found.append(path)
    return len(found)

compilation = Compilation("se_e2_a", None)
(process,) = compilation._processes
until = time.monotonic() + 120
while living(process.pid) < 2 and compilation.running and time.monotonic() < until:
    time.sleep(0.05)
print("working", living(process.pid), compilation.running)
compilation.stop()
while living(process.pid) and time.monotonic() < until:
    time.sleep(0.05)
print("stopped", living(process.pid), compilation.running)
"""

SCIPY = """
import sys
import numba
from kalmandp.engines.cpu.private import leave_out_scipy

leave_out_scipy()
assert numba.njit(lambda x: x + 1.0)(1.0) == 2.0
print("scipy.linalg" in sys.modules)
import scipy.linalg
print(scipy.linalg.norm([3.0, 4.0]))
leave_out_scipy()  # where it is imported already nothing is done
print("scipy.linalg" in sys.modules)
"""


def _printed(program: str, **more: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env=os.environ | more
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.skipif(not FORKS or (os.cpu_count() or 1) < 2, reason="nothing is compiled side by side here")
def test_a_run_that_ends_leaves_no_process_behind(tmp_path):
    alone = {"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "1", "PMIX_RANK": "1", "SLURM_NTASKS": "1"}
    told = _printed(STOPPED, NUMBA_CACHE_DIR=str(tmp_path), **alone)
    number = int(told[0].split()[1])
    assert number >= 2 and told[0].endswith("True")
    assert told[1] == "stopped 0 False"


def test_numba_begins_without_scipy_and_scipy_is_there_all_the_same():
    pytest.importorskip("scipy")
    assert _printed(SCIPY) == ["False", "5.0", "True"]
