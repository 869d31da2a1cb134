"""Every kind refuses what it cannot use, and names it: names of files, other kinds, types, values."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from by_hand import fails
from numpy.testing import assert_array_equal
from small_models import DATA, files_of, run, tree_of, write_input

import kalmandp
from kalmandp.errors import InputError
from kalmandp.registry import KINDS

# --- names of files -------------------------------------------------------------------------------


def test_a_model_file_of_another_suffix_is_refused(trained, tmp_path, capsys):
    tree = tree_of(trained.kind, trained.place, model_file="model.xyz")
    said = fails(capsys, "train", write_input(tmp_path / "input.json", tree), "-o", tmp_path / "run")
    assert 'training/model_file is "model.xyz"; expected a name that ends in' in said
    assert all((suffix or "no suffix") in said for suffix in files_of(trained.kind).SUFFIXES)
    assert not (tmp_path / "run" / "model.xyz").exists()


def test_a_model_file_of_ones_own_name(trained, tmp_path):
    name = f"mine{trained.model.suffix}"
    tree = tree_of(trained.kind, trained.place, model_file=name, numb_steps=2)
    path = write_input(tmp_path / "input.json", tree)
    run("train", path, "-o", tmp_path / "run", "--quiet", "--skip-plots")
    assert kalmandp.Potential.load(tmp_path / "run" / name).form.kind == trained.kind
    # a second run keeps the first one's model
    first = kalmandp.Potential.load(tmp_path / "run" / name).weights
    run("train", path, "-o", tmp_path / "run", "--quiet", "--skip-plots")
    again = tmp_path / f"again{trained.model.suffix}"
    (tmp_path / "run" / f"{name}.old1").rename(again)
    assert_array_equal(kalmandp.Potential.load(again).weights, first)


def test_a_name_of_another_kinds_files_is_refused(trained, tmp_path):
    """It would be read as one of those."""
    own = files_of(trained.kind).SUFFIXES
    for kind in set(KINDS) - {trained.kind}:
        suffix = files_of(kind).SUFFIXES[0]
        if suffix:
            with pytest.raises(InputError, match=f"suffix is '{suffix}'; expected {own[0] or 'no suffix'}"):
                trained.potential.save(tmp_path / f"model{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["-i", "-t"])
def test_going_on_from_another_kind_is_refused_at_once(trained, option, tmp_path, capsys):
    other = next(kind for kind in KINDS if kind != trained.kind)
    path = write_input(tmp_path / "input.json", tree_of(other, trained.place))
    said = fails(capsys, "train", path, "-o", tmp_path / "run", option, trained.model, "--quiet")
    assert f"is a model of the kind {trained.kind}; expected one of the kind {other}" in said


def test_a_restart_with_another_kinds_input_is_refused(trained, tmp_path, capsys):
    other = next(kind for kind in KINDS if kind != trained.kind)
    path = write_input(tmp_path / "input.json", tree_of(other, trained.place))
    said = fails(capsys, "train", path, "-o", tmp_path, "--restart", trained.checkpoint, "--quiet")
    assert "section model differs from the checkpoint's" in said


# --- input that cannot be used --------------------------------------------------------------------


def test_a_type_that_the_data_have_and_the_model_not(trained, tmp_path, capsys):
    tree = tree_of(trained.kind, trained.place, model={"type_map": ["Na"]})
    if "descriptor" in tree["model"]:
        tree["model"]["descriptor"] = {**tree["model"]["descriptor"], "sel": [30]}
    path = write_input(tmp_path / "input.json", tree)
    said = fails(capsys, "train", path, "-o", tmp_path / "run", "--quiet", "--skip-plots")
    assert "Cl" in said and "Na" in said
    one_type = write_input(tmp_path / "silicon.json", tree_of(trained.kind, trained.place))
    with kalmandp.Dataset(DATA / "Si_train.h5") as data:
        kalmandp.Dataset.write(tmp_path / "si.h5", data[:2])
    said = fails(capsys, "test", "-m", trained.model, "-s", tmp_path / "si.h5")
    assert "Si" in said and one_type.exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"cutoff_radius": 3}}, "model/cutoff_radius"),
        ({"model": {"type_map": "Na"}}, "model/type_map"),
        ({"optimizer": {"sigma_f": -1}}, "optimizer/sigma_f is -1; expected a number > 0"),
        ({"numb_steps": 0}, "training/numb_steps is 0; expected an integer"),
        ({"data": {"batch_size": 0}}, "batch_size is 0; expected"),
    ],
)
def test_wrong_values_are_named(trained, changes, says, tmp_path, capsys):
    path = write_input(tmp_path / "input.json", tree_of(trained.kind, trained.place, **changes))
    assert says in fails(capsys, "train", path, "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_labels_that_are_not_numbers(trained, tmp_path, capsys):
    with kalmandp.Dataset(trained.place / "train.h5") as data:
        kalmandp.Dataset.write(tmp_path / "nan.h5", data[:3])
    with h5py.File(tmp_path / "nan.h5", "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(name) if "force" in name.lower() else None)
        values = file[found[0]]
        values[...] = np.where(np.arange(values.size).reshape(values.shape) == 0, np.nan, values[()])
    tree = tree_of(trained.kind, trained.place)
    tree["training"]["training_data"]["systems"] = [str(tmp_path / "nan.h5")]
    path = write_input(tmp_path / "input.json", tree)
    said = fails(capsys, "train", path, "-o", tmp_path / "run", "--quiet", "--skip-plots")
    assert "nan.h5" in said and "forces" in said
