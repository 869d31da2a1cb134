"""Reductions of a batch, n2p2's filters, update candidates, SNES, and what the presets are called."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import frames, settings

import kalmandp
from kalmandp.errors import FilterError, InputError
from kalmandp.potential.potential import Potential
from kalmandp.training import measurements as M
from kalmandp.training.adam import Schedule
from kalmandp.training.annealing import Annealing
from kalmandp.training.candidates import Candidates, Selection
from kalmandp.training.drawing import draw_groups
from kalmandp.training.inputs import read_optimizer
from kalmandp.training.loop import Run
from kalmandp.training.metrics import evaluate
from kalmandp.training.plan import make_plan
from kalmandp.training.presets import PRESETS, REDUCTIONS, SNES_PRESETS, resolve
from kalmandp.training.settings import OptimizerSettings
from kalmandp.training.snes import SNES, SNESTrainer, rmse_loss, utilities
from kalmandp.training.trainers import KalmanTrainer

sys.path.insert(0, str(Path(__file__).parents[1] / "kalman"))
from textbook import TextbookEKF


def small(seed=2) -> Potential:
    return Potential.create(
        ("A", "B"), rcut=4.2, rcut_smth=1.0, frames=frames(4), rng=np.random.default_rng(seed),
        embedding=(4, 6), axis_neuron=2, fitting=(6,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def start():
    return small()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "morse.h5"
    kalmandp.Dataset.write(path, frames(12))
    return path


def trainer_of(start, choices, per_epoch=None) -> KalmanTrainer:
    rng = np.random.default_rng(0)
    return KalmanTrainer(start.with_engine(None), choices, rng, per_epoch=per_epoch)


def stepped(start, choices, batch) -> np.ndarray:
    """Weights after two steps with a batch."""
    trainer = trainer_of(start, choices)
    for _ in range(2):
        trainer.step(M.make_sample(trainer.potential, batch))
    return trainer.potential.weights


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("measurement", ["signed", "paired", "joint"])
def test_equal_frames_are_one_frame_by_mean(start, measurement):
    """(1/B) Σ over B equal frames, whose atoms are the same ones, is the frame itself."""
    choices = dataclasses.replace(
        resolve(OptimizerSettings(measurement=measurement, with_virial=True)),
        same_atoms=True, replacement=True,
    )  # fmt: skip
    frame = frames(1, seed=3)[0]
    one = stepped(start, choices, [frame])
    assert_allclose(stepped(start, choices, [frame] * 3), one, rtol=1e-7, atol=1e-10)  # order of sums
    summed = dataclasses.replace(choices, reduction="sum")
    assert np.abs(stepped(start, summed, [frame] * 3) - one).max() > 1e-3


def test_a_sum_is_the_mean_with_less_noise(start):
    """H, error times B with R is H, error with R/B²: the same weights, update for update."""
    B = 3
    sigma = dict(sigma_e=0.01, sigma_f=0.1, sigma_w=0.02, adapt=0.0, with_virial=True)
    less = {name: value / B if name.startswith("sigma") else value for name, value in sigma.items()}
    batch = frames(B, seed=4)
    summed = stepped(start, resolve(OptimizerSettings(reduction="sum", **sigma)), batch)
    mean = stepped(start, resolve(OptimizerSettings(reduction="mean", **less)), batch)
    assert_allclose(summed, mean, rtol=1e-8, atol=1e-11)  # rounding


def test_deepmds_step_is_that_of_the_sum_over_the_root_of_b(start):
    batch, step = frames(4, seed=5), {}
    for name in REDUCTIONS:
        choices = dataclasses.replace(
            resolve(OptimizerSettings(preset="deepmd", reduction=name)), order=("energy",)
        )
        trainer = trainer_of(start, choices)
        trainer.step(M.make_sample(trainer.potential, batch))
        step[name] = trainer.potential.weights - start.weights, trainer.traces()
    assert_allclose(step["deepmd"][0], step["sum"][0] / 2.0, rtol=1e-9, atol=1e-16)
    assert_allclose(step["deepmd"][1], step["sum"][1], rtol=1e-14)
    assert (step["mean"][1] > step["sum"][1]).all()  # less is believed


def test_the_adaptive_noise_does_not_undo_a_sum(start):
    """R follows the errors of a frame, not those of the sum."""
    batch = frames(2, seed=6)
    usual = {}
    for name in ("mean", "sum"):
        trainer = trainer_of(start, resolve(OptimizerSettings(reduction=name, measurement="joint")))
        trainer.step(M.make_sample(trainer.potential, batch))
        usual[name] = trainer.adaptive.state()
    assert usual["mean"] == pytest.approx(usual["sum"], rel=1e-12)


# --- n2p2 -----------------------------------------------------------------------------------------


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
    trainer = trainer_of(start, resolve(OptimizerSettings(type="GEKF", preset="n2p2")), per_epoch=U)
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
    trainer = trainer_of(start, resolve(OptimizerSettings(type="GEKF", preset="n2p2-fading")))
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


# --- candidates -----------------------------------------------------------------------------------


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
    trainer = trainer_of(start, choices)
    sample = M.make_sample(trainer.potential, frames(1, seed=10))
    *_, force = trainer.measure(sample)
    error_ic = np.abs(sample.frames[0].forces - M.predict(start, sample).F_ic)
    worst = error_ic.max() if components else error_ic[np.argmax((error_ic**2).sum(1))].mean()
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
    trainer = trainer_of(start, choices)
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
        trainer = trainer_of(start, resolve(o))
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
    assert run.feed.position == 3 and run.trainer.updates == 4

    few = settings(data, optimizer={"candidates": {"energy": 1e-9}})
    run = Run(kalmandp.read_input(few), tmp_path / "b")
    run.step()
    assert run.feed.position == 1
    assert_allclose(run.trainer.candidates.rmse("energy"), off[0], rtol=1e-12)  # eV/atom

    endless = settings(data, optimizer={"candidates": {"energy": 1e9, "force": 0, "trials": 10**15}})
    run = Run(kalmandp.read_input(endless), tmp_path / "c")
    run.step()
    assert run.feed.epoch == 0 and run.feed.position == 12  # an epoch was tried, no more


# --- SNES -----------------------------------------------------------------------------------------


def test_utilities():
    """Rank based, Σ u = 0, the best highest, the worse half alike; four by hand."""
    for population in (2, 4, 50):
        u_k = utilities(population)
        assert abs(u_k.sum()) < 1e-15 and (np.diff(u_k) <= 0).all()
        assert (u_k[population // 2 + 1 :] == -1.0 / population).all()
    a = np.log(3.0) + np.log(1.5)
    assert_allclose(utilities(4)[:2], np.array([np.log(3.0), np.log(1.5)]) / a - 0.25, rtol=1e-14)


def test_snes_by_hand():
    """One generation: μ + σ Σ u s and σ exp(η/2 Σ u (s² − 1)), ranks by loss, what is not finite last."""
    search = SNES([1.0, -2.0, 0.5], [0.1, 0.2, 0.3], 4, np.random.default_rng(3))
    s_kn = np.random.default_rng(3).standard_normal((4, 3))
    mean, sigma = search.mean.copy(), search.sigma.copy()
    z = list(search.ask())
    assert_allclose(z[2], mean + sigma * s_kn[2], rtol=1e-15)
    search.tell([3.0, 7.0, 1.0, np.nan])
    u_k = utilities(4)[[1, 2, 0, 3]]
    assert_allclose(search.mean, mean + sigma * (u_k @ s_kn), rtol=1e-13)
    eta = (3 + np.log(3)) / (5 * np.sqrt(3))
    assert_allclose(search.sigma, sigma * np.exp(0.5 * eta * (u_k @ (s_kn**2 - 1))), rtol=1e-13)
    before = search.mean.copy()
    list(search.ask())
    with pytest.raises(FilterError, match="no member of the generation has a finite loss"):
        search.tell([np.inf] * 4)
    assert (search.mean == before).all()
    with pytest.raises(InputError, match="population is 1; expected at least 2"):
        SNES([0.0], 0.1, 1, np.random.default_rng(0))


def test_snes_finds_the_bottom_of_a_bowl():
    """Σ c_n (z_n − b_n)² with c over two orders of magnitude: σ of each direction finds its own scale."""
    rng = np.random.default_rng(4)
    c, b = np.geomspace(1.0, 100.0, 10), rng.normal(size=10)
    search = SNES(np.zeros(10), 0.5, 30, rng)
    for _ in range(250):
        search.tell([float((c * (z - b) ** 2).sum()) for z in search.ask()])
    assert_allclose(search.mean, b, rtol=0, atol=1e-5)


def test_snes_trains_a_potential(start):
    """Its loss by hand, the potential's weights are μ, and a few generations make it smaller."""
    choices = SNES_PRESETS["gpumd"]
    sample = M.make_sample(start, frames(2, seed=12))
    errors = evaluate(start, sample.frames)
    by_hand = errors.energy_rmse + errors.force_rmse + 0.1 * errors.virial_rmse
    assert_allclose(rmse_loss(start, sample, 1.0, 1.0, 0.1), by_hand, rtol=1e-12)
    trainer = SNESTrainer(start.with_engine(None), choices, np.random.default_rng(5))
    for _ in range(8):
        assert set(trainer.step(sample)) == {"loss"}
        assert (trainer.potential.weights == trainer.snes.mean).all()
    assert trainer.updates == 8 and choices.population == 50
    assert rmse_loss(trainer.potential, sample, 1.0, 1.0, 0.1) < 0.8 * by_hand
    again = SNESTrainer(start.with_engine(None), choices, trainer.snes.rng)
    again.restore(trainer.state())
    assert (again.potential.weights == trainer.potential.weights).all() and again.updates == 8
    with pytest.raises(InputError, match="optimizer is SNES, the checkpoint's is not"):
        again.restore({"weights": trainer.snes.mean})


# --- names ----------------------------------------------------------------------------------------


def test_peers_by_their_names():
    """The numbers of n2p2's recommended input, of MatPL's GKF and Adam, and of GPUMD."""
    n2p2 = read_input({"preset": "n2p2"})
    assert n2p2.optimizer.type == "GEKF"
    choices = resolve(n2p2.optimizer)
    assert (choices.p0, choices.lam, choices.nu, choices.partition) == (100.0, 1.0, 1.0, "GEKF")
    assert choices.annealing == Annealing(0.01, 2.302, 1.0, 0.01, 2.302, 1e-6)
    assert choices.candidates == (0.0, 1.0, 3) and choices.components and choices.group_size == 1
    assert (choices.noise.energy(64, 9), choices.noise.force(64, 9)) == (1.0, 0.01)
    fading = resolve(OptimizerSettings(preset="n2p2-fading"))
    assert (fading.p0, fading.lam, fading.nu, fading.annealing) == (10.0, 0.96, 0.9995, None)
    assert fading.partition == "RLEKF"  # the type that was asked for, with its noise
    gkf = resolve(read_input({"preset": "matpl-gkf"}).optimizer)
    assert (gkf.p0, gkf.partition, gkf.noise.force(10, 1)) == (1.0, "GEKF", 25.0)
    assert gkf.order == ("energy", "force") and gkf.reduction == PRESETS["matpl"].reduction == "deepmd"
    assert read_input({"preset": "deepmd"}).optimizer.type == "RLEKF"

    adam = read_input({"type": "Adam", "preset": "matpl"}, loss={"limit_pref_f": 2.0})
    schedule = Schedule(adam.learning_rate, adam.loss, 100)
    assert schedule.prefactors(0) == (1.0, 100.0, 0.0) and adam.loss.limit_pref_f == 2.0
    assert_allclose(schedule.learning_rate(10_000), 1e-3 * (3.51e-5) ** 0.01, rtol=1e-12)
    assert schedule.learning_rate(1_000_001) == 3.51e-8
    same = read_input({"type": "Adam", "preset": "deepmd"})
    bare = read_input({"type": "Adam"})
    assert (same.loss, same.learning_rate) == (bare.loss, bare.learning_rate)


def read_input(optimizer, **sections):
    return kalmandp.read_input({**settings("none"), "optimizer": optimizer, **sections})


REFUSED = [
    ({"type": "SNES", "sigma_f": 0.1}, "optimizer/sigma_f is 0.1; this key is not supported"),
    ({"type": "SNES", "population": 1}, "optimizer/population is 1; expected an integer ≥ 2"),
    ({"type": "SNES", "preset": "n2p2"}, 'optimizer/preset is "n2p2"; expected "default" or "gpumd"'),
    ({"type": "Adam", "preset": "n2p2"}, 'optimizer/preset is "n2p2"; expected "deepmd" or "matpl"'),
    ({"type": "Adam", "population": 10}, "optimizer/population is 10; this key is not supported"),
    ({"type": "RLEKF", "reduction": "max"}, 'expected "mean" or "sum" or "deepmd"'),
    ({"type": "RLEKF", "reduction": "sum", "measurement": "matrix"}, "expected no reduction"),
    ({"type": "RLEKF", "candidates": {"force": -1.0}}, 'optimizer/candidates is {"force": -1.0}; expected'),
    ({"type": "RLEKF", "candidates": {"forces": 1.0}}, 'optimizer/candidates is {"forces": 1.0}'),
    ({"preset": "n2p2", "sigma_e": 0.1}, "sigma_e is given, but the preset 'n2p2' has its noise from"),
    ({"preset": "n2p2", "measurement": "matrix"}, "measures single force components"),
    ({"preset": "n2p3"}, "optimizer/preset"),
]


@pytest.mark.parametrize(("optimizer", "says"), REFUSED, ids=[str(o) for o, _ in REFUSED])
def test_what_makes_no_sense_is_refused_by_name(optimizer, says):
    with pytest.raises(InputError) as error:
        read_input(optimizer)
    assert says in str(error.value)


def test_frames_that_come_one_by_one(start):
    """What needs epochs, or a choice of frames, is refused; fading memory and reductions are not."""
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match='the preset "n2p2" anneals its noise by epochs'):
        kalmandp.OnlineTrainer(start, rng=rng, preset="n2p2")
    with pytest.raises(InputError, match="expected no threshold of energies"):
        kalmandp.OnlineTrainer(start, rng=rng, candidates={"energy": 1.0})
    online = kalmandp.OnlineTrainer(start.with_engine(None), rng=rng, preset="n2p2-fading", reduction="sum")
    assert online.learn(frames(2)).learnt[0].kind == "energy"
    assert online.settings.type == "GEKF" and read_optimizer({}).type == "RLEKF"


@pytest.mark.parametrize(
    ("optimizer", "updates", "blocks"),
    [({"type": "SNES", "population": 4}, 1, 0), ({"preset": "n2p2"}, 11, 1), ({"preset": "matpl-gkf"}, 5, 1)],
)
def test_a_plan_of_each(data, optimizer, updates, blocks):
    tree = settings(data)
    tree["optimizer"] = optimizer
    plan = make_plan(kalmandp.read_input(tree))
    assert (plan.updates_per_step, len(plan.block_sizes)) == (updates, blocks)
    assert plan.seconds_per_step > 0 and plan.optimizer.endswith(optimizer.get("preset", "default"))
