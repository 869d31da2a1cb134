"""Checkpoints and groups that version 0.6.0 wrote are opened, and what they hold goes on as it did there."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest
from make_stored import FILES, OPTIMIZERS, WHOLE, WRITTEN, fingerprint, learn, small
from numpy.testing import assert_allclose, assert_array_equal
from systems import frames

import kalmandp
from kalmandp.training.loop import Run
from kalmandp.training.state.checkpoint import load_checkpoint

#: On another machine five steps more: rounding grows to 2e-13 in as many on silicon (`test_trajectory`).
TOLERANCE = 1e-9


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the files, and the current folder: the inputs name their data by it."""
    shutil.copytree(FILES, tmp_path / "files")
    monkeypatch.chdir(tmp_path / "files")
    return tmp_path / "files"


def check(weights, name: str) -> None:
    """As 0.6.0 went on: bit by bit where the machine is the one that it ran on."""
    with h5py.File(FILES / "afterwards.h5") as file:
        wanted, same_machine = file[name][()], file.attrs["fingerprint"] == fingerprint()
    assert_allclose(weights, wanted, rtol=0, atol=TOLERANCE)
    if same_machine:
        assert_array_equal(weights, wanted)


def test_the_files_are_of_that_version(folder):
    with h5py.File(folder / "rlekf.ckpt.h5") as file:
        assert file.attrs["version"] == 2 and "kind" not in file.attrs
    with h5py.File(folder / "online.h5") as file:
        assert file["trainer"].attrs["version"] == 1 and "kind" not in file["trainer"].attrs


@pytest.mark.parametrize("open_preset", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_goes_on_from_a_checkpoint(folder, name, open_preset):
    """With the default of then where the input leaves the preset open; and again from what is written now."""
    optimizer = {k: v for k, v in OPTIMIZERS[name].items() if k != "preset" or not open_preset}
    settings = kalmandp.read_input(small("morse.h5", optimizer))
    run = Run(settings, folder / "out", restart=folder / f"{name}.ckpt.h5")
    assert run.step_number == WRITTEN and run.potential.form.kind == "se_e2_a"
    before = run.potential.weights.copy()
    for _ in range(WHOLE - WRITTEN):
        run.step()
    assert np.abs(run.potential.weights - before).max() > 1e-6  # it has learnt
    check(run.potential.weights, name)
    run.checkpoint()
    saved = load_checkpoint(run.checkpoint_path)
    assert_array_equal(saved["potential"].weights, run.potential.weights)
    with h5py.File(run.checkpoint_path) as file:
        assert file.attrs["version"] == 3 and file.attrs["kind"] == b"se_e2_a"
    again = Run(settings, folder / "again", restart=run.checkpoint_path)
    assert again.settings.optimizer.preset == ("v0.6" if name == "rlekf" else "default")


def test_a_host_goes_on_from_its_group(folder):
    with h5py.File(folder / "online.h5") as file:
        online = kalmandp.OnlineTrainer.restore(file["trainer"])
    for frame in frames(WHOLE, seed=5)[WRITTEN:]:
        learn(online, frame)
    check(online.potential.weights, "online")


def test_other_weights_are_seen(folder):
    """The planted mistake."""
    online = h5py.File(folder / "afterwards.h5")["online"][()]
    with pytest.raises(AssertionError):
        check(online + 1e-8, "online")
