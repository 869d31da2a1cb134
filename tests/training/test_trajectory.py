"""Training keeps its bits: weights after 10 and 60 steps are those of version 0.6.0 (`make_stored`).

Two comparisons, because bits belong to a machine: the BLAS, libm and the vectors of the processor round sums
each in their own way.

- Where processor and programs are those that the weights were stored with, they agree bit by bit.
- Everywhere, the weights after 10 steps agree to 1e-9. A filter amplifies rounding: weights that began off by
  1e-15 of themselves were off by 2e-11 after 10 steps on silicon, but by 2e-4 after 60 (on water by 2e-12 and
  8e-10, with Adam by 3e-15), so later weights say nothing of another machine.
"""

from __future__ import annotations

from functools import cache

import h5py
import numpy as np
import pytest
from make_stored import ENGINES, RUNS, TRAJECTORIES, fingerprint, trained
from numpy.testing import assert_allclose

ROOT = TRAJECTORIES.parents[2]
TOLERANCE = 1e-9


@cache
def stored() -> tuple[dict[str, np.ndarray], bool]:
    """Weights (step, w) of each run, and whether their bits can be asked for here."""
    with h5py.File(TRAJECTORIES) as file:
        weights = {f"{name}/{engine}": file[f"{name}/{engine}"][()] for name in RUNS for engine in ENGINES}
        return weights, file.attrs["fingerprint"] == fingerprint()


def check(got_sw: np.ndarray, wanted_sw: np.ndarray, same_machine: bool) -> None:
    assert_allclose(got_sw[0], wanted_sw[0], rtol=0, atol=TOLERANCE)
    if same_machine:
        assert (got_sw == wanted_sw).all(), f"off by {np.abs(got_sw - wanted_sw).max(axis=1)}"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", RUNS)
def test_weights_are_those_of_before(name, engine, monkeypatch):
    monkeypatch.chdir(ROOT)
    wanted, same_machine = stored()
    check(trained(name, engine), wanted[f"{name}/{engine}"], same_machine)


def test_other_weights_are_seen():
    """The planted mistakes: the last bit of one weight; 1e-8 on another machine; another engine's weights."""
    wanted = stored()[0]["water/numpy"]
    last = wanted.copy()
    last[1, 7] = np.nextafter(last[1, 7], np.inf)
    check(last, wanted, same_machine=False)
    with pytest.raises(AssertionError, match="off by"):
        check(last, wanted, same_machine=True)
    with pytest.raises(AssertionError):
        check(wanted + 1e-8, wanted, same_machine=False)
    assert (stored()[0]["water/numba"] != wanted).any()
