"""The comparison of ways to choose frames: its arithmetic, and that each way labels each frame once."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import kalmandp

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "on_the_fly"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(FOLDER))
    yield import_module("select_or_random")
    sys.path.remove(str(FOLDER))
    del sys.modules["select_or_random"]


def test_labels_to_an_error(script):
    sizes, errors = [2, 4, 8, 16], [0.8, 0.4, 0.1, 0.2]
    assert script.labels_to(0.9, sizes, errors) == 2.0
    assert script.labels_to(0.05, sizes, errors) == np.inf
    # half of the way from 0.4 to 0.1 in the logarithm is 0.2; the rise afterwards does not count
    assert_allclose(script.labels_to(0.2, sizes, errors), 6.0)


@pytest.mark.parametrize("way", ["P", "committee", "random"])
def test_each_way_labels_frames_that_are_not_labelled(script, way):
    pool = list(kalmandp.Dataset(script.DATA / "Li_train.h5"))[::8]
    model = script.train(pool, [0, 1], 1, 3)
    chosen = script.add(way, pool, [0, 1], 3, model, np.random.default_rng(0), 3)
    assert len(set(chosen)) == 3 and not {0, 1} & set(chosen) and set(chosen) < set(range(len(pool)))


def test_a_model_does_not_depend_on_the_order_of_the_labels(script):
    pool = list(kalmandp.Dataset(script.DATA / "Li_train.h5"))[:4]
    one, other = (script.train(pool, known, 1, 3) for known in ([0, 3, 2], [2, 0, 3]))
    assert (one.weights == other.weights).all()
