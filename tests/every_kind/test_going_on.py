"""Every kind goes on: after a stop, from a model, with another bias, with the types in another order."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import TYPES, files_of, run, tree_of, write_input

import kalmandp
from kalmandp.potentials.adapting import with_bias
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run, train

# --- restart, -i, -t ------------------------------------------------------------------------------


def arrays_of(path, without=("seconds",)) -> dict:
    """Every array and attribute of a checkpoint but times."""
    found = {}

    def visit(name, item):
        for key, value in item.attrs.items():
            found[f"{name}@{key}"] = np.asarray(value)
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    timed = ("json", "history", "progress@seconds", "diagnostics")
    return {k: v for k, v in found.items() if not k.startswith(timed)}


def same_bits(one, other, kind):
    a, b = arrays_of(one / "model.ckpt.h5"), arrays_of(other / "model.ckpt.h5")
    assert a.keys() == b.keys() and any(x.size > 50 for x in a.values())
    for name in a:
        assert_array_equal(a[name], b[name], err_msg=name)
    models = [kalmandp.Potential.load(p / files_of(kind).DEFAULT) for p in (one, other)]
    assert_array_equal(models[0].weights, models[1].weights)
    assert_array_equal(models[0].bias_atom_e, models[1].bias_atom_e)


OPTIMIZERS = {
    "filter": {},
    "signed, gate": {"measurement": "signed", "gate": 25.0},
    "candidates": {"measurement": "signed", "candidates": {"energy": 1.0, "force": 1.0, "trials": 2}},
    "Adam": {"type": "Adam"},
    "SNES": {"type": "SNES", "population": 4},
    "n2p2": {"type": "n2p2"},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restart_has_the_same_bits(trained, name, tmp_path):
    """Stopped after step 3, in the middle of an epoch, and gone on with by the command."""
    size = {} if name == "n2p2" else {"batch_size": 2}  # n2p2's updates are of one number
    tree = tree_of(trained.kind, trained.place, OPTIMIZERS[name], data=size)
    path = write_input(tmp_path / "input.json", tree)
    run("train", path, "-o", tmp_path / "whole", "--quiet", "--skip-plots")
    steps = iter(range(100))
    list(train(path, output=tmp_path / "cut", stop=lambda: next(steps) == 2))
    middle = kalmandp.Potential.load(tmp_path / "cut" / files_of(trained.kind).DEFAULT).weights
    run("train", path, "-o", tmp_path / "cut", "--restart", "--quiet", "--skip-plots")
    same_bits(tmp_path / "whole", tmp_path / "cut", trained.kind)
    end = kalmandp.Potential.load(tmp_path / "cut" / files_of(trained.kind).DEFAULT).weights
    assert (middle != end).any()  # there was something to go on with


def test_going_on_from_a_model(trained, tmp_path, capsys):
    potential = trained.potential
    r = Run(read_input(trained.input), tmp_path / "i", init_model=trained.model)
    assert_array_equal(r.potential.weights, potential.weights)
    assert_array_equal(r.potential.bias_atom_e, potential.bias_atom_e)
    run("train", trained.input, "-o", tmp_path / "i", "-i", trained.model, "--quiet", "--skip-plots")
    after = kalmandp.Potential.load(tmp_path / "i" / trained.model.name)
    assert (after.weights != potential.weights).any()
    assert after.form == potential.form


def test_fine_tuning_fits_the_bias_first(trained, tmp_path):
    wrong = with_bias(trained.potential, [10.0, 20.0])
    wrong.save(tmp_path / trained.model.name)
    r = Run(read_input(trained.input), tmp_path / "t", finetune=tmp_path / trained.model.name)
    error = [r.potential.evaluate(f).energy - f.energy for f in trained.frames("train")]
    assert abs(np.mean(error)) < 1e-8
    words = ("-t", tmp_path / trained.model.name, "--quiet", "--skip-plots")
    run("train", trained.input, "-o", tmp_path / "t", *words)
    new = kalmandp.Potential.load(tmp_path / "t" / trained.model.name)
    assert_allclose(new.bias_atom_e + new.out_bias, r.potential.bias_atom_e, rtol=1e-12)


@pytest.mark.parametrize("option", ["-i", "-t"])
def test_going_on_with_the_types_in_another_order(trained, option, tmp_path):
    """The same energies, whatever order the kind keeps its types in."""
    tree = tree_of(trained.kind, trained.place, model={"type_map": list(TYPES[::-1])}, numb_steps=2)
    path = write_input(tmp_path / "turned.json", tree)
    # the energies of the types differ: least squares of frames of one composition makes them alike
    model = with_bias(trained.potential, [-50.0, -80.0])
    model.save(tmp_path / trained.model.name)
    start = {"init_model" if option == "-i" else "finetune": tmp_path / trained.model.name}
    r = Run(read_input(path), tmp_path / "run", **start)
    frame = replace(trained.frames()[0], types=np.array([0] * 31 + [1]))
    old, new = model.evaluate(frame), r.potential.evaluate(frame)
    assert_allclose(new.forces, old.forces, atol=1e-10)
    if option == "-i":
        assert_allclose(new.energy, old.energy, rtol=1e-12)
    bias = lambda p: dict(zip(p.type_map, p.bias_atom_e + p.out_bias, strict=True))
    shift = [bias(r.potential)[name] - bias(model)[name] for name in TYPES]
    assert_allclose(shift[0], shift[1], atol=1e-8)  # none with -i, the same for both with -t
    run("train", path, "-o", tmp_path / "run", option, trained.model, "--quiet", "--skip-plots")
