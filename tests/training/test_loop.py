"""Runs from end to end: learning, restart to the last bit, presets, failures that lose nothing."""

from __future__ import annotations

import dataclasses
import json

import h5py
import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import frames, settings

import kalmandp
from kalmandp.errors import FileError, FilterError, InputError
from kalmandp.kalman.blocks import Part, partition
from kalmandp.plots import read_lcurve
from kalmandp.training.config.presets import PRESETS, resolve
from kalmandp.training.config.settings import OptimizerSettings
from kalmandp.training.loop import VALIDATION_FRAMES, Run, train
from kalmandp.training.measurements.drawing import draw_groups
from kalmandp.training.measurements.measurement import Sample, make_sample
from kalmandp.training.report.history import OLD_COLUMNS, History


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "morse.h5"
    kalmandp.Dataset.write(path, frames(60))
    return path


def run_all(tree, output, **options):
    return list(train(tree, output=output, **options))


def test_rlekf_learns_forces_and_energies(data, tmp_path):
    tree = settings(data, training={"validation_fraction": 0.2, "numb_epoch": 3, "disp_freq": 20})
    del tree["training"]["numb_steps"]
    records = run_all(tree, tmp_path)
    end = records[-1]
    assert end.event == "end" and end.step == 3 * 48
    rms = np.sqrt(np.mean([(f.forces**2).mean() for f in frames(60)]))
    assert end.valid_f < 0.15 * rms
    assert end.valid_e < 0.01
    potential = kalmandp.Potential.load(tmp_path / "model.dp")
    assert (tmp_path / "lcurve.out").exists() and (tmp_path / "model.ckpt.h5").exists()
    assert len(potential.evaluate(frames(1)[0]).forces) == 16


def test_one_frame_cannot_be_cut_in_two(tmp_path):
    kalmandp.Dataset.write(tmp_path / "one.h5", frames(1))
    tree = settings(tmp_path / "one.h5", training={"validation_fraction": 0.2})
    with pytest.raises(InputError, match=r"one\.h5'\] hold one frame; expected two at least for a"):
        Run(kalmandp.read_input(tree), tmp_path / "run")


def test_an_energy_that_is_not_a_number_is_named(data, tmp_path):
    """Where frames are chosen by their errors, no error is the largest then."""
    tree = settings(data)
    tree["optimizer"].update({"candidates": {"energy": 1.0}, "measurement": "joint"})
    run = Run(kalmandp.read_input(tree), tmp_path, engine="numpy")
    run.potential.weights = np.full(run.potential.layout.size, 1e308)  # sums of such overflow
    with pytest.raises(FilterError, match=r"morse\.h5.*: the energy that the model gives is not a number"):
        run.step()


@pytest.mark.parametrize("optimizer", [
    *({"measurement": m} for m in ("signed", "paired", "joint", "matrix")),
    {"preset": "n2p2", "n_groups": 2}, {"candidates": {"energy": 1.0}, "measurement": "joint"},
    {"type": "Adam"}, {"type": "SNES", "population": 4},
], ids=str)  # fmt: skip
def test_restart_goes_on_with_the_same_bits(data, tmp_path, optimizer):
    tree = settings(data, training={"validation_fraction": 0.2})
    if optimizer.get("type", "RLEKF") == "RLEKF":
        tree["optimizer"].update(optimizer)
    else:
        tree["optimizer"] = optimizer
    whole = run_all(tree, tmp_path / "whole")
    steps = iter(range(100))
    run_all(tree, tmp_path / "cut", stop=lambda: next(steps) == 6)
    rest = run_all(tree, tmp_path / "cut", restart=tmp_path / "cut" / "model.ckpt.h5")
    assert rest[0].step == 8
    a, b = (kalmandp.Potential.load(tmp_path / d / "model.dp") for d in ("whole", "cut"))
    assert (a.weights == b.weights).all()
    strip = lambda r: r._replace(seconds=0, diagnostics={})
    assert str(strip(rest[-1])) == str(strip(whole[-1]))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only: nothing to compare")
def test_the_same_bits_for_any_number_of_threads(data, tmp_path):
    before = numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            run_all(settings(data), tmp_path / str(threads))
    finally:
        numba.set_num_threads(before)
    a, b = (kalmandp.Potential.load(tmp_path / d / "model.dp") for d in "12")
    assert (a.weights == b.weights).all()


def test_another_seed_is_another_run(data, tmp_path):
    for seed in (1, 2):
        run_all(settings(data, training={"seed": seed, "numb_steps": 3}), tmp_path / str(seed))
    a, b = (kalmandp.Potential.load(tmp_path / d / "model.dp") for d in "12")
    assert (a.weights != b.weights).any()


def test_the_first_update_is_algorithm_1_by_hand(data, tmp_path):
    """Preset "paper": S = Lλ + Σ HᵀPH, w += PH|err|/S with P = I, for one energy."""
    tree = settings(data, optimizer={"preset": "paper", "block_size": 300})
    run = Run(kalmandp.read_input(tree), tmp_path)
    w0 = run.potential.weights.copy()
    frame, pairs = run.frames[0]
    H = run.potential.energy_jacobian(frame)
    error = frame.energy - run.potential.evaluate(frame).energy
    run.trainer.choices = dataclasses.replace(run.trainer.choices, order=("energy",))
    run.trainer.step(make_sample(run.potential, [frame], [pairs]))
    L = len(run.trainer.filter.blocks)
    assert_allclose(run.potential.weights - w0, H * error / (L * 0.98 + H @ H), rtol=1e-7, atol=1e-15)
    assert run.trainer.lam == 0.98 * 0.9987 + 1 - 0.9987


@pytest.mark.parametrize("batch", [1, 2])
def test_preset_deepmd_is_dense_arithmetic_of_its_code(data, tmp_path, batch):
    """H a sum over the batch of ∂(s y)/N, error √B times the mean of |Δy|/N, S = Lλ + Σ HᵀPH."""
    tree = settings(data, optimizer={"preset": "deepmd", "block_size": 300})
    tree["training"]["training_data"]["batch_size"] = batch
    run = Run(kalmandp.read_input(tree), tmp_path)
    p, w = run.potential, run.potential.weights.copy()
    other = p.with_engine("numpy")
    blocks = run.trainer.filter.blocks
    P, lam = [np.eye(n) for n in blocks.sizes], 0.98
    rng = np.random.default_rng()
    rng.bit_generator.state = run.rng.bit_generator.state
    batch_frames = [run.frames[k][0] for k in range(batch)]

    def update(H, error):
        nonlocal w, lam
        a = 1 / sum(lam + H[b] @ P_l @ H[b] for b, P_l in zip(blocks, P, strict=True))
        for l, b in enumerate(blocks):
            K = P[l] @ H[b]
            w[b] += a * error * K
            P[l] = (P[l] - a * np.outer(K, K)) / lam
        lam = 0.9987 * lam + 1 - 0.9987
        other.weights = w

    error = np.array([f.energy - other.evaluate(f).energy for f in batch_frames]) / 16
    H = sum(np.sign(e) * other.energy_jacobian(f) for e, f in zip(error, batch_frames, strict=True))
    update(H / 16, np.sqrt(batch) * np.abs(error).mean())
    for group in rng.integers(0, 16, size=(4, 6)):  # the same atoms of each frame
        H, mean = 0, []
        for f in batch_frames:
            error = (f.forces - other.evaluate(f).forces)[group]
            c = np.zeros((16, 3))
            np.add.at(c, group, np.sign(error))
            H = H + other.force_jacobian(f, c) / (18 * 16)
            mean.append(np.abs(error).mean() / 16)
        update(H, np.sqrt(batch) * np.mean(mean))
    pairs = [run.frames[k][1] for k in range(batch)]
    run.trainer.step(make_sample(p, batch_frames, pairs))
    assert_allclose(p.weights, w, rtol=1e-8, atol=1e-10)  # the table's error, and rounding


def test_presets_are_what_the_codes_do():
    deepmd = resolve(OptimizerSettings(preset="deepmd"))
    assert (deepmd.p0, deepmd.lam, deepmd.nu, deepmd.partition) == (1.0, 0.98, 0.9987, "RLEKF-code")
    assert deepmd.noise.force(192, 15) == 15 * 192**2
    matpl = resolve(OptimizerSettings(preset="matpl"))
    assert matpl.p0 == 0.01 and matpl.noise.force(96, 5) == 5 * 48**2
    with_virial = resolve(OptimizerSettings(preset="matpl", with_virial=True))
    assert with_virial.order == ("virial", "energy", "force")
    atomic = resolve(OptimizerSettings(preset="matpl", with_virial=True, with_atomic_energies=True))
    assert atomic.order == ("virial", "energy", "atomic_energy", "force")
    paper = resolve(OptimizerSettings(preset="paper"))
    assert paper.noise.energy(64, 7) == 7
    ours = [c for name, c in PRESETS.items() if not name.startswith("n2p2")]
    assert {c.n_groups * c.group_size for c in ours if c.measurement == "signed"} == {24}
    ours = resolve(OptimizerSettings())
    assert (ours.n_groups, ours.group_size, ours.norm) == (2, "all", "l2")
    assert (ours.block_size, ours.adapt, ours.averaging) == (128, 0.5, 0.1)
    assert resolve(OptimizerSettings(preset="paper", group_size="all")).group_size == "all"
    by_energy = {"energy": 1.0, "force": 0.0}
    some = {"measurement": "matrix"}, {"candidates": {"force": 1.0}}, {"candidates": by_energy}
    assert [resolve(OptimizerSettings(**o)).group_size for o in some] == [12, 12, "all"]
    with pytest.raises(InputError, match="sigma_e is given, but the preset 'paper'"):
        resolve(OptimizerSettings(preset="paper", sigma_e=0.1))
    with pytest.raises(InputError, match="preset is 'papr'; expected one of"):
        resolve(OptimizerSettings(preset="papr"))


@pytest.mark.parametrize("n_groups", [2, 5])
def test_all_atoms_are_shared_out_among_the_groups(n_groups):
    """Of frames of several sizes, one of fewer atoms than groups: each atom in one group, sizes even."""
    first_f = np.cumsum([0, 16, 9, 1, 3])
    sample = Sample([None] * 4, None, first_f)
    choices = dataclasses.replace(resolve(OptimizerSettings()), n_groups=n_groups)
    groups = [g[0] for g in draw_groups(choices, sample, np.random.default_rng(0))]
    assert sorted(np.concatenate(groups)) == list(range(29)) and len(groups) == n_groups
    count = [np.histogram(g, first_f)[0] for g in groups]
    assert (np.ptp(count, axis=0) <= 1).all()


@pytest.mark.parametrize("kind", ["LEKF", "SEKF", "GEKF"])
def test_partitions_train(data, tmp_path, kind):
    records = run_all(settings(data, optimizer={"type": kind}, training={"numb_steps": 2}), tmp_path)
    with h5py.File(tmp_path / "model.ckpt.h5") as file:
        sizes = file["optimizer/block_sizes"][()]
    layout = kalmandp.Potential.load(tmp_path / "model.dp").layout
    parts = [Part(t.name, t.size, t.layer) for t in layout.tensors]
    assert tuple(sizes) == partition(parts, kind, 300).sizes
    assert records[-1].updates == 2 * 2


def test_a_frame_that_would_spoil_the_state_is_named(data, tmp_path):
    tree = settings(data, optimizer={"p0": 1e308})  # H P Hᵀ overflows
    with pytest.raises(FilterError, match=r"morse\.h5.* frame \d+: .*"):
        run_all(tree, tmp_path)
    assert not list(tmp_path.glob("model*"))


def test_interrupted_writing_leaves_the_last_checkpoint(data, tmp_path, monkeypatch):
    run_all(settings(data, training={"numb_steps": 2}), tmp_path)
    before = (tmp_path / "model.ckpt.h5").read_bytes()
    run = Run(kalmandp.read_input(settings(data)), tmp_path)
    run.step()
    state = run.trainer.state
    run.trainer.state = lambda: {**state(), "broken": object()}
    with pytest.raises(TypeError):
        run.checkpoint()
    assert (tmp_path / "model.ckpt.h5").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lcurve.out", "model.ckpt.h5", "model.dp"]


def test_damaged_checkpoints_are_named(data, tmp_path):
    run_all(settings(data, training={"numb_steps": 2}), tmp_path)
    good = (tmp_path / "model.ckpt.h5").read_bytes()
    bad = tmp_path / "bad.h5"
    for damage in (good[: len(good) // 2], b"", b"\x89HDF" + bytes(1000), json.dumps({}).encode()):
        bad.write_bytes(damage)
        with pytest.raises(FileError, match=r"bad\.h5"):
            run_all(settings(data), tmp_path / "x", restart=bad)
    with pytest.raises(FileError, match="no such file"):
        run_all(settings(data), tmp_path / "x", restart=tmp_path / "none.h5")


def test_init_model_starts_from_its_weights(data, tmp_path):
    run_all(settings(data, training={"numb_steps": 10}), tmp_path / "a")
    model = tmp_path / "a" / "model.dp"
    run = Run(kalmandp.read_input(settings(data)), tmp_path / "b", init_model=model)
    assert (run.potential.weights == kalmandp.Potential.load(model).weights).all()


def test_species_the_model_does_not_know(data, tmp_path):
    tree = settings(data)
    tree["model"]["type_map"] = ["A", "C"]
    with pytest.raises(InputError, match="B"):
        run_all(tree, tmp_path)


def test_diagnostics_of_the_updates_are_in_the_record(data, tmp_path):
    record = next(train(settings(data, optimizer={"measurement": "signed"}), output=tmp_path))
    assert set(record.diagnostics) == {"energy", "force"}
    assert record.diagnostics["force"].nis >= 0


def test_a_type_that_no_frame_holds_is_told(data, tmp_path):
    tree = settings(data, model={"type_map": ["A", "C", "B"]})
    with pytest.warns(UserWarning, match="no training frame holds C; the model will know nothing of it"):
        next(train(tree, output=tmp_path))


@pytest.mark.parametrize("disp_freq", [4, 100], ids=["in the run", "at its end"])
def test_a_validation_frame_that_cannot_be_used_does_not_cost_the_run(data, tmp_path, disp_freq):
    [f] = frames(1)
    dense = dataclasses.replace(f, cell=0.7 * f.cell, positions=0.7 * f.positions)
    kalmandp.Dataset.write(tmp_path / "dense.h5", [dense])
    tree = settings(data, training={"numb_steps": 6, "disp_freq": disp_freq})
    tree["training"]["validation_data"] = {"systems": [str(tmp_path / "dense.h5")]}
    with pytest.raises(InputError, match=r"dense.h5.* sel allows .*; the run is saved in .*model.ckpt.h5"):
        run_all(tree, tmp_path / "run")
    assert (tmp_path / "run" / "model.dp").exists()
    del tree["training"]["validation_data"]
    rest = run_all(tree, tmp_path / "run", restart=tmp_path / "run" / "model.ckpt.h5")
    whole = run_all(tree, tmp_path / "whole")
    assert rest[-1].step == whole[-1].step == 6
    ours, theirs = (kalmandp.Potential.load(tmp_path / name / "model.dp") for name in ("run", "whole"))
    assert_allclose(ours.weights, theirs.weights, rtol=0, atol=0)


def test_a_training_frame_that_cannot_be_used_does_not_cost_the_run(data, tmp_path):
    run_all(settings(data, training={"numb_steps": 1}), tmp_path / "first")
    kalmandp.Dataset.write(tmp_path / "some.h5", frames(12))
    with h5py.File(tmp_path / "some.h5", "r+") as file:
        coord = file["A8B8/set.000/coord.npy"]
        coord[7, 3:6] = coord[7, :3]
    tree = settings(tmp_path / "some.h5")
    # no statistics, for which all frames are read, and no prior of a trained model, for which many are
    start = {"init_model": tmp_path / "first" / "model.dp"}
    tree["optimizer"]["p0"] = 1.0
    with pytest.raises(InputError, match=r"frame 7: atoms 0 and 1 are 0 Å .*; saved as before"):
        run_all(tree, tmp_path / "run", **start)
    assert (tmp_path / "run" / "model.ckpt.stopped.h5").exists()


def test_the_curve_of_a_small_validation_set_is_of_all_its_frames(tmp_path):
    """Its last line is what the end says; of a large set the frames are counted in every line."""
    kalmandp.Dataset.write(tmp_path / "train.h5", frames(6))
    kalmandp.Dataset.write(tmp_path / "valid.h5", frames(VALIDATION_FRAMES + 8, seed=1))
    shown = {}
    for n in (VALIDATION_FRAMES, VALIDATION_FRAMES + 8):
        data = kalmandp.Dataset(tmp_path / "valid.h5")[:n]
        kalmandp.Dataset.write(tmp_path / f"{n}.h5", data)
        tree = settings(tmp_path / "train.h5", training={"numb_steps": 2, "disp_freq": 1})
        tree["training"]["validation_data"] = {"systems": [str(tmp_path / f"{n}.h5")]}
        shown[n] = [r for r in kalmandp.train(tree, output=tmp_path / f"run{n}") if r.valid_frames]
        lines = read_lcurve(tmp_path / f"run{n}" / "lcurve.out")
        assert lines["frames_val"].tolist() == [VALIDATION_FRAMES, n]
        assert_allclose(lines["rmse_f_val"][-1], shown[n][-1].valid_f, rtol=1e-6)  # seven digits are written
    small, large = shown.values()
    assert [r.valid_frames for r in small] == [VALIDATION_FRAMES] * 3
    assert small[-1].valid_f == small[-2].valid_f  # the same weights, the same frames
    assert [r.valid_frames for r in large] == [VALIDATION_FRAMES] * 2 + [VALIDATION_FRAMES + 8]
    assert large[-1].valid_f != large[-2].valid_f


def test_a_curve_of_an_earlier_version_goes_on():
    rows = np.arange(2.0 * len(OLD_COLUMNS)).reshape(2, -1)
    read = History(rows)
    assert (read.array[:, :-1] == rows).all() and (read["valid_frames"] == 0).all()
