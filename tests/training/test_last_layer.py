"""The exact solve of the last layer: linear for every kind, the minimum, refused where it hurts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import files_of, run, tree_of, write_data, write_input

import kalmandp
from kalmandp import OnlineTrainer, Potential
from kalmandp.errors import InputError
from kalmandp.registry import KINDS
from kalmandp.training import last_layer
from kalmandp.training.config.inputs import read_input
from kalmandp.training.config.presets import resolve
from kalmandp.training.config.settings import OptimizerSettings
from kalmandp.training.last_layer import (
    LAST_LAYER,
    UNIT,
    _balances,
    _with_forces,
    all_numbers,
    are_enough,
    last_layer_columns,
    linear_numbers,
    solve_last_layer,
)
from kalmandp.training.loop import Run
from kalmandp.training.measurements.virial_offset import VirialOffset
from kalmandp.training.noise.variances import PhysicalNoise

NOISE = PhysicalNoise(sigma_e=0.001, sigma_f=0.03, sigma_w=0.005)
ALL = ("energy", "force", "virial")


@pytest.fixture(scope="module", params=list(KINDS))
def model(request, tmp_path_factory):
    """A potential after some steps, and frames with energies, forces and virials of another one."""
    folder = tmp_path_factory.mktemp(request.param)
    write_data(folder)
    r = Run(read_input(tree_of(request.param, folder)), folder)
    for _ in range(4):
        r.step()
    potential = r.result()
    return potential, [labelled(frame, moved(potential, 1)) for frame in r.data], folder


def moved(potential: Potential, seed: int, size: float = 0.1) -> Potential:
    """The potential with other weights of the last layer."""
    columns = last_layer_columns(potential.layout)
    prior_w = np.broadcast_to(potential.layout.prior(1.0), potential.layout.size)  # 1/gain², the units
    weights = potential.weights.copy()
    step = np.random.default_rng(seed).normal(size=len(columns))
    weights[columns] += size * np.sqrt(prior_w[columns]) * step
    return potential.replace(weights=weights)


def labelled(frame, potential: Potential, off: float = 0.0):
    found = potential.evaluate(frame)
    return replace(
        frame, energy=found.energy, forces=found.forces,
        virial=found.virial + off * len(frame) * np.eye(3),
    )  # fmt: skip


def stacked(potential, frames, **options):
    """H_qv, error_q, R_q of frames, one below the other."""
    columns = last_layer_columns(potential.layout)
    parts = [
        m for frame in frames for m in linear_numbers(potential, frame, columns, NOISE, ALL, **options)
    ]
    return tuple(np.concatenate([getattr(m, name) for m in parts]) for name in ("H_qv", "error_q", "noise_q"))


def test_every_number_is_linear_in_the_last_layer(model):
    """h(v) = h(v₀) + H_v (v − v₀), to rounding, a long way off; not so if a column is left out."""
    potential, frames, _ = model
    other, columns = moved(potential, 2), last_layer_columns(potential.layout)
    H, before, _ = stacked(potential, frames[:3])
    _, after, _ = stacked(other, frames[:3])
    step = other.weights[columns] - potential.weights[columns]
    # energies are sums of 10² eV of terms, kept to 16 digits
    assert_allclose(before - after, H @ step, rtol=1e-9, atol=1e-10)
    assert np.abs(before - after).max() > 0.01
    assert np.abs(before - after - H[:, :-1] @ step[:-1]).max() > 1e-6
    assert len(set(columns.tolist())) == len(columns)


def test_it_is_the_minimum_and_finds_what_was_planted(model):
    """Against a least-squares solve of all rows at once; labels that it can have are had."""
    potential, frames, _ = model
    columns = last_layer_columns(potential.layout)
    H, error, R = stacked(potential, frames)
    for p0 in (1.0, 1e-4):
        solved = solve_last_layer(potential, frames, frames, noise=NOISE, kinds=ALL, p0=p0)
        P0 = np.broadcast_to(potential.layout.prior(p0), potential.layout.size)[columns]
        # rows of the prior below those of the labels
        A = np.concatenate([H / np.sqrt(R)[:, None], np.diag(P0**-0.5)])
        step = np.linalg.lstsq(A, np.concatenate([error / np.sqrt(R), np.zeros(len(P0))]), rcond=None)[0]
        assert solved.accepted
        weights = solved.potential.weights
        assert_allclose((weights - potential.weights)[columns] / np.sqrt(P0), step / np.sqrt(P0), atol=1e-5)
        rest = np.setdiff1d(np.arange(len(weights)), columns)
        assert_array_equal(weights[rest], potential.weights[rest])
    # labels without noise: what they leave open of v the prior decides, and no label sees
    exact = PhysicalNoise(sigma_e=1e-6, sigma_f=3e-5, sigma_w=5e-6)
    solved = solve_last_layer(potential, frames, frames, noise=exact, kinds=ALL)
    assert solved.after.force_rmse < 0.01 * solved.before.force_rmse
    assert solved.after.energy_rmse < 0.01 * solved.before.energy_rmse


def test_a_constant_of_virials_is_not_fitted(model):
    """With labels off by 0.1 eV per atom on the diagonal: the solution is that of the labels without."""
    potential, frames, _ = model
    truth = moved(potential, 1)
    off = [labelled(frame, truth, 0.1) for frame in frames]
    options = {"noise": NOISE, "kinds": ALL}
    right = solve_last_layer(potential, frames, frames, **options)
    with_offset = solve_last_layer(potential, off, off, virial_offset=True, **options)
    without = solve_last_layer(potential, off, frames, **options)
    assert with_offset.accepted
    error = [s.after.virial_mean - right.after.virial_mean - shift
             for s, shift in ((with_offset, -0.1), (without, 0.0))]  # fmt: skip
    # the prior of the offset, σ = 0.2 eV, leaves some of it to the model
    assert abs(error[0]) < 0.02
    columns = last_layer_columns(potential.layout)
    m = next(linear_numbers(potential, off[0], columns, NOISE, ALL, VirialOffset(2)))
    counts = np.bincount(off[0].types, minlength=2)
    assert_allclose(m.H_qv[:, len(columns) :], np.outer([0, 1, 0, 0, 1, 0, 1], counts))


def test_it_is_refused_where_other_frames_get_worse(model):
    """Frames to judge by that the model has exactly: every step is one away from them."""
    potential, frames, _ = model
    held = [labelled(frame, potential) for frame in frames[:2]]
    solved = solve_last_layer(potential, frames, held, noise=NOISE, kinds=ALL)
    assert not solved.accepted and solved.potential is potential
    assert solved.after.force_rmse > solved.before.force_rmse
    # one kind is enough: right forces, energies off by what the solution has not
    truth = moved(potential, 1)
    forces_only = [replace(labelled(frame, truth), energy=frame.energy) for frame in held]
    assert not solve_last_layer(potential, frames, forces_only, noise=NOISE, kinds=ALL).accepted


def test_frames_without_labels(model):
    potential, frames, _ = model
    bare = replace(frames[0], energy=None, forces=None, virial=None)
    some = [replace(frames[1], energy=None, virial=None), bare, replace(frames[2], forces=None), *frames[3:5]]
    options = {"noise": NOISE, "kinds": ALL}
    solved = solve_last_layer(potential, some, frames[5:], **options)
    same = solve_last_layer(potential, [f for f in some if f is not bare], frames[5:], **options)
    assert_array_equal(solved.potential.weights, same.potential.weights)
    with pytest.raises(InputError, match="no frame has a label to fit; expected energy, forces, virial"):
        solve_last_layer(potential, [bare], frames, **options)
    with pytest.raises(InputError, match="no frame to judge by"):
        solve_last_layer(potential, frames, [bare], **options)


def test_without_validation_frames_a_part_is_held_back(model):
    potential, frames, _ = model
    held = [frames[5]]
    rest = [frame for k, frame in enumerate(frames) if k != 5]
    options = {"noise": NOISE, "kinds": ALL}
    alone = solve_last_layer(potential, frames, **options)
    assert alone.before.n_frames == 1
    assert_array_equal(
        alone.potential.weights, solve_last_layer(potential, rest, held, **options).potential.weights
    )
    assert solve_last_layer(potential, frames[:1], **options).before.n_frames == 1


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_run_and_its_restart(kind, tmp_path):
    """At the end alone: the checkpoint has the filter's weights, a restart the same model, bit for bit."""
    write_data(tmp_path)
    models = {}
    for name, asked in (("plain", False), ("solved", True)):
        tree = tree_of(kind, tmp_path, {"last_layer": asked})
        run("train", write_input(tmp_path / f"{name}.json", tree), "-o", tmp_path / name, "--quiet",
            "--skip-plots")  # fmt: skip
        models[name] = Potential.load(tmp_path / name / files_of(kind).DEFAULT)
    with kalmandp.Dataset(tmp_path / "train.h5") as data:
        frames = [data[k] for k in range(len(data))]
    before, after = (kalmandp.evaluate(models[name], [frames[5]]) for name in ("plain", "solved"))
    assert after.force_rmse <= before.force_rmse and after.energy_rmse <= before.energy_rmse
    settings = read_input(tree)
    first = Run(settings, tmp_path / "first")
    for _ in range(3):
        first.step()
    saved = first.checkpoint()
    again = Run(settings, tmp_path / "again", restart=saved)
    for _ in range(3):
        again.step()
    again.finish()
    again.checkpoint()
    restarted = Potential.load(tmp_path / "again" / files_of(kind).DEFAULT)
    assert_array_equal(restarted.weights, models["solved"].weights)
    # the filter goes on from its own weights
    again.step()
    assert again.result() is not again.potential or again.trainer.average is None


def test_columns_by_evaluations_are_those_of_the_rows(model):
    """H_qv of k + 1 evaluations is H_qv of a pass for each number; frames without labels are passed over."""
    potential, frames, _ = model
    columns = last_layer_columns(potential.layout)
    bare = replace(frames[0], energy=None, forces=None, virial=None)
    for offset in (None, VirialOffset(2)):
        by_rows = [
            m for frame in frames[:2] for m in linear_numbers(potential, frame, columns, NOISE, ALL, offset)
        ]
        found = list(all_numbers(potential, [*frames[:2], bare], columns, NOISE, ALL, offset))
        assert len(found) == 2
        kind_q = np.concatenate([m.kind_q for m in by_rows])
        all_kind_q = np.concatenate([m.kind_q for m in found])
        for kind in ALL:  # rows have energy and virials of a frame first
            for name in ("H_qv", "error_q", "noise_q"):
                wanted, got = (
                    np.concatenate([getattr(m, name) for m in parts])[kinds == kind]
                    for parts, kinds in ((by_rows, kind_q), (found, all_kind_q))
                )
                assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_r_is_the_models_own_error(model):
    """σ of a kind is its RMSE, of energies 0.3 times that; virials are tried with 0.3, 1, and without."""
    potential, frames, _ = model
    columns = last_layer_columns(potential.layout)
    numbers = list(all_numbers(potential, frames, columns, UNIT, ALL))
    errors = kalmandp.evaluate(potential, frames)
    first, second, third = _balances(numbers, ALL, len(columns))
    assert first[0] == second[0] == ALL and third[0] == ("energy", "force")
    assert first[1]["force"] == pytest.approx(errors.force_rmse**2)
    assert first[1]["energy"] == pytest.approx((0.3 * errors.energy_rmse) ** 2)
    # six of the nine components of a virial: those off the diagonal count once
    assert second[1]["virial"] == pytest.approx(errors.virial_rmse**2, rel=0.5)
    assert first[1]["virial"] == pytest.approx(0.09 * second[1]["virial"])
    # a constant that is solved for is no error
    offset, truth = VirialOffset(2), moved(potential, 1)
    sigma_w = []
    for off in (0.0, 5.0):
        shifted = [labelled(frame, truth, off) for frame in frames]
        numbers = list(all_numbers(potential, shifted, columns, UNIT, ALL, offset))
        sigma_w.append(next(_balances(numbers, ALL, len(columns)))[1]["virial"])
    assert sigma_w[1] == pytest.approx(sigma_w[0])


def test_virials_are_left_out_where_they_hurt(model):
    """Frames to judge by whose virials the model has already: energies and forces are solved for alone."""
    potential, frames, _ = model
    held = [replace(f, virial=labelled(f, potential).virial) for f in frames[:2]]
    solved = solve_last_layer(potential, frames, held)
    assert solved.accepted and solved.kinds == ("energy", "force")
    assert solved.after.energy_rmse < solved.before.energy_rmse
    right = solve_last_layer(potential, frames, frames[:2])
    assert right.accepted and right.kinds == ALL and right.after.virial_rmse < 0.1 * right.before.virial_rmse


def test_forces_of_some_frames_are_enough(model, monkeypatch):
    """With the forces of one frame, and energies and virials of all, labels that it can have are had."""
    potential, frames, _ = model
    monkeypatch.setattr(last_layer, "FORCES_OF_A_WEIGHT", 1)
    some = _with_forces(frames, range(len(frames)), len(last_layer_columns(potential.layout)))
    assert 1 <= len(some) < len(frames)
    solved = solve_last_layer(potential, frames, frames)
    assert solved.accepted and solved.after.force_rmse < 0.1 * solved.before.force_rmse
    monkeypatch.setattr(last_layer, "FITTED", 2)
    assert solve_last_layer(potential, frames, frames).accepted


def test_where_there_are_few_frames_it_is_left_out(model, monkeypatch, tmp_path):
    """ "auto" asks for two frames for each weight of the last layer; true does not, and false forbids it."""
    potential, frames, folder = model
    k = len(last_layer_columns(potential.layout))
    assert are_enough(range(2 * k), potential.layout) and not are_enough(range(2 * k - 1), potential.layout)
    kind = potential.form.kind if potential.form.kind in KINDS else next(iter(KINDS))
    cases = ((0, "auto", True), (2, "auto", False), (2, True, True), (0, False, False))
    for of_a_weight, asked, solved in cases:
        monkeypatch.setattr(last_layer, "FRAMES_OF_A_WEIGHT", of_a_weight)
        r = Run(read_input(tree_of(kind, folder, {"last_layer": asked})), tmp_path)
        r.step()
        r.finish()
        assert (r.trainer.solved is not None) is solved
        assert (LAST_LAYER in r.result().info) is (solved and r.trainer.solved.accepted)


def test_every_member_of_a_committee_has_it(tmp_path):
    write_data(tmp_path)
    tree = tree_of("se_e2_a", tmp_path, {"last_layer": True}, committee=2)
    options = ("--quiet", "--skip-plots")
    run("train", write_input(tmp_path / "input.json", tree), "-o", tmp_path / "run", *options)
    for name in ("model.dp", "model-2.dp"):
        assert LAST_LAYER in Potential.load(tmp_path / "run" / name).info


def test_a_run_from_a_model_says_nothing_of_the_models_last_layer(tmp_path):
    write_data(tmp_path)
    tree = tree_of("se_e2_a", tmp_path, {"last_layer": True})
    first = Run(read_input(tree), tmp_path / "first")
    first.step()
    first.finish()
    first.result().save(tmp_path / "model.dp")
    assert LAST_LAYER in Potential.load(tmp_path / "model.dp").info
    tree["optimizer"]["last_layer"] = False
    then = Run(read_input(tree), tmp_path / "then", init_model=tmp_path / "model.dp")
    then.step()
    then.finish()
    assert LAST_LAYER not in then.result().info


def test_a_solve_that_fails_does_not_cost_the_run(tmp_path, monkeypatch):
    write_data(tmp_path)
    r = Run(read_input(tree_of("se_e2_a", tmp_path, {"last_layer": True})), tmp_path)
    r.step()
    monkeypatch.setattr("kalmandp.training.trainers.kalman.solve_last_layer", out_of_memory)
    with pytest.warns(UserWarning, match="stays as it was trained: no room"):
        r.finish()
    assert LAST_LAYER not in r.result().info


def out_of_memory(*_args, **_keys):
    raise MemoryError("no room")


def test_virials_are_in_it_unless_that_is_refused():
    kinds = lambda **stated: resolve(OptimizerSettings(**stated)).solved_kinds
    assert kinds() == kinds(with_virial="present") == ALL
    assert kinds(with_virial=False) == ("energy", "force")
    assert resolve(OptimizerSettings()).last_layer == "auto"


def test_what_has_no_end_has_no_solve(model):
    with pytest.raises(InputError, match="last_layer"):
        OnlineTrainer(model[0], rng=np.random.default_rng(0), last_layer=True)


def test_a_last_layer_that_is_not_linear_is_refused_at_once(model):
    layout = model[0].form.layout()
    net = layout.fitting_nets[0]
    layout.nets[net] = (*layout.nets[net][:-1], layout.nets[net][-1]._replace(activation="tanh"))
    with pytest.raises(InputError, match="'tanh'; expected 'linear'"):
        last_layer_columns(layout)
