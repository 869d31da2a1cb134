"""Going on from a trained model: the prior of its weights is that of a filter which has seen the data."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp import RLEKF, OnlineTrainer, evaluate, read_input
from kalmandp.training.config.presets import PRESETS, TRAINED
from kalmandp.training.loop import Run

MODEL = {"type": "nep", "cutoff": [5, 4], "n_max": [3, 3], "basis_size": [5, 5], "l_max": [3], "neuron": 10}


def test_updates_without_an_error_take_the_data_into_P_alone():
    """P⁻¹ = P₀⁻¹ + Σ HᵀR⁻¹H, whatever λ was: the exact posterior of a linear model."""
    rng = np.random.default_rng(0)
    kalman = RLEKF(rng.normal(size=6), P0=2.0, lam=0.95)
    before, information = kalman.weights.copy(), np.eye(6) / 2.0
    with kalman.learning_prior():
        for _ in range(10):
            H, R = rng.normal(size=(3, 6)), rng.uniform(0.5, 2.0, 3)
            kalman.update(H, np.zeros(3), R)
            information += H.T @ (H / R[:, None])
    assert (kalman.weights == before).all() and (kalman.lam, kalman.updates) == (0.95, 0)
    assert_allclose(kalman.covariance.dense(0), np.linalg.inv(information), rtol=1e-10, atol=1e-14)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A NEP of silicon after some steps: its file, the run's frames."""
    folder = tmp_path_factory.mktemp("trained")
    run = Run(read_input(settings()), folder)
    for _ in range(80):
        run.step()
    run.result().save(folder / "nep.txt")
    return folder / "nep.txt", [run.data[k] for k in range(0, len(run.data), 8)]


def settings(**optimizer):
    return {
        "model": MODEL, "optimizer": {"type": "RLEKF", **optimizer},
        "training": {
            "training_data": {"systems": "data/thirteen/Si_train.h5"}, "numb_steps": 80, "seed": 1,
        },
    }  # fmt: skip


def worst_errors(model, frames, folder, **optimizer) -> np.ndarray:
    """The largest errors on old frames during 20 steps from a model, over its own: energy, force."""
    run = Run(read_input(settings(**optimizer)), folder, init_model=model)
    errors_k = [evaluate(run.potential, frames)]
    for _ in range(20):
        run.step()
        errors_k.append(evaluate(run.potential, frames))
    errors = np.array([(m.energy_rmse, m.force_rmse) for m in errors_k])
    return errors.max(axis=0) / errors[0]


def test_a_trained_model_is_not_destroyed(trained, tmp_path):
    """Errors on its own frames never rise by a tenth; by the prior of random weights they do."""
    model, frames = trained
    assert (worst_errors(model, frames, tmp_path / "a") < 1.1).all()
    assert (worst_errors(model, frames, tmp_path / "b", p0=1.0) > 1.2).all()


def test_the_online_trainer_takes_frames_that_the_model_was_trained_on(trained):
    from kalmandp import Potential

    model, frames = trained
    before = evaluate(Potential.load(model), frames).force_rmse
    online = OnlineTrainer(Potential.load(model), rng=np.random.default_rng(0), trained_on=frames)
    assert online.trainer.updates == 0 and online.filter.covariance.trace().sum() < 3e-4 * len(
        online.filter.weights
    )
    for frame in frames[:5]:
        online.learn(frame)
    assert evaluate(online.potential, frames).force_rmse < 1.1 * before


def test_energies_of_old_frames_do_not_drift(tmp_path):
    """With six times that P₀ energies of a larger NEP drift by one constant per atom; with it they do not."""
    tree = settings()
    tree["model"] = {"type": "nep", "cutoff": [5, 4]}
    tree["training"] |= {"numb_steps": 104, "validation_fraction": 0.2}
    run = Run(read_input(tree), tmp_path)
    for _ in range(run.n_steps):
        run.step()
    model, old = run.result(), [run.data[k] for k in range(len(run.data))]
    before, worst = evaluate(model, old[::4]).energy_rmse, []
    for options in ({}, {"p0": 6 * TRAINED * PRESETS["matrix"].p0}):
        online = OnlineTrainer(
            model.with_engine(model.engine.name), rng=np.random.default_rng(0), trained_on=old, **options
        )
        errors = []
        for frame in old[1::4]:
            online.learn(frame)
            errors.append(evaluate(online.potential, old[::4]).energy_rmse)
        worst.append(max(errors) / before)
    assert worst[0] < 1.1 and worst[1] > 1.3
