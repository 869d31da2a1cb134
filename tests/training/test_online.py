"""The step-level interface: the same bits as a run, in the host's own arrays, groups, threads and ranks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from systems import frames, settings

import kalmandp
from kalmandp.errors import FileError, FilterError, InputError
from kalmandp.training.data.feed import Feed
from kalmandp.training.loop import Run
from kalmandp.training.measurements.measurement import combine

OPTIMIZER = {"block_size": 300}


@pytest.fixture(scope="module")
def start():
    """The weights, statistics and architecture that every trainer here starts from."""
    return kalmandp.Potential.create(
        ("A", "B"), rcut=4.2, rcut_smth=1.0, frames=frames(4), rng=np.random.default_rng(2),
        embedding=(6, 12), axis_neuron=4, fitting=(12, 12), type_one_side=True, fitting_resnet_dt=False,
    )  # fmt: skip


def online(start, seed=1, engine=None, **choices):
    return kalmandp.OnlineTrainer(
        start.with_engine(engine), rng=np.random.default_rng(seed), **{**OPTIMIZER, **choices}
    )


def step(trainer, frame, **changes):
    arrays = dict(
        positions=frame.positions, types=frame.types, cell=frame.cell, energy=frame.energy,
        forces=frame.forces, virial=frame.virial,
    )  # fmt: skip
    return trainer.step(**{**arrays, **changes})


def same(one, other):
    """Weights, potential, every number of P, λ: bit by bit."""
    a, b = one.filter.state(), other.filter.state()
    assert set(a) == set(b)
    for name in a:
        assert_array_equal(a[name], b[name], err_msg=name)
    assert_array_equal(one.potential.weights, other.potential.weights)


@pytest.mark.parametrize("measurement", ["signed", "paired", "joint", "matrix"])
def test_the_same_bits_as_a_run(tmp_path, measurement):
    path = tmp_path / "morse.h5"
    kalmandp.Dataset.write(path, frames(10))
    optimizer = {"block_size": 300, "measurement": measurement, "with_virial": True, "virial_offset": True}
    run = Run(kalmandp.read_input(settings(path, optimizer=optimizer)), tmp_path)
    weights = run.potential.weights.copy()
    for _ in range(10):  # of 8 numbers if paired: the window of a coupled P ends on the way
        run.step()

    rng = np.random.default_rng(1)
    host = kalmandp.OnlineTrainer(run.potential.with_engine(None), rng=rng, **optimizer)
    host.potential.weights = weights
    host.trainer.weights[:] = weights
    order = Feed(10, 1, rng).order  # a run draws its order first
    with kalmandp.Dataset(path) as data:
        for k in order:
            f = data[int(k)]
            host.step(f.positions, f.symbols, cell=f.cell, energy=f.energy, forces=f.forces, virial=f.virial)
    same(host, run.trainer)
    assert host.potential.weights.any() and (host.potential.weights != weights).all()


@pytest.mark.parametrize("choices", [{}, {"covariance": "dense"}, {"covariance_dtype": "float32"}])
def test_save_and_restore_in_the_hosts_group(start, tmp_path, choices):
    trainer = online(start, **choices)
    data = frames(10)  # 80 numbers: the window that was saved ends after it
    with h5py.File(tmp_path / "host.h5", "w") as file:
        file["the host's own"] = np.arange(3)
        group = file.create_group("md/force_field")
        for f in data[:2]:
            step(trainer, f)
        trainer.save(group)
        step(trainer, data[2])
        trainer.save(group)  # again, in the same place
    with h5py.File(tmp_path / "host.h5", "r") as file:
        back = kalmandp.OnlineTrainer.restore(file["md/force_field"])
        assert_array_equal(file["the host's own"], np.arange(3))
    assert back.steps == 3 and back.trainer.choices == trainer.trainer.choices
    same(back, trainer)
    for f in data[3:]:
        assert step(back, f).lam == step(trainer, f).lam
    same(back, trainer)


def test_a_gate_leaves_out_lists_and_is_saved(start, tmp_path, monkeypatch):
    """Frames that come one by one: the gate works from LATEST steps on, here 40 instead of 1000."""
    monkeypatch.setattr("kalmandp.training.measurements.gate.LATEST", 40)
    good = frames(50)
    wrong = replace(good[45], energy=good[45].energy + 100.0)
    trainer = online(start, gate=1000.0, measurement="signed")
    for f in good[:45]:
        assert all(u.info.accepted for u in trainer.learn(f).learnt)
    with h5py.File(tmp_path / "host.h5", "w") as file:
        trainer.save(file.create_group("md"))
        back = kalmandp.OnlineTrainer.restore(file["md"])
    weights = trainer.filter.weights.copy()
    info, again = trainer.learn(wrong), back.learn(wrong)
    first = info.learnt[0]
    assert first.kind == "energy" and not first.info.accepted and first.info.step_norm == 0.0
    assert [u.info.accepted for u in again.learnt] == [u.info.accepted for u in info.learnt]
    assert trainer.gate.left_out.rows[0][:4] == [46, 0, 45, 0]
    assert trainer.gate.left_out.rows == back.gate.left_out.rows
    assert (weights != trainer.filter.weights).any()  # its forces are good
    for f in good[46:]:
        trainer.learn(f), back.learn(f)
    same(back, trainer)
    assert trainer.gate.state()["steps"] == back.gate.state()["steps"] == 49


def test_a_gate_in_a_hosts_own_loop_of_several_frames(start):
    """Measurements of two frames that run side by side are one step of the gate."""
    trainer = online(start, gate=1000.0)
    for pair in (frames(2), frames(2, seed=1)):
        running = [trainer.measure(f, np.random.default_rng(k)) for k, f in enumerate(pair)]
        for own in zip(*running, strict=True):
            trainer.update(combine(list(own)), 2)
    assert trainer.gate.state()["steps"] == 1 and trainer.gate.state()["judged"] == 1


def test_groups_that_cannot_be_used(start, tmp_path):
    trainer = online(start)
    with h5py.File(tmp_path / "host.h5", "w") as file:
        file.create_group("other")["thermostat"] = 1.0
        with pytest.raises(InputError, match=r"host\.h5:/other: holds thermostat; expected an empty"):
            trainer.save(file["other"])
        assert list(file["other"]) == ["thermostat"]
        with pytest.raises(FileError, match=r"/other: is not a group written by"):
            kalmandp.OnlineTrainer.restore(file["other"])
        good = file.create_group("good")
        trainer.save(good)
        for damage, message in (
            (lambda g: g.attrs.modify("complete", False), "not written to its end"),
            (lambda g: g.attrs.modify("version", 99), "version is 99"),
            (lambda g: g.__delitem__("filter/P"), "P"),
            (lambda g: g.__delitem__("json/model"), "model"),
            (lambda g: g["potential/weights"].write_direct(np.full(len(start.weights), np.nan)), "finite"),
        ):
            trainer.save(good)
            damage(good)
            with pytest.raises(FileError, match=message) as caught:
                kalmandp.OnlineTrainer.restore(good)
            assert str(caught.value).startswith(str(tmp_path / "host.h5") + ":/good")


def test_two_trainers_in_two_host_threads(start):
    data = frames(5)
    alone = [online(start, seed) for seed in (1, 2)]
    for trainer in alone:
        for f in data:
            step(trainer, f)
    together, failed = [online(start, seed) for seed in (1, 2)], []

    def work(trainer):
        try:
            for f in data:
                step(trainer, f)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(t,)) for t in together]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
    for one, other in zip(alone, together, strict=True):
        same(one, other)


def test_arrays_are_not_copied_where_layouts_agree(start):
    trainer = online(start)
    f = frames(1)[0]
    made = trainer.frame(f.positions, f.types, cell=f.cell, forces=f.forces, virial=f.virial)
    for name in ("positions", "types", "forces", "virial", "cell"):
        assert np.shares_memory(getattr(made, name), getattr(f, name)), name
    # and the host's own array of weights can be the potential's
    w = start.weights.copy()
    potential = kalmandp.Potential(
        start.form, w, bias_atom_e=start.bias_atom_e, copy=False, **start.statistics
    )
    before = w.copy()
    trainer = kalmandp.OnlineTrainer(potential, rng=np.random.default_rng(0), **OPTIMIZER)
    step(trainer, f)
    assert (w != before).any() and potential.weights is w
    for wrong in (w.astype("float32"), w[::-1], np.broadcast_to(1.0, w.shape)):
        with pytest.raises(InputError, match="copy=False"):
            kalmandp.Potential(
                start.form, wrong, bias_atom_e=start.bias_atom_e, copy=False, **start.statistics
            )


def test_measure_and_update_are_a_step(start):
    one, other = online(start), online(start)
    f = frames(1)[0]
    step(one, f)
    frame = other.frame(f.positions, f.symbols, cell=f.cell, energy=f.energy, forces=f.forces)
    for m in other.measure(frame):
        other.update(m)
    same(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"types": ["A", "X"] * 8}, "species is X; expected those of the potential"),
        ({"positions": np.zeros((16, 2))}, r"step 1: positions has shape \(16, 2\); expected \(16, 3\)"),
        ({"forces": None, "energy": None}, "step 1 has no energy and no forces"),
        ({"energy": np.nan, "source": "MD step 512"}, "MD step 512: energy is nan"),
        ({"virial": np.zeros(9)}, r"virial has shape \(9,\)"),
        ({"pbc": "yes"}, "pbc"),
    ],
)
def test_a_frame_that_cannot_be_learnt_changes_nothing(start, changes, message):
    trainer, fresh = online(start), online(start)
    with pytest.raises(InputError, match=message):
        step(trainer, frames(1)[0], **changes)
    same(trainer, fresh)
    assert trainer.steps == 0


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"sigm_f": 0.1}, r"sigm_f.*did you mean 'sigma_f'"),
        ({"threads": 0}, "threads is 0; expected an integer"),
        ({"sigma_f": -1.0}, "sigma_f"),
    ],
)
def test_settings_that_cannot_be_used(start, choices, message):
    with pytest.raises(InputError, match=message):
        online(start, **choices)


def test_neither_a_seed_nor_adam(start):
    with pytest.raises(InputError, match="rng is 7"):
        kalmandp.OnlineTrainer(start, rng=7)
    with pytest.raises(InputError, match='optimizer/type is "Adam"; expected one of RLEKF'):
        kalmandp.OnlineTrainer(start, rng=np.random.default_rng(0), type="Adam")


def test_a_refused_update_names_the_frame(start):
    with pytest.raises(FilterError, match="MD step 3: "):
        step(online(start, p0=1e308), frames(1)[0], source="MD step 3")


HOST = """
import json, locale, os, random, signal, sys, threading, warnings
import numpy as np
import systems

def process():
    "What belongs to the process and not to a library."
    numba = sys.modules.get("numba")
    return {
        "errstate": np.geterr(),
        "printing": str(np.get_printoptions()),
        "signals": [str(signal.getsignal(s)) for s in sorted(signal.valid_signals())],
        "warnings": len(warnings.filters),
        "numpy's random state": str(np.random.get_state()),
        "random's state": hash(random.getstate()),
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "folder": os.getcwd(),
        "recursion": sys.getrecursionlimit(),
        "threads of Python": threading.active_count(),
        "numba's threads": numba.get_num_threads() if numba else None,
    }

threads = int(sys.argv[1])
import numba, h5py, vesin  # the host may have them; what they do at import is theirs
numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
before, tasks = process(), len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
import kalmandp
data = systems.frames(3)
potential = kalmandp.Potential.create(
    ("A", "B"), rcut=4.2, rcut_smth=1.0, frames=data, rng=np.random.default_rng(2),
    embedding=(6, 12), axis_neuron=4, fitting=(12, 12), type_one_side=True, fitting_resnet_dt=False,
)
online = kalmandp.OnlineTrainer(potential, rng=np.random.default_rng(0), threads=threads, block_size=300)
for f in data:
    online.step(f.positions, f.types, cell=f.cell, energy=f.energy, forces=f.forces)
after = process()
more = (len(os.listdir("/proc/self/task")) if tasks else 0) - tasks
print(json.dumps([[k for k in before if before[k] != after[k]], more, float(online.filter.weights.sum())]))
"""


@pytest.fixture(scope="module")
def host_script(tmp_path_factory):
    path = tmp_path_factory.mktemp("host") / "host.py"
    path.write_text(HOST, encoding="utf-8")
    return path


def run_host(command, host_script):
    done = subprocess.run(
        [*command, sys.executable, str(host_script), "1"],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "NUMBA_NUM_THREADS": "4",
             # BLAS reads its number of threads when it is loaded: the host's wish
             "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # one list from each rank; two may end up in one line
    found, text, at = [], done.stdout, done.stdout.find("[[")
    while at >= 0:
        value, end = json.JSONDecoder().raw_decode(text, at)
        found.append(value)
        at = text.find("[[", end)
    return found


def test_nothing_of_the_process_is_changed(host_script):
    ((changed, more_tasks, _),) = run_host([], host_script)
    assert changed == []
    assert more_tasks <= 1  # threads=1 starts none but the one that vesin's search keeps, idle


@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="mpiexec (MPI) is not installed")
def test_under_mpiexec(host_script):
    first, second = run_host(["mpiexec", "-n", "2"], host_script)
    assert first == second and first[0] == []


def test_averaged_weights_are_those_of_a_run(start, tmp_path):
    """The mean of the weights of late, as a run writes it; a copy that later steps do not change."""
    trainer, labelled = online(start), frames(6, seed=21)
    w_tw = []
    for frame in labelled:
        for m in trainer.measure(frame):
            trainer.update(m)
            w_tw.append(trainer.potential.weights.copy())
    mean = start.weights.copy()
    for t, w in enumerate(w_tw, start=1):
        mean += (w - mean) / (1 + 0.1 * t)
    made = trainer.averaged()
    assert_array_equal(made.weights, mean)
    shifted = trainer.averaged(labelled)
    rest = [(frame.energy - shifted.evaluate(frame).energy) / len(frame) for frame in labelled]
    assert abs(np.mean(rest)) < 1e-10
    step(trainer, labelled[0])
    assert_array_equal(made.weights, mean)
    with h5py.File(tmp_path / "host.h5", "w") as file:
        trainer.save(file.create_group("here"))
        again = kalmandp.OnlineTrainer.restore(file["here"])
    assert_array_equal(again.averaged().weights, trainer.averaged().weights)
    last = online(start, averaging=0)
    step(last, labelled[0])
    assert_array_equal(last.averaged().weights, last.potential.weights)
