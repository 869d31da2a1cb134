"""Frames that lack labels: each teaches what it has, and what nobody could learn from is refused at once."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from systems import frames, kalman_trainer, label, settings, small_potential

import kalmandp
from kalmandp.cli import main
from kalmandp.errors import InputError
from kalmandp.training.config.inputs import read_input
from kalmandp.training.config.presets import PRESETS
from kalmandp.training.loop import Run, train
from kalmandp.training.measurements import measurement as M
from kalmandp.training.measurements.candidates import Selection
from kalmandp.training.measurements.drawing import as_group, draw_groups
from kalmandp.training.measurements.labels import taught
from kalmandp.training.placement.plan import _fullest, make_plan
from kalmandp.training.report.metrics import evaluate
from kalmandp.training.report.summary import error_table
from kalmandp.training.trainers.adam import loss_gradient
from kalmandp.training.trainers.averaging import SHIFT_FRAMES
from kalmandp.training.trainers.snes import rmse_loss

MEASUREMENTS = ["signed", "paired", "joint", "matrix"]


def without(frame, *labels):
    return dataclasses.replace(frame, **dict.fromkeys(labels))


def write(path, made):
    kalmandp.Dataset.write(path, made)
    return path


def mixed():
    """Crystals with all labels, without forces, without an energy, and an atom alone with its energy."""
    whole = frames(12)
    some = [without(f, "forces", "virial") for f in whole[6:9]] + [without(f, "energy") for f in whole[9:]]
    one = whole[0]
    atom = label(kalmandp.Frame(one.positions[:1], one.types[:1], one.type_map, source="an atom"))
    return [*whole[:6], *some, without(atom, "forces", "virial")]


@pytest.fixture(scope="module")
def start():
    return small_potential()


@pytest.fixture(scope="module")
def mixed_data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "mixed.h5", mixed())


# --- one frame ------------------------------------------------------------------------------------


def two_trainers(start, choices):
    return kalman_trainer(start, choices, per_epoch=10.0), kalman_trainer(start, choices, per_epoch=10.0)


CASES = [dataclasses.replace(PRESETS["default"], measurement=m, block_size=60) for m in MEASUREMENTS]
CASES[-1] = dataclasses.replace(CASES[-1], group_size=2)
CASES += [dataclasses.replace(c, block_size=60) for name, c in PRESETS.items() if name != "default"]
IDS = [*MEASUREMENTS, *(name for name in PRESETS if name != "default")]


@pytest.mark.parametrize("choices", CASES, ids=IDS)
def test_an_energy_alone_is_the_energy_measurement_alone(start, choices):
    """To the last bit; no atom is drawn, and what is known of the forces' noise stays."""
    ours, by_hand = two_trainers(start, choices)
    known, f = frames(2, seed=3)
    for trainer in (ours, by_hand):
        trainer.step(M.make_sample(trainer.potential, [known]))
    drawn, noise = ours.rng.bit_generator.state, ours.state()
    ours.step(M.make_sample(ours.potential, [without(f, "forces")]))
    p = by_hand.potential
    if by_hand.adaptive is not None:
        by_hand.adaptive.begin_step()
    m = M.energy_signed(p, M.make_sample(p, [f]), choices.noise, by_hand.n_blocks, norm_name=choices.norm)
    by_hand.update(m)
    assert_array_equal(ours.filter.weights, by_hand.filter.weights)
    assert ours.updates == by_hand.updates and ours.rng.bit_generator.state == drawn
    assert ours.state().get("usual_force") == noise.get("usual_force")
    assert list(ours.log[0][0].innovations) == ["energy"]


#: Without those that measure the components one by one.
SIGNED = [(c, name) for c, name in zip(CASES, IDS, strict=True) if name in (*IDS[:3], "paper", "deepmd")]


@pytest.mark.parametrize("choices", [c for c, _ in SIGNED], ids=[name for _, name in SIGNED])
def test_forces_alone_are_the_force_measurements_alone(start, choices):
    """To the last bit, of the atoms that are drawn as ever."""
    ours, by_hand = two_trainers(start, choices)
    [f] = frames(1, seed=4)
    ours.step(M.make_sample(ours.potential, [without(f, "energy")]))
    p, L = by_hand.potential, by_hand.n_blocks
    sample = M.make_sample(p, [f])
    chosen = lambda g: as_group(choices, g[0])
    of = lambda g: M.force_signed(p, sample, chosen(g), choices.noise, L, norm_name=choices.norm)
    groups = draw_groups(choices, sample, by_hand.rng)
    if choices.measurement == "joint":
        parts = [of(g) for g in groups]
        joined = (np.concatenate([getattr(m, n) for m in parts]) for n in ("H_qw", "error_q", "noise_q"))
        by_hand.update(M.Measurement("joint", *joined, ("force",) * len(parts)))
    else:
        for g in groups:
            by_hand.update(of(g))
    assert_array_equal(ours.filter.weights, by_hand.filter.weights)
    assert ours.rng.bit_generator.state == by_hand.rng.bit_generator.state
    assert not set(ours.state()) & {"usual_energy", "unexplained_energy"}


@pytest.mark.parametrize("candidates", [None, Selection(trials=2)])
def test_a_matrix_has_the_rows_of_the_labels(start, candidates):
    """Energies of atoms want atoms drawn, with forces or without."""
    order = ("energy", "atomic_energy", "force", "virial")
    choices = dataclasses.replace(CASES[3], order=order, candidates=candidates)
    [f] = frames(1)
    f = dataclasses.replace(f, atomic_energies=np.linspace(-1.0, 0.0, 16))
    for gone, numbers in ((), 1 + 12 + 4 + 6), (("forces",), 1 + 4 + 6), (("energy", "virial"), 12 + 4):
        trainer = kalman_trainer(start, choices)
        [m] = trainer.measure(M.make_sample(trainer.potential, [without(f, *gone)]))
        assert len(m.kind_q) == len(m.error_q) == len(m.H_qw) == numbers
        assert m.H_qw.any(axis=1).all()


def test_a_batch_teaches_what_all_of_its_frames_have(start):
    a, b, c = frames(3)
    b, c = without(b, "forces"), without(c, "virial")
    bare = lambda *members: [without(f, "forces", "virial") for f in members]
    assert taught([a, b, c], ("virial", "force", "energy")) == ("energy",)
    assert taught([a, c], ("virial", "force", "energy")) == ("force", "energy")
    choices = dataclasses.replace(CASES[0], order=("energy", "force", "virial"))
    for ours, twin, same in (([a, b, c], bare(a, b, c), True), ([a, c], bare(a, c), False)):
        one, other = two_trainers(start, choices)
        for trainer, members in ((one, ours), (other, twin)):
            trainer.step(M.make_sample(trainer.potential, members))
        assert (one.filter.weights == other.filter.weights).all() == same
    with pytest.raises(InputError, match=r"morse frame 1: a batch .* expected one of energy, forces"):
        taught([without(a, "energy"), b], ("energy", "force"))


@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_one_by_one_with_what_the_host_has(start, measurement):
    """Energies and forces by turns, and nothing changes by a frame that has neither."""
    online = lambda: kalmandp.OnlineTrainer(
        start.with_engine(None), rng=np.random.default_rng(0), block_size=60, measurement=measurement
    )
    one, other = online(), online()
    for n, f in enumerate(frames(4)):
        arrays = {"cell": f.cell, **({"energy": f.energy} if n % 2 else {"forces": f.forces})}
        learnt = one.step(f.positions, f.types, **arrays).learnt
        assert len(learnt) == (1 if n % 2 or measurement in ("joint", "matrix") else 2)
        if n == 1:
            before = one.filter.weights.copy()
            with pytest.raises(InputError, match="step 3 has no energy and no forces; expected at least one"):
                one.step(f.positions, f.types, cell=f.cell, virial=f.virial)
            assert_array_equal(one.filter.weights, before)
        other.learn(other.frame(f.positions, f.types, **arrays))
    assert_array_equal(one.filter.weights, other.filter.weights)
    assert one.steps == 4


# --- Adam and SNES --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_adams_gradient_is_that_of_the_terms_it_has(start, engine):
    """The other terms by a prefactor of zero; a sum in another order differs by rounding."""
    potential = start.with_engine(engine)
    [f] = frames(1, seed=5)
    of = lambda frame, prefactors: loss_gradient(potential, M.make_sample(potential, [frame]), prefactors)
    for gone, all_p, own_p in (
        (("forces",), (0.3, 20.0, 0.0), (0.3, 0.0, 0.0)), (("energy",), (0.3, 20.0, 0.0), (0.0, 20.0, 0.0)),
        (("forces",), (0.3, 20.0, 0.5), (0.3, 0.0, 0.5)), (("virial",), (0.3, 20.0, 0.5), (0.3, 20.0, 0.0)),
    ):  # fmt: skip
        loss, gradient = of(without(f, *gone), all_p)
        expected, wanted = of(f, own_p)
        assert_allclose(loss, expected, rtol=1e-13)
        assert_allclose(gradient, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())
        assert np.abs(gradient).max() > 0
    with pytest.raises(InputError, match="morse frame 0 has no energy and no forces and no virial"):
        of(without(f, "energy", "forces", "virial"), (1.0, 1.0, 1.0))


def test_the_loss_of_snes_has_the_terms_of_the_labels(start):
    [f] = frames(1, seed=6)
    of = lambda frame, *lambdas: rmse_loss(start, M.make_sample(start, [frame]), *lambdas)
    now, rms = start.evaluate(f), lambda error: np.sqrt(np.mean(error**2))
    e, v = abs(f.energy - now.energy) / 16, rms((f.virial - now.virial) / 16)
    # rounding: the same sums
    assert_allclose(of(without(f, "forces"), 1.0, 2.0, 0.1), e + 0.1 * v, rtol=1e-12)
    of_forces = 2.0 * rms(f.forces - now.forces)
    assert_allclose(of(without(f, "energy", "virial"), 1.0, 2.0, 0.1), of_forces, rtol=1e-12)
    with pytest.raises(InputError, match="morse frame 0 has no energy; expected"):
        of(without(f, "energy"), 1.0, 0.0, 0.0)


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [
    {}, {"measurement": "signed", "with_virial": True, "gate": 100}, {"measurement": "matrix"},
    {"preset": "n2p2", "n_groups": 2, "candidates": {"energy": 1.0}}, {"type": "Adam"},
    {"type": "SNES", "preset": "gpumd", "population": 3},
], ids=str)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*training frames have no:UserWarning")
def test_mixed_data_train_and_restart_to_the_same_bits(mixed_data, tmp_path, optimizer):
    tree = settings(mixed_data, training={"disp_freq": 1})
    tree["optimizer"] = {"type": "RLEKF", "block_size": 300} | optimizer
    if "population" in optimizer or optimizer.get("type") == "Adam":
        tree["optimizer"] = optimizer
        tree["training"]["training_data"]["batch_size"] = 1
    steps = iter(range(100))
    whole = list(train(tree, output=tmp_path / "whole"))
    list(train(tree, output=tmp_path / "cut", stop=lambda: next(steps) == 6))
    rest = list(train(tree, output=tmp_path / "cut", restart=tmp_path / "cut" / "model.ckpt.h5"))
    a, b = (kalmandp.Potential.load(tmp_path / d / "model.dp") for d in ("whole", "cut"))
    assert_array_equal(a.weights, b.weights)
    strip = lambda r: str(r._replace(seconds=0, diagnostics={}))
    assert strip(rest[-1]) == strip(whole[-1])
    # of the batches some had no forces and some no energy; NaN says so in the learning curve
    unknown = {tuple(np.isnan([r.rmse_e, r.rmse_f])) for r in whole if r.event == "display"}
    assert unknown == {(False, False), (False, True), (True, False)}
    assert "nan" in (tmp_path / "whole" / "lcurve.out").read_text()


@pytest.mark.filterwarnings("ignore:.*training frames have no:UserWarning")
def test_the_averages_energies_are_fitted_to_the_frames_that_have_one(tmp_path):
    """One of forty, which is not among the evenly spaced ones: the model given away fits it exactly."""
    evenly = np.linspace(0, 39, SHIFT_FRAMES).astype(int)
    one = int(np.setdiff1d(np.arange(40), evenly)[0])
    made = [f if k == one else without(f, "energy") for k, f in enumerate(frames(40))]
    path = write(tmp_path / "some.h5", made)
    run = Run(read_input(settings(path)), tmp_path / "run")
    run.step()
    errors = evaluate(run.result(), [made[one]])
    assert_allclose(errors.energy_rmse, 0.0, atol=1e-12)


def test_errors_are_over_the_frames_that_have_the_label(start):
    made = mixed()
    errors = evaluate(start, made)
    for label_of, field in (("energy", "energy_rmse"), ("forces", "force_mae"), ("virial", "virial_rmse")):
        having = [f for f in made if getattr(f, label_of) is not None]
        assert 0 < len(having) < len(made)
        assert getattr(errors, field) == getattr(evaluate(start, having), field) > 0
    assert errors.n_frames == len(made)
    assert np.isnan(evaluate(start, [without(made[0], "forces")]).force_rmse)
    forces = sum(f.forces is not None for f in made)
    line = next(line for line in error_table(errors).splitlines() if line.startswith("force"))
    assert line.endswith(f"of {forces} of {len(made)} frames")
    assert " of " not in error_table(evaluate(start, frames(2))).replace(" % of the", "")


# --- asked before a run ---------------------------------------------------------------------------


def both(tree, tmp_path):
    """Plan and run of an input."""
    plan = lambda: make_plan(read_input(tree), timing=False)
    return plan, lambda: next(train(tree, output=tmp_path / "run"))


def warned(ask) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask()
    return [str(w.message) for w in caught if "training frames" in str(w.message)]


def test_what_is_missing_is_told_once_for_each_label(mixed_data, tmp_path):
    tree = settings(mixed_data)
    for ask in both(tree, tmp_path):
        energy, forces = warned(ask)
        assert energy.startswith("3 of 13 training frames have no energy, the first ")
        assert forces.startswith("4 of 13 training frames have no forces, the first ")
        assert forces.endswith("; these are trained on with their other labels")
    tree["optimizer"]["with_virial"] = True
    assert [w[:39] for w in warned(both(tree, tmp_path)[0])][2] == "4 of 13 training frames have no virial,"


def test_a_plan_times_a_step_with_all_labels(mixed_data, tmp_path):
    read = read_input(settings(mixed_data))
    backwards = kalmandp.Dataset(mixed_data)[::-1]  # begins with the atom alone
    assert backwards[0].forces is None
    first = _fullest(backwards, read)[0]
    assert first == 7 and backwards[first].forces is not None and backwards[first].energy is not None
    assert_array_equal(_fullest(backwards[7:], read), np.arange(6))


def test_nothing_is_said_of_labels_that_nobody_asks_for(tmp_path):
    made = [without(f, "energy", *["virial"][k:]) for k, f in enumerate(frames(3))]
    path = write(tmp_path / "some.h5", made)
    tree = settings(path, loss={"start_pref_e": 0, "limit_pref_e": 0}) | {"optimizer": {"type": "Adam"}}
    for ask in both(tree, tmp_path):
        assert warned(ask) == []


@pytest.mark.parametrize("optimizer, gone, message", [
    ({"type": "RLEKF"}, ("forces",), "6 of 6 training frames have no forces, the first .*; expected for"),
    ({"type": "Adam"}, ("energy",), "6 of 6 training frames have no energy"),
    ({"type": "RLEKF", "with_virial": True}, ("virial",), "6 of 6 training frames have no virial"),
    ({"type": "SNES", "preset": "gpumd"}, ("virial",), "6 of 6 training frames have no virial"),
], ids=str)  # fmt: skip
def test_a_label_that_no_frame_has_is_refused(tmp_path, optimizer, gone, message):
    path = write(tmp_path / "some.h5", [without(f, *gone) for f in frames(6)])
    for ask in both(settings(path) | {"optimizer": optimizer}, tmp_path):
        with pytest.raises(InputError, match=message):
            ask()


def test_a_frame_without_any_label_that_is_learnt_is_refused(tmp_path):
    made = frames(6)
    made[4] = without(made[4], "energy", "forces")
    path = write(tmp_path / "some.h5", made)
    message = "1 of 6 training frames have no energy and no forces, the first .*some.h5.*; expected at least"
    for ask in both(settings(path), tmp_path):
        with pytest.raises(InputError, match=message):
            ask()
    tree = settings(path) | {"optimizer": {"type": "RLEKF", "block_size": 300, "with_virial": True}}
    assert len(warned(both(tree, tmp_path)[1])) == 2


def test_batches_that_may_have_nothing_in_common_are_refused(mixed_data, tmp_path):
    tree = settings(mixed_data)
    tree["training"]["training_data"]["batch_size"] = 2
    message = "in one batch of 2 have no label in common: .* with forces; .* with energy; expected"
    for ask in both(tree, tmp_path):
        with pytest.raises(InputError, match=message):
            ask()
    made = mixed()
    half = [f for f in made if f.energy is not None], [f for f in made if f.energy is None]
    tree["training"]["training_data"] |= {"systems": [str(write(tmp_path / "a.h5", half[0]))]}
    [forces] = warned(both(tree, tmp_path)[1])  # an energy is in all of them
    assert forces.endswith("(a batch of 2 that has one of them learns no forces)")
    # systems that are drawn by probability are not mixed
    tree["training"]["training_data"]["systems"].append(str(write(tmp_path / "b.h5", half[1])))
    with pytest.raises(InputError, match="in common"):
        both(tree, tmp_path)[0]()
    tree["training"]["training_data"]["auto_prob"] = "prob_uniform"
    assert len(warned(both(tree, tmp_path)[1])) == 2


def test_the_commands_say_it(mixed_data, tmp_path, capsys):
    def run(name, data, *command):
        (tmp_path / name).write_text(json.dumps(settings(data, training={"numb_steps": 4})))
        return main([command[0], str(tmp_path / name), *command[1:]]), capsys.readouterr().err

    out = ["-o", str(tmp_path / "run"), "--skip-plots"]
    for command in (["train", *out], ["plan", "--no-timing"]):
        status, said = run("mixed.json", mixed_data, *command)
        assert status == 0
        assert said.count("warning: 4 of 13 training frames have no forces, the first ") == 1
    assert main(["test", "-m", str(tmp_path / "run" / "model.dp"), "-s", str(mixed_data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["force_rmse_eV_per_angstrom"] > 0
    none = write(tmp_path / "none.h5", [without(f, "forces") for f in frames(4)])
    for command in (["train", *out], ["plan"]):
        status, said = run("none.json", none, *command)
        assert status == 1 and "error: 4 of 4 training frames have no forces, the first " in said
