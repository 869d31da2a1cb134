"""Virial labels that are off by a constant: the filter finds it, and the model is that of the energies."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import Trained, tree_of

import kalmandp
from kalmandp import OnlineTrainer, Potential
from kalmandp.constants import GIGAPASCAL
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.registry import KINDS
from kalmandp.training.config.inputs import read_input
from kalmandp.training.config.presets import resolve
from kalmandp.training.config.settings import OptimizerSettings
from kalmandp.training.loop import Run
from kalmandp.training.measurements.measurement import make_sample
from kalmandp.training.report.metrics import Comparison, evaluate, summarize
from kalmandp.training.report.summary import error_table

#: eV per atom of the two types.
OFF_T = np.array([-0.3, 0.2])


@pytest.fixture(scope="module", params=list(KINDS))
def trained(request, tmp_path_factory):
    return Trained(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def nep(tmp_path_factory):
    return Trained("nep", tmp_path_factory.mktemp("nep alone"))


def labels_of_pairs(frame):
    """E, F and W = −∂E/∂ε of Σ over pairs 30 exp(−2 r/Å) (1 − r/4 Å)³ eV, each pair twice."""
    pairs = neighbour_pairs(frame, 4.0)
    r_p = np.sqrt((pairs.r_pc**2).sum(axis=1))
    u = 1.0 - r_p / 4.0
    e_p = 30 * np.exp(-2 * r_p) * u**3
    slope_p = 30 * np.exp(-2 * r_p) * (-2 * u**3 - 0.75 * u**2)
    f_pc = slope_p[:, None] * pairs.r_pc / r_p[:, None]  # ∂E/∂r_p
    F_ic = np.zeros((len(frame), 3))
    np.add.at(F_ic, pairs.i_p, f_pc)
    np.subtract.at(F_ic, pairs.j_p, f_pc)
    return e_p.sum(), F_ic, -np.einsum("pd,pc->dc", f_pc, pairs.r_pc)


def shifted(trained, path, off_t=OFF_T):
    """The training frames at several volumes, with labels of pairs, virials off per atom of a type."""
    frames = []
    for k, frame in enumerate(trained.frames("train")):
        scale = 1.0 + 0.02 * (k % 5 - 2)
        frame = replace(frame, cell=scale * frame.cell, positions=scale * frame.positions)
        E, F_ic, W = labels_of_pairs(frame)
        off = np.asarray(off_t)[frame.types].sum()
        frames.append(replace(frame, energy=E, forces=F_ic, virial=W + off * np.eye(3)))
    kalmandp.Dataset.write(path, frames)
    return frames


def run_of(trained, folder, path, **optimizer) -> Run:
    folder.mkdir(exist_ok=True)
    tree = tree_of(trained.kind, trained.place, optimizer, numb_steps=10)
    tree["training"]["training_data"]["systems"] = [str(path)]
    return Run(read_input(tree), folder)


@pytest.mark.parametrize("measurement", ["matrix", "signed", "paired", "joint"])
def test_columns_of_the_offset_are_its_derivatives(trained, measurement, tmp_path):
    """∂h/∂o by a difference: the error falls by H·δo, exactly, as h is linear in o."""
    shifted(trained, path := tmp_path / "shifted.h5")
    optimizer = {"measurement": measurement, "with_virial": True, "virial_offset": True, "norm": "l1"}
    r = run_of(trained, tmp_path / "run", path, **optimizer)
    N, n = r.potential.layout.size, len(r.potential.type_map)
    sample = make_sample(r.potential, [r.data[0], r.data[1]])

    def virials():
        kept = np.random.default_rng(0)
        found = [m for m in r.trainer.measure(sample, kept) if "virial" in m.kind_q]
        return found[0]

    before = virials()
    assert before.H_qw.shape[1] == N + n and len(r.trainer.filter.weights) == N + n
    delta = 1e-9 * np.arange(1, n + 1)  # no sign of an error changes
    r.trainer.filter.weights[N:] += delta
    after = virials()
    assert_allclose(after.error_q - before.error_q, -before.H_qw[:, N:] @ delta, rtol=1e-4, atol=1e-13)
    is_virial = np.array(before.kind_q) == "virial"
    assert not before.H_qw[~is_virial, N:].any() and before.H_qw[is_virial, N:].any()


def test_the_model_does_not_see_a_constant(nep, tmp_path):
    """With and without an offset of the labels: the same model, and what was added is found."""
    results = {}
    for name, off_t in {"right": (0.0, 0.0), "off": OFF_T}.items():
        frames = shifted(nep, path := tmp_path / f"{name}.h5", off_t)
        r = run_of(nep, tmp_path / name, path, preset="matrix", with_virial=True)
        for _ in range(60):
            r.step()
        results[name] = r
    n = sum(np.bincount(frame.types, minlength=2) for frame in frames)
    more = results["off"].trainer.disagreement, results["right"].trainer.disagreement
    found = more[0].energy - more[1].energy
    # the prior (σ = 0.2 eV) holds it back by what the frames leave open, some hundredths of it
    assert_allclose(found, n @ OFF_T / n.sum(), rtol=0.1)
    density = n.sum() / sum(frame.volume for frame in frames)
    # a share of 1/10 of the frames at most is counted once more than the others
    assert_allclose(more[0].pressure, more[0].energy * density / GIGAPASCAL, rtol=0.1)
    right, off = (evaluate(results[k].result(), results["right"].data) for k in ("right", "off"))
    before = right.virial_mean
    # a filter without the nuisance takes the constant into the model
    r = run_of(nep, tmp_path / "plain", path, preset="matrix", with_virial=True, virial_offset=False)
    for _ in range(60):
        r.step()
    plain = evaluate(r.result(), results["right"].data)
    # before: of labels without the constant
    assert 3 * abs(off.virial_mean - before) < abs(plain.virial_mean - before)


def test_a_restart_has_the_same_bits_and_the_model_has_no_offset(trained, tmp_path):
    shifted(trained, path := tmp_path / "off.h5")
    r = run_of(trained, tmp_path / "a", path, preset="matrix", with_virial="present", virial_offset=True)
    for _ in range(5):
        r.step()
    saved = r.checkpoint()
    N = r.potential.layout.size
    with h5py.File(saved) as file:
        assert file["potential/weights"].shape == (N,) and len(file["optimizer/weights"]) > N
    assert Potential.load(tmp_path / "a" / r.settings.training.model_file).weights.shape == (N,)
    again = Run(r.settings, tmp_path / "b", restart=saved)
    for run in (r, again):
        for _ in range(3):
            run.step()
    assert_array_equal(again.trainer.filter.weights, r.trainer.filter.weights)
    assert_array_equal(again.potential.weights, r.trainer.weights)
    assert again.trainer.disagreement == r.trainer.disagreement


def test_a_checkpoint_without_an_offset_goes_on_without(trained, tmp_path):
    """As of 0.7.0: with virials if it had them, without if they were not asked for then."""
    shifted(trained, path := tmp_path / "off.h5")
    for with_virial in (True, False):
        old = run_of(
            trained, tmp_path / f"old {with_virial}", path, preset="matrix", with_virial=with_virial,
            virial_offset=False,
        )  # fmt: skip
        for _ in range(3):
            old.step()
        saved = old.checkpoint()
        optimizer = {"preset": "matrix", "virial_offset": True}
        optimizer |= {"with_virial": "present"} if with_virial else {}
        new = run_of(trained, tmp_path / "new", path, **optimizer)
        new = Run(new.settings, tmp_path / "new", restart=saved)
        for run in (old, new):
            run.step()
        assert new.trainer.disagreement is None
        assert_array_equal(new.potential.weights, old.potential.weights)


def test_a_trained_model_knows_the_offset_before_its_first_step(trained, tmp_path):
    """The prior of a trained model: o is what the virials of its frames are off by, and w is left alone."""
    frames = trained.frames("train")[:4]
    potential = trained.potential
    exact = []
    for frame in frames:
        found = potential.evaluate(frame)
        off = OFF_T[frame.types].sum()
        exact.append(replace(frame, energy=found.energy, forces=found.forces,
                             virial=found.virial + off * np.eye(3)))  # fmt: skip
    before = potential.weights.copy()
    online = OnlineTrainer(
        potential, rng=np.random.default_rng(0), trained_on=exact, preset="matrix", with_virial=True,
        virial_offset=True,
    )  # fmt: skip
    n = sum(np.bincount(frame.types, minlength=2) for frame in frames)
    assert_allclose(online.trainer.disagreement.energy, n @ OFF_T / n.sum(), rtol=1e-8)
    assert_array_equal(potential.weights, before)
    with h5py.File(tmp_path / "host.h5", "w") as file:
        online.save(file.create_group("filter"))
        again = OnlineTrainer.restore(file["filter"])
    for one in (online, again):
        one.learn(exact[0])
    assert_array_equal(again.filter.weights, online.filter.weights)
    assert online.predict_with_uncertainty(exact[1])[1].virial.min() > 0


def test_volumes_must_vary(trained, tmp_path):
    """At one volume virials alone say what the pressure is: nothing is taken from them there."""
    shifted(trained, path := tmp_path / "many.h5")
    for data, has in ((path, True), (trained.place / "train.h5", False)):
        r = run_of(trained, tmp_path / f"{has}", data, preset="matrix", with_virial=True)
        assert (r.trainer.offset is not None) == has


def test_where_it_is_measured_by_itself():
    """On where virials are in the order of a preset of ours; codes that are reproduced do not have it."""
    of = lambda **stated: resolve(OptimizerSettings(**stated))
    assert of(preset="default", with_virial=True).virial_offset
    assert not of(preset="matpl", with_virial=True).virial_offset
    assert "virial" not in of(preset="default").order
    assert of(preset="default", with_virial=True).optional == ()
    assert of(preset="default", with_virial="present").optional == ("virial",)


def test_an_error_table_says_where_a_constant_is_most_of_it():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, (20, 3, 3))
    for mean, told in ((0.19, True), (0.01, False)):
        virial = [np.stack([np.zeros((3, 3)), 2 * (mean * np.eye(3) + e)], axis=-1) for e in noise]
        nothing = [None] * 20
        m = summarize(Comparison(np.full(20, 2), nothing, nothing, virial, nothing))
        assert_allclose(m.virial_mean, mean + np.trace(noise.mean(0)) / 3, rtol=1e-12)
        # without the mean RMSE is that of the noise, to the mean that 20 frames of noise have of their own
        assert_allclose(m.virial_rest, 0.01, rtol=0.2)
        assert ("on the diagonal" in error_table(m)) == told
