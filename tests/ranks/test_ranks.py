"""Several ranks, one filter: the same bits for any number of them, across a restart, after a death."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from kill import kill
from small_models import tree_of, write_data, write_input
from starting import assert_same, missing, run, start, state

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "never")

#: A Deep Potential in blocks, a dense NEP whose rows of H are shared out, a batch of frames.
CASES = {
    "deep potential in blocks": ("se_e2_a", {"optimizer": {"block_size": 64}}),
    "dense nep": ("nep", {"optimizer": {"preset": "matrix", "group_size": 8}}),
    "batch": ("hdnnp", {"optimizer": {}, "data": {"batch_size": 4}}),
    "paired batch": ("se_e2_a", {"optimizer": {"preset": "default"}, "data": {"batch_size": 3}}),
    "adam": ("se_e2_a", {"optimizer": {"type": "Adam"}, "data": {"batch_size": 4}}),
    "snes": ("nep", {"optimizer": {"type": "SNES", "population": 7}}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def several(folder) -> Path:
    """All cases on 1 to 4 ranks, in one start."""
    done = start(4, "-m", "mpi4py", str(HERE / "several.py"), str(folder), json.dumps(CASES), limit=600)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("case", CASES)
def test_same_bits_and_restart(several, case):
    """On 1, 2, 3 and 4 ranks, and stopped on three and gone on with on two."""
    one = state(several, f"{case} 1")
    for other in ("2", "3", "4", "half"):
        assert_same(one, state(several, f"{case} {other}"))


@pytest.fixture(scope="module")
def whole(folder) -> dict:
    """The state that a run of two ranks ends with, which nothing disturbs."""
    assert run(2, folder, "whole", "hdnnp", numb_steps=12, save_freq=4).returncode == 0
    return state(folder, "whole")


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed: no emulated GPU")
def test_gpus_share_a_batch(folder):
    """Each rank has an emulated GPU with its blocks of P: the bits, and the checkpoint, of one."""
    for ranks in (1, 2):
        done = start(ranks, str(HERE / "gpus.py"), str(folder))
        assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(folder / "1.npy"), np.load(folder / "2.npy"))
    assert_same(state(folder, "run 1"), state(folder, "run 2"))
    (one,), two = np.load(folder / "1.bytes.npy"), np.load(folder / "2.bytes.npy")
    assert max(two) < 0.7 * one and sum(two) == one


@pytest.mark.parametrize("ranks", [2, 3])
def test_what_travels_is_what_the_plan_says(ranks):
    """Every byte of a window of updates, and every byte of P on each rank."""
    done = start(ranks, str(HERE / "counting.py"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_online_trainer_in_a_communicator(tmp_path):
    """Two ranks of a host's three have the bits of one, through save and restore; its messages arrive."""
    done = start(3, str(HERE / "online.py"), str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_a_death_ends_all_and_the_checkpoint_stands(folder, whole):
    options = {"numb_steps": 12, "save_freq": 4}
    done = run(2, folder, "killed", "hdnnp", dies=[1, 7], **options)
    assert done.returncode != 0
    with h5py.File(folder / "killed" / "model.ckpt.h5") as file:
        assert file["progress"].attrs["step"] == 4
    checkpoint = str(folder / "killed" / "model.ckpt.h5")
    assert run(2, folder, "killed", "hdnnp", restart=checkpoint, **options).returncode == 0
    assert_same(whole, state(folder, "killed"))


def test_a_bad_frame_is_one_error(folder, tmp_path):
    write_data(tmp_path)
    with h5py.File(tmp_path / "train.h5", "r+") as file:
        coord = next(x for x in _datasets(file) if x.name.endswith("coord.npy"))
        coord[:, 3:6] = coord[:, 0:3]  # atom 1 lies on atom 0, of all frames
    tree = tree_of("hdnnp", tmp_path, data={"batch_size": 4})
    words = ["train", str(write_input(tmp_path / "input.json", tree)), "-o", str(tmp_path / "r")]
    done = start(2, "-m", "kalmandp", *words)
    assert done.returncode != 0
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    # every rank meets it, where the first frames are read for the statistics: it is told once
    assert "train.h5" in error and "frame 0" in error


def test_a_kill_at_a_random_moment(tmp_path):
    """Once; `kill.py` does it as often as one likes."""
    assert kill(tmp_path, times=1, seed=3) == 1


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("where", ["batch", "update", "memory"])
def test_an_error_on_one_rank_only(folder, whole, tmp_path, where, rank):
    """It ends both, told once, and nobody waits for ever: the limit of time is part of the test."""
    tree = tree_of("hdnnp", folder, numb_steps=12, save_freq=4)
    words = ["train", str(write_input(tmp_path / "input.json", tree)), "-o", str(tmp_path / "r"), "--quiet"]
    done = start(2, str(HERE / "failing.py"), str(rank), "7", where, *words, limit=60)
    assert done.returncode != 0
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert f"rank {rank}" in error and "planted" in error
    with h5py.File(tmp_path / "r" / "model.ckpt.h5") as file:
        assert file["progress"].attrs["step"] == 4
    stopped = tmp_path / "r" / "model.ckpt.stopped.h5"
    assert stopped.exists() == (where == "batch")
    if where != "memory":
        assert "train.h5" in error or where == "update"
    if where == "batch":  # all have heard of it before an update began: the state is saved, and goes on
        words[-1:] = ["--quiet", "--skip-plots", "--restart", str(stopped)]
        assert start(2, "-m", "kalmandp", *words).returncode == 0
        assert_same(whole, state(tmp_path, "r"))


def _datasets(file):
    found = []
    file.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found
