"""The gate leaves out what is far off, changes nothing then, and lists it; planted labels are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from systems import frames, settings

import kalmandp
from kalmandp.training.loop import Run, train
from kalmandp.training.measurements.gate import IN_A_ROW, WARM_UP, WINDOW, Gate, Refusal
from kalmandp.training.report.diagnostics import Innovation


def warm(bound: float = 25.0, kind: str = "energy") -> Gate:
    """A gate at work whose usual n_c is 1."""
    gate = Gate(bound)
    gate.at_work = True
    for _ in range(WARM_UP):
        assert judge(gate, 1.0, kind) is None
    return gate


def judge(gate: Gate, nis: float, kind: str = "energy"):
    """What a step with one measurement gets."""
    gate.begin_step()
    return gate.judge({kind: Innovation(nis, 0.0)})


def test_the_bound_is_against_the_median_of_its_own_kind():
    gate = warm()
    for _ in range(WARM_UP):
        judge(gate, 100.0, "force")
    assert judge(gate, 24.0) is None
    refusal = judge(gate, 26.0)
    assert (refusal.kind, refusal.nis, refusal.usual) == ("energy", 26.0, 1.0)
    assert judge(gate, 2400.0, "force") is None
    gate.begin_step()
    both = {"energy": Innovation(30.0, 0.0), "force": Innovation(2600.0, 0.0)}
    assert gate.judge(both).kind == "energy"  # 30 times as much as usual, not 26


def test_the_first_measurement_of_a_step_decides():
    gate = warm()
    assert judge(gate, 1e4) is not None
    assert gate.judge({"energy": Innovation(0.1, 0.0)}) is not None
    assert judge(gate, 0.1) is None
    assert gate.judge({"energy": Innovation(1e4, 0.0)}) is None


def test_nothing_is_left_out_before_enough_is_known():
    gate = Gate(25.0)
    gate.at_work = True
    for _ in range(WARM_UP - 1):
        judge(gate, 1.0)
    assert judge(gate, 1e9) is None
    assert judge(gate, 1e9) is not None


def test_a_filter_that_is_off_is_not_shut_out():
    gate = warm()
    taken = 0
    for _ in range(10 * IN_A_ROW):
        taken += judge(gate, 1e4) is None
    assert taken >= 7
    # the median follows
    for _ in range(WINDOW):
        judge(gate, 1e4)
    assert judge(gate, 1e4) is None


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """40 frames of which three are wrong: energy off by 1 eV, forces of another frame, flipped forces."""
    good = frames(40)
    wrong = {
        7: replace(good[7], energy=good[7].energy + 1.0),
        23: replace(good[23], forces=good[3].forces),
        31: replace(good[31], forces=-good[31].forces),
    }
    path = tmp_path_factory.mktemp("planted") / "morse.h5"
    kalmandp.Dataset.write(path, [wrong.get(k, f) for k, f in enumerate(good)])
    return path, wrong


def gated(path, **training) -> dict:
    tree = settings(path, optimizer={"gate": 100.0, "n_groups": 2}, training={"numb_epoch": 4, **training})
    del tree["training"]["numb_steps"]
    return tree


def test_planted_labels_are_found(planted, tmp_path):
    path, wrong = planted
    list(train(gated(path), output=tmp_path))
    rows = [line.split() for line in (tmp_path / "left_out.out").read_text().splitlines()[1:]]
    last = {int(row[2]): row[3] for row in rows if row[1] == "4"}
    assert set(last) == set(wrong)
    assert {k: last[k] for k in wrong} == {7: "energy", 23: "force", 31: "force"}
    assert all(row[-2:] == ["frame", row[2]] for row in rows)


def test_what_is_left_out_leaves_the_filter_as_it_was(planted, tmp_path):
    run = Run(kalmandp.read_input(gated(planted[0])), tmp_path)
    for _ in range(3):
        run.step()
    before, weights = run.trainer.filter.state(), run.potential.weights.copy()
    run.trainer.gate.judge = lambda found: Refusal("force", found["force"].nis, 1.0)
    run.step()
    after = run.trainer.filter.state()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert (run.potential.weights == weights).all()
    assert run.diagnostics["left_out"].tolist() == [0.0] * 6 + [1.0] * 2
    assert len(run.trainer.gate.left_out.rows) == 2


@pytest.mark.parametrize("measurement", ["signed", "paired"])
def test_restart_with_a_gate_goes_on_with_the_same_bits(planted, tmp_path, measurement):
    tree = gated(planted[0], numb_epoch=1.5)
    tree["optimizer"] |= {"measurement": measurement, "gate": 3.0}  # it has something to do
    list(train(tree, output=tmp_path / "whole"))
    steps = iter(range(1000))
    list(train(tree, output=tmp_path / "cut", stop=lambda: next(steps) == 48))
    list(train(tree, output=tmp_path / "cut", restart=tmp_path / "cut" / "model.ckpt.h5"))
    a, b = (kalmandp.Potential.load(tmp_path / d / "model.dp").weights for d in ("whole", "cut"))
    assert (a == b).all()
    left = [(tmp_path / d / "left_out.out").read_bytes() for d in ("whole", "cut")]
    assert left[0] == left[1] and left[0].count(b"\n") > 1
