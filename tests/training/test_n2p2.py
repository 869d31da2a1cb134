"""n2p2's filters by hand and by the textbook, and its choice of update candidates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import frames, kalman_trainer, settings, small_potential
from textbook import TextbookEKF

import kalmandp
from kalmandp.training.config.presets import resolve
from kalmandp.training.config.settings import OptimizerSettings
from kalmandp.training.loop import Run
from kalmandp.training.measurements import measurement as M
from kalmandp.training.measurements.candidates import Candidates, Selection
from kalmandp.training.measurements.drawing import draw_groups
from kalmandp.training.noise.annealing import Annealing
from kalmandp.training.report.metrics import evaluate


@pytest.fixture(scope="module")
def start():
    return small_potential()


def test_annealing_is_n2p2s_recursion():
    """η ← η e^τ before each update, q ← q e^−τ after it, until a bound is passed; here it is not passed."""
    a, U = Annealing(), 7
    eta, q = 0.01, 0.01
    for k in range(60):
        if eta < 1.0:
            eta *= np.exp(2.302 / U)
        assert_allclose(1 / a.measurement(k, U), min(eta, 1.0), rtol=1e-12)
        assert_allclose(a.process(k, U), max(q, 1e-6), rtol=1e-12)
        if q > 1e-6:
            q *= np.exp(-2.302 / U)
    assert a.measurement(10**9, U) == 1.0 and a.process(10**9, U) == 1e-6


def test_n2p2s_first_updates_by_hand(start):
    """A = H P Hᵀ + 1/η, K = P Hᵀ A⁻¹, P ← P − K H P + q I; a force with error and H times β = 10."""
    U = 11.0
    trainer = kalman_trainer(start, resolve(OptimizerSettings(type="GEKF", preset="n2p2")), per_epoch=U)
    P, w = 100.0 * np.eye(len(start.weights)), start.weights.copy()
    sample = M.make_sample(trainer.potential, frames(1, seed=7))
    eta, q = 0.01, 0.01
    for m in trainer.measure(sample):
        beta = 10.0 if m.kind == "force" else 1.0
        H, error = beta * m.H_qw[0], beta * m.error_q[0]
        eta *= np.exp(2.302 / U)
        X = P @ H
        K = X / (H @ X + 1.0 / eta)
        P = P - np.outer(K, X) + q * np.eye(len(w))
        w = w + K * error
        q *= np.exp(-2.302 / U)
        trainer.update(m)
        assert_allclose(trainer.potential.weights, w, rtol=1e-6, atol=1e-8)  # P₀ = 100, cancellation
    assert trainer.updates == 11  # an energy and ten force components
    assert_allclose(trainer.traces(), np.trace(P), rtol=1e-9)


def test_n2p2s_fading_memory_is_the_textbooks(start):
    trainer = kalman_trainer(start, resolve(OptimizerSettings(type="GEKF", preset="n2p2-fading")))
    textbook = TextbookEKF(start.weights, P0=10.0, lam=0.96, nu=0.9995)
    for m in trainer.measure(M.make_sample(trainer.potential, frames(1, seed=8))):
        textbook.update(m.H_qw, m.error_q, 1.0 if m.kind == "energy" else 0.01)
        trainer.update(m)
    assert_allclose(trainer.potential.weights, textbook.weights, rtol=1e-6, atol=1e-8)
    assert_allclose(trainer.traces(), np.trace(textbook.P), rtol=1e-8)
    assert trainer.lam == textbook.lam


def test_a_single_component_of_a_force(start):
    """(2, k) atoms and axes: the derivative of the mean of those numbers."""
    sample = M.make_sample(start, frames(1, seed=9))
    noise = resolve(OptimizerSettings()).noise
    m = M.force_signed(start, sample, np.array([[3, 7], [1, 2]]), noise, 1)
    now = M.predict(start, sample)
    error_ic = sample.frames[0].forces - now.F_ic
    c_ic = np.zeros((16, 3))
    for i, axis in ((3, 1), (7, 2)):
        c_ic[i, axis] = np.sign(error_ic[i, axis]) / 2
    assert_allclose(m.error_q, [(abs(error_ic[3, 1]) + abs(error_ic[7, 2])) / 2], rtol=1e-14)
    H = start.force_jacobian(sample.frames[0], c_ic)
    assert_allclose(m.H_qw[0], H, rtol=0, atol=1e-12 * np.abs(H).max())


def test_the_first_above_the_threshold_or_the_largest():
    c = Candidates(Selection(force=1.0, trials=3))
    c.see("force", np.array([3.0, -4.0, 0.0, 0.0]))
    assert c.rmse("force") == 2.5
    size_tk = np.array([[3.0, 1.0, 2.0, 0.5], [9.0, 2.6, 1.0, -1.0], [4.0, 8.0, 2.4, -1.0]])
    assert c.choose(size_tk).tolist() == [0, 1, 2, 0]
    c.see("force", np.zeros(3))
    assert_allclose(c.rmse("force"), 2.5 * np.sqrt(0.98), rtol=1e-14)
    again = Candidates(c.selection)
    again.restore(c.state())
    assert again.state() == c.state()


@pytest.mark.parametrize("components", [True, False])
def test_the_worst_force_is_found_among_all(start, components):
    """A threshold out of reach, and as many trials as there are forces: the largest error is measured."""
    n = 48 if components else 16
    choices = dataclasses.replace(
        resolve(OptimizerSettings(measurement="signed")), n_groups=1, group_size=1, components=components,
        replacement=False, candidates=Selection(force=1e9, trials=n),
    )  # fmt: skip
    trainer = kalman_trainer(start, choices)
    sample = M.make_sample(trainer.potential, frames(1, seed=10))
    *_, force = trainer.measure(sample)
    error_ic = np.abs(sample.frames[0].forces - M.predict(start, sample).F_ic)
    worst = error_ic.max() if components else np.sqrt((error_ic**2).mean(1).max())
    assert_allclose(force.error_q, [worst], rtol=1e-12)
    rmse = evaluate(start, sample.frames).force_rmse
    assert_allclose(trainer.candidates.rmse("force"), rmse, rtol=1e-12)


@pytest.mark.parametrize("replacement", [True, False])
def test_more_trials_than_there_are_forces(start, replacement):
    """Frames of two sizes, a number of trials that no memory would hold; each place has one force."""
    two, one = frames(2, seed=13), frames(1, seed=14)[0]
    few = {n: getattr(one, n)[:3] for n in ("positions", "types", "forces")}
    batch = [*two, dataclasses.replace(one, **few, virial=None)]
    choices = dataclasses.replace(
        resolve(OptimizerSettings(candidates={"force": 1.0, "trials": 10**15})), replacement=replacement
    )
    trainer = kalman_trainer(start, choices)
    groups = draw_groups(choices, M.make_sample(start, batch), np.random.default_rng(0))
    for targets in groups:
        assert targets.shape[0] == 16 and (targets[0] >= 0).all() and targets.max() < 35
    drawn = np.concatenate([g.ravel() for g in groups])
    assert replacement or sorted(drawn[drawn >= 0]) == list(range(35))  # each at most once: all of them
    trainer.step(M.make_sample(trainer.potential, batch))


@pytest.mark.parametrize("measurement", ["signed", "paired", "joint", "matrix"])
def test_candidates_have_larger_errors(start, measurement):
    """Whatever the measurement: atoms above the RMSE are measured more often than by chance."""
    share = {}
    sample = M.make_sample(start, frames(2, seed=11))
    for selection in (None, {"force": 1.0, "trials": 4}):
        o = OptimizerSettings(measurement=measurement, n_groups=2, group_size=2, candidates=selection)
        trainer = kalman_trainer(start, resolve(o))
        square = [
            np.mean([e * e for e, k in zip(m.error_q, m.kind_q, strict=True) if k == "force"])
            for _ in range(10)
            for m in trainer.measure(sample)
            if "force" in m.kind_q
        ]
        share[selection is None] = np.mean(square)
    assert share[False] > 1.2 * share[True], share


def test_frames_that_are_known_are_passed_over(data, tmp_path):
    """Of three frames, none far enough off, the one furthest off is learnt, and all had their turn."""
    run = Run(kalmandp.read_input(settings(data, optimizer={"candidates": {"energy": 1e9}})), tmp_path)
    order = run.feed.order[:3]
    off = [abs(f.energy - run.potential.evaluate(f).energy) / 16 for f, _ in (run.frames[k] for k in order)]
    sample, _, _ = run.step()
    assert sample.frames[0].source == run.data.source(int(order[int(np.argmax(off))]))
    assert run.feed.position == 3 and run.trainer.updates == 2

    few = settings(data, optimizer={"candidates": {"energy": 1e-9}})
    run = Run(kalmandp.read_input(few), tmp_path / "b")
    run.step()
    assert run.feed.position == 1
    assert_allclose(run.trainer.candidates.rmse("energy"), off[0], rtol=1e-12)  # eV/atom

    endless = settings(data, optimizer={"candidates": {"energy": 1e9, "force": 0, "trials": 10**15}})
    run = Run(kalmandp.read_input(endless), tmp_path / "c")
    run.step()
    assert run.feed.epoch == 0 and run.feed.position == 12  # an epoch was tried, no more
