"""Inputs of other programs are inputs in every respect: commands, restarts, reports take them as ours."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import DATA, run

import kalmandp
from kalmandp.constants import BOHR, HARTREE
from kalmandp.errors import FileError
from kalmandp.formats.extxyz import write_extxyz
from kalmandp.formats.runner import write_runner
from kalmandp.registry import INPUTS
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run, train

NEP_IN = """
type 2 Na Cl
version 4
cutoff 4.5 3.5
n_max 2 2
basis_size 3 3
l_max 2
neuron 5
"""

INPUT_NN = """
number_of_elements 2
elements Na Cl
cutoff_type 2
global_hidden_layers_short 1
global_nodes_short 6
global_activation_short t l
scale_symmetry_functions_sigma
scale_min_short 0.0
scale_max_short 1.0
epochs 2
random_seed 3
use_short_forces
symfunction_short Na 2 Na 0.10 0.0 9.5
symfunction_short Na 2 Cl 0.10 0.0 9.5
symfunction_short Na 2 Cl 0.50 5.0 9.5
symfunction_short Na 3 Cl Cl 0.02 1.0 1.0 9.5
symfunction_short Cl 2 Na 0.10 0.0 9.5
symfunction_short Cl 2 Na 0.50 5.0 9.5
symfunction_short Cl 2 Cl 0.10 0.0 9.5
symfunction_short Cl 3 Na Na 0.02 -1.0 2.0 9.5
"""


def gpumd(folder, frames) -> None:
    (folder / "nep.in").write_text(NEP_IN)
    write_extxyz(folder / "train.xyz", frames)


def n2p2(folder, frames) -> None:
    (folder / "input.nn").write_text(INPUT_NN)
    write_runner(folder / "input.data", frames)


#: What makes a folder of each program.
FOLDERS = {"nep.in": gpumd, "input.nn": n2p2}


@pytest.fixture(params=list(INPUTS))
def name(request):
    return request.param


@pytest.fixture
def place(name, tmp_path):
    with kalmandp.Dataset(DATA / "NaCl_train.h5") as data:
        FOLDERS[name](tmp_path, data[:6])
    return tmp_path


def test_every_input_has_a_folder():
    assert set(FOLDERS) == set(INPUTS)


def test_a_restart_has_the_same_bits(name, place, monkeypatch):
    """Stopped on the way, and gone on with from another folder by the command."""
    monkeypatch.chdir(place)
    settings = read_input(name)
    steps = iter(range(100))
    list(train(settings, output="cut", stop=lambda: next(steps) == 7))
    list(train(settings, output="whole"))
    model = settings.training.model_file
    middle = kalmandp.Potential.load(place / "cut" / model).weights
    monkeypatch.chdir(place.parent)
    run("train", place / name, "-o", place / "cut", "--restart", "--quiet", "--skip-plots")
    whole, cut = (kalmandp.Potential.load(place / f / model) for f in ("whole", "cut"))
    assert_array_equal(cut.weights, whole.weights)
    assert_array_equal(cut.bias_atom_e, whole.bias_atom_e)
    assert (middle != cut.weights).any()
    with h5py.File(place / "whole/model.ckpt.h5") as a, h5py.File(place / "cut/model.ckpt.h5") as b:
        names: list[str] = []
        a.visit(names.append)
        found = [k for k in names if k.startswith(("optimizer/", "feed/"))]
        arrays = [k for k in found if isinstance(a[k], h5py.Dataset)]
        assert arrays
        for key in arrays:
            assert_array_equal(a[key][()], b[key][()], err_msg=key)
    # the files of the other program are there, and alike
    left = {p.name for p in (place / "whole").iterdir() if p.suffix == ".out" and p.name != "lcurve.out"}
    assert left and left <= {p.name for p in (place / "cut").iterdir()}
    for out in left:
        one, other = (np.atleast_2d(np.loadtxt(place / f / out)) for f in ("whole", "cut"))
        # a curve has a line more where the run was stopped
        assert_allclose(one[-1], other[-1], rtol=1e-12, err_msg=out)
        assert len(other) == len(one) or "curve" in out


def test_the_commands_that_take_an_input(name, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    run("train", name, "-o", "run", "--smoke", "--quiet", "--skip-plots")
    settings = read_input(name)
    model = place / "run" / settings.training.model_file
    n = kalmandp.Potential.load(model).layout.size
    capsys.readouterr()
    monkeypatch.chdir(place.parent)  # paths in an input are relative to it, from wherever it is read
    run("plan", place / name, "--json", "--no-timing")
    plan = json.loads(capsys.readouterr().out)
    assert plan["n_weights"] == n and plan["n_frames"] == 6
    (data,) = settings.training.systems
    run("doctor", place / data, "--input", place / name)
    assert "sel" not in capsys.readouterr().out.split("DATA")[0].split()
    run("report", place / "run", "-o", place / "report.html")
    page = (place / "report.html").read_text()
    assert f"{n:,} weights" in page
    assert "cannot be read any more" not in page and "could not look" not in page
    run("info", place / "run" / "model.ckpt.h5")
    assert f"{n:,}" in capsys.readouterr().out


def test_going_on_from_a_model(name, place):
    settings = read_input(place / name)
    first = Run(settings, place / "first")
    for _ in range(3):
        first.step()
    first.checkpoint()
    model = place / "first" / settings.training.model_file
    second = Run(settings, place / "second", init_model=model)
    assert_array_equal(second.potential.weights, kalmandp.Potential.load(model).weights)
    tuned = Run(settings, place / "third", finetune=model)
    error = [tuned.potential.evaluate(f).energy - f.energy for f in tuned.data]
    assert abs(np.mean(error)) < 1e-8


@pytest.mark.parametrize("optimizer", ["Adam", "SNES"])
def test_other_optimizers(name, place, optimizer):
    settings = read_input(place / name, optimizer=optimizer)
    assert settings.optimizer.type == optimizer
    r = Run(settings, place / "run")
    before = r.potential.weights.copy()
    for _ in range(2):
        r.step()
    assert (r.potential.weights != before).any() and np.isfinite(r.potential.weights).all()


def test_virials_are_not_missed_where_there_are_none(name, place):
    """GPUMD's loss weighs virials; frames that have none are learnt by what they have."""
    with kalmandp.Dataset(DATA / "NaCl_train.h5") as data:
        bare = [replace(f, virial=None) for f in data[:6]]
    FOLDERS[name](place, bare)
    for optimizer in (None, "SNES"):
        r = Run(read_input(place / name, optimizer=optimizer), place / str(optimizer))
        before = r.potential.weights.copy()
        r.step()
        assert (r.potential.weights != before).any()


@pytest.mark.parametrize(("unit", "cutoff", "wanted"), [(1.0, 9.5, 9.5), (BOHR, 6.0, 6.0 * BOHR)])
def test_units_of_input_nn_are_those_of_its_structures(tmp_path, unit, cutoff, wanted):
    """Cut-offs of 9.5 Å, or of 6 bohr: their size alone would tell the other unit."""
    with kalmandp.Dataset(DATA / "NaCl_train.h5") as data:
        n2p2(tmp_path, data[:2])
    (tmp_path / "input.nn").write_text(INPUT_NN.replace("9.5", str(cutoff)))
    if unit == 1.0:
        text = "\n".join(map(in_angstrom, (tmp_path / "input.data").read_text().splitlines()))
        (tmp_path / "input.data").write_text(text + "\n")
    assert read_input(tmp_path / "input.nn").model.cutoff == pytest.approx(wanted, rel=1e-9)
    other = "metal" if unit != 1.0 else "atomic"
    (tmp_path / "input.nn").write_text(f"# units: {other}\n{INPUT_NN}")
    words = {"metal": "Å and eV", "atomic": "bohr and hartree"}[other]
    with pytest.raises(FileError, match=rf"says that it is in {words}, and .*input\.data is in"):
        read_input(tmp_path / "input.nn")


def in_angstrom(line: str) -> str:
    """A line of an input.data in bohr, in Å and eV."""
    words = line.split()
    if words[0] == "comment":
        return "comment units: angstrom eV"
    scale = {"lattice": [BOHR] * 3, "energy": [HARTREE]}.get(words[0])
    if words[0] == "atom":
        r, f = np.array(words[1:4], float) * BOHR, np.array(words[7:], float) * HARTREE / BOHR
        return " ".join(["atom", *map(repr, r.tolist()), *words[4:7], *map(repr, f.tolist())])
    if scale is None:
        return line
    return " ".join([words[0], *(repr(float(x) * s) for x, s in zip(words[1:], scale, strict=True))])
