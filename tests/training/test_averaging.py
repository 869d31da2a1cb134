"""Averaged weights: their closed form, and that no bit of the run depends on them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import settings

import kalmandp
from kalmandp.errors import FilterError, InputError
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.training.loop import Run, train
from kalmandp.training.measurements.gate import Gate, Refusal
from kalmandp.training.measurements.measurement import make_sample
from kalmandp.training.trainers.averaging import WeightAverage, averaged


def run_of(tree, folder, steps, **options):
    run = Run(kalmandp.read_input(tree), folder, **options)
    for _ in range(steps):
        run.step()
    return run


def test_a_share_of_one_is_the_plain_mean():
    """1/(1 + t) of each: w₀ and w₁ … w_t count alike."""
    w_tw = np.random.default_rng(0).normal(size=(8, 5))
    average = WeightAverage(w_tw[0], 1.0)
    for w in w_tw[1:]:
        average.add(w)
    assert_allclose(average.weights, w_tw.mean(axis=0), rtol=1e-14)


def test_late_weights_count_as_a_power_of_their_number():
    """Update k of n counts as k^(1/s − 1): for s = 1/3 as (k + 1)(k + 2), its discrete form."""
    n, s = 30, 1 / 3
    average = WeightAverage(np.zeros(n), s)
    for k in range(n):
        average.add(np.eye(n)[k])
    k = np.arange(1, n + 1)
    weight_k = (k + 1.0) * (k + 2.0)
    assert_allclose(average.weights / average.weights[-1], weight_k / weight_k[-1], rtol=1e-12)


def test_no_bit_of_a_run_depends_on_its_average(data, tmp_path):
    """With an average that is asked for all the time, and with none: the same weights and the same P."""
    with_it = run_of(settings(data), tmp_path / "a", 0)
    without = run_of(settings(data, optimizer={"averaging": 0}), tmp_path / "b", 0)
    for _ in range(6):
        with_it.step()
        without.step()
        with_it.result()
    assert (with_it.potential.weights == without.potential.weights).all()
    P, Q = (run.trainer.filter.covariance.diagonal() for run in (with_it, without))
    assert (P == Q).all()
    assert without.result() is without.potential
    assert unshifted(with_it.result(), with_it.trainer.average.weights)
    assert not unshifted(with_it.result(), with_it.potential.weights)


def unshifted(potential, weights) -> bool:
    """Whether the weights are these but for the last biases of the fitting nets, all shifted alike."""
    last = [f"fitting.{t}.layer.2.b" for t in range(2)]
    where = np.concatenate([np.arange(len(weights))[slice(*span(potential, name))] for name in last])
    rest = np.setdiff1d(np.arange(len(weights)), where)
    shift = (potential.weights - weights)[where]
    return bool((potential.weights == weights)[rest].all()) and np.ptp(shift) < 1e-12


def span(potential, name):
    tensor = potential.layout[name]
    return tensor.start, tensor.stop


@pytest.mark.parametrize("optimizer", [{"type": "RLEKF"}, {"type": "Adam", "averaging": 0.3}])
def test_a_restart_goes_on_with_the_same_average(data, tmp_path, optimizer):
    tree = settings(data) | {"optimizer": optimizer}
    whole = run_of(tree, tmp_path / "whole", 10)
    first = run_of(tree, tmp_path / "cut", 4)
    first.checkpoint()
    second = run_of(tree, tmp_path / "cut", 6, restart=tmp_path / "cut/model.ckpt.h5")
    assert (whole.result().weights == second.result().weights).all()


def test_a_checkpoint_without_an_average_begins_one(data, tmp_path):
    """As one of version 0.4.0: what is averaged is what comes from now on."""
    old = run_of(settings(data, optimizer={"averaging": 0}), tmp_path, 3)
    old.checkpoint()
    with h5py.File(tmp_path / "model.ckpt.h5") as file:
        assert "average" not in file["optimizer"]
    again = run_of(settings(data), tmp_path, 0, restart=tmp_path / "model.ckpt.h5")
    assert (again.trainer.average.weights == old.potential.weights).all()


def test_the_model_of_a_run_is_the_averaged_one(data, tmp_path):
    """The file, the validation errors of the learning curve, and `result` are one."""
    tree = settings(data)
    tree["training"]["validation_data"] = {"systems": [str(data)]}
    *_, end = train(tree, output=tmp_path)
    model = kalmandp.Potential.load(tmp_path / "model.dp")
    errors = kalmandp.evaluate(model, kalmandp.Dataset(data))
    with h5py.File(tmp_path / "model.ckpt.h5") as file:
        assert unshifted(model, file["optimizer/average"][()])
        assert not unshifted(model, file["potential/weights"][()])
    assert_allclose((end.valid_e, end.valid_f), (errors.energy_rmse, errors.force_rmse), rtol=1e-9)


def test_energies_are_shifted_by_one_constant_per_atom(data):
    """Energies of weights that nobody trained are off; then not on the mean. The types' own bias stays."""
    some = list(kalmandp.Dataset(data))
    start = run_of(settings(data), data.parent / "start", 0).potential
    other = start.weights + 0.02 * np.random.default_rng(3).normal(size=len(start.weights))
    pairs = [neighbour_pairs(frame, 4.2) for frame in some]
    made = averaged(start, other, zip(some, pairs, strict=True))
    assert unshifted(made, other) and (made.bias_atom_e == start.bias_atom_e).all()
    rest = [(frame.energy - made.evaluate(frame).energy) / len(frame) for frame in some]
    assert abs(np.mean(rest)) < 1e-10
    bare = [kalmandp.Frame(f.positions, f.types, f.type_map, cell=f.cell) for f in some]
    assert (averaged(start, other, zip(bare, pairs, strict=True)).weights == other).all()


def test_a_refused_update_is_not_averaged(data, tmp_path):
    """Left out by the gate, or failed: the average is as before."""
    run = run_of(settings(data), tmp_path, 2)
    before, t = run.trainer.average.weights.copy(), run.trainer.average.updates
    sample = make_sample(run.potential, [run.frames[0][0]], [run.frames[0][1]])
    m = next(run.trainer.measure(sample))
    with pytest.raises(FilterError):
        run.trainer.update(m._replace(error_q=m.error_q * np.nan))
    run.trainer.gate = Gate(10.0)
    run.trainer.gate.judge = lambda found: Refusal("force", 1.0, 0.1)
    run.trainer.update(m)
    assert (run.trainer.average.weights == before).all() and run.trainer.average.updates == t


def test_a_stored_average_of_another_size_is_refused():
    with pytest.raises(InputError, match="the average stored"):
        WeightAverage(np.zeros(4), 0.1).restore({"average": np.zeros(3), "averaged": 2}, np.zeros(4))


@pytest.mark.parametrize("value", [-0.1, 1.5, "much"])
def test_a_share_that_is_none_is_refused(data, value):
    with pytest.raises(InputError, match="optimizer/averaging"):
        kalmandp.read_input(settings(data, optimizer={"averaging": value}))
