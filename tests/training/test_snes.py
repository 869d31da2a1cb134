"""SNES: its utilities and a generation by hand, a bowl, and a potential."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import frames, small_potential

from kalmandp.errors import FilterError, InputError
from kalmandp.training.config.presets import SNES_PRESETS
from kalmandp.training.measurements import measurement as M
from kalmandp.training.report.metrics import evaluate
from kalmandp.training.trainers.snes import SNES, SNESTrainer, rmse_loss, utilities


@pytest.fixture(scope="module")
def start():
    return small_potential()


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
