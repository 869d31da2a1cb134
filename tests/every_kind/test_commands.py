"""Every command does for every kind of potential what it does for a Deep Potential."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from by_hand import copy, errors_by_hand, fails
from numpy.testing import assert_allclose, assert_array_equal
from small_models import MODELS, TYPES, files_of, run, tree_of, write_input

import kalmandp
from kalmandp.bridges.model_files import read_model
from kalmandp.cli import main
from kalmandp.geometry.neighbours import neighbour_statistics
from kalmandp.potentials.adapting import with_bias
from kalmandp.registry import KINDS, of_neighbours
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run

# --- train, test, plan ----------------------------------------------------------------------------


def test_train_leaves_model_checkpoint_curve_and_predictions(trained):
    names = {p.name for p in trained.folder.iterdir()}
    kinds = ("e", "e_peratom", "f", "v", "v_peratom")
    wanted = {trained.model.name, "model.ckpt.h5", "lcurve.out", *(f"validation.{k}.out" for k in kinds)}
    assert wanted <= names
    potential, frames = trained.potential, trained.frames()
    assert potential.form.kind == trained.kind and set(potential.type_map) == set(TYPES)
    # the curve's last line is of the model that was saved
    by_hand = errors_by_hand(potential, frames)
    last = np.loadtxt(trained.folder / "lcurve.out")[-1]
    header = (trained.folder / "lcurve.out").read_text().splitlines()[0].lstrip("# ").split()
    curve = dict(zip(header, last, strict=True))
    # seven digits in the file
    assert_allclose(curve["rmse_e_val"], by_hand["energy"], rtol=1e-3)
    assert_allclose(curve["rmse_f_val"], by_hand["force"], rtol=1e-3)


def test_training_lowers_the_errors(trained, tmp_path):
    """Thirty steps on the same frames, against the weights at the beginning."""
    tree = tree_of(trained.kind, trained.place, numb_steps=30)
    r = Run(read_input(tree), tmp_path)
    frames = trained.frames("train")
    before = errors_by_hand(r.potential, frames)
    while r.step_number < r.n_steps:
        r.step()
    after = errors_by_hand(r.result(), frames)
    assert after["force"] < 0.6 * before["force"], (before, after)


def test_test_prints_the_errors(trained, tmp_path, capsys):
    run("test", "-m", trained.model, "-s", trained.valid, "--json", "-d", tmp_path / "detail")
    said = json.loads(capsys.readouterr().out)
    potential, frames = trained.potential, trained.frames()
    by_hand = errors_by_hand(potential, frames)
    numbers = json.dumps(said)
    found = {float(x) for x in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", numbers)}
    for name, value in by_hand.items():
        assert any(abs(x - value) < 1e-9 * value for x in found), (name, value, said)
    forces = np.loadtxt(tmp_path / "detail.f.out")
    assert_allclose(forces[:, 3:], np.concatenate([potential.evaluate(f).forces for f in frames]), rtol=1e-12)


@pytest.mark.parametrize("optimizer", [{}, {"type": "SNES", "population": 6}, {"type": "Adam"}])
def test_plan_says_what_the_run_makes(trained, optimizer, tmp_path, capsys):
    path = write_input(tmp_path / "input.json", tree_of(trained.kind, trained.place, optimizer))
    run("plan", path, "--json", "--no-timing")
    plan = json.loads(capsys.readouterr().out)
    r = Run(read_input(path), tmp_path / "run")
    assert plan["n_weights"] == r.potential.layout.size
    assert plan["n_frames"] == 10 and plan["n_steps"] == r.n_steps == 6
    assert plan["type_map"] == list(r.potential.type_map)
    r.step()
    if not optimizer:
        P = r.trainer.filter.covariance
        assert plan["block_sizes"] == list(P.blocks.sizes) and sum(plan["block_sizes"]) == plan["n_weights"]
        # tiles and pending columns; the work space of an update comes besides
        assert plan["memory"] == P._tiles.nbytes + P._pending.nbytes
        assert plan["updates_per_step"] == r.trainer.updates
    elif optimizer["type"] == "SNES":
        assert plan["memory"] == 8 * 6 * plan["n_weights"]


def test_plan_measures_a_step(trained, capsys):
    run("plan", trained.input)
    said = capsys.readouterr().out
    assert re.search(r"time per step +\S+ \S+ \(measured\)", said)
    assert f"{trained.potential.layout.size:,}" in said


# --- plot, info, show, report ---------------------------------------------------------------------


def test_plot_draws_all_figures(trained, capsys):
    pytest.importorskip("matplotlib")
    run("plot", trained.folder, "-f", "svg")
    drawn = {line.rsplit("/", 1)[-1] for line in capsys.readouterr().out.splitlines()}
    assert drawn == {"learning_curve.svg", "parity.svg", "errors.svg", "filter.svg"}
    assert all((trained.folder / name).stat().st_size > 5000 for name in drawn)


def test_info_of_model_and_checkpoint(trained, capsys):
    run("info", trained.model)
    model = capsys.readouterr().out
    run("info", trained.checkpoint)
    checkpoint = capsys.readouterr().out
    potential = trained.potential
    for said in (model, checkpoint):
        assert re.search(rf"weights +{potential.layout.size:,}\n", said + "\n"), said
        assert re.search(rf"types +{', '.join(potential.type_map)}\n", said)
    bias_t = potential.bias_atom_e + potential.out_bias
    bias = ", ".join(f"{t} {b:.4f}" for t, b in zip(potential.type_map, bias_t, strict=True))
    assert bias in model
    assert "RLEKF" in checkpoint and re.search(r"step +6, ", checkpoint)


def test_show(trained, capsys):
    run("show", trained.model, "type-map", "descriptor", "fitting-net", "size")
    said = capsys.readouterr().out
    potential = trained.potential
    assert f"The type_map is {list(potential.type_map)}" in said
    assert f"'type': '{trained.kind}'" in said
    sizes = {k: int(n.replace(",", "")) for k, n in re.findall(r"Parameters in (\S+): ([\d,]+)", said)}
    assert sizes["descriptor"] + sizes["fitting-net"] == sizes["total"] == potential.layout.size


def test_report(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # a report does not depend on where it is asked for
    run("report", trained.folder, "-o", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    potential = trained.potential
    assert f"{potential.layout.size:,} weights" in page
    # every way to use it names the model as it lies there
    assert "The data of this run cannot be read" not in page and "could not look" not in page
    assert trained.model.name in page and "NaN" not in page
    force = 1e3 * errors_by_hand(potential, trained.frames())["force"]
    assert f"{force:.3g}" in page


# --- model-devi, change-bias, neighbor-stat, compress, doctor -------------------------------------


def test_model_devi_by_hand(trained, tmp_path, capsys):
    other, rng = trained.potential, np.random.default_rng(3)
    other.weights = other.weights * (1 + 0.02 * rng.normal(size=other.layout.size))
    changed = tmp_path / f"other{trained.model.suffix}"
    other.save(changed)
    out = tmp_path / "devi.out"
    run("model-devi", "-m", trained.model, changed, "-s", trained.valid, "-o", out)
    rows = np.loadtxt(out)[:, 1:]
    both = [read_model(trained.model), read_model(changed)]
    for row, frame in zip(rows, trained.frames(), strict=True):
        a, b = (p.evaluate(frame) for p in both)
        # of two numbers the standard deviation is half their difference
        force = 0.5 * np.linalg.norm(a.forces - b.forces, axis=1)
        virial = 0.5 * np.abs(a.virial - b.virial) / len(frame)
        average = np.sqrt((virial**2).mean())
        energy = 0.5 * abs(a.energy - b.energy) / len(frame)
        wanted = [virial.max(), virial.min(), average, force.max(), force.min(), force.mean(), energy]
        assert_allclose(row, wanted, rtol=1e-6, atol=1e-12)  # seven digits
    assert rows[:, 3].min() > 1e-6


def test_change_bias_sets_values(trained, tmp_path, capsys):
    model = copy(trained, tmp_path)
    run("change-bias", model, "-b", 1.5, -2.0)
    new = kalmandp.Potential.load(capsys.readouterr().out.splitlines()[-1])
    old = trained.potential
    assert_allclose(new.bias_atom_e + new.out_bias, [1.5, -2.0], rtol=1e-12)
    for frame in trained.frames():
        before, after = old.evaluate(frame), new.evaluate(frame)
        counts = [np.sum(np.array(frame.symbols) == name) for name in old.type_map]
        shift = np.dot(counts, np.array([1.5, -2.0]) - old.bias_atom_e - old.out_bias)
        # sums of energies of about 2,000 eV
        assert_allclose(after.energy - before.energy, shift, rtol=1e-11)
        assert_allclose(after.forces, before.forces, atol=1e-12 * np.abs(before.forces).max())
    # the old model is as it was
    assert_array_equal(kalmandp.Potential.load(model).weights, old.weights)


def test_change_bias_fits_data(trained, tmp_path, capsys):
    wrong = with_bias(trained.potential, [10.0, 20.0])
    path = tmp_path / trained.model.name
    wrong.save(path)
    run("change-bias", path, "-s", trained.valid, "-o", tmp_path / f"fitted{trained.model.suffix}")
    fitted = kalmandp.Potential.load(tmp_path / f"fitted{trained.model.suffix}")
    frames = trained.frames()
    error = [fitted.evaluate(f).energy - f.energy for f in frames]
    assert abs(wrong.evaluate(frames[0]).energy - frames[0].energy) > 1e3
    assert abs(np.mean(error)) < 1e-8  # least squares of frames of one composition


def test_neighbor_stat_and_sel(trained, capsys):
    cutoff = trained.potential.form.cutoff
    run("neighbor-stat", "-s", trained.valid, "-r", cutoff, "-t", *TYPES, "--json")
    said = json.loads(capsys.readouterr().out)
    env = [trained.potential.environment(f) for f in trained.frames()]
    closest = min(float(np.linalg.norm(e.geometry.r_pc, axis=1).min()) for e in env)
    assert_allclose(said["min_nbor_dist"], closest, rtol=1e-12)
    most = max(np.bincount(e.geometry.i_p).max() for e in env)
    assert max(said["max_nbor_size"]) < most <= sum(said["max_nbor_size"])
    assert said["MN"] == most
    # what a kind says of these numbers is there for every kind that says something
    for kind in of_neighbours(trained.kind):
        for key, _, _ in kind.made_of(neighbour_statistics(trained.frames(), cutoff)):
            assert key in said


def test_compress_or_why_not(trained, tmp_path, capsys):
    model = copy(trained, tmp_path)
    compresses = getattr(files_of(trained.kind), "compression", None)
    if compresses is None:
        before = trained.potential.weights
        said = fails(capsys, "compress", model, "-s", trained.valid)
        assert trained.kind in said and "expected" in said
        assert_array_equal(kalmandp.Potential.load(model).weights, before)
        return
    run("compress", model, "-s", trained.valid)
    said = capsys.readouterr().out
    closest = kalmandp.Potential.load(model).info["min_nbor_dist"]
    assert f"{closest:.4f}" in said and "dp" in said


def test_doctor_with_the_input(trained, capsys):
    def findings(path, status) -> list:
        words = ["doctor", trained.place / "train.h5", "--input", path, "--json"]
        assert main(list(map(str, words))) == status
        return json.loads(capsys.readouterr().out)["findings"]

    # sel is no matter of the kinds that have none
    assert "sel" not in {f["check"] for f in findings(trained.input, 0)}
    if "sel" in read_input(trained.input).model.choices:
        tight = tree_of(trained.kind, trained.place)
        tight["model"]["descriptor"] = {**tight["model"]["descriptor"], "sel": [30, 8]}
        path = write_input(trained.place / "tight.json", tight)
        (found,) = [f for f in findings(path, 1) if f["check"] == "sel"]
        assert "neighbours Cl within 4.5 Å; sel allows 8" in found["seen"]
    # and the names of types of them all
    tree = tree_of(trained.kind, trained.place, model={"type_map": ["Na"]})
    for name, value in tree["model"].items():
        if isinstance(value, dict) and "sel" in value:
            tree["model"][name] = {**value, "sel": [30]}
    path = write_input(trained.place / "one_type.json", tree)
    found = [f for f in findings(path, 1) if f["check"] == "species"]
    assert found and "Cl is in the data" in found[0]["seen"]


def test_every_kind_has_a_small_model():
    assert set(MODELS) == set(KINDS)
