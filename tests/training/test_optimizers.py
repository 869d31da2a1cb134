"""Reductions of a batch, and what the presets of all optimizers are called."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import frames, kalman_trainer, settings, small_potential

import kalmandp
from kalmandp.errors import InputError
from kalmandp.training.config.inputs import read_optimizer
from kalmandp.training.config.presets import PRESETS, REDUCTIONS, resolve
from kalmandp.training.config.settings import OptimizerSettings
from kalmandp.training.measurements import measurement as M
from kalmandp.training.noise.annealing import Annealing
from kalmandp.training.placement.plan import make_plan
from kalmandp.training.trainers.adam import Schedule


@pytest.fixture(scope="module")
def start():
    return small_potential()


def stepped(start, choices, batch) -> np.ndarray:
    """Weights after two steps with a batch."""
    trainer = kalman_trainer(start, choices)
    for _ in range(2):
        trainer.step(M.make_sample(trainer.potential, batch))
    return trainer.potential.weights


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
        trainer = kalman_trainer(start, choices)
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
        trainer = kalman_trainer(start, resolve(OptimizerSettings(reduction=name, measurement="joint")))
        trainer.step(M.make_sample(trainer.potential, batch))
        usual[name] = trainer.adaptive.state()
    assert usual["mean"] == pytest.approx(usual["sum"], rel=1e-12)


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
