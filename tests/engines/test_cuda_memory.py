"""The memory of a GPU is planned: what cannot fit is refused before it is allocated, with what would fit."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import on_device
import parity
import pytest
from cases import Case
from cuda_emulator import strict_arrays
from systems import frames, settings

import kalmandp
from kalmandp.commands.plan import _text
from kalmandp.engines.cuda.covariance import CudaCovariance
from kalmandp.engines.cuda.deep_potential.environment import pass_bytes
from kalmandp.engines.cuda.tiling import panels
from kalmandp.errors import InputError
from kalmandp.kalman import Blocks
from kalmandp.registry import make_engine
from kalmandp.training.config.inputs import read_input
from kalmandp.training.config.presets import PRESETS
from kalmandp.training.loop import Run
from kalmandp.training.placement.device import Gpu
from kalmandp.training.placement.plan import make_plan


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "morse.h5"
    kalmandp.Dataset.write(path, frames(4))
    return path


def test_a_run_whose_covariance_cannot_fit_ends_before_it_is_made(data, tmp_path):
    input_tree = settings(data, optimizer={"block_size": 700})
    device, says = (
        on_device.emulated(free=4_500_000),
        r"P of 1,706 weights needs .* that fits: (\{.*\}|.*?) \(",
    )
    strict_arrays.allocated.clear()
    with pytest.raises(InputError, match=says) as caught:
        Run(read_input(input_tree), tmp_path, device=device)
    assert max(strict_arrays.allocated, default=0) < 500_000
    input_tree["optimizer"] |= json.loads("{" + re.search(says, str(caught.value))[1] + "}")
    Run(read_input(input_tree), tmp_path, device=device)


@pytest.mark.parametrize("measurement", ["signed", "paired", "joint", "matrix"])
def test_what_is_planned_is_what_is_taken(data, tmp_path, measurement):
    """P with the work space that the measurement needs; H and K beside it."""
    input_tree = settings(data, optimizer={"measurement": measurement, "n_groups": 2, "group_size": 2})
    run = Run(read_input(input_tree), tmp_path, device=on_device.emulated())
    run.step()
    choices, blocks = run.trainer.choices, run.trainer.filter.blocks
    planned, taken = Gpu(run.device.device).memory(blocks, choices), run.trainer.filter.covariance.nbytes
    largest = {"signed": 1, "paired": 2, "joint": 3, "matrix": 13}[measurement]
    assert planned - taken == 16 * largest * blocks.n_weights


def test_work_space_of_each_panel_is_counted():
    blocks = Blocks((300, 70))
    for m in (1, 3, 13, 40):
        covariance = CudaCovariance(blocks, device=on_device.emulated())
        covariance.project(covariance.device.xp.asarray(np.ones((m, 370))))
        assert covariance.nbytes == CudaCovariance.needs(blocks, m=m), panels(m)


def test_frames_take_what_the_covariance_has_left(data, tmp_path):
    """The room for frames is measured when P is there; otherwise the two would add up to too much."""
    device = on_device.emulated(free=8_000_000)
    free, made = device.free_bytes, []
    device.free_bytes = lambda: 8_000_000 - 7_000_000 * bool(made)
    make = Gpu.filter
    device_filter = lambda self, *a: made.append(make(self, *a)) or made[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gpu, "filter", device_filter)
        run = Run(read_input(settings(data)), tmp_path, device=device)
    assert free() == 8_000_000 and run.frames.budget == 250_000


def test_the_plan_says_what_goes_to_the_device(data):
    input_tree = read_input(settings(data))
    plan = make_plan(input_tree, timing=False, device=on_device.emulated(free=10**9))
    # sel changes neither P nor what a frame takes
    a = kalmandp.Architecture(plan.type_map, 4.2, 1.0, (99, 99))
    engine = make_engine("cuda", a, a.layout(), device=on_device.emulated())
    assert plan.memory == Gpu(engine.device).memory(Blocks(plan.block_sizes), PRESETS["default"])
    one = engine.upload(frames(1)[0]).nbytes
    assert 0.9 * 4 * one < plan.frames_memory < 1.1 * 4 * one
    assert "all of them stay there" in _text(plan)
    few = plan._replace(memory_free=plan.memory + 2 * plan.frames_memory)
    assert "50% of them stay there" in _text(few)
    assert "frames on the GPU" not in _text(make_plan(input_tree, timing=False, device="cpu"))


def test_a_batch_that_cannot_fit_is_refused_before_its_first_array():
    case, some = parity.build(1)
    device = on_device.emulated()
    engine = make_engine("cuda", case.form, case.layout, device=device)
    pairs = [engine.upload(f) for f in some]
    device.free_bytes = lambda: 20_000
    with pytest.raises(
        InputError, match=r"a batch of 19 atoms and .* pairs takes .* smaller .*batch_size helps"
    ):
        strict_arrays.allocated.clear()
        engine.environment(case.statistics, some, pairs)
    assert max(strict_arrays.allocated) < 20_000


def test_the_passes_take_no_more_than_is_planned():
    """All arrays of all passes together, on a frame of many atoms; the nodes of the table apart."""
    case, _ = parity.build(1, n_types=2)
    a = dataclasses.replace(case.form, embedding=(8, 16), axis_neuron=8, fitting=(24, 24))
    sites = np.stack(np.meshgrid(*[np.arange(5)] * 3), -1).reshape(-1, 3)
    frame = kalmandp.Frame(2.0 * sites, np.arange(125) % 2, a.type_map, cell=10.0 * np.eye(3))
    many = Case(np.random.default_rng(0), a, frame)
    engine = make_engine("cuda", a, many.layout, device=on_device.emulated())
    xp, par = engine.xp, many.par._replace(weights=engine.xp.asarray(many.par.weights))
    strict_arrays.allocated.clear()
    env = engine.environment(many.statistics, frame)
    _, forward = engine.energies(par, env)
    v_pc = engine.pair_gradient(par, env, forward)
    engine.weight_gradient(par, env, forward, xp.zeros(125), v_pc)
    nodes = 8 * a.n_embeddings * forward.places.n_nodes * 40 * sum(a.embedding)
    assert sum(strict_arrays.allocated) < pass_bytes(a, 125, len(env.geometry.i_p)) + nodes
