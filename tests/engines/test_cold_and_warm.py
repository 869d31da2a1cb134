"""A run that compiles its kernels and one that finds them compiled have the same bits.

A kernel that calls a function which is compiled by itself may run that function's own machine code in the
process that compiled it, and in later ones the copy that was optimised within the kernel: with sums that may
be reordered these differ in the last bit. Parts of kernels are therefore always inlined (`threads.PART`).
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import hashlib
import numpy as np
from kalmandp.kalman import RLEKF
from kalmandp.kalman.coupled import WINDOW

digest = hashlib.sha256()
for dtype in ("float64", "float32"):
    rng = np.random.default_rng(0)
    kalman = RLEKF(np.zeros(700), (300, 287, 113), covariance="tiled", dtype=dtype)
    for m in (1, 2, 5) * (WINDOW // 4):  # pending columns, folds, panels: two windows' numbers
        kalman.update(rng.normal(size=(m, 700)), rng.normal(size=m), 0.5)
    digest.update(kalman.weights.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_same_bits_compiled_now_or_before(tmp_path):
    found = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=300,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert found[0] == found[1] != ""
