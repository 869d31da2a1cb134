"""Going on from a model: what is kept, what is fitted, what is refused."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from systems import frames, settings

import kalmandp
from kalmandp.errors import InputError
from kalmandp.geometry.neighbours import neighbour_statistics
from kalmandp.potentials.adapting import with_bias
from kalmandp.potentials.deep_potential.statistics import environment_statistics
from kalmandp.training import starting
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run
from kalmandp.training.starting import new_potential, started_from


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, and a model that is not quite theirs: of a wider cut-off, its bias 2 eV off."""
    folder = tmp_path_factory.mktemp("start")
    data = frames(6)
    kalmandp.Dataset.write(folder / "morse.h5", data)
    model = kalmandp.Potential.create(
        ("A", "B"), rcut=4.4, sel=[30, 30], frames=data, rng=np.random.default_rng(3), embedding=(3, 6),
        axis_neuron=2, fitting=(5, 5), type_one_side=True, fitting_resnet_dt=False,
    )  # fmt: skip
    with_bias(model, model.bias_atom_e + 2.0).save(folder / "model.dp")
    return folder


def tree(place, **model):
    made = settings(place / "morse.h5")
    made["model"] = {"type_map": ["A", "B"], **model}
    return made


def test_init_model_keeps_everything(place, tmp_path):
    run = Run(read_input(tree(place)), tmp_path, init_model=place / "model.dp")
    stored = kalmandp.Potential.load(place / "model.dp")
    assert_array_equal(run.potential.weights, stored.weights)
    for name in ("davg", "dstd"):
        assert_array_equal(run.potential.statistics[name], stored.statistics[name])
    f = frames(1)[0]
    assert run.potential.evaluate(f).energy == stored.evaluate(f).energy
    assert run.potential.info["started from"]["how"] == "init-model"
    # the run's file says where it came from, and what was learnt is not forgotten at once
    run.step()
    run.checkpoint()
    again = kalmandp.Potential.load(tmp_path / "model.dp")
    assert again.info["started from"]["file"] == "model.dp"
    assert again.form == stored.form


def test_finetune_fits_the_bias_first(place):
    s = read_input(tree(place))
    data = frames(6)
    stored = kalmandp.Potential.load(place / "model.dp")
    tuned = started_from(None, place / "model.dp", s, data)
    assert_array_equal(tuned.weights, stored.weights)
    # A and B stand 1:1 in every frame: both get half of the mean error per pair of atoms
    error = np.mean([(f.energy - stored.evaluate(f).energy) / len(f) for f in data])
    before, after = (p.bias_atom_e + p.out_bias for p in (stored, tuned))
    assert_allclose(after - before, [error, error], rtol=1e-9)
    assert abs(np.mean([(f.energy - tuned.evaluate(f).energy) / len(f) for f in data])) < 1e-9
    assert "shifted" in str(tuned.info["started from"])


def test_types_in_the_inputs_order(place):
    s = read_input(tree(place, type_map=["B", "A"]))
    turned = started_from(place / "model.dp", None, s, frames(2))
    assert turned.type_map == ("B", "A")
    f = frames(1)[0]
    stored = kalmandp.Potential.load(place / "model.dp")
    assert_allclose(turned.evaluate(f).energy, stored.evaluate(f).energy, rtol=1e-12)
    # an input that names fewer types leaves the model's
    fewer = read_input(tree(place, type_map=["B"]))
    assert started_from(place / "model.dp", None, fewer, frames(2)).type_map == ("A", "B")


def test_what_the_input_says_otherwise_is_named(place):
    descriptor = {"rcut": 4.2, "neuron": [3, 6], "sel": "auto"}
    differing = tree(place, descriptor=descriptor, fitting_net={"neuron": [7]})
    says = r"rcut 4\.2 \(model: 4\.4\); fitting_net/neuron \[7\] \(model: \[5, 5\]\)"
    with pytest.warns(UserWarning, match=says):
        started_from(place / "model.dp", None, read_input(differing), frames(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = tree(place, descriptor={"rcut": 4.4, "neuron": [3, 6], "sel": "auto"})
        started_from(place / "model.dp", None, read_input(same), frames(2))


def test_what_cannot_be_started_from_is_named(place):
    s = read_input(tree(place, type_map=["A", "B", "C"]))
    with pytest.raises(InputError, match=r"type_map names C, which .* does not have \(A, B\); what a new"):
        started_from(place / "model.dp", None, s, frames(1))
    with pytest.raises(InputError, match="exclude each other"):
        started_from(place / "model.dp", place / "model.dp", s, frames(1))
    (place / "model.pth").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"dp convert-backend model\.pth model\.dp"):
        started_from(place / "model.pth", None, s, frames(1))


def test_set_davg_zero_rcond_and_preset_bias(place):
    made = settings(place / "morse.h5")
    made["model"]["descriptor"]["set_davg_zero"] = True
    made["model"]["fitting_net"]["rcond"] = 1e-3
    made["model"]["preset_out_bias"] = {"energy": [None, [-1.25]]}
    s = read_input(made)
    model = s.model
    assert (model.choices["set_davg_zero"], model.rcond, model.atom_ener) == (True, 1e-3, (None, -1.25))
    chosen = lambda zero: replace(model, choices={**model.choices, "set_davg_zero": zero})
    run = lambda zero: Run(replace(s, model=chosen(zero)), place / "out")
    zero, usual = run(True).potential, run(False).potential
    assert not zero.statistics["davg"].any() and usual.statistics["davg"].any()
    assert_array_equal(zero.statistics["dstd"], usual.statistics["dstd"])
    assert zero.bias_atom_e[1] == -1.25


@pytest.fixture
def compressed(tmp_path, monkeypatch):
    """Twenty frames, of which one that is not among those looked at is much denser; seven are "many"."""
    monkeypatch.setattr(starting, "STATISTICS_FRAMES", 7)
    monkeypatch.setattr(starting, "DENSEST", 2)
    some = [replace(f, source="") for f in frames(20)]
    cell = 0.72 * some[11].cell
    some[11] = replace(some[11], cell=cell, positions=0.72 * some[11].positions)
    kalmandp.Dataset.write(tmp_path / "many.h5", some)
    return tmp_path / "many.h5"


def test_auto_sel_of_many_frames_knows_the_densest(compressed, tmp_path):
    """sel is enough for all; davg is still that of frames evenly chosen."""
    made = settings(compressed)
    made["model"]["descriptor"]["sel"] = "auto"
    run = Run(read_input(made), tmp_path)
    with kalmandp.Dataset(compressed) as data:
        some = data.subset(np.linspace(0, 19, 7).astype(int))
        every, few = (neighbour_statistics(d, run.potential.form.rcut).most_t for d in (data, some))
        form = replace(run.potential.form)
        davg = environment_statistics(form, some).davg_tk
    assert (every > 1.1 * few + 4).any()  # without the dense one sel would be too small
    assert (np.array(run.potential.form.sel) >= every).all()
    assert_allclose(run.potential.statistics["davg"], davg)


def test_a_model_is_widened_for_the_densest_of_many(compressed, tmp_path):
    narrow = settings(compressed)
    narrow["model"]["descriptor"]["sel"] = [9, 9]
    with kalmandp.Dataset(compressed) as data:
        model = new_potential(read_input(narrow).model, data[:2], np.random.default_rng(0), None, "cpu")
        every = neighbour_statistics(data, model.form.rcut).most_t
    model.save(tmp_path / "narrow.dp")
    with pytest.warns(UserWarning, match="sel becomes"):
        made = settings(compressed)
        made["model"]["descriptor"]["sel"] = "auto"
        with kalmandp.Dataset(compressed) as data:
            wide = started_from(tmp_path / "narrow.dp", None, read_input(made), data)
    assert (np.array(wide.form.sel) >= every).all()
