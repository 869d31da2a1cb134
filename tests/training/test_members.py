"""`"committee": n`: members of their own, a restart with the same bits, and where there is none."""

import copy
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kalmandp
from kalmandp.cli import main
from kalmandp.errors import FileError, InputError
from kalmandp.training.report.model_deviation import model_deviation

DATA = str(Path(__file__).resolve().parents[2] / "data" / "thirteen" / "Cu_train.h5")
SETTINGS = {
    "model": {"type": "nep", "type_map": ["Cu"], "cutoff": [4.0, 3.5], "n_max": [2, 2], "basis_size": [3, 3],
              "l_max": [2], "neuron": 4},
    "optimizer": {"type": "RLEKF"},
    "training": {"training_data": {"systems": [DATA]}, "numb_steps": 6, "seed": 3, "disp_freq": 6,
                 "save_freq": 3, "committee": 3},
}  # fmt: skip


def settings(**training):
    found = copy.deepcopy(SETTINGS)
    found["training"] |= training
    return found


def weights(folder):
    return [kalmandp.Potential.load(folder / name).weights for name in ("nep.txt", "nep-2.txt", "nep-3.txt")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for _ in kalmandp.train(settings(), output=folder):
        pass
    return folder


def test_members_differ_and_the_first_is_the_model_of_a_run_without_others(whole, tmp_path):
    one, two, three = weights(whole)
    assert np.abs(one - two).max() > 1e-3 and np.abs(two - three).max() > 1e-3
    for _ in kalmandp.train(settings(committee=1), output=tmp_path):
        pass
    assert_array_equal(kalmandp.Potential.load(tmp_path / "nep.txt").weights, one)
    assert not (tmp_path / "nep-2.txt").exists()


def test_a_restart_has_the_same_bits(whole, tmp_path):
    calls = iter(range(99))
    for _ in kalmandp.train(settings(), output=tmp_path, stop=lambda: next(calls) >= 2):
        pass
    assert_array_equal(weights(tmp_path)[1] == weights(whole)[1], False)
    for _ in kalmandp.train(settings(), output=tmp_path, restart=tmp_path / "model.ckpt.h5"):
        pass
    for one, other in zip(weights(tmp_path), weights(whole), strict=True):
        assert_array_equal(one, other)


def test_a_committee_says_how_sure_it_is(whole, tmp_path, capsys):
    models = [str(whole / name) for name in ("nep.txt", "nep-2.txt", "nep-3.txt")]
    assert main(["model-devi", "-m", *models, "-s", DATA, "-o", str(tmp_path / "out")]) == 0
    assert "3 models" in capsys.readouterr().out
    assert (np.loadtxt(tmp_path / "out")[:, 4] > 0).all()


def test_a_committee_chooses_what_it_differs_most_on(whole, tmp_path, capsys):
    models, out = [str(whole / name) for name in ("nep.txt", "nep-2.txt", "nep-3.txt")], tmp_path / "x.extxyz"
    common = ["select", "-m", *models, "-s", DATA, "-n", "3", "-o", str(out)]
    assert main(common) == 0
    potentials = [kalmandp.Potential.load(path) for path in models]
    largest = [model_deviation(potentials, frame).force_i.max() for frame in kalmandp.Dataset(DATA)]
    chosen = np.loadtxt(out.with_suffix(".why"), usecols=(1, 4))
    assert chosen[:, 0].tolist() == np.argsort(largest)[::-1][:3].tolist()
    # σ of a component, meV/Å
    np.testing.assert_allclose(chosen[:, 1], 1e3 / np.sqrt(3) * np.sort(largest)[::-1][:3], atol=0.01)
    assert main([*common, "--data", DATA]) == 1
    assert "give the P of one model" in capsys.readouterr().err


def test_no_committee_where_there_can_be_none(whole, tmp_path):
    adam = settings() | {"optimizer": {"type": "Adam"}, "loss": {}, "learning_rate": {"start_lr": 1e-3}}
    with pytest.raises(InputError, match="training/committee is 3 with optimizer/type Adam; expected RLEKF"):
        next(kalmandp.train(adam, output=tmp_path))
    with pytest.raises(InputError, match="members begin with random weights"):
        next(kalmandp.train(settings(), output=tmp_path, init_model=whole / "nep.txt"))
    with pytest.raises(InputError, match="committee"):
        next(kalmandp.train(settings(committee=0), output=tmp_path))
    alone = tmp_path / "alone"
    for _ in kalmandp.train(settings(committee=1), output=alone):
        pass
    more = settings(committee=2, numb_steps=9)
    with pytest.raises(FileError, match="has no member 2"):
        next(kalmandp.train(more, output=alone, restart=alone / "model.ckpt.h5"))
