"""`use_old_weights_short` in an n2p2 folder: what of an earlier run is taken up, and what is not."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from n2p2_support import TRAINING, UPDATES, frames, text
from numpy.testing import assert_array_equal
from small_models import tree_of, write_data

from kalmandp import Potential, train
from kalmandp.cli import main
from kalmandp.formats.runner import write_runner
from kalmandp.training.state.checkpoint import load_checkpoint

OLD = "use_old_weights_short\n"


def input_of(place, epochs, more=""):
    (place / "input.nn").write_text(text(TRAINING.replace("epochs 4", f"epochs {epochs}"), more=more))


def trained(place, *words) -> None:
    assert main(["train", str(place / "input.nn"), "-o", str(place), "--skip-plots", *words]) == 0


def begun(tmp_path, *words):
    """A folder with the first half of a run."""
    half = tmp_path / "half"
    half.mkdir()
    write_runner(half / "input.data", frames())
    input_of(half, 2)
    trained(half, *words)
    return half


@pytest.mark.parametrize("words", [(), ("--optimizer", "n2p2"), ("--optimizer", "LKF")], ids=str)
@pytest.mark.parametrize("moved", [False, True], ids=["in hdnnp", "beside input.nn"])
def test_two_halves_have_the_bits_of_one_run(tmp_path, words, moved, capsys):
    """Weights, their average, P, its noise and the order of the frames go on; so does learning-curve.out."""
    half, whole = begun(tmp_path, *words), tmp_path / "whole"
    whole.mkdir()
    shutil.copy(half / "input.data", whole)
    input_of(whole, 4)
    trained(whole, *words)
    if moved:  # as n2p2 has them
        for file in (half / "hdnnp").glob("[sw]*.data"):
            shutil.copy(file, half)
    input_of(half, 2, OLD)
    capsys.readouterr()
    trained(half, *words)
    assert "warning" not in capsys.readouterr().err
    (a, b), (p, q) = (
        [load(folder / name) for folder in (whole, half)]
        for load, name in ((load_checkpoint, "model.ckpt.h5"), (Potential.load, "hdnnp"))
    )
    assert_array_equal(p.weights, q.weights)
    assert_array_equal(a["potential"].weights, b["potential"].weights)
    assert ("result" in a) == (not words)  # only our own filter averages
    assert set(a["optimizer"]) == set(b["optimizer"])
    for name, value in a["optimizer"].items():
        assert_array_equal(value, b["optimizer"][name], err_msg=name)
    curves = [np.loadtxt(folder / "learning-curve.out") for folder in (whole, half)]
    assert_array_equal(*curves)
    assert curves[0][:, 0].tolist() == [0, 1, 2, 3, 4]


def changed(half, what):
    """A folder of half a run, in which something is other than it left it."""
    if what == "weights":
        path = half / "hdnnp" / "weights.011.data"
        path.write_text("0.25\n" + "".join(path.read_text().splitlines(keepends=True)[2:]))
    elif what == "statistics":
        path = half / "hdnnp" / "scaling.data"
        head, line, *rest = path.read_text().splitlines(keepends=True)
        words = line.split()
        words[2] = repr(float(words[2]) - 1.0)
        path.write_text("".join([head, " ".join(words) + "\n", *rest]))
    elif what == "form":
        path = half / "hdnnp" / "input.nn"
        (line,) = [x for x in path.read_text().splitlines() if x.startswith("cutoff_type")]
        path.write_text(path.read_text().replace(line, "cutoff_type 1"))
    elif what == "energies of atoms":
        path = half / "hdnnp" / "input.nn"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith("atom_energy Na")))


@pytest.mark.parametrize("what", ["weights", "statistics", "form", "energies of atoms"])
def test_another_model_is_taken_without_the_filter(tmp_path, what, capsys):
    half = begun(tmp_path)
    changed(half, what)
    model = Potential.load(half / "hdnnp")
    input_of(half, 1, OLD)
    capsys.readouterr()
    trained(half)
    said = capsys.readouterr().err
    assert f"a model with other {what} than the one that is taken now; the optimizer begins anew" in said
    again = load_checkpoint(half / "model.ckpt.h5")
    assert again["optimizer"]["updates"] == len(list(frames()))
    assert_array_equal(again["potential"].statistics["min"], model.statistics["min"])


def test_another_filter_begins_anew_with_the_model_that_was_written(tmp_path, capsys):
    half = begun(tmp_path)
    input_of(half, 1, OLD)
    capsys.readouterr()
    trained(half, "--optimizer", "n2p2", "--smoke")
    said = capsys.readouterr().err
    assert "the weights are taken, the optimizer begins anew: the input's optimizer is n2p2" in said
    assert load_checkpoint(half / "model.ckpt.h5")["optimizer"]["updates"] == 2


def test_adam_takes_the_weights_and_says_so(tmp_path, capsys):
    half = begun(tmp_path)
    input_of(half, 1, OLD)
    trained(half, "--optimizer", "Adam", "--smoke")
    assert "use_old_weights_short: the weights are taken; Adam begins anew" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("--optimizer", "n2p2")], ids=str)
def test_more_structures_are_learnt_by_the_same_filter(tmp_path, words, capsys):
    half = begun(tmp_path, *words)
    before = load_checkpoint(half / "model.ckpt.h5")["optimizer"]["updates"]
    write_runner(half / "input.data", frames(8))
    input_of(half, 1, OLD)
    capsys.readouterr()
    trained(half, *words)
    assert "the optimizer goes on, the order of the data begins anew" in capsys.readouterr().err
    now = load_checkpoint(half / "model.ckpt.h5")["optimizer"]["updates"]
    assert now == before + (8 + int(0.1 * 8 * 24) // 3 if words else 8) and before == 2 * (
        UPDATES if words else 6
    )


@pytest.mark.parametrize("words", [(), ("--optimizer", "n2p2")], ids=str)
def test_another_seed_or_other_structures_are_another_order(tmp_path, words, capsys):
    half = begun(tmp_path, *words)
    input_of(half, 1, OLD + "random_seed 9\n")
    capsys.readouterr()
    trained(half, *words)
    assert "the order of the data begins anew: seed is 9; expected 7" in capsys.readouterr().err


def test_symmetry_functions_that_are_others_are_said(tmp_path, capsys):
    """The model keeps its own; a restart, which is the same run, is refused."""
    half = begun(tmp_path)
    command = ["train", str(half / "input.nn"), "-o", str(half), "--skip-plots", "--smoke"]
    (half / "input.nn").write_text(text(rc=11.0))
    assert main([*command, "--restart"]) == 1
    assert "differs from the checkpoint's (functions of input_nn); expected" in capsys.readouterr().err
    (half / "input.nn").write_text(text(rc=11.0, more=OLD))
    assert main(command) == 0
    assert "the input says otherwise: functions of input_nn\n" in capsys.readouterr().err


@pytest.mark.parametrize("left, message", [
    (["scaling.data"], "has no weights"),
    (["weights.011.data", "weights.017.data"], "scaling.data: no such file; expected that of the old"),
    (["weights.011.000010.out"], "weights.011.000010.out is one of an epoch: copy those"),
], ids=str)  # fmt: skip
def test_what_is_missing_beside_old_weights_is_named(tmp_path, left, message, capsys):
    write_runner(tmp_path / "input.data", frames())
    input_of(tmp_path, 1, OLD)
    for name in left:
        (tmp_path / name).write_text("0.5\n")
    assert main(["train", str(tmp_path / "input.nn"), "-o", str(tmp_path), "--smoke"]) == 1
    assert message in capsys.readouterr().err


def test_a_checkpoint_of_another_kind_is_not_taken_up(tmp_path, capsys):
    """model.ckpt.h5 is the usual name of all kinds."""
    half = begun(tmp_path)
    input_of(half, 1, OLD)
    tree = tree_of("nep", tmp_path)
    write_data(tmp_path)
    for _ in train(tree, output=tmp_path / "nep"):
        pass
    shutil.copy(tmp_path / "nep" / "model.ckpt.h5", half)
    capsys.readouterr()
    trained(half, "--smoke")
    assert "its run left a model with other form than the one" in capsys.readouterr().err
