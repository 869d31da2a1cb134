"""An input that names no preset learns virials of a NEP or an HDNNP where the data have them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from numpy.testing import assert_array_equal
from small_models import tree_of, write_data

import kalmandp
from kalmandp.registry import KINDS
from kalmandp.training.config.inputs import read_input, read_optimizer
from kalmandp.training.config.presets import resolve
from kalmandp.training.loop import Run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    write_data(folder := tmp_path_factory.mktemp("data"))
    return folder


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_default_of_a_kind(kind, data):
    learns = lambda **optimizer: resolve(read_input(tree_of(kind, data, optimizer)).optimizer)
    by_default = kind != "se_e2_a"
    assert ("virial" in learns().order) == by_default
    assert learns().optional == (("virial",) if by_default else ())
    # what is stated holds: a preset has what it had, and a code that learns while it runs
    assert "virial" not in learns(preset=KINDS[kind].preset if by_default else "paper").order
    assert "virial" not in learns(with_virial=False).order
    assert learns(with_virial=True).optional == ()
    assert "virial" not in resolve(read_optimizer({}, kind)).order


def test_a_checkpoint_without_virials_goes_on_without(data, tmp_path):
    """As those of 0.9 and before, whose default did not learn them."""
    old = Run(read_input(tree_of("nep", data, {"with_virial": False})), tmp_path / "old")
    for _ in range(3):
        old.step()
    saved = old.checkpoint()
    new = Run(read_input(tree_of("nep", data)), tmp_path / "new", restart=saved)
    other = Run(read_input(tree_of("nep", data)), tmp_path / "other")
    assert "virial" in other.trainer.choices.order
    for run in (old, new):
        run.step()
    assert_array_equal(new.trainer.filter.weights, old.trainer.filter.weights)
    again = Run(new.settings, tmp_path / "again", restart=new.checkpoint())
    for run in (new, again):
        run.step()
    assert_array_equal(again.trainer.filter.weights, new.trainer.filter.weights)


@pytest.mark.parametrize("adapt", [2.0, 0.0])
def test_a_checkpoint_with_virials_goes_on_with_them(adapt, data, tmp_path):
    begun = Run(read_input(tree_of("nep", data, {"adapt": adapt})), tmp_path / "begun")
    for _ in range(3):
        begun.step()
    again = Run(begun.settings, tmp_path / "again", restart=begun.checkpoint())
    for run in (begun, again):
        run.step()
        assert "virial" in run.trainer.choices.order
    assert_array_equal(again.trainer.filter.weights, begun.trainer.filter.weights)


def test_data_without_virials_are_as_before(data, tmp_path):
    with kalmandp.Dataset(data / "train.h5") as frames:
        bare = [replace(frame, virial=None) for frame in frames]
    kalmandp.Dataset.write(tmp_path / "train.h5", bare)
    runs = [
        Run(read_input(tree_of("nep", tmp_path, optimizer)), tmp_path / name)
        for name, optimizer in {"default": {}, "without": {"with_virial": False}}.items()
    ]
    for run in runs:
        for _ in range(3):
            run.step()
    assert_array_equal(*(run.trainer.filter.weights for run in runs))
