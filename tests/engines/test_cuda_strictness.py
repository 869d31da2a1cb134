"""What CuPy and CUDA would not forgive: arrays of NumPy's, numbers of another type, strided arrays."""

from __future__ import annotations

import re
from math import sqrt

import numpy as np
import on_device
import parity
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_cuda_compile import NAMES, SOURCES

import kalmandp
from kalmandp.engines.cuda.deep_potential import frames as cuda_frames
from kalmandp.engines.cuda.filter import CudaRLEKF
from kalmandp.engines.cuda.launch import parameters, source
from kalmandp.errors import InputError
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.registry import make_engine


def test_arrays_of_the_device_and_numpys_do_not_mix():
    """The stand-in refuses what CuPy refuses (`cupy/_core/core.pyx`), and has 0-d arrays where CuPy has."""
    xp, host = on_device.emulated().xp, np.ones(3)
    there = xp.asarray(host)
    for mixed in (
        lambda: there + host, lambda: host * there, lambda: there @ host, lambda: xp.sqrt(host),
        lambda: np.asarray(there), lambda: np.array([there[0], 1.0]), lambda: xp.concatenate([there, host]),
        lambda: there.__setitem__(slice(0, 3), host), lambda: xp.asarray([there, there]),
        lambda: xp.ascontiguousarray(host), lambda: np.linalg.norm(there, host), lambda: host[there > 0],
        lambda: np.maximum.reduce(there),
    ):  # fmt: skip
        with pytest.raises((TypeError, NotImplementedError, IndexError)):
            mixed()
    assert not isinstance(there, np.ndarray) and there[0].shape == there.sum().shape == ()
    part = there[1]
    part += 2.0  # a view, as every number is
    assert_array_equal(there.get(), [1.0, 3.0, 1.0])
    assert (2.0 * there).dtype == (np.float64(2.0) * there).dtype == np.float64 and sqrt(there[0]) == 1.0


def test_uploads_keep_the_order_of_columns_before_rows():
    xp = on_device.emulated().xp
    columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert not xp.asarray(columns).flags.c_contiguous and xp.asarray(columns.T).flags.c_contiguous
    assert_array_equal(xp.asarray(columns).get(), columns)


@pytest.mark.parametrize(("file", "constants"), SOURCES, ids=NAMES)
def test_every_declaration_is_understood(file, constants):
    """Each kernel of each source; and none of its text needs another encoding than ASCII."""
    text = source(file, **constants)
    known = parameters(text)
    assert len(known) == text.count("__global__ void") and all(known.values())
    assert text.isascii()
    declared = len(re.findall(r"[,(]\s*(?:const )?(?:int|double|float|REAL) \*?\w+(?=[,)])", text))
    assert declared >= sum(map(len, known.values())) > 0


def test_numbers_go_to_a_kernel_in_the_bytes_that_it_reads():
    """Whole numbers, NumPy's and bools, where a double or an int is declared."""
    device = on_device.emulated()
    xp, f = device.xp, device.functions("filter.cu")
    x, y = xp.asarray(np.arange(6.0)), xp.empty(1)
    f.sum_parts(1, 32, x, np.int64(6), True, y)
    assert y.get() == 15.0
    for wrong, says in ((x.astype(np.float32), "float32"), (xp.zeros(12)[::2], "float64, strided")):
        with pytest.raises(InputError, match=f"an array for sum_parts is {says}; expected float64"):
            f.sum_parts(1, 32, wrong, 6, 1, y)
    with pytest.raises(InputError, match="number of arguments of sum_parts is 3; expected 4"):
        f.sum_parts(1, 32, x, 6, 1)


def test_a_cutoff_that_is_a_whole_number():
    """6 is 6.0 to the kernels as well."""
    frame = kalmandp.Frame([[0, 0, 0], [0, 0, 0.74], [0, 1.5, 0.2]], [0, 0, 0], ("H",))
    choices = {"sel": [4], "embedding": (4, 8), "axis_neuron": 2, "fitting": (6, 6)}
    for rcut, smooth in ((4, 1), (np.int64(4), np.float32(1))):
        energies = [
            kalmandp.Potential.create(
                ["H"], rcut=rcut, rcut_smth=smooth, rng=np.random.default_rng(1), device=device, **choices
            )
            .evaluate(frame)
            .energy
            for device in ("cpu", on_device.emulated())
        ]
        assert_allclose(*energies, rtol=1e-12)


def test_statistics_and_pairs_in_the_order_of_columns_before_rows():
    case, frames = parity.build(1)
    make = lambda name, **device: make_engine(name, case.form, case.layout, **device)
    wanted = parity.passes(make("numpy"), case, frames, parity.seeded())
    case.statistics = {name: np.asfortranarray(value) for name, value in case.statistics.items()}
    got = parity.passes(make("cuda", device=on_device.emulated()), case, frames, parity.seeded())
    for name, value in wanted.items():
        assert_allclose(got[name], value, rtol=0, atol=1e-10 * np.abs(value).max(), err_msg=name)
    pairs = neighbour_pairs(frames[0], case.form.rcut)
    columns = pairs._replace(r_pc=np.asfortranarray(pairs.r_pc))
    made = cuda_frames.upload(on_device.emulated(), case.form, frames[0], columns)
    assert made.r_pc.flags.c_contiguous


def test_noise_in_the_order_of_columns_before_rows():
    device, rng = on_device.emulated(), np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    R, H, error = root @ root.T + np.eye(3), rng.normal(size=(3, 9)), rng.normal(size=3)
    weights = []
    for noise in (R, np.asfortranarray(R)):
        kalman = CudaRLEKF(np.zeros(9), device=device)
        kalman.enqueue(device.xp.asarray(H), device.xp.asarray(error), noise)
        kalman.synchronize()
        weights.append(kalman.weights.get())
    assert_array_equal(*weights)
