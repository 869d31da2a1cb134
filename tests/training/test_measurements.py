"""What goes into an update: signs, means, noise, and the Jacobian of each measurement."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import frames

from kalmandp.errors import InputError
from kalmandp.potentials.atomic import energies
from kalmandp.potentials.potential import Potential
from kalmandp.testing import WrongDerivative, check_jacobian, taylor_slope
from kalmandp.training.config.presets import resolve
from kalmandp.training.config.settings import OptimizerSettings
from kalmandp.training.measurements import measurement as M
from kalmandp.training.noise.variances import BlockNoise, PhysicalNoise
from kalmandp.training.report.metrics import evaluate
from kalmandp.training.trainers.adam import loss_gradient
from kalmandp.training.trainers.kalman import KalmanTrainer

NOISE = PhysicalNoise(sigma_e=0.002, sigma_f=0.1, sigma_w=0.01)


@pytest.fixture(scope="module")
def potential():
    return small()


def at(potential, w):
    """The same potential with other weights."""
    other = potential.with_engine("numba")
    other.weights = w
    return other


def numbers(potential, sample):
    """Functions of w: the raw vector each measurement is made of."""
    return {
        "energy": lambda w: M.predict(at(potential, w), sample).E_f,
        "force": lambda w: M.predict(at(potential, w), sample).F_ic.ravel(),
        "virial": lambda w: M.predict(at(potential, w), sample).W_fcc.ravel(),
    }


@pytest.mark.parametrize("norm", M.NORMS)
@pytest.mark.parametrize("n_frames", [1, 2])
def test_norms_are_what_they_say_and_H_is_their_derivative(potential, n_frames, norm):
    sample = M.make_sample(potential, frames(n_frames, seed=5))
    rng = np.random.default_rng(0)
    w = potential.weights.copy()
    atoms = rng.permutation(sample.n_atoms)[:6]
    index = (3 * atoms[:, None] + np.arange(3)).ravel()
    cases = {
        "energy": (M.energy_signed(potential, sample, NOISE, 3, norm_name=norm), slice(None), "energy"),
        "force": (M.force_signed(potential, sample, atoms, NOISE, 3, norm_name=norm), index, "forces"),
        "virial": (M.virial_signed(potential, sample, NOISE, 3, norm_name=norm), slice(None), "virial"),
    }
    for kind, (m, chosen, name) in cases.items():
        vector = numbers(potential, sample)[kind]
        wanted = np.concatenate(M.labels_f(sample, name)).ravel()[chosen]
        error = wanted - vector(w)[chosen]
        size = {"l1": lambda e: np.abs(e).mean(), "l2": lambda e: np.sqrt((e * e).mean())}[norm]
        assert_allclose(m.error_q, [size(error)], rtol=1e-9)
        # H is the rate at which the norm falls, as long as no error changes its sign
        falls = lambda w, v=vector, c=chosen, y=wanted, size=size: -size(y - v(w)[c])
        slope = taylor_slope(falls, m.H_qw[0], w, rng.normal(size=len(w)), (3e-3, 1e-3, 3e-4))
        assert slope > 1.8, kind


def test_an_error_of_zero_asks_for_nothing():
    """The l2 norm has no derivative there; a H of zero leaves the weights where they are."""
    error, s = M.norm(np.zeros((4, 3)), "l2")
    assert error == 0.0 and not s.any()
    error, s = M.norm(np.array([3.0, -4.0]), "l2")
    assert_allclose((error, (s * [3.0, -4.0]).mean()), np.sqrt(12.5), rtol=1e-15)


def test_matrix_rows_are_the_components(potential):
    sample = M.make_sample(potential, frames(1, seed=6))
    m = M.matrix(potential, sample, np.array([3, 7]), NOISE, 3, ("energy", "force", "virial"))
    assert m.H_qw.shape == (1 + 6 + 6, potential.layout.size)
    frame = sample.frames[0]
    c = np.zeros((16, 3))
    c[7, 1] = 1.0
    size = np.abs(m.H_qw).max()
    assert_allclose(m.H_qw[5], potential.force_jacobian(frame, c), atol=1e-12 * size)
    assert_allclose(m.H_qw[0], potential.energy_jacobian(frame), atol=1e-12 * size)
    C = np.zeros((3, 3))
    C[0, 1] = C[1, 0] = 0.5
    assert_allclose(m.H_qw[8], potential.virial_jacobian(frame, C), atol=1e-12 * size)
    assert_allclose(m.noise_q, [(0.002 * 16) ** 2] + [0.01] * 6 + [(0.01 * 16) ** 2] * 6)


def test_joint_is_the_signed_numbers_of_one_prediction(potential):
    sample = M.make_sample(potential, frames(1, seed=7))
    groups = [np.array([0, 1]), np.array([5, 9, 9])]
    m = M.joint(potential, sample, groups, NOISE, 3, ("energy", "force", "virial"))
    singles = [
        M.energy_signed(potential, sample, NOISE, 3),
        *(M.force_signed(potential, sample, g, NOISE, 3) for g in groups),
        M.virial_signed(potential, sample, NOISE, 3),
    ]
    for q, single in enumerate(singles):
        size = np.abs(single.H_qw).max()
        assert_allclose(m.H_qw[q], single.H_qw[0], atol=1e-12 * size)
        assert_allclose(m.error_q[q], single.error_q[0], rtol=1e-9)


def test_an_atom_drawn_twice_counts_twice(potential):
    sample = M.make_sample(potential, frames(1, seed=8))
    twice = M.force_signed(potential, sample, np.array([4, 4, 2]), NOISE, 3)
    four = M.force_signed(potential, sample, np.array([4]), NOISE, 3)
    two = M.force_signed(potential, sample, np.array([2]), NOISE, 3)
    assert_allclose(twice.error_q, (2 * four.error_q + two.error_q) / 3, rtol=1e-12)
    size = np.abs(four.H_qw).max()
    assert_allclose(twice.H_qw, (2 * four.H_qw + two.H_qw) / 3, atol=1e-12 * size)


def test_noise_rules():
    """R by hand: σ² in physical units, L for the paper, L(N/p)² for the codes."""
    assert NOISE.energy(64, 9) == (0.002 * 64) ** 2
    assert NOISE.force(64, 9) == 0.1**2
    assert BlockNoise().energy(64, 9) == BlockNoise().force(64, 9) == 9
    codes = BlockNoise(pref_f=2.0, per_atom=True)
    assert codes.energy(64, 9) == 9 * 64**2
    assert codes.force(64, 9) == 9 * 32**2
    assert codes.atomic_energy(64, 9) == 9 * 64**2
    assert PhysicalNoise(1, 1, 1, sigma_a=0.05).atomic_energy(64, 9) == 0.05**2


def test_a_frame_without_the_label_is_named(potential):
    bare = dataclasses.replace(frames(1)[0], virial=None)
    sample = M.make_sample(potential, [bare])
    with pytest.raises(InputError, match="morse frame 0 has no virial"):
        M.virial_signed(potential, sample, NOISE, 3)


def test_adams_gradient_is_that_of_its_loss(potential):
    sample = M.make_sample(potential, frames(2, seed=9))
    w = potential.weights.copy()
    _, gradient = loss_gradient(potential, sample, (0.3, 20.0, 0.5))
    loss = lambda w: loss_gradient(at(potential, w), sample, (0.3, 20.0, 0.5))[0]
    d = np.random.default_rng(1).normal(size=len(w))
    assert taylor_slope(loss, gradient, w, d, (1e-3, 3e-4, 1e-4)) > 1.8


def test_adams_loss_by_hand(potential):
    sample = M.make_sample(potential, frames(1, seed=10))
    f, now = sample.frames[0], M.predict(potential, sample)
    loss, _ = loss_gradient(potential, sample, (0.3, 20.0, 0.5))
    by_hand = 0.3 * (now.E_f[0] - f.energy) ** 2 / 16
    by_hand += 20.0 * ((now.F_ic - f.forces) ** 2).sum() / 48
    by_hand += 0.5 * ((now.W_fcc[0] - f.virial) ** 2).sum() / 9 / 16
    assert_allclose(loss, by_hand, rtol=1e-12)


def with_atomic_energies(frame, potential, rng):
    """The frame with labels that lie on both sides of what the potential says."""
    near = potential.evaluate(frame).atomic_energies + 0.1 * rng.normal(size=len(frame))
    return dataclasses.replace(frame, atomic_energies=near)


def small(seed=2, **options):
    return Potential.create(
        ("A", "B"), rcut=4.2, rcut_smth=1.0, frames=frames(4), rng=np.random.default_rng(seed),
        embedding=(4, 8), axis_neuron=3, fitting=(6, 6), type_one_side=True, fitting_resnet_dt=False,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("n_frames", [1, 2])
def test_atomic_energies_are_a_measurement(n_frames):
    """Four judges: complex step, Taylor, the rows of the matrix form, and the fused engine's twin.

    The fifth, their sum, is in the stored values: Σ_i ∂E_i/∂w is ∂E/∂w.
    """
    rng = np.random.default_rng(3)
    reference = small(engine="numpy")
    labelled = [with_atomic_energies(f, reference, rng) for f in frames(n_frames, seed=5)]
    sample = M.make_sample(reference, labelled)
    m = M.atomic_energy_signed(reference, sample, NOISE, 3)
    y = np.concatenate([f.atomic_energies for f in labelled])
    E_i = lambda w: energies(reference.parameters._replace(weights=w), sample.environment)[0]
    s = np.sign(y - E_i(reference.weights))
    check_jacobian(lambda w: (s * E_i(w)).mean(), m.H_qw[0], reference.weights, rng)
    assert_allclose(m.error_q, [np.abs(y - E_i(reference.weights)).mean()], rtol=1e-14)

    atoms = np.arange(sample.n_atoms)
    rows = M.matrix(reference, sample, atoms, NOISE, 3, ("energy", "force", "atomic_energy")).H_qw
    each = rows[-len(atoms) :]
    size = np.abs(each).max()
    assert_allclose(m.H_qw[0], (s[:, None] * each).mean(0), rtol=0, atol=1e-13 * size)  # rounding
    whole = reference.energy_jacobian(labelled[0])
    assert_allclose(each[:16].sum(0), whole, rtol=0, atol=1e-12 * size)  # Σ_i E_i = E

    fused = reference.with_engine("numba")
    twin = M.atomic_energy_signed(fused, M.make_sample(fused, labelled), NOISE, 3)
    # the fused engine's table of the embedding: see tests/engines
    assert_allclose(twin.H_qw, m.H_qw, rtol=0, atol=1e-10 * size)


def test_a_wrong_sign_of_an_atomic_energy_is_seen(monkeypatch):
    """The planted mistake: the sign of the first error given to all atoms."""
    rng = np.random.default_rng(4)
    potential = small(engine="numpy")
    sample = M.make_sample(potential, [with_atomic_energies(frames(1)[0], potential, rng)])
    E_i = lambda w: energies(potential.parameters._replace(weights=w), sample.environment)[0]
    _, s = M.norm(sample.frames[0].atomic_energies - E_i(potential.weights), "l1")
    assert len(set(s)) == 2
    monkeypatch.setattr(M, "norm", lambda error, kind, weight: (abs(error).mean(), 1 + 0 * error))
    H = M.atomic_energy_signed(potential, sample, NOISE, 3).H_qw[0]
    with pytest.raises(WrongDerivative):
        check_jacobian(lambda w: (s * E_i(w)).mean(), H, potential.weights, rng)


@pytest.mark.parametrize("measurement", ["signed", "paired", "joint", "matrix"])
def test_training_with_atomic_energies_learns_them(measurement):
    """Labels of another potential with the same statistics can be learnt; without them E_i stays off."""
    teacher, errors = small(seed=7), {}
    labelled = [
        dataclasses.replace(f, energy=r.energy, forces=r.forces, atomic_energies=r.atomic_energies)
        for f in frames(12, seed=1)
        for r in [teacher.evaluate(f)]
    ]
    for wanted in (True, False):
        choices = resolve(OptimizerSettings(measurement=measurement, with_atomic_energies=wanted))
        trainer = KalmanTrainer(small(), choices, np.random.default_rng(0))
        for frame in labelled * 2:
            trainer.step(M.make_sample(trainer.potential, [frame]))
        errors[wanted] = evaluate(trainer.potential, labelled).atomic_energy_rmse
    assert errors[True] < 0.5 * errors[False], errors


def test_combine_is_the_measurement_of_the_frames_side_by_side(potential):
    """With "l1", for frames of one size: the mean of theirs is the measurement of all in one sample."""
    together = frames(3, seed=11)
    one = [M.energy_signed(potential, M.make_sample(potential, [f]), NOISE, 3) for f in together]
    all_at_once = M.energy_signed(potential, M.make_sample(potential, together), NOISE, 3)
    combined = M.combine(one)
    size = np.abs(combined.H_qw).max()
    assert_allclose(combined.H_qw, all_at_once.H_qw, rtol=0, atol=1e-12 * size)  # order of sums
    assert_allclose(combined.error_q, all_at_once.error_q, rtol=1e-9)
    assert_allclose(combined.noise_q, all_at_once.noise_q, rtol=1e-14)
    samples = [M.make_sample(potential, [f]) for f in together]
    each = [M.energy_signed(potential, s, NOISE, 3, norm_name="l2") for s in samples]  # |error| of one number
    both = M.energy_signed(potential, M.make_sample(potential, together), NOISE, 3, norm_name="l2")
    error_f = np.concatenate([m.error_q for m in each])
    assert_allclose(M.combine(each).error_q, error_f.mean(), rtol=1e-14)
    assert_allclose(both.error_q, np.sqrt((error_f**2).mean()), rtol=1e-9)
    force = M.force_signed(potential, M.make_sample(potential, together[:1]), np.array([0]), NOISE, 3)
    for wrong in ([], [one[0], force]):
        with pytest.raises(InputError, match="expected one kind, of one size"):
            M.combine(wrong)
