"""Systems drawn by probability: how often, in what order, and the same again after a restart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from systems import frames, settings

import kalmandp
from kalmandp.errors import InputError
from kalmandp.training.config.inputs import read_input
from kalmandp.training.data.system_feed import SystemFeed
from kalmandp.training.loop import Run, train

SYSTEMS = [np.arange(3), np.arange(3, 20)]


def test_systems_come_as_often_as_asked():
    feed = SystemFeed(SYSTEMS, [0.7, 0.3], 1, np.random.default_rng(0))
    drawn = np.concatenate([feed.next() for _ in range(4000)])
    # 4000 draws: the share has a standard deviation of √(0.7·0.3/4000) = 0.007
    assert_allclose(np.mean(drawn < 3), 0.7, atol=0.03)
    assert feed.epoch + feed.position / feed.n_frames == 4000 / 20


def test_a_system_is_finished_before_it_begins_again():
    feed = SystemFeed(SYSTEMS, [0.5, 0.5], 2, np.random.default_rng(1))
    seen = {0: [], 1: []}
    for _ in range(400):
        batch = feed.next()
        system = {int(k >= 3) for k in batch}
        assert len(system) == 1 and 1 <= len(batch) <= 2
        seen[system.pop()] += batch.tolist()
    for numbers, system in zip(seen.values(), SYSTEMS, strict=True):
        rounds = len(numbers) // len(system)
        for k in range(rounds):
            assert sorted(numbers[k * len(system) : (k + 1) * len(system)]) == system.tolist()


def test_restored_it_goes_on_as_it_would_have():
    one = SystemFeed(SYSTEMS, [0.4, 0.6], 2, np.random.default_rng(2))
    for _ in range(37):
        one.next()
    other = SystemFeed(SYSTEMS, [0.4, 0.6], 2, np.random.default_rng(99))
    other.restore(one.state())
    other.rng.bit_generator.state = one.rng.bit_generator.state
    for _ in range(60):
        assert_array_equal(one.next(), other.next())
    assert (one.epoch, one.position) == (other.epoch, other.position)


@pytest.fixture
def place(tmp_path):
    """Two systems: 2 frames of 16 atoms, 6 of 9."""
    whole = frames(8)
    part = lambda f: kalmandp.Frame(f.positions[:9], f.types[:9], f.type_map, cell=f.cell, energy=f.energy,
                                    forces=f.forces[:9])  # fmt: skip
    kalmandp.Dataset.write(tmp_path / "a.h5", whole[:2])
    kalmandp.Dataset.write(tmp_path / "b.h5", [part(f) for f in whole[2:]])
    return tmp_path


def tree(place, **data):
    made = settings("unused", training={"numb_steps": 6, "disp_freq": 1, "save_freq": 3})
    made["training"]["training_data"] = {"systems": [str(place / "a.h5"), str(place / "b.h5")], **data}
    return made


@pytest.mark.parametrize("data", [{"sys_probs": [0.0, 1.0]}, {"auto_prob": "prob_uniform"}])
def test_in_a_run(place, data):
    run = Run(read_input(tree(place, **data)), place / "run")
    drawn = [len(run.step()[0].frames[0]) for _ in range(12)]
    if "sys_probs" in data:
        assert set(drawn) == {9}
    else:
        assert {9, 16} == set(drawn)


def test_a_restarted_run_is_the_same_run(place):
    source = tree(place, sys_probs=[0.5, 0.5])
    whole = [r.rmse_f for r in train(source, output=place / "whole")]
    short = {**source, "training": {**source["training"], "numb_steps": 3}}
    first = [r.rmse_f for r in train(short, output=place / "cut")][:3]
    rest = [r.rmse_f for r in train(source, output=place / "cut", restart=place / "cut" / "model.ckpt.h5")]
    assert_array_equal(first + rest, whole)


def test_as_many_probabilities_as_systems(place):
    with pytest.raises(InputError, match=r"sys_probs has 3 numbers; expected 2, one for each of .*a\.h5"):
        Run(read_input(tree(place, sys_probs=[0.2, 0.3, 0.5])), place / "run")
