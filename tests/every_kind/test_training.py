"""What training does, for every kind of potential."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from by_hand import a_run
from numpy.testing import assert_allclose, assert_array_equal
from small_models import DATA, TYPES, tree_of

import kalmandp
from kalmandp.frames.kept import KeptFrames
from kalmandp.training.config.inputs import read_input
from kalmandp.training.config.presets import PRESETS
from kalmandp.training.loop import Run
from kalmandp.training.measurements.measurement import make_sample


def test_validation_fraction(trained, tmp_path):
    r = a_run(trained, tmp_path, validation_fraction=0.3)
    assert (len(r.data), len(r.validation)) == (7, 3)
    metrics = r.validate()
    errors = [r.result().evaluate(f).forces - f.forces for f in r.validation]
    assert_allclose(metrics.force_rmse, np.sqrt(np.mean(np.square(errors))), rtol=1e-10)


def test_averaged_weights(trained, tmp_path):
    """w̄ by its recursion; energies shifted by their mean error per atom, forces of the mean weights."""
    r = a_run(trained, tmp_path, 0, {"averaging": 0.5, "measurement": "matrix"})
    mean = r.potential.weights.copy()
    for t in range(1, 6):
        r.step()
        assert r.trainer.updates == t  # one update a step
        mean += (r.potential.weights - mean) / (1 + 0.5 * t)
    assert_allclose(r.trainer.average.weights, mean, rtol=1e-13, atol=1e-15)
    result, plain = r.result(), r.potential.with_engine(None)
    plain.weights = mean
    frames = list(r.data)
    off = [(f.energy - plain.evaluate(f).energy) / len(f) for f in frames]
    for f in frames:
        a, b = result.evaluate(f), plain.evaluate(f)
        assert_allclose(a.forces, b.forces, atol=1e-10)
        assert_allclose((a.energy - b.energy) / len(f), np.mean(off), rtol=1e-6, atol=1e-10)
    assert abs(np.mean(off)) > 1e-9 and (mean != r.potential.weights).any()
    unaveraged = a_run(trained, tmp_path / "other", 1, {"averaging": 0})
    assert_array_equal(unaveraged.result().weights, unaveraged.potential.weights)


KIND_OF = {"energy": "energy", "forces": "force", "virial": "virial"}


def labelled(trained, path, changes) -> Path:
    """The training frames, some of them without some labels: number -> labels that it lacks."""
    frames = trained.frames("train")
    made = [replace(f, **dict.fromkeys(changes.get(k, ()))) for k, f in enumerate(frames)]
    kalmandp.Dataset.write(path, made)
    return path


@pytest.mark.filterwarnings("ignore:.*training frames have no")
@pytest.mark.parametrize("measurement", ["matrix", "signed", "paired", "joint"])
def test_frames_without_some_labels(trained, measurement, tmp_path):
    lacking = {
        0: ("energy",), 1: ("forces",), 2: ("virial",), 3: ("forces", "virial"), 4: ("energy", "virial"),
    }  # fmt: skip
    path = labelled(trained, tmp_path / "some.h5", lacking)
    optimizer = {"measurement": measurement, "with_virial": True, "n_groups": 2}
    tree = tree_of(trained.kind, trained.place, optimizer, numb_steps=10)
    tree["training"]["training_data"]["systems"] = [str(path)]
    r = Run(read_input(tree), tmp_path)
    seen = set()
    for _ in range(10):
        before = r.potential.weights.copy()
        numbers = int(r.feed.order[r.feed.position])
        r.step()
        changed = (r.potential.weights != before).any()
        # in the first pass a frame is learnt by what it has, and by nothing else
        kinds = {kind for did, _ in r.trainer.log for kind in did.innovations}
        given = {"energy", "force", "virial"} - {KIND_OF[label] for label in lacking.get(numbers, ())}
        assert changed == bool(given) and kinds <= given, (numbers, kinds)
        seen.add(numbers)
    assert np.isfinite(r.result().weights).all() and seen == set(range(10))


def test_the_gate_finds_a_wrong_frame(trained, tmp_path):
    frames = trained.frames("train")
    rng = np.random.default_rng(0)
    wrong = replace(frames[4], forces=rng.normal(0, 3.0, frames[4].forces.shape))
    path = tmp_path / "wrong.h5"
    kalmandp.Dataset.write(path, [*frames[:4], wrong, *frames[5:]])
    tree = tree_of(trained.kind, trained.place, {"gate": 25.0}, numb_steps=80)
    tree["training"]["training_data"]["systems"] = [str(path)]
    r = Run(read_input(tree), tmp_path)
    for _ in range(80):
        r.step()
    r.trainer.gate.left_out.write(tmp_path / "left_out.out", r.data.source)
    lines = (tmp_path / "left_out.out").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    # of the few frames that are left out the wrong one is so most often, and is off the furthest
    frames_left_out = [int(row[2]) for row in rows if row[3] == "force"]
    assert max(set(frames_left_out), key=frames_left_out.count) == 4, rows
    assert max(rows, key=lambda row: float(row[4]) / float(row[5]) if row[3] == "force" else 0)[2] == "4"


@pytest.mark.parametrize("measurement", ["matrix", "signed"])
def test_a_batch_of_two_frames(trained, measurement, tmp_path):
    """Two energies, or their mean error, by the derivatives of each frame."""
    optimizer = {"measurement": measurement, "norm": "l1", "reduction": "mean"}
    r = a_run(trained, tmp_path, 2, optimizer, data={"batch_size": 2})
    numbers = r.feed.next()
    frames, potential = [r.data[int(k)] for k in numbers], r.potential.with_engine("numpy")
    error_f = np.array([f.energy - potential.evaluate(f).energy for f in frames])
    H_fw = potential.energy_jacobian(frames)
    first = next(r.trainer.measure(make_sample(r.potential, *r._frames(numbers)), np.random.default_rng(0)))
    if measurement == "matrix":
        assert first.kind_q[:3] == ("energy", "energy", "force")
        H, error = first.H_qw[:2], first.error_q[:2]
    else:
        assert first.kind_q == ("energy",)
        s_f = np.sign(error_f)
        H_fw, error_f = (s_f @ H_fw / 2)[None], [np.mean(np.abs(error_f))]
        H, error = first.H_qw, first.error_q
    # an energy of 2,000 eV is known to 1e-12 of itself
    assert_allclose(error, error_f, rtol=1e-7, atol=1e-8)
    assert_allclose(H, H_fw, rtol=1e-8, atol=1e-9 * np.abs(H_fw).max())
    before = r.potential.weights.copy()
    r.step()
    assert (r.potential.weights != before).any() and len(r.trainer.log) >= 1


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_trains_every_kind(trained, preset, tmp_path):
    r = a_run(trained, tmp_path, 0, {"type": PRESETS[preset].type, "preset": preset})
    before = r.potential.weights.copy()
    for _ in range(3):
        r.step()
    assert r.trainer.updates >= 3 and np.isfinite(r.potential.weights).all()
    # no net is left out: of every tensor some weight has changed
    changed = r.potential.weights != before
    still = [t.name for t in r.potential.layout.tensors if not changed[t.start : t.start + t.size].any()]
    assert not still, still


@pytest.mark.parametrize("measurement", ["matrix", "signed"])
def test_atomic_energies_are_learnt(trained, measurement, tmp_path):
    """Labels that another potential has made: their errors fall."""
    teacher, rng = trained.potential, np.random.default_rng(7)
    teacher.weights = teacher.weights * (1 + 0.1 * rng.normal(size=teacher.layout.size))
    made = []
    for f in trained.frames("train"):
        E, F, W, E_i = teacher.evaluate(f)
        made.append(replace(f, energy=E, forces=F, virial=W, atomic_energies=E_i))
    kalmandp.Dataset.write(tmp_path / "taught.h5", made)
    optimizer = {"measurement": measurement, "with_atomic_energies": True}
    tree = tree_of(trained.kind, trained.place, optimizer, numb_steps=20)
    tree["training"]["training_data"]["systems"] = [str(tmp_path / "taught.h5")]
    r = Run(read_input(tree), tmp_path / "run")
    before = kalmandp.evaluate(r.potential, made).atomic_energy_rmse
    for _ in range(20):
        r.step()
    assert "atomic_energy" in {kind for did, _ in r.trainer.log for kind in did.innovations}
    assert kalmandp.evaluate(r.potential, made).atomic_energy_rmse < 0.5 * before


def test_a_thin_cell_is_its_supercell(trained):
    """A cell much thinner than the cut-off: an atom is its own neighbour, many times."""
    cell = np.array([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]])
    thin = kalmandp.Frame(
        np.array([[0, 0, 0], [2.7, 0.1, 0]]), [0, 1], TYPES, cell=cell, energy=0.0,
        forces=np.zeros((2, 3)), virial=np.zeros((3, 3)),
    )  # fmt: skip
    one, eight = trained.potential.evaluate(thin), trained.potential.evaluate(doubled(thin))
    assert_allclose(eight.energy, 8 * one.energy, rtol=1e-12)
    assert_allclose(eight.forces, np.tile(one.forces, (8, 1)), atol=1e-10)
    assert_allclose(eight.virial, 8 * one.virial, atol=1e-9)
    assert np.abs(one.forces).max() > 1e-3


@pytest.mark.parametrize("type", ["Adam", "SNES"])
def test_other_optimizers_learn(trained, type, tmp_path):
    optimizer = {"type": type, **({"population": 12} if type == "SNES" else {})}
    more = {"data": {"batch_size": 2}, "numb_steps": 60}
    r = a_run(trained, tmp_path, 0, optimizer, **more)
    frames = trained.frames("train")
    before = kalmandp.evaluate(r.potential, frames).force_rmse
    for _ in range(60):
        r.step()
    after = kalmandp.evaluate(r.result(), frames).force_rmse
    assert after < before


def test_kept_frames_stay_within_their_budget(trained, tmp_path):
    """What is counted is what lies in memory, and old frames go when there is no room."""
    with kalmandp.Dataset(trained.place / "train.h5") as data:
        kept = trained.potential.engine.frames(data)
        assert isinstance(kept, KeptFrames)
        made = [kept[k] for k in range(3)]
        assert kept.used == sum(kept.size(*item) for item in made)
        for item in made:
            real = {id(b): b.nbytes for b in map(base, arrays_in(item)) if b is not None}
            assert kept.size(*item) >= 0.99 * sum(real.values()), item
        kept.budget = int(2.5 * kept.size(*made[0]))
        for k in range(3, len(data)):
            kept[k]
            assert kept.used <= kept.budget
        assert kept.used == sum(kept.size(*item) for item in kept._kept.values()) and len(kept._kept) == 2
        # and what was forgotten is made again as it was
        env = [trained.potential.environment([f], [m]) for f, m in (kept[0],)]
        fresh = trained.potential.evaluate(data[0])
        again = trained.potential.evaluate([kept[0][0]], env[0])[0]
        assert_array_equal(again.forces, fresh.forces)


def arrays_in(item):
    if isinstance(item, np.ndarray):
        yield item
    elif isinstance(item, (tuple, kalmandp.Frame)):
        for part in item if isinstance(item, tuple) else vars(item).values():
            yield from arrays_in(part)


def base(array):
    """The array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


PROGRAM = """
import hashlib, json, sys
import numba
from kalmandp.training.config.presets import PRESETS
from kalmandp.training.loop import Run
from kalmandp.training.config.inputs import read_input

found = {}
for name, tree in json.load(open(sys.argv[1])).items():
    for threads in (1, 2, 3):
        numba.set_num_threads(threads)
        run = Run(read_input(tree), f"{sys.argv[2]}/{name}-{threads}")
        for _ in range(run.n_steps):
            run.step()
        parts = [run.potential.weights, run.trainer.filter.covariance.diagonal(), run.result().weights]
        found[f"{name} {threads}"] = hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest()
print(json.dumps(found))
"""


def test_the_same_bits_for_any_number_of_threads(trained, tmp_path):
    """Of frames large enough that several threads share the work."""
    with kalmandp.Dataset(DATA / "NaCl_train.h5") as data:
        kalmandp.Dataset.write(tmp_path / "large.h5", [doubled(f) for f in data[:3]])
    inputs = {}
    for name, optimizer, size in (("matrix", {}, 2), ("signed", {"measurement": "signed"}, 1)):
        tree = tree_of(trained.kind, tmp_path, optimizer, data={"batch_size": size}, numb_steps=4)
        tree["training"]["training_data"]["systems"] = [str(tmp_path / "large.h5")]
        inputs[name] = tree
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "inputs.json", tmp_path], capture_output=True, text=True,
        timeout=600, env={**os.environ, "NUMBA_NUM_THREADS": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name in inputs:
        assert len({found[f"{name} {threads}"] for threads in (1, 2, 3)}) == 1, name
    assert len(set(found.values())) == len(inputs)


def doubled(frame):
    """Two by two by two cells of a frame, with its labels."""
    shifts = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3) @ frame.cell
    positions = (frame.positions[None] + shifts[:, None]).reshape(-1, 3)
    return kalmandp.Frame(
        positions, np.tile(frame.types, 8), frame.type_map, cell=2 * frame.cell, energy=8 * frame.energy,
        forces=np.tile(frame.forces, (8, 1)), virial=8 * frame.virial,
    )  # fmt: skip
