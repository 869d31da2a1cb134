"""P that does not fit is refused before it is made, with what would fit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from systems import frames, settings

import kalmandp
from kalmandp.errors import InputError
from kalmandp.kalman.blocks import Part
from kalmandp.training.config.presets import resolve
from kalmandp.training.config.settings import OptimizerSettings
from kalmandp.training.loop import Run
from kalmandp.training.placement import memory
from kalmandp.training.placement.memory import available_memory, check_memory, covariance_need
from kalmandp.training.placement.plan import make_plan

PARTS = [Part("big", 20000, "a"), Part("small", 50, "a")]
GIB = 2**30


def choices(**stated):
    return resolve(OptimizerSettings(**{"block_size": 10240, **stated}))


def test_a_covariance_that_fits_is_no_matter(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 64 * GIB)
    check_memory(PARTS, choices())
    monkeypatch.setattr(memory, "available_memory", lambda: 0)  # the system does not tell
    check_memory(PARTS, choices())


@pytest.mark.parametrize(
    ("free", "stated", "proposed"),
    [
        (0.7, {"coupled": False}, [{"covariance_dtype": "float32"}, {"block_size": 5120}]),
        (0.3, {"coupled": False}, [{"block_size": 2560}]),
        (0.025, {"coupled": False}, [{"covariance_dtype": "float32", "block_size": 320}]),
        (0.7, {}, [{"block_size": 5120}]),
        (0.02, {}, [{"block_size": 64}]),
        (0.02, {"block_size": None}, [{"block_size": 64}]),
        (0.3, {"covariance_dtype": "float32"}, [{"block_size": 5120}]),
        (0.9, {"type": "GEKF"}, [{"covariance_dtype": "float32"}]),
        (0.001, {}, []),
    ],
)
def test_what_is_proposed_fits(monkeypatch, free, stated, proposed):
    """Each proposal is taken at its word; the larger blocks that are not proposed do not fit."""
    monkeypatch.setattr(memory, "available_memory", lambda: int(free * GIB))
    with pytest.raises(InputError, match=r"P of 20,050 weights needs .* GiB .* are free") as caught:
        check_memory(PARTS, choices(**stated))
    found = re.findall(r'((?:"[a-z_]+": [^ ,]+(?:, )?)+) \(', str(caught.value).partition("that fits:")[2])
    assert [json.loads("{" + text + "}") for text in found] == proposed
    for change in proposed:
        check_memory(PARTS, choices(**{**stated, **change}))
    if not proposed:
        assert "expected a smaller network" in str(caught.value)


@pytest.mark.parametrize("optimizer", [{"block_size": 2000}, {}, {"covariance_dtype": "float32"}])
def test_the_need_is_what_the_covariance_takes(tmp_path, optimizer):
    kalmandp.Dataset.write(tmp_path / "morse.h5", frames(3))
    tree = settings(tmp_path / "morse.h5")
    run = Run(kalmandp.read_input(tree | {"optimizer": {"type": "RLEKF", **optimizer}}), tmp_path)
    filter = run.trainer.filter
    need = covariance_need(memory.parts_of(run.potential.layout), run.trainer.choices)
    assert need.blocks == filter.blocks
    # and little work space
    assert 1.0 <= filter.covariance.nbytes / need.memory < 1.1


def test_nothing_is_allocated_before(tmp_path, monkeypatch):
    kalmandp.Dataset.write(tmp_path / "morse.h5", frames(3))
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    monkeypatch.setattr("kalmandp.training.trainers.choose.KalmanTrainer", None)
    with pytest.raises(InputError, match="expected a smaller network"):
        Run(kalmandp.read_input(settings(tmp_path / "morse.h5")), tmp_path / "run")


def test_a_generation_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    """50 members of 8·N bytes; a population that fits is planned with what it takes."""
    kalmandp.Dataset.write(tmp_path / "morse.h5", frames(3))
    tree = settings(tmp_path / "morse.h5")
    tree["optimizer"] = {"type": "SNES"}
    plan = make_plan(kalmandp.read_input(tree), timing=False)
    assert plan.memory == 50 * 8 * plan.n_weights
    monkeypatch.setattr(memory, "available_memory", lambda: plan.memory)
    assert not make_plan(kalmandp.read_input(tree)).fits
    with pytest.raises(InputError, match="expected a smaller optimizer/population"):
        Run(kalmandp.read_input(tree), tmp_path / "run")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="this system has no /proc")
def test_the_limit_of_the_process_counts():
    code = (
        "import resource\n"
        "from kalmandp.training.placement.memory import available_memory\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)\n"
        "print(available_memory())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert 0 < int(done.stdout) <= 2**28
    assert available_memory() > 2**28


def test_the_limit_of_a_group_above_counts(tmp_path, monkeypatch):
    lines = {
        "/proc/self/cgroup": ["0::/job/step"],
        f"{tmp_path}/job/step/memory.max": ["max"],
        f"{tmp_path}/job/step/memory.current": ["700"],
        f"{tmp_path}/job/memory.max": ["5000"],
        f"{tmp_path}/job/memory.current": ["1000"],
    }
    monkeypatch.setattr(memory, "_lines", lambda path: lines.get(str(path), []))
    assert memory._group(str(tmp_path)) == 4000
