"""Weights of frames, types and components: the filter trusts a number as if its noise were R/ω²."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from systems import frames, kalman_trainer, settings, small_potential

from kalmandp import InputError, read_input
from kalmandp.training.config.presets import resolve
from kalmandp.training.config.settings import OptimizerSettings
from kalmandp.training.measurements import measurement as M
from kalmandp.training.measurements.weights import Weighting, squares
from kalmandp.training.trainers.adam import loss_gradient
from kalmandp.training.trainers.snes import rmse_loss

MEASUREMENTS = ["signed", "paired", "joint", "matrix"]


@pytest.fixture(scope="module")
def start():
    return small_potential()


def choices(measurement="matrix", adapt=0.0, **stated):
    own = {"sigma_e": 0.002, "sigma_f": 0.06, "sigma_w": 0.01, "n_groups": 1, "group_size": 3}
    return resolve(
        OptimizerSettings(
            measurement=measurement, adapt=adapt, averaging=0.0, with_virial=True, **{**own, **stated}
        )
    )


def learnt(start, frame, c):
    trainer = kalman_trainer(start, c)
    for _ in range(2):
        trainer.step(M.make_sample(trainer.potential, [frame]))
    return trainer.potential.weights


@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_a_frame_of_weight_2_acts_as_a_quarter_of_the_noise(start, measurement):
    """The same bits, since powers of two do not round."""
    [f] = frames(1, seed=3)
    plain, quarter = choices(measurement), choices(measurement, sigma_e=0.001, sigma_f=0.03, sigma_w=0.005)
    assert_array_equal(learnt(start, replace(f, weight=2.0), plain), learnt(start, f, quarter))
    of_energy = choices(measurement, sigma_e=0.001)
    assert_array_equal(learnt(start, replace(f, energy_weight=4.0), plain), learnt(start, f, of_energy))
    assert_array_equal(
        learnt(start, replace(f, weight=1.0, energy_weight=1.0), plain), learnt(start, f, plain)
    )
    assert (learnt(start, replace(f, weight=2.0), plain) != learnt(start, f, plain)).any()


@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_noise_that_follows_the_errors_does_not_know_the_weights(start, measurement):
    """R is adapted first, then divided by ω²."""
    [f] = frames(1, seed=4)
    c = choices(measurement, adapt=0.5)
    weighted, plain = kalman_trainer(start, c), kalman_trainer(start, c)
    for m in weighted.measure(M.make_sample(start, [replace(f, weight=2.0)])):
        weighted.update(m)
    for m in plain.measure(M.make_sample(start, [f])):
        noise = plain.adaptive.noise(m.kind_q, m.noise_q, m.error_q)
        plain.filter.update(m.H_qw, m.error_q, noise / 4)
        plain.potential.weights = plain.weights
    assert_array_equal(weighted.potential.weights, plain.potential.weights)


def test_squares_of_single_numbers(start):
    """Energies, forces of two types, virials, by the formula."""
    two = [
        replace(f, weight=w, energy_weight=3.0) for f, w in zip(frames(2, seed=5), (2.0, 0.5), strict=True)
    ]
    sample = M.make_sample(start, two)
    atoms = np.array([1, 4, 17])  # types 1, 0, 1; the last in the second frame
    weighting = Weighting({"B": 3.0}, 0.7, 0.25)
    m = M.matrix(start, sample, atoms, choices().noise, 1, ("energy", "force", "virial"), weighting=weighting)
    expected = [2**2 * 3, 0.5**2 * 3]
    for i, tau, w in ((1, 3, 2), (4, 1, 2), (17, 3, 0.5)):
        size = np.linalg.norm(two[i // 16].forces[i % 16])
        expected += 3 * [w**2 * tau**2 * 0.7 / (0.7 + size)]
    for w in (2, 0.5):  # xx, xy, xz, yy, yz, zz
        expected += [w**2 * s for s in (1, 0.25**2, 0.25**2, 1, 0.25**2, 1)]
    assert_allclose(m.square_q, expected, rtol=1e-14)
    assert_allclose(m.weighted(m.noise_q), m.noise_q / expected, rtol=1e-14)
    numbers = M.chosen_numbers(sample, atoms, ("energy", "force", "virial"))
    assert squares(frames(2), numbers, Weighting({"A": 1.0})) is None


@pytest.mark.parametrize("stated, factor", [
    ({"lambda_shear": 2.0}, "virial"), ({"type_weight": {"A": 2.0, "B": 2.0}}, "force"),
])  # fmt: skip
def test_weights_of_an_input_reach_the_update(start, stated, factor):
    """τ = 2 of all types is a quarter of the forces' noise; λ_shear is that of three virials."""
    [f] = frames(1, seed=6)
    trainer, plain = kalman_trainer(start, choices(**stated)), kalman_trainer(start, choices())
    trainer.step(M.make_sample(start, [f]))
    for m in plain.measure(M.make_sample(start, [f])):
        shear = np.zeros(len(m.noise_q), bool)
        shear[[-5, -4, -2]] = True
        chosen = np.array([k == factor for k in m.kind_q]) & (shear | (factor == "force"))
        plain.filter.update(m.H_qw, m.error_q, np.where(chosen, m.noise_q / 4, m.noise_q))
    assert_array_equal(trainer.filter.weights, plain.filter.weights)


@pytest.mark.parametrize("kind", M.NORMS)
def test_one_number_of_a_batch_counts_its_frames_by_weight(start, kind):
    """Norm of ω_f e_f/Ω with Ω² = ⟨ω²⟩, and H is minus its gradient."""
    weight_f = np.array([2.0, 0.5])
    batch = [replace(f, weight=w) for f, w in zip(frames(2, seed=7), weight_f, strict=True)]
    c, atoms = choices(), np.array([0, 3, 20])
    v = np.random.default_rng(1).normal(size=start.layout.size)
    v /= np.linalg.norm(v)

    def measured(w):
        p = start.replace(weights=w)
        sample = M.make_sample(p, batch)
        return M.joint(p, sample, [atoms], c.noise, 1, ("energy", "force", "virial"), norm_name=kind)

    m, Omega = measured(start.weights), np.sqrt((weight_f**2).mean())
    assert_allclose(m.square_q, 3 * [Omega**2], rtol=1e-14)
    now = [start.evaluate(f) for f in batch]
    e = (weight_f / Omega) * [f.energy - r.energy for f, r in zip(batch, now, strict=True)]
    assert_allclose(m.error_q[0], np.abs(e).mean() if kind == "l1" else np.sqrt((e**2).mean()), rtol=1e-10)
    h = 1e-5  # the third order is below 1e-8 of the slope
    slope_q = (measured(start.weights + h * v).error_q - measured(start.weights - h * v).error_q) / (2 * h)
    assert_allclose(slope_q, -(m.H_qw @ v), rtol=1e-5, atol=1e-7)


def test_combined_measurements_keep_their_noise(start):
    """The mean of R/ω² of the frames."""
    c = choices("signed")
    each = [
        M.energy_signed(start, M.make_sample(start, [replace(f, weight=w)]), c.noise, 1)
        for f, w in zip(frames(2, seed=8), (2.0, 1.0), strict=True)
    ]
    one = M.combine(each)
    R = c.noise.energy(16, 1)
    assert_allclose(one.weighted(one.noise_q), [(R / 4 + R) / 2], rtol=1e-14)


def test_losses_have_squared_errors_times_squared_weights(start):
    batch = [
        replace(f, weight=w, energy_weight=0.25) for f, w in zip(frames(2, seed=9), (2.0, 3.0), strict=True)
    ]
    sample, now = M.make_sample(start, batch), [start.evaluate(f) for f in batch]
    rows = list(zip(batch, now, (2.0, 3.0), strict=True))
    E = np.array([0.5 * w * (f.energy - r.energy) for f, r, w in rows])
    F = np.array([w * (f.forces - r.forces) for f, r, w in rows])
    W = np.array([w * (f.virial - r.virial) for f, r, w in rows])
    mean = lambda x: np.mean(np.square(x))
    loss, gradient = loss_gradient(start, sample, (0.3, 20.0, 0.5))
    assert_allclose(loss, 0.3 * mean(E) / 16 + 20 * mean(F) + 0.5 * mean(W) / 16, rtol=1e-10)
    v = np.random.default_rng(2).normal(size=start.layout.size)
    at = lambda x: loss_gradient(start.replace(weights=start.weights + x * v), sample, (0.3, 20.0, 0.5))
    h = 1e-5
    assert_allclose((at(h)[0] - at(-h)[0]) / (2 * h), gradient @ v, rtol=1e-6)
    rms = np.sqrt(mean(E)) / 16 + 2 * np.sqrt(mean(F)) + 0.1 * np.sqrt(mean(W)) / 16
    assert_allclose(rmse_loss(start, sample, 1.0, 2.0, 0.1), rms, rtol=1e-10)


@pytest.mark.parametrize("optimizer, message", [
    ({"type_weight": {"A": 2.0}}, 'type_weight is given, but measurement "paired"'),
    ({"lambda_shear": 2.0, "preset": "paper"}, 'lambda_shear is given, but measurement "signed"'),
    ({"type_weight": {"A": 0}}, "expected an object of names of types and numbers > 0"),
    ({"force_delta": -1}, "expected a number > 0"),
], ids=str)  # fmt: skip
def test_weights_that_cannot_be(optimizer, message):
    with pytest.raises(InputError, match=message):
        read_input(settings("data.h5", optimizer=optimizer))


def test_a_type_that_there_is_not(start):
    with pytest.raises(InputError, match="type_weight is of Xe; expected types among A, B"):
        kalman_trainer(start, choices(type_weight={"Xe": 2.0}))
