"""The commands from end to end on a small data set, as a user types them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import frames, settings

import kalmandp
from kalmandp.cli import main
from kalmandp.commands.info import read_checkpoint_header
from kalmandp.commands.train import _with_seed
from kalmandp.engines.cpu.covariance.tiled import TiledCovariance
from kalmandp.frames.dataset import Dataset
from kalmandp.kalman.blocks import Blocks
from kalmandp.training.config.inputs import read_input
from kalmandp.training.report.metrics import evaluate
from kalmandp.training.report.summary import read_details

KALMANDP = [sys.executable, "-m", "kalmandp"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with data and an input file that names them as a neighbour."""
    folder = tmp_path_factory.mktemp("place")
    kalmandp.Dataset.write(folder / "morse.h5", frames(30))
    tree = settings("morse.h5", training={"validation_fraction": 0.2, "numb_steps": 8, "save_freq": 5})
    (folder / "input.json").write_text(json.dumps(tree))
    return folder


@pytest.fixture(scope="module")
def finished(place):
    """Folder, stdout and stderr of a finished run."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["train", str(place / "input.json"), "-o", str(place / "run")])
    assert status == 0
    return place / "run", out.getvalue(), err.getvalue()


@pytest.fixture
def trained(finished) -> Path:
    """The folder of a finished run."""
    return finished[0]


def changed(place: Path, name: str, **training) -> str:
    """An input file with other keys in its section ``training``; returns its path."""
    tree = json.loads((place / "input.json").read_text())
    tree["training"].update(training)
    (place / name).write_text(json.dumps(tree))
    return str(place / name)


# --- train ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (range(30), "30 validation frames, all of which were trained on too:"),
        ([0, 7], "4 validation frames, 2 of which were trained on too:"),
        ([3], "3 validation frames, 1 of which was trained on too:"),
        ([], "2 validation frames, not trained on:"),
    ],
)
def test_frames_that_were_trained_on_are_no_validation(place, tmp_path, capsys, chosen, said):
    """Copies in another file, and the file itself, are the same frames."""
    kept, new = frames(30), frames(32)[30:] if len(list(chosen)) < 30 else []
    kalmandp.Dataset.write(tmp_path / "copies.h5", [*(kept[k] for k in chosen), *new])
    tree = settings(str(place / "morse.h5"), training={"numb_steps": 2, "save_freq": 2})
    tree["training"]["validation_data"] = {"systems": [str(tmp_path / "copies.h5")]}
    (tmp_path / "input.json").write_text(json.dumps(tree))
    assert main(["train", str(tmp_path / "input.json"), "-o", str(tmp_path / "o"), "--skip-plots"]) == 0
    assert f"Errors on {said}" in capsys.readouterr().out


def test_train_leaves_everything_it_names(finished):
    folder, out, err = finished
    assert "validation frames, not trained on" in out and "% of the RMS force" in out
    assert re.search(r"step 5/8 .* E .* meV/atom .* F .* meV/Å .* left", err)
    names = {p.name for p in folder.iterdir()}
    assert {"model.dp", "model.ckpt.h5", "lcurve.out", "learning_curve.png", "parity.png"} <= names
    for path in re.findall(r"^(?:model|checkpoint|learning curve|figure) +(.*)$", out, re.MULTILINE):
        assert Path(path).is_file()


def test_the_table_shows_the_errors_of_the_validation_frames(finished):
    """The printed force RMSE is that of the saved model on the frames that were held out."""
    folder, out, _ = finished
    details = read_details(folder / "validation")
    labels = details.energy[:, 0]
    held_out = [f for f in frames(30) if np.isclose(f.energy / 16, labels, rtol=1e-12).any()]
    assert len(held_out) == len(labels) == 6
    metrics = evaluate(kalmandp.Potential.load(folder / "model.dp"), held_out)
    printed = {
        what: float(re.search(rf"^{what} +([\d.]+)", out, re.MULTILINE)[1]) for what in ("energy", "force")
    }
    # three decimals of meV are printed
    assert_allclose(printed["energy"], 1e3 * metrics.energy_rmse, atol=6e-4)
    assert_allclose(printed["force"], 1e3 * metrics.force_rmse, atol=6e-4)


def test_an_earlier_run_is_kept(place, capsys):
    arguments = ["train", str(place / "input.json"), "-o", str(place / "twice"), "--skip-plots", "--smoke"]
    assert main(arguments) == 0
    first = (place / "twice" / "model.dp").read_bytes()
    assert main(arguments) == 0
    assert (place / "twice" / "model.dp.old1").read_bytes() == first
    assert "model.dp of an earlier run is now model.dp.old1" in capsys.readouterr().err
    # a run that cannot start changes nothing
    bad = changed(place, "bad.json", training_data={"systems": ["nowhere.h5"]})
    assert main(["train", bad, "-o", str(place / "twice")]) == 1
    assert (place / "twice" / "model.dp").is_file()
    assert not (place / "twice" / "model.dp.old2").exists()


def test_restart_goes_on_from_the_folder(place, capsys):
    out = str(place / "long")
    assert main(["train", changed(place, "short.json", numb_steps=3), "-o", out, "--quiet"]) == 0
    assert main(["train", str(place / "input.json"), "-o", out, "--restart", "--quiet", "--skip-plots"]) == 0
    assert read_checkpoint_header(place / "long" / "model.ckpt.h5").step == 8
    assert not list((place / "long").glob("*.old*"))


def test_a_run_without_seed_keeps_its_split_on_restart(place, tmp_path):
    path = changed(place, "unseeded.json", seed=None, numb_steps=3)
    out = tmp_path / "run"
    assert main(["train", path, "-o", str(out), "--quiet", "--skip-plots"]) == 0
    seed = read_checkpoint_header(out / "model.ckpt.h5").source["seed_used"]
    again = _with_seed(read_input(path), out / "model.ckpt.h5")
    assert again.training.seed == seed
    assert _with_seed(read_input(path), None).training.seed != seed


def test_init_model_starts_from_its_weights(trained, place, tmp_path):
    arguments = ["--init-model", str(trained / "model.dp"), "--smoke", "--quiet", "--skip-plots"]
    assert main(["train", str(place / "input.json"), "-o", str(tmp_path), *arguments]) == 0
    a, b = (kalmandp.Potential.load(p / "model.dp") for p in (trained, tmp_path))
    fresh = np.linalg.norm(b.weights) + np.linalg.norm(a.weights)
    assert 0 < np.linalg.norm(a.weights - b.weights) < 0.1 * fresh


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves_and_says_how_to_go_on(place, tmp_path):
    path = changed(place, "endless.json", numb_steps=1_000_000, disp_freq=1)
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*KALMANDP, "train", path, "-o", str(out)], text=True, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip
    try:
        assert any("step 2/" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"kalmandp train {path} -o {out} --restart" in stdout
    step = read_checkpoint_header(out / "model.ckpt.h5").step
    assert f"stopped after step {step} " in stdout
    further = changed(place, "further.json", numb_steps=step + 1)
    assert main(["train", further, "-o", str(out), "--restart", "--quiet", "--skip-plots"]) == 0
    assert read_checkpoint_header(out / "model.ckpt.h5").step == step + 1


def test_notices(place, tmp_path, capsys):
    tree = json.loads((place / "input.json").read_text())
    del tree["optimizer"]
    tree["training"]["tensorboard"] = True
    (place / "adam.json").write_text(json.dumps(tree))
    assert main(["train", str(place / "adam.json"), "-o", str(tmp_path), "--smoke", "--skip-plots"]) == 0
    err = capsys.readouterr().err
    assert "without effect here: training/tensorboard" in err
    assert "Adam, as in DeePMD-kit" in err


# --- the others -----------------------------------------------------------------------------------


def test_test_prints_and_writes_what_metrics_say(trained, place, tmp_path, capsys):
    model, data = str(trained / "model.dp"), str(place / "morse.h5")
    metrics = evaluate(kalmandp.Potential.load(model), frames(30))
    assert main(["test", "-m", model, "-s", data, "--json", "-d", str(tmp_path / "all")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["frames"], report["atoms"]) == (30, 480)
    # data written as float64 and read back: the same numbers but for the order of sums
    assert_allclose(report["energy_rmse_eV_per_atom"], metrics.energy_rmse, rtol=1e-9)
    assert_allclose(report["force_mae_eV_per_angstrom"], metrics.force_mae, rtol=1e-9)
    assert_allclose(report["virial_rmse_eV_per_atom"], metrics.virial_rmse, rtol=1e-9)
    details = read_details(tmp_path / "all")
    assert_allclose(
        np.sqrt(np.mean((details.energy[:, 1] - details.energy[:, 0]) ** 2)), metrics.energy_rmse, rtol=1e-9
    )
    assert main(["test", "-m", model, "-s", data, "-n", "7"]) == 0
    assert "on 7 frames of" in capsys.readouterr().out


def test_convert_and_info(place, tmp_path, capsys):
    xyz, back = str(tmp_path / "morse.extxyz"), str(tmp_path / "back.h5")
    assert main(["convert", str(place / "morse.h5"), xyz]) == 0
    assert main(["convert", xyz, back, "--type-map", "B", "A", "--index", ":10"]) == 0
    assert "10 frames in 1 system; energy (10), forces (10), virial (10)" in capsys.readouterr().out
    assert main(["info", back]) == 0
    out = capsys.readouterr().out
    assert re.search(r"types +B, A", out) and "10 in 1 system" in out and "eV/angstrom" in out


def test_info_tells_model_from_checkpoint(trained, capsys):
    assert main(["info", str(trained / "model.dp")]) == 0
    assert re.search(r"weights +1,\d\d\d", capsys.readouterr().out)
    assert main(["info", str(trained / "model.ckpt.h5")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"optimizer +RLEKF", out) and "8, in epoch 1" in out


def test_plan_agrees_with_the_run(trained, place, capsys):
    assert main(["plan", str(place / "input.json"), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    model = kalmandp.Potential.load(trained / "model.dp")
    assert plan["n_weights"] == sum(plan["block_sizes"]) == len(model.weights)
    assert (plan["n_frames"], plan["steps_per_epoch"], plan["n_steps"]) == (24, 24, 8)
    assert plan["memory"] == TiledCovariance.needs(Blocks(tuple(plan["block_sizes"])))
    assert plan["updates_per_step"] == 2
    assert 0 < plan["seconds_per_step"] < 10
    assert main(["plan", str(place / "input.json"), "--no-timing"]) == 0
    assert "memory of P" in capsys.readouterr().out


def test_plan_says_what_does_not_fit(place, capsys, monkeypatch):
    monkeypatch.setattr("kalmandp.training.placement.memory.available_memory", lambda: 1000)
    assert main(["plan", str(place / "input.json")]) == 0
    out = capsys.readouterr().out
    assert "P does not fit" in out and "time per step" not in out


def test_plot_draws_from_the_folder(trained, capsys):
    assert main(["plot", str(trained), "-f", "svg"]) == 0
    drawn = capsys.readouterr().out.split()
    names = {Path(p).name for p in drawn}
    assert names == {"learning_curve.svg", "parity.svg", "errors.svg", "filter.svg"}
    assert all(Path(p).is_file() for p in drawn)


# --- manners --------------------------------------------------------------------------------------


def test_exit_status_of_the_program(place):
    run = lambda *args, **env: subprocess.run(
        [*KALMANDP, *args], capture_output=True, text=True, encoding="utf-8", timeout=120,
        env={**os.environ, "PYTHONUTF8": "1", **env},
    )  # fmt: skip
    assert run("--version").stdout.strip() == f"kalmandp {kalmandp.__version__}"
    assert run("train").returncode == 2
    failed = run("train", "nowhere.json")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "error: nowhere.json: no such file; expected an input file in JSON\n"
    debug = run("train", "nowhere.json", KALMANDP_DEBUG="1")
    assert debug.returncode == 1 and "Traceback" in debug.stderr


def test_a_reader_that_goes_away_is_no_error(place):
    program = f"{sys.executable} -m kalmandp info {place / 'morse.h5'} | true"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""


def test_the_command_line_is_read_without_heavy_imports():
    heavy = "{'numpy', 'numba', 'h5py', 'vesin', 'matplotlib', 'ase', 'dpdata'}"
    code = f"import sys, kalmandp.cli as c; c.make_parser(); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_convert_says_what_became_of_each_label(tmp_path, capsys):
    frame = '2\nLattice="4 0 0 0 4 0 0 0 4" {}=-3.5 Virial="1 0 0 0 1 0 0 0 1" Dipole="0 0 1" config_type=a '
    frame += "Properties=species:S:1:pos:R:3:force:R:3\nNa 0 0 0 1 0 0\nCl 2 2 2 -1 0 0\n"
    (tmp_path / "a.xyz").write_text(frame.format("Energy") + frame.format("REF_energy"))
    (tmp_path / "vasprun.xml").write_text("")
    target = str(tmp_path / "a.h5")
    sources = [str(tmp_path / "a.xyz"), str(tmp_path / "vasprun.xml")]
    assert main(["convert", "--skip-invalid", *sources, target]) == 0
    said = capsys.readouterr()
    for line in (
        "energy: taken over, 1 of 2 frames, from Energy",
        "forces: taken over, all frames, from force",
        "virial: taken over, all frames, from Virial",
        "Dipole: not taken over",
        "REF_energy: not taken over",
        f"warning: left out of {target}: a file that cannot be read, or not to its end (1)",
    ):
        assert line in said.err.splitlines()
    assert said.out == f"{target}: 2 frames in 2 systems; energy (1), forces (2), virial (2)\n"
    # a label that no frame has, and a name that looks like it
    (tmp_path / "b.xyz").write_text(frame.format("REF_energy").replace("Virial", "REF_virial"))
    assert main(["convert", str(tmp_path / "b.xyz"), target]) == 0
    said = capsys.readouterr().err
    assert "note: no frame has energy; if REF_energy is it, add --key energy=REF_energy" in said
    assert "note: no frame has virial; if REF_virial is it, add --key virial=REF_virial" in said


def test_options_of_convert_may_stand_before_the_files(tmp_path, capsys):
    (tmp_path / "a.xyz").write_text("".join(f"1\nenergy={e}\nH 0 0 0\n" for e in range(8)))
    source, target = str(tmp_path / "a.xyz"), str(tmp_path / "b.h5")
    assert main(["convert", "--index", "-5:", source, target]) == 0
    assert "5 frames" in capsys.readouterr().out
    assert main(["convert", "--type-map", "O", "H", source, target, "--unit", "energy=hartree"]) == 0
    with Dataset(target) as data:
        assert data.type_map == ("H",) and data[1].energy == 27.211386245988
    assert main(["convert", source, target, "--unit", "energy=cubits"]) == 1
    assert "the unit of energy is 'cubits'; expected eV, hartree" in capsys.readouterr().err
    assert main(["convert", source, target, "--unit", "energy"]) == 1
    assert "--unit is 'energy'; expected LABEL=UNIT" in capsys.readouterr().err
