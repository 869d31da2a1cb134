"""The commands that DeePMD-kit's users know, against what DeePMD-kit 3.2 wrote for the same files.

`tests/reference/make_deepmd_commands.py` made the answers. Detail files hold 18 digits and agree to the
rounding of two programs; model_devi.out has seven digits and agrees line by line.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from deepmd_models import load_reference
from numpy.testing import assert_allclose, assert_array_equal

import kalmandp
from kalmandp.bridges.deepmd.codec import load_tree
from kalmandp.bridges.deepmd.files import from_tree
from kalmandp.cli import main

REFERENCE = Path(__file__).parents[1] / "reference"
ANSWERS = json.loads((REFERENCE / "commands" / "answers.json").read_text())
MODELS = ("fitting_idt_only.dp", "embedding_idt_only.dp")
#: The systems in the order in which DeePMD-kit came upon them.
SYSTEMS = ("data/2", "data/0", "data/1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models, and the frames of the first as three deepmd/npy systems."""
    place = tmp_path_factory.mktemp("dp")
    (place / "data").mkdir()
    for name in MODELS:
        from_tree(load_reference(name[:-3]).tree).save(place / name)
    for k, frame in enumerate(load_reference(MODELS[0][:-3]).frames):
        kalmandp.Dataset.write(place / "frames.h5", [frame])
        kalmandp.convert([place / "frames.h5"], place / "data" / str(k))
    return place


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """The folder as the current one, so that names in files are those of the reference."""
    monkeypatch.chdir(folder)
    return tmp_path


def run(*words) -> None:
    assert main([str(word) for word in words]) == 0


def test_detail_files_of_test(here):
    run("test", "-m", MODELS[1], "-s", *SYSTEMS, "-d", here / "test")
    names = sorted(p.name for p in here.iterdir())
    assert names == [f"test.{kind}.out" for kind in ("e", "e_peratom", "f", "v", "v_peratom")]
    for name in names:
        ours, theirs = (np.loadtxt(p / name) for p in (here, REFERENCE / "commands"))
        # sums of a few dozen terms in another order
        assert_allclose(ours, theirs, atol=1e-12 * np.abs(theirs).max(), err_msg=name)
        first = [(p / name).read_text().splitlines()[0] for p in (here, REFERENCE / "commands")]
        ours_titles, their_titles = (line.split(": ")[1] for line in first)
        assert ours_titles == their_titles


@pytest.mark.parametrize(
    ("stored", "options"), [("model_devi", []), ("real_error", ["--real_error", "--relative", 1.0])]
)
def test_model_devi(here, stored, options):
    out = here / "devi.out"
    run("model-devi", "-m", *MODELS, "-s", *SYSTEMS, "-o", out, "-f", 5, *options)
    theirs = (REFERENCE / "commands" / f"{stored}.out").read_text()
    assert out.read_text() == theirs
    # a committee of one does not differ from itself: the numbers above are not those of any file
    run("model-devi", "-m", MODELS[0], MODELS[0], "-s", *SYSTEMS, "-o", out)
    assert not np.loadtxt(out)[:, 1:].any()


def test_model_devi_of_each_atom(here):
    out = here / "devi.out"
    run("model-devi", "-m", *MODELS, "-s", "data/0", "-o", out, "--atomic")
    row = np.loadtxt(out)
    assert len(row) == 8 + 5 and out.read_text().splitlines()[1].endswith("atm_devi_f(N)      ")
    assert_allclose([row[8:].max(), row[8:].min(), row[8:].mean()], row[4:7], rtol=1e-6)


def test_model_devi_matches_types_by_name(here):
    from kalmandp.potentials.adapting import reordered

    reordered(kalmandp.Potential.load(MODELS[0]), ("H", "O")).save(here / "turned.dp")
    run("model-devi", "-m", MODELS[0], here / "turned.dp", "-s", "data", "-o", here / "devi.out")
    assert np.loadtxt(here / "devi.out")[:, 1:].max() < 1e-11


def test_neighbor_stat(here, capsys):
    run("neighbor-stat", "-s", *SYSTEMS, "-r", 3.5, "-t", "O", "H")
    out = capsys.readouterr().out
    assert f"min_nbor_dist: {ANSWERS['min_nbor_dist']:f}\n" in out
    assert f"max_nbor_size: {ANSWERS['max_nbor_size']}\n" in out
    assert 'sel of "auto": [16, 20]\n' in out
    run("neighbor-stat", "-s", *SYSTEMS, "-r", 3.5, "-t", "O", "H", "--json")
    report = json.loads(capsys.readouterr().out)
    assert_allclose(report["min_nbor_dist"], ANSWERS["min_nbor_dist"], rtol=1e-14)
    assert report["sel"] == [16, 20]  # 1.1 × (12, 18), cut to whole numbers, up to a multiple of 4
    # the most of all types that one atom has; what a nep.txt would state
    assert max(ANSWERS["max_nbor_size"]) < report["MN"] <= sum(ANSWERS["max_nbor_size"])


@pytest.mark.parametrize("mode", ["change", "set"])
def test_change_bias(here, mode):
    run("change-bias", MODELS[1], "-s", *SYSTEMS, "-m", mode, "-o", here / "new.dp")
    changed = kalmandp.Potential.load(here / "new.dp")
    # least squares of three energies on counts: one condition number of rounding
    assert_allclose(changed.bias_atom_e + changed.out_bias, ANSWERS[mode], rtol=1e-11)
    assert_array_equal(changed.weights, kalmandp.Potential.load(MODELS[1]).weights)


def test_change_bias_to_values(here, capsys):
    run("change-bias", MODELS[1], "-b", -93.57, -187.1, "-o", here / "new.yaml")
    assert re.search(r"O +-?\d+\.\d+ +-93\.570000\nH +-?\d+\.\d+ +-187\.100000\n", capsys.readouterr().out)
    changed = kalmandp.Potential.load(here / "new.yaml")
    assert_array_equal(changed.bias_atom_e + changed.out_bias, [-93.57, -187.1])
    assert main(["change-bias", MODELS[1], "-b", "1.0"]) == 1
    assert "expected 2 numbers, one per type (O, H)" in capsys.readouterr().err


def test_change_bias_of_some_frames(here):
    """-n counts in each system."""
    run("change-bias", MODELS[1], "-s", *SYSTEMS, "-n", 1, "-o", here / "all.dp")
    run("change-bias", MODELS[1], "-s", "data/0", "-o", here / "one.dp")
    all_, one = (kalmandp.Potential.load(here / name) for name in ("all.dp", "one.dp"))
    assert_allclose(all_.bias_atom_e + all_.out_bias, ANSWERS["change"], rtol=1e-11)
    assert np.abs(one.out_bias - all_.out_bias).max() > 1e-3


def test_show(here, capsys):
    run("show", MODELS[0], "type-map", "descriptor", "fitting-net", "size")
    said = capsys.readouterr().out.splitlines()
    spoken = [line for line in said if line.startswith(("This is", "The ", "Param"))]
    # one of the options may be stated in another order: dictionaries are compared, not their text
    assert list(map(_parsed, spoken)) == list(map(_parsed, ANSWERS["show"]))
    assert main(["show", MODELS[0], "model-branch"]) == 1


def _parsed(line: str):
    import ast

    head, brace, rest = line.partition("{")
    return head, ast.literal_eval(brace + rest) if brace else None


def test_compress_says_what_is_needed(here, capsys):
    assert main(["compress", MODELS[0]]) == 1
    assert "does not know the closest distance" in capsys.readouterr().err
    run("compress", MODELS[0], "-s", *SYSTEMS, "-o", here / "ready.dp")
    out = capsys.readouterr().out
    assert "dp convert-backend" in out and "compress -i" in out
    info = kalmandp.Potential.load(here / "ready.dp").info
    assert_allclose(info["min_nbor_dist"], ANSWERS["min_nbor_dist"], rtol=1e-14)
    # `dp --dp compress` looks for it at the top of the tree
    assert load_tree(here / "ready.dp")["min_nbor_dist"] == info["min_nbor_dist"]


def test_lcurve_has_deepmd_kits_columns(tmp_path):
    """Read as DeePMD-kit's manual reads it, with names from the header."""
    from kalmandp.training.report.history import COLUMNS, History

    curve = History([[1.0] * len(COLUMNS), [2.0] * len(COLUMNS)])
    curve.write(tmp_path / "lcurve.out")
    data = np.genfromtxt(tmp_path / "lcurve.out", names=True)
    theirs = ("step", "rmse_e_val", "rmse_e_trn", "rmse_f_val", "rmse_f_trn")
    assert data.dtype.names[:5] == theirs and "lr" in data.dtype.names
    assert_array_equal(data["step"], [1, 2])


def test_fine_tuning_from_the_command_line(here, tmp_path):
    """`train --finetune`: the curve's last line is what `test` says of the model that is left."""
    tree = {
        "model": {"type_map": ["O", "H"]},
        "optimizer": {"type": "RLEKF", "p0": 0.01},
        "training": {
            "training_data": {"systems": list(SYSTEMS)}, "validation_data": {"systems": ["data"]},
            "numb_steps": 2, "seed": 1, "disp_freq": 1, "save_freq": 2,
        },
    }  # fmt: skip
    (tmp_path / "input.json").write_text(json.dumps(tree))
    out = tmp_path / "run"
    run("train", tmp_path / "input.json", "-t", MODELS[1], "-o", out, "--quiet", "--skip-plots")
    info = kalmandp.Potential.load(out / "model.dp").info["started from"]
    assert (info["file"], info["how"]) == (MODELS[1], "finetune")
    run("test", "-m", out / "model.dp", "-s", "data", "-d", tmp_path / "after")
    energy = np.loadtxt(tmp_path / "after.e_peratom.out")
    last = np.genfromtxt(out / "lcurve.out", names=True)[-1]
    # six digits are written
    assert_allclose(last["rmse_e_val"], np.sqrt(np.mean((energy[:, 1] - energy[:, 0]) ** 2)), rtol=1e-5)


def test_one_model_alone_does_not_deviate(here, capsys):
    """Zeros in every column would look like agreement."""
    assert main(["model-devi", "-m", MODELS[0], "-s", "data", "-o", "alone.out"]) != 0
    assert "names 1 model" in capsys.readouterr().err and not Path("alone.out").exists()
    assert main(["model-devi", "-m", MODELS[0], "-s", "data", "-o", "alone.out", "--real_error"]) == 0


def test_a_pattern_that_matched_nothing(tmp_path, capsys):
    """The shell passes `*/OUTCAR` on as it is where there is none."""
    assert main(["convert", str(tmp_path / "*" / "OUTCAR"), str(tmp_path / "train.h5")]) != 0
    assert "OUTCAR: no such file or folder" in capsys.readouterr().err
