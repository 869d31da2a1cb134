"""σ by the innovations: the recursion by hand, and labels of one kind that contradict the others."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import tree_of, write_data

import kalmandp
from kalmandp.report import write_report
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run
from kalmandp.training.noise.estimates import BOUND, NoiseEstimates, contradictions, sigmas
from kalmandp.training.noise.variances import PhysicalNoise

RULE = PhysicalNoise(sigma_e=0.001, sigma_f=0.1, sigma_w=0.01)
KINDS = ("energy", "force", "force")
#: R⁰ of 10 atoms.
FLOOR = np.array([RULE.energy(10, 1), RULE.force(10, 1), RULE.force(10, 1)])


def seen(error_q, HPH_q, times=NoiseEstimates.LEAST) -> NoiseEstimates:
    found = NoiseEstimates(RULE)
    for _ in range(times):
        found.see(KINDS, FLOOR, np.asarray(error_q), np.asarray(HPH_q))
    return found


def test_sigma_is_what_p_does_not_account_for():
    # 10 atoms off by 0.05 eV, of which P accounts for 0.03: √(0.05² − 0.03²)/10 eV/atom
    state = seen([0.05, 0.3, -0.4], [0.03**2, 0.0, 0.0]).state()
    assert_allclose(sigmas(state)["energy"], 0.04 / 10, rtol=1e-12)
    assert_allclose(sigmas(state)["force"], np.sqrt((0.09 + 0.16) / 2), rtol=1e-12)
    assert not contradictions(state)


def test_errors_that_p_accounts_for_are_none():
    assert sigmas(seen([5.0, 0.3, -0.4], [26.0, 0.0, 0.0]).state())["energy"] == 0.0


def test_the_first_errors_are_a_mean_and_later_ones_count_by_one_in_a_hundred():
    found = NoiseEstimates(RULE)
    for n in range(1, 11):
        found.see(("force",), FLOOR[1:2], np.array([0.1 * n]), np.zeros(1))
    assert_allclose(found.state()["noise/estimated_force"], 5.5, rtol=1e-12)
    before = found.state()["noise/estimated_force"]
    for _ in range(190):
        found.see(("force",), FLOOR[1:2], np.array([0.1 * before]), np.zeros(1))
    found.see(("force",), FLOOR[1:2], np.array([10.0]), np.zeros(1))
    assert_allclose(found.state()["noise/estimated_force"], before + 0.01 * (100 - before), rtol=1e-12)


@pytest.mark.parametrize("ratio", [0.9, 1.1])
def test_the_bound(ratio):
    """Forces three times their σ⁰, energies ``ratio`` times the bound beyond that."""
    state = seen([3 * ratio * BOUND * np.sqrt(FLOOR[0]), 0.3, 0.3], np.zeros(3)).state()
    assert len(contradictions(state)) == (ratio > 1)
    # forces below their σ⁰ count as if at it: R is not smaller than the rule's
    state = seen([ratio * BOUND * np.sqrt(FLOOR[0]), 1e-3, 1e-3], np.zeros(3)).state()
    assert len(contradictions(state)) == (ratio > 1)


def test_few_updates_say_nothing():
    error = [100 * BOUND * np.sqrt(FLOOR[0]), 0.3, 0.3]
    assert not contradictions(seen(error, np.zeros(3), NoiseEstimates.LEAST - 1).state())
    assert contradictions(seen(error, np.zeros(3)).state())


def test_state_goes_on_where_it_was():
    one, other = seen([0.05, 0.3, -0.4], np.zeros(3)), NoiseEstimates(RULE)
    other.restore({"weights": np.zeros(2), **one.state()})
    for found in (one, other):
        found.see(KINDS, FLOOR, np.ones(3), np.zeros(3))
    assert one.state() == other.state()
    old = NoiseEstimates(RULE)
    old.restore({"weights": np.zeros(2)})  # a checkpoint of 0.8 and before
    assert old.state() == {}


def trained(folder, change, preset: str):
    """What a run of rock salt warns of, with labels that ``change(frame, rng)`` makes."""
    folder.mkdir()
    write_data(folder, n_train=20)
    rng = np.random.default_rng(0)
    with kalmandp.Dataset(folder / "train.h5") as data:
        frames = [change(frame, rng) for frame in data]
    kalmandp.Dataset.write(folder / "train.h5", frames)
    optimizer = {"preset": preset, "with_virial": "present"}
    run = Run(read_input(tree_of("nep", folder, optimizer, numb_steps=NoiseEstimates.LEAST)), folder)
    while run.step_number < run.n_steps:
        run.step()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.finish()
    run.checkpoint()
    return [str(w.message) for w in caught if "contradict" in str(w.message)], run


CHANGES = {
    "right": lambda frame, rng: frame,
    "energies": lambda frame, rng: replace(frame, energy=frame.energy + 0.3 * len(frame) * rng.normal()),
    "virials": lambda frame, rng: replace(
        frame, virial=frame.virial + 3.0 * len(frame) * (lambda a: a + a.T)(rng.normal(size=(3, 3)))
    ),
}


CASES = [*((what, "matrix") for what in CHANGES), ("right", "default"), ("energies", "default")]


@pytest.mark.parametrize(("what", "preset"), CASES)
def test_labels_that_contradict_the_forces_are_told(what, preset, tmp_path):
    told, run = trained(tmp_path / "run", CHANGES[what], preset)
    assert [text.split()[0] for text in told] == ([] if what == "right" else [what]), told
    pytest.importorskip("matplotlib")
    page = write_report(tmp_path / "run", doctor=False).read_text(encoding="utf-8")
    assert "estimated σ" in page and ("contradict each other" in page) == (what != "right")
