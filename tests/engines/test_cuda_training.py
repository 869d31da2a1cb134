"""Whole runs with everything on a device, its kernels run by the emulator, against runs on the processor."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import on_device
import pytest
from cuda_emulator import strict_arrays
from numpy.testing import assert_allclose
from systems import frames, label, settings

import kalmandp
from kalmandp.engines.cuda.deep_potential.frames import device_frames
from kalmandp.errors import FilterError, InputError
from kalmandp.frames.frame import Frame
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run, train
from kalmandp.training.measurements.gate import Refusal
from kalmandp.training.measurements.measurement import errors, make_sample
from kalmandp.training.report.metrics import evaluate

#: The device adds up in another order; a run amplifies rounding from update to update.
RTOL = 1e-8


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "morse.h5"
    kalmandp.Dataset.write(path, frames(8))
    return path


def tree(data, **changes):
    """The input of a run of two steps of a small potential."""
    descriptor = {"type": "se_e2_a", "sel": "auto", "rcut": 3.2, "rcut_smth": 1.0}
    small = {
        "model": {
            "descriptor": {**descriptor, "neuron": [4, 8], "axis_neuron": 3},
            "fitting_net": {"neuron": [6, 6]},
        },
        "optimizer": {"type": "RLEKF", "block_size": 150},
        "training": {"numb_steps": 2, "disp_freq": 2, "save_freq": 100},
    }
    out = settings(data, **small)
    for section, values in changes.items():
        out[section].update(values)
    return out


#: Every measurement, both precisions of P, and another reduction.
OPTIMIZERS = [
    {}, {"measurement": "signed", "with_virial": True}, {"measurement": "joint", "with_virial": True},
    {"measurement": "matrix", "n_groups": 1, "group_size": 1, "with_virial": True},
    {"measurement": "matrix", "n_groups": 1, "group_size": 1, "with_virial": True, "virial_offset": True},
    {"measurement": "signed", "with_virial": True, "virial_offset": True},
    {"preset": "deepmd"}, {"covariance_dtype": "float32"}, {"last_layer": True},
    {"preset": "n2p2", "n_groups": 2, "reduction": "sum"},
]  # fmt: skip


def weights_after(input_tree, output, device, **options):
    last = list(train(input_tree, output=output, device=device, **options))[-1]
    return kalmandp.Potential.load(output / "model.dp").weights, last


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_equals_that_on_the_processor(data, tmp_path, optimizer):
    """Every measurement, batches of two frames side by side, both precisions of P."""
    input_tree = tree(data, optimizer=optimizer)
    input_tree["training"]["training_data"]["batch_size"] = 2
    if optimizer:
        input_tree["training"]["numb_steps"] = 1
    host, on_host = weights_after(input_tree, tmp_path / "host", "cpu")
    gpu, on_gpu = weights_after(input_tree, tmp_path / "gpu", on_device.emulated())
    tolerance = 1e-5 if optimizer.get("covariance_dtype") == "float32" else RTOL
    assert_allclose(gpu, host, rtol=0, atol=tolerance * np.abs(host).max())
    assert on_gpu.updates == on_host.updates and on_gpu.lam == on_host.lam


@pytest.fixture(scope="module")
def many_sizes(tmp_path_factory):
    """Crystals of 16 atoms, pieces of them without a cell, a pair, and one atom alone."""
    whole = frames(6)
    piece = lambda f, n: label(Frame(f.positions[:n], f.types[:n], f.type_map, source=f"{n} of {f.source}"))
    path = tmp_path_factory.mktemp("data") / "sizes.h5"
    sizes = zip(whole, (16, 9, 16, 5, 2, 1), strict=True)
    kalmandp.Dataset.write(path, [f if n == 16 else piece(f, n) for f, n in sizes])
    return path


@pytest.mark.parametrize("optimizer", [{}, {"measurement": "signed"}])
def test_batches_of_frames_of_different_sizes(many_sizes, tmp_path, optimizer):
    """All in one launch: the batch that has one atom, and the one that has sixteen."""
    input_tree = tree(many_sizes, optimizer=optimizer)
    input_tree["training"]["training_data"]["batch_size"] = 3
    host, _ = weights_after(input_tree, tmp_path / "host", "cpu")
    device = on_device.emulated()
    gpu, _ = weights_after(input_tree, tmp_path / "gpu", device)
    assert_allclose(gpu, host, rtol=0, atol=RTOL * np.abs(host).max())
    data = kalmandp.Dataset(many_sizes)
    at = lambda place: kalmandp.Potential.load(tmp_path / "host" / "model.dp", device=place)
    on_host, there = evaluate(at("cpu"), data), evaluate(at(device := on_device.emulated()), data)
    assert_allclose(there, on_host, rtol=1e-9)
    # the frames side by side, not one after another
    assert device.launched.count("pair_gradient") == device.launched.count("moments") == 1


@pytest.mark.filterwarnings("ignore:.*training frames have no:UserWarning")
@pytest.mark.parametrize("optimizer", [{}, {"measurement": "matrix", "group_size": 1}, {"type": "Adam"}])
def test_frames_that_lack_labels(tmp_path, optimizer):
    """Of each kind one: what a frame has is uploaded and learnt, nothing else is asked of it."""
    gone = ({}, {"forces": None}, {"energy": None, "virial": None})
    made = [dataclasses.replace(f, **without) for f, without in zip(frames(3), gone, strict=True)]
    kalmandp.Dataset.write(tmp_path / "some.h5", made)
    input_tree = tree(tmp_path / "some.h5", training={"numb_steps": 3})
    input_tree["optimizer"] |= {"with_virial": True, **optimizer}
    if optimizer.get("type") == "Adam":
        input_tree |= {"optimizer": optimizer, "loss": {"start_pref_v": 0.1, "limit_pref_v": 1.0}}
    input_tree["training"]["training_data"]["batch_size"] = 1
    host, on_host = weights_after(input_tree, tmp_path / "host", "cpu")
    gpu, on_gpu = weights_after(input_tree, tmp_path / "gpu", on_device.emulated())
    assert_allclose(gpu, host, rtol=0, atol=RTOL * np.abs(host).max())
    assert on_gpu.updates == on_host.updates


def test_adam_and_the_reference_functions_run_there_too(data, tmp_path):
    """Adam and SNES on the fused engine; RLEKF on the reference functions, which kinked embeddings need."""
    adam, snes, kinked = tree(data), tree(data), tree(data)
    adam["optimizer"] = {"type": "Adam"}
    snes["optimizer"] = {"type": "SNES", "population": 3}
    kinked["model"]["descriptor"]["activation_function"] = "relu"
    for name, input_tree in (("adam", adam), ("snes", snes), ("kinked", kinked)):
        host, _ = weights_after(input_tree, tmp_path / f"{name} host", "cpu")
        gpu, _ = weights_after(input_tree, tmp_path / f"{name} gpu", on_device.emulated())
        assert_allclose(gpu, host, rtol=0, atol=RTOL * np.abs(host).max())


@pytest.mark.parametrize("optimizer", [
    {}, {"measurement": "signed", "with_virial": True}, {"measurement": "joint", "with_virial": True},
    {"measurement": "matrix", "n_groups": 1, "group_size": 1}, {"preset": "deepmd"},
])  # fmt: skip
def test_inside_a_step_the_host_waits_for_nothing_but_progress(data, tmp_path, optimizer):
    """A step without display: once for the table's step, and at its end for how the updates went.

    What waits is counted by the emulated device: copies to the host, and whatever of CuPy's waits by itself.
    """
    input_tree = tree(data, optimizer=optimizer)
    input_tree["training"] |= {"disp_freq": 1000, "numb_steps": 3}
    input_tree["training"]["training_data"]["batch_size"] = 2
    run = Run(read_input(input_tree), tmp_path, device=on_device.emulated())
    run.step()
    for _ in run.frames:  # all frames are on the device
        pass
    strict_arrays.waits.clear()
    strict_arrays.uploads.clear()
    run.step()
    assert strict_arrays.waits == ["get", "get"]  # table; flag and figures of all updates
    frame_bytes = 2 * 16 * 3 * 8
    assert max(strict_arrays.uploads) <= frame_bytes  # labels seen first, and nothing that grows with pairs


def test_labels_of_a_frame_travel_once(data):
    """However often it is learnt from, alone or beside others; a label that was not asked for stays."""
    potential = kalmandp.Potential.create(
        ("A", "B"), rcut=3.2, frames=frames(1), rng=np.random.default_rng(3), embedding=(4, 8),
        axis_neuron=3, fitting=(6, 6), type_one_side=True, fitting_resnet_dt=False,
        device=on_device.emulated(),
    )  # fmt: skip
    xp, kept = potential.engine.xp, device_frames(kalmandp.Dataset(data), potential.engine)
    shapes = {"energy": (2,), "forces": (32, 3), "virial": (2, 3, 3)}
    for numbers, wanted in (((0, 1), 2), ((1, 2), 1), ((2, 0), 0)):
        sample = make_sample(potential, *zip(*(kept[k] for k in numbers), strict=True))
        for name, shape in shapes.items():
            strict_arrays.uploads.clear()
            found = [errors(potential, sample, name, xp.zeros(shape)).get() for _ in range(2)]
            assert strict_arrays.uploads == [8 * np.prod(shape) // 2] * wanted
            labels = np.stack([getattr(kept[k][0], name) for k in numbers]).reshape(shape)
            assert (np.array(found) == labels).all()
    assert set(kept[0][1].labels_f[0]) == set(shapes)


def test_what_waits_is_counted():
    xp = on_device.emulated().xp
    a = xp.asarray(np.arange(3.0))
    for wait in (
        lambda: a.get(), lambda: float(a[0]), lambda: bool(a[0] > 0), lambda: int(a[0]), lambda: a.tolist(),
        lambda: f"{a}", lambda: xp.nonzero(a), lambda: a[a > 1], lambda: xp.argsort(a), lambda: a.sort(),
        lambda: xp.where(a > 1), lambda: xp.bincount(xp.asarray([0, 1])), lambda: xp.linalg.inv(xp.eye(2)),
    ):  # fmt: skip
        before = len(strict_arrays.waits)
        wait()
        assert len(strict_arrays.waits) > before
    before = len(strict_arrays.waits)
    xp.where(a > 1, a, 0.0)[xp.asarray([0, 1])].sum()
    assert len(strict_arrays.waits) == before


def test_restart_goes_on_with_the_same_bits_and_on_the_other_device(data, tmp_path):
    input_tree, device = tree(data), on_device.emulated()
    whole, _ = weights_after(input_tree, tmp_path / "whole", device)
    steps = iter(range(9))
    for _ in train(input_tree, output=tmp_path / "cut", device=device, stop=lambda: next(steps) == 0):
        pass
    checkpoint = tmp_path / "cut" / "model.ckpt.h5"
    rest, _ = weights_after(input_tree, tmp_path / "rest", on_device.emulated(), restart=checkpoint)
    assert (rest == whole).all()
    host, _ = weights_after(input_tree, tmp_path / "host", "cpu", restart=checkpoint)
    assert_allclose(host, whole, rtol=0, atol=RTOL * np.abs(whole).max())


def test_a_failed_step_names_its_frame(tmp_path):
    bad = frames(1)[0]
    path = tmp_path / "bad.h5"
    kalmandp.Dataset.write(path, [bad])
    run = Run(read_input(tree(path)), tmp_path, device=on_device.emulated())
    frame, pairs = run.frames[0]
    frame.forces[:, 1] = np.nan  # as if it had got past the reader
    before = run.potential.weights.copy()
    with pytest.raises(FilterError, match=r"bad\.h5.*: .* is not finite"):
        run.step()
    assert (run.potential.weights == before).all() and run.trainer.updates == 0
    assert (run.trainer.average.weights == before).all() and run.trainer.average.updates == 0


def test_predictions_and_jacobians_are_numpys(data):
    frame = frames(1)[0]
    choices = dict(rcut=3.2, frames=[frame], embedding=(4, 8), axis_neuron=3, fitting=(6, 6))
    make = lambda **device: kalmandp.Potential.create(
        ("A", "B"), rng=np.random.default_rng(3), **choices, **device
    )
    host, gpu = make(), make(device=on_device.emulated())
    for a, b in zip(host.evaluate(frame), gpu.evaluate(frame), strict=True):
        assert not isinstance(b, strict_arrays.ndarray)
        assert_allclose(b, a, rtol=0, atol=1e-10 * np.abs(a).max())
    c, C = np.random.default_rng(4).normal(size=(2, 16, 3)), np.eye(3)
    for name, arguments in (("energy_jacobian", ()), ("force_jacobian", (c,)), ("virial_jacobian", (C,))):
        a, b = (getattr(p, name)(frame, *arguments) for p in (host, gpu))
        assert_allclose(b, a, rtol=0, atol=1e-10 * np.abs(a).max())


def same_weights(gpu, host):
    wanted = host.potential.weights
    assert_allclose(gpu.potential.weights, wanted, rtol=0, atol=RTOL * np.abs(wanted).max())


def test_diagnostics_and_gate_see_what_they_see_on_the_processor(data, tmp_path):
    """Each update has its line, whether it was waited for or not; a gate that refuses changes nothing."""
    runs = {}
    for gate in (None, 100.0):
        for name, device in (("host", "cpu"), ("gpu", on_device.emulated())):
            input_tree = tree(data, optimizer={"gate": gate} if gate else {})
            run = Run(read_input(input_tree), tmp_path / name, device=device)
            if gate:
                judge, judged = run.trainer.gate.judge, []
                run.trainer.gate.judge = lambda found, judge=judge, judged=judged: (
                    judged.append(judge(found)) or (Refusal("force", 1.0, 1.0) if len(judged) == 2 else None)
                )
            _, _, diagnostics = run.step()
            assert all(info.step_norm > 0 for info in diagnostics.values()) or gate
            runs[gate, name] = run
        host, gpu = (runs[gate, name].diagnostics.updates for name in ("host", "gpu"))
        assert len(host) > 1 and host[:, -1].sum() == (1 if gate else 0)
        assert_allclose(gpu, host, rtol=1e-6)  # rounding, amplified from update to update
        same_weights(runs[gate, "gpu"], runs[gate, "host"])


def test_a_host_code_learns_and_saves_there(tmp_path):
    """`OnlineTrainer` with a potential on the device: as on the processor, and saved for either."""
    data, trainers = frames(4), []
    for device in ("cpu", on_device.emulated()):
        start = kalmandp.Potential.create(
            ("A", "B"), rcut=3.2, frames=data, rng=np.random.default_rng(3), embedding=(4, 8),
            axis_neuron=3, fitting=(6, 6), type_one_side=True, fitting_resnet_dt=False, device=device,
        )  # fmt: skip
        trainers.append(kalmandp.OnlineTrainer(start, rng=np.random.default_rng(1), block_size=150))
    host, gpu = trainers
    for f in data[:3]:
        a, b = host.learn(f), gpu.learn(f)
        assert (a.step, a.lam, len(a.learnt)) == (b.step, b.lam, len(b.learnt))
        for x, y in zip(a.learnt, b.learnt, strict=True):
            assert_allclose(y.info.nis, x.info.nis, rtol=1e-6)
    same_weights(gpu, host)
    with h5py.File(tmp_path / "host.h5", "w") as file:
        gpu.save(file.create_group("md"))
        back = kalmandp.OnlineTrainer.restore(file["md"], engine="numba")  # on the processor
    gpu.learn(data[3])
    back.learn(data[3])
    same_weights(gpu, back)


def test_an_array_of_the_device_can_be_the_potentials_own():
    device = on_device.emulated()
    start = kalmandp.Potential.create(
        ("A", "B"), rcut=3.2, frames=frames(1), rng=np.random.default_rng(3), embedding=(4, 8),
        axis_neuron=3, fitting=(6, 6), type_one_side=True, fitting_resnet_dt=False,
    )  # fmt: skip
    rest = {"bias_atom_e": start.bias_atom_e, **start.statistics}
    w = device.xp.asarray(start.weights)
    potential = kalmandp.Potential(start.form, w, **rest, device=device, copy=False)
    potential.weights = 2.0 * start.weights
    assert (w.get() == 2.0 * start.weights).all()
    with pytest.raises(InputError, match=r"copy=False are not .* CuPy array"):
        kalmandp.Potential(start.form, start.weights, **rest, device=device, copy=False)
