"""`kalmandp train input.nn`: n2p2's own filter, keywords, restarts, units; and the same from input.json."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from n2p2_support import TRAINING, UPDATES, N, frames, text
from numpy.testing import assert_allclose, assert_array_equal

from kalmandp import Dataset, FileError, FilterError, InputError, Potential, read_input, train
from kalmandp.cli import main
from kalmandp.constants import BOHR, HARTREE
from kalmandp.formats.runner import write_runner
from kalmandp.potentials.hdnnp.files import read_folder
from kalmandp.training.data.update_feed import Row
from kalmandp.training.loop import Run
from kalmandp.training.measurements.measurement import make_sample
from kalmandp.training.placement.plan import make_plan

EXAMPLE = Path(__file__).parents[2] / "examples" / "n2p2" / "input.nn"


def settings_of(place, **more):
    return read_input(place / "input.nn", optimizer="n2p2", **more)


def test_keywords_become_the_section(place):
    s = settings_of(place)
    o = s.optimizer
    assert (o.type, o.get("kalman_epsilon"), o.get("task_batch_size_force")) == ("n2p2", 0.05, 3)
    assert o.get("short_energy_error_threshold") == o.get("short_force_error_threshold") == 0.5
    assert s.model.choices["initial"] == "n2p2" and s.model.choices["random_seed"] == 7
    assert s.ignored == ("optimizer/kalman_lambda_short",)  # of the other type of filter
    [own] = [n for n in s.notices if n.startswith("without effect")]
    assert own == "without effect here: parallel_mode, write_weights_epoch"
    assert any("no atom_energy" in n for n in s.notices)
    ours = read_input(place / "input.nn")
    assert ours.optimizer.type == "RLEKF" and "kalman_eta" in ours.notices[-1]


def test_a_run_is_n2p2s_filter_in_n2p2s_units(place, tmp_path):
    """Its first updates by hand: the textbook's filter with the rows that the feed chose."""
    run = Run(settings_of(place), tmp_path / "run")
    assert run.feed.steps_per_epoch == UPDATES and run.n_steps == 4 * UPDATES
    w, P = run.potential.weights.copy(), np.eye(run.potential.layout.size) / 0.05
    eta, q = 0.02, 0.01
    for _ in range(8):
        sample, _, _ = run.step()
        rows, T = run.trainer._chosen, run.potential
        at = T.replace(weights=w)
        H, xi = [], []
        for row in rows:
            f = sample.frames[row.structure]
            if row.atom < 0:
                H.append(at.energy_jacobian(f) / HARTREE)
                xi.append((f.energy - at.evaluate(f).energy) / HARTREE)
            else:
                direction = np.zeros((8, 3))
                direction[row.atom, row.axis] = 1.0
                H.append(2.0 * at.force_jacobian(f, direction) * BOHR / HARTREE)
                error = f.forces[row.atom, row.axis] - at.evaluate(f).forces[row.atom, row.axis]
                xi.append(2.0 * error * BOHR / HARTREE)
        H, xi = np.array(H), np.array(xi)
        assert len(rows) == (1 if rows[0].atom < 0 else 3)
        eta = eta * np.exp(2.302 / UPDATES) if eta < 1 else eta
        K = P @ H.T @ np.linalg.inv(H @ P @ H.T + np.eye(len(xi)) / eta)
        w, P = w + K @ xi, P - K @ H @ P + q * np.eye(len(w))
        q *= np.exp(-2.302 / UPDATES)
        # P₀ = 20 cancels some digits
        assert_allclose(run.potential.weights, w, rtol=0, atol=1e-9)
    assert run.trainer.updates == 8


@pytest.mark.parametrize("more", ["", "update_strategy 1\nkalman_type 1\n", "selection_mode_force 1\n"])
def test_a_restart_has_the_same_bits(place, tmp_path, more):
    body = TRAINING.replace("kalman_type 0\n", "") if "kalman_type" in more else TRAINING
    (place / "input.nn").write_text(text(body, more=more))
    s = settings_of(place)
    whole = list(train(s, output=tmp_path / "whole"))
    steps = iter(range(100))
    list(train(s, output=tmp_path / "cut", stop=lambda: next(steps) == UPDATES + 3))
    rest = list(train(s, output=tmp_path / "cut", restart=tmp_path / "cut" / "model.ckpt.h5"))
    a, b = (Potential.load(tmp_path / d / "hdnnp") for d in ("whole", "cut"))
    assert_array_equal(a.weights, b.weights)
    assert len(rest) == len(whole) - UPDATES - 4 and rest[-1].updates == 4 * UPDATES
    assert rest[-1].epoch == 4.0


@pytest.mark.parametrize("kind, own", [("energy", 3.0), ("force", 1.0)])
def test_weights_of_frames_multiply_their_rows(place, tmp_path, kind, own):
    """R/ω² is ξ and H times ω."""
    run = Run(settings_of(place), tmp_path)
    rows = [Row(0), Row(1)] if kind == "energy" else [Row(0, 2, 1), Row(1, 5, 0)]
    some = [run.data[k] for k in (0, 1)]
    weighted = [some[0], replace(some[1], weight=2.0, energy_weight=9.0)]
    plain, double = (run.trainer.measure(make_sample(run.potential, fs), rows) for fs in (some, weighted))
    for a, b in zip(plain[:2], double[:2], strict=True):
        assert_array_equal(a[0], b[0])
        assert_allclose(2.0 * own * a[1], b[1], rtol=1e-14)


def test_another_optimizers_checkpoint_is_refused(place, tmp_path):
    s = settings_of(place)
    small = replace(s, training=replace(s.training, n_epochs=None, n_steps=2))
    list(train(small, output=tmp_path / "a"))
    body = TRAINING + "update_strategy 1\n"
    (place / "input.nn").write_text(text(body))
    with pytest.raises(FileError, match="number of filters stored is 1; expected 2"):
        list(train(settings_of(place), output=tmp_path / "b", restart=tmp_path / "a" / "model.ckpt.h5"))
    adam = read_input(place / "input.nn", optimizer="Adam")
    with pytest.raises(FileError, match="does not fit this run"):
        list(train(adam, output=tmp_path / "c", restart=tmp_path / "a" / "model.ckpt.h5"))
    ours = tree(place, {"short_force_fraction": 0.0})
    list(train(ours, output=tmp_path / "d"))
    for other in ("GEKF", "RLEKF"):
        ours["optimizer"] = {"type": other}
        with pytest.raises(FileError, match="optimizer is a Kalman filter of this package"):
            list(train(ours, output=tmp_path / "d", restart=tmp_path / "d" / "model.ckpt.h5"))


def test_the_command_leaves_n2p2s_files_and_old_weights_go_on(place, capsys):
    """Twice two epochs in place with use_old_weights_short: η goes on from where it was."""
    body = TRAINING + "kalman_etatau 0.5\n"
    (place / "input.nn").write_text(text(body.replace("epochs 4", "epochs 2")))
    command = ["train", str(place / "input.nn"), "--optimizer", "n2p2", "-o", str(place), "--skip-plots"]
    assert main(command) == 0
    for words in (["info", str(place / "model.ckpt.h5")], ["plot", str(place)], ["report", str(place)]):
        assert main(words) == 0
    assert (place / "filter.png").is_file() and "kalman_epsilon" in (place / "report.html").read_text()
    assert "parallel_mode" in capsys.readouterr().err
    for name in ("learning-curve.out", "trainpoints.out", "trainforces.out", "hdnnp/scaling.data"):
        assert (place / name).is_file()
    lines = (place / "learning-curve.out").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["#", "0", "1", "2"]  # the first weights and each epoch
    left = read_folder(place / "hdnnp", "atomic")
    assert left.form.energy_unit == HARTREE
    from kalmandp.training.state.checkpoint import load_checkpoint

    eta = load_checkpoint(place / "model.ckpt.h5")["optimizer"]["eta"]
    assert_allclose(eta, 0.02 * np.exp(0.5 * 2), rtol=1e-12)
    old = body.replace("epochs 4", "epochs 1") + "use_old_weights_short\n"
    (place / "input.nn").write_text(text(old))
    assert main(command) == 0
    assert "warning" not in capsys.readouterr().err
    again = load_checkpoint(place / "model.ckpt.h5")["optimizer"]
    assert again["updates"] == 3 * UPDATES
    assert_allclose(again["eta"], 0.02 * np.exp(0.5 * 3), rtol=1e-12)
    # other weights beside input.nn: the filter begins anew, and that is said
    for file in (place / "hdnnp").glob("[sw]*.data"):
        (place / file.name).write_text(file.read_text())
    other = place / "weights.011.data"
    other.write_text("0.25\n" + "".join(other.read_text().splitlines(keepends=True)[2:]))
    assert main(command) == 0
    said = "left a model with other weights than the one that is taken now; the optimizer begins anew"
    assert said in capsys.readouterr().err
    assert load_checkpoint(place / "model.ckpt.h5")["optimizer"]["updates"] == UPDATES


def test_selections_by_epoch_and_repeated_energies(place):
    more = "selection_mode_force 0 2 1\nrepeated_energy_update\nprecondition_weights\n"
    (place / "input.nn").write_text(text(more=more))
    s = settings_of(place)
    assert s.optimizer.get("selection_mode_force") == (0, 2, 1) and s.optimizer.get("repeated_energy_update")
    assert any(n.startswith("precondition_weights: without effect; nnp-train itself") for n in s.notices)
    assert any(n.startswith("repeated_energy_update: done as n2p2 documents") for n in s.notices)
    assert Run(s, place / "run").feed.steps_per_epoch == N + 2 * (UPDATES - N)


@pytest.mark.parametrize("way", ["ref", "force"])
def test_normalize_data_set(place, tmp_path, way):
    """Energies per atom and forces have the spread 1 in the net's units; the written model says so."""
    (place / "input.nn").write_text(
        text(more=f"normalize_data_set {way}\natom_energy Na -0.3\natom_energy Cl -0.1\n")
    )
    run = Run(settings_of(place), tmp_path / "run")
    form = run.potential.form
    data = list(frames())
    E = np.array([f.energy / HARTREE / 8 for f in data]) + 0.2
    F = np.concatenate([f.forces.ravel() for f in data]) * BOHR / HARTREE
    assert_allclose(form.mean_energy, E.mean(), rtol=1e-10)
    if way == "ref":
        assert_allclose(E.std(ddof=1) * form.conv_energy, 1.0, rtol=1e-10)
        assert_allclose(F.std(ddof=1) * form.conv_energy / form.conv_length, 1.0, rtol=1e-10)
    else:  # forces of the first weights have the spread of those of the data
        own = np.concatenate([(run.potential.evaluate(f).forces * BOHR / HARTREE).ravel() for f in data])
        assert_allclose(own.std(ddof=1), F.std(ddof=1), rtol=1e-8)
    assert_allclose(
        run.potential.bias_atom_e, HARTREE * (form.mean_energy + np.array([-0.3, -0.1])), rtol=1e-12
    )
    assert_allclose(
        run.trainer.factors.force, 2 * form.conv_energy / form.conv_length * BOHR / HARTREE, rtol=1e-12
    )
    run.step()
    run.checkpoint()
    written = (tmp_path / "run" / "hdnnp" / "input.nn").read_text()
    assert "conv_energy" in written and "normalize_data_set" not in written
    assert Potential.load(tmp_path / "run" / "hdnnp").form == form


@pytest.mark.parametrize("more, message", [
    ("updater_type 0\n", "updater_type is 0, gradient descent"),
    ("kalman_epsilon x\n", "kalman_epsilon is 'x'; expected a number"),
    ("selection_mode 3\n", "selection_mode is 3; expected one of"),
    ("short_energy_fraction 2\n", "short_energy_fraction is 2.0; expected a share"),
    ("normalize_data_set force\nmean_energy 1\nconv_energy 2\nconv_length 3\n", "none beside mean_energy"),
    ("normalize_data_set never\n", "normalize_data_set is \"never\""),
    ("epochs many\n", "epochs is 'many'"),
    ("use_old_weights_short\n", "has no weights"),
], ids=str)  # fmt: skip
def test_what_contradicts_itself(place, more, message):
    (place / "input.nn").write_text(text(more=more))
    with pytest.raises((InputError, FileError), match=message):
        settings_of(place)


def test_old_weights_belong_to_their_normalisation(place):
    (place / "input.nn").write_text(text(more="use_old_weights_short\nnormalize_data_set ref\n"))
    (place / "weights.011.data").touch()
    (place / "scaling.data").touch()
    with pytest.raises(InputError, match="use_old_weights_short beside normalize_data_set"):
        settings_of(place)


def test_forces_are_learnt_if_they_are_asked_for(place):
    body = TRAINING.replace("use_short_forces\n", "")
    (place / "input.nn").write_text(text(body))
    assert settings_of(place).optimizer.get("short_force_fraction") == 0.0
    told = [any("use_short_forces" in n for n in read_input(place / "input.nn", optimizer=o).notices)
            for o in (None, "Adam", "n2p2")]  # fmt: skip
    assert told == [True, True, False]
    body = TRAINING.replace("short_force_fraction 0.1\n", "")
    (place / "input.nn").write_text(text(body))
    with pytest.raises(InputError, match="use_short_forces without short_force_fraction"):
        settings_of(place)
    (place / "input.nn").write_text(text(more="force_energy_ratio 2\n"))  # n2p2 prefers the ratio
    o = settings_of(place).optimizer
    assert (o.get("force_energy_ratio"), o.get("short_force_fraction")) == (2.0, None)


@pytest.mark.parametrize("optimizer", [None, "n2p2", "Adam", "SNES"])
@pytest.mark.parametrize("stated", [True, False], ids=["use_short_forces", "energies only"])
def test_forces_of_0_are_not_learnt(place, tmp_path, optimizer, stated):
    """What stands for forces that nobody knows would teach that no atom feels any."""
    write_runner(place / "input.data", [replace(f, forces=None) for f in frames()])
    body = TRAINING if stated else TRAINING.replace("use_short_forces\n", "")
    (place / "input.nn").write_text(text(body))
    s = read_input(place / "input.nn", optimizer=optimizer)
    assert f"the forces of {place / 'input.data'} are 0 for all atoms; taken as not known" in s.notices
    assert not any("forces are learnt all the same" in n for n in s.notices)
    told = stated or optimizer != "n2p2"
    with pytest.warns(UserWarning, match="no training frame has forces") if told else nullcontext():
        run = Run(replace(s, training=replace(s.training, n_epochs=None, n_steps=3)), tmp_path / "run")
    before = run.potential.weights.copy()
    for _ in range(3):
        run.step()
    run.checkpoint()
    assert (run.potential.weights != before).any()
    if optimizer is None:
        assert {kind for did, _ in run.trainer.log for kind in did.innovations} == {"energy"}


def test_a_learning_curve_with_a_normalisation_has_both_units(place, tmp_path):
    """n2p2's columns: epoch, twelve errors, and the same twelve in the net's own units."""
    for way, n in (("", 13), ("normalize_data_set ref\n", 25)):
        (place / "input.nn").write_text(text(more=f"{way}test_fraction 0.2\n"))
        s = settings_of(place)
        out = tmp_path / f"run{n}"
        list(train(replace(s, training=replace(s.training, n_epochs=1.0)), output=out))
        names, *lines = (out / "learning-curve.out").read_text().splitlines()
        assert len(names.split()) == n + 1 and [len(line.split()) for line in lines] == [n, n]
    form = Potential.load(out / "hdnnp").form
    at = np.array([float(x) for x in lines[1].split()])
    assert (at[1:] > 0).all()
    assert_allclose(at[13:21], at[1:9] * form.conv_energy, rtol=1e-7)
    assert_allclose(at[21:], at[9:13] * form.conv_energy / form.conv_length, rtol=1e-7)


def test_the_example_trains_with_n2p2s_filter(tmp_path):
    """Normalised, the first weights give forces of the right size; an epoch makes them better than none."""
    s = read_input(EXAMPLE, optimizer="n2p2")
    *_, last = train(replace(s, training=replace(s.training, n_epochs=1.0)), output=tmp_path)
    assert last.updates == 9 + 10 * 9
    names, *lines = (tmp_path / "learning-curve.out").read_text().splitlines()
    column = names.split()[1:].index("RMSE_F_test")
    first, after = (float(line.split()[column]) * HARTREE / BOHR for line in lines)
    with Dataset(EXAMPLE.parent / "input.data") as data:
        usual = np.sqrt(np.mean([np.mean(f.forces**2) for f in data]))
    assert first < 2 * usual
    assert after < 0.9 * usual


# --- from input.json ------------------------------------------------------------------------------


def tree(place, optimizer, **training):
    data = {"systems": [str(place / "input.data")], **training}
    return {
        "model": {"type": "hdnnp", "input_nn": str(place / "input.nn"), "units": "atomic"},
        "optimizer": {"type": "n2p2", **optimizer},
        "training": {"training_data": data, "numb_epoch": 1, "seed": 1, "disp_freq": 5},
    }


def test_from_an_input_of_ours(place, tmp_path):
    s = read_input(tree(place, {"selection_mode": 1, "kalman_eta": 0.05}))
    *_, last = train(s, output=tmp_path)
    assert last.updates == N + 10 * N  # ten forces for each energy, as in n2p2's recommended input
    plan = make_plan(s)
    assert (plan.steps_per_epoch, plan.n_steps, plan.updates_per_step) == (66, 66, 1)
    assert plan.block_sizes == (plan.n_weights,) and plan.seconds_per_step > 0


@pytest.mark.parametrize("optimizer, training, message", [
    ({"kalman_typ": 1}, {}, "did you mean 'kalman_type'"),
    ({"kalman_type": 2}, {}, "kalman_type is 2; expected one of"),
    ({"kalman_q0": -1}, {}, "kalman_q0 is -1.0; expected a number ≥ 0"),
    ({"force_energy_ratio": 2, "short_force_fraction": 0.1}, {}, "both say how many forces"),
    ({}, {"batch_size": 2}, "batch_size is 2; expected none with optimizer n2p2"),
    ({"p0": 1.0}, {}, "optimizer/p0 is 1.0; this key is not supported"),
], ids=str)  # fmt: skip
def test_an_input_of_ours_that_cannot_be(place, optimizer, training, message):
    with pytest.raises(InputError, match=message):
        read_input(tree(place, optimizer, **training))


def test_a_deep_potential_has_no_filter_for_each_element(place, tmp_path):
    """Strategy 1 needs a net for each type and no weight beside them; strategy 0 trains it."""
    t = tree(place, {"short_force_fraction": 0.02})
    t["model"] = {"type_map": ["Na", "Cl"], "descriptor": {"type": "se_e2_a", "rcut": 4.0, "neuron": [2, 4],
                  "axis_neuron": 2}, "fitting_net": {"neuron": [4]}}  # fmt: skip
    *_, last = train(t, output=tmp_path)
    assert last.updates == N + int(0.02 * 24 * N)
    t["optimizer"]["update_strategy"] = 1
    with pytest.raises(
        InputError, match="update_strategy is 1; expected 0 for a potential with weights that"
    ):
        Run(read_input(t), tmp_path)


def test_numbers_that_are_not_finite_change_nothing(place, tmp_path):
    run = Run(settings_of(place), tmp_path)
    before, eta = run.potential.weights.copy(), run.trainer.filter.eta
    for H, xi in ((np.full((1, len(before)), np.nan), [1.0]), (np.ones((1, len(before))), [np.inf])):
        with pytest.raises(FilterError, match="expected a finite number"):
            run.trainer.filter.update(H, np.array(xi))
    assert (run.potential.weights == before).all() and run.trainer.filter.eta == eta


def test_normalisation_in_an_input_of_ours(place, tmp_path):
    """A default set of functions, in Å and eV: spreads of 1; energies of atoms beside it contradict it."""
    t = tree(place, {"short_force_fraction": 0.1})
    t["model"] = {"type": "hdnnp", "type_map": ["Na", "Cl"], "neuron": [4], "normalize_data_set": "ref"}
    run = Run(read_input(t), tmp_path)
    form, data = run.potential.form, list(frames())
    E = np.array([f.energy / 8 for f in data])
    assert_allclose([form.mean_energy, form.conv_energy], [E.mean(), 1 / E.std(ddof=1)], rtol=1e-10)
    assert_allclose(run.potential.bias_atom_e, E.mean(), rtol=1e-10)
    t["model"]["atom_energies"] = [-1.0, -2.0]
    with pytest.raises(InputError, match=r"atom_energies is \[-1.0, -2.0\]; expected none with normalize"):
        read_input(t)
