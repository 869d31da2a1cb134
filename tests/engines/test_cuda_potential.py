"""What the parity tests do not ask of the CUDA engine: races, batches, the table's step, what waits."""

from __future__ import annotations

import dataclasses

import numpy as np
import on_device
import parity
import pytest
from cuda_emulator import BACKWARD, SHUFFLED, strict_arrays
from numpy.testing import assert_allclose

from kalmandp.engines.cuda.deep_potential.frames import device_frames, from_arrays, joined
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.registry import make_engine


def engine_of(case, device=None):
    return make_engine("cuda", case.form, case.layout, device=device or on_device.emulated())


@pytest.mark.parametrize("order", [BACKWARD, SHUFFLED])
def test_no_race_between_threads_or_blocks(order):
    """Blocks, and threads between barriers, in another order: the same bits of every pass."""
    case, frames = parity.build(5)
    devices = on_device.emulated(), on_device.emulated(order=order)
    one, two = (parity.passes(engine_of(case, d), case, frames, parity.seeded()) for d in devices)
    for name in one:
        assert (one[name] == two[name]).all(), name


def forgets_the_padding(engine):
    make = engine.build
    engine.build = lambda *arguments: (env := make(*arguments))._replace(count_iv=0 * env.count_iv)


def forgets_the_last_chunk(engine):
    make = engine.places
    engine.places = lambda *arguments: make(*arguments)._replace(n_chunks=1)


@pytest.mark.parametrize("mistake", [forgets_the_padding, forgets_the_last_chunk])
def test_planted_mistakes_are_seen(mistake):
    case, frames = parity.build(1)
    engine = engine_of(case)
    mistake(engine)
    wanted = parity.passes(
        make_engine("numpy", case.form, case.layout), case, frames, parity.seeded()
    )
    got = parity.passes(engine, case, frames, parity.seeded())
    wrong = [name for name in wanted if not np.allclose(got[name], wanted[name], rtol=0, atol=1e-8)]
    assert wrong


def sharp(seed):
    case, frames = parity.build(seed, embedding_activation="tanh")
    case.par = case.par._replace(weights=case.par.weights * 2.5)
    return case, frames


def test_a_sharp_net_gets_a_finer_table():
    case, frames = sharp(1)
    device = on_device.emulated()
    parity.check("cuda", case, frames, device=device)
    engine = engine_of(case, device)
    env = engine.environment(case.statistics, frames)
    par = case.par._replace(weights=device.xp.asarray(case.par.weights))
    _, forward = engine.energies(par, env)
    assert forward.places.grid.step < engine.step


@pytest.mark.parametrize("guess", [1, 4])
def test_where_the_search_for_a_step_begins_changes_no_bit(guess):
    """At a grid that is too coarse, and at one that is too fine: estimates by strides are the same."""
    case, frames = sharp(1)
    device = on_device.emulated()
    wanted, engine = (engine_of(case, device) for _ in range(2))
    engine._halvings = guess
    wanted, got = (parity.passes(e, case, frames, parity.seeded()) for e in (wanted, engine))
    assert 1 < engine._halvings < 4
    for name in wanted:
        assert (got[name] == wanted[name]).all(), name


@pytest.mark.parametrize("build", [parity.build, sharp])
def test_the_host_waits_once_for_an_environment_and_an_array_of_weights(build):
    """And the nets run once, however fine the table: the step found before is the first that is tried."""
    case, frames = build(1)
    device = on_device.emulated()
    engine = engine_of(case, device)
    par = case.par._replace(weights=engine.xp.asarray(case.par.weights))
    engine.energies(par, engine.environment(case.statistics, frames[:1]))
    env = engine.environment(case.statistics, frames)
    strict_arrays.waits.clear()
    device.launched.clear()
    engine.energies(par, env)
    assert len(strict_arrays.waits) == 1
    layers = len(engine._embedding.forms) + len(engine._fitting.forms)
    assert device.launched.count("layer_forward") == layers
    par.weights[...] *= 1.001  # a filter's update, in place
    E_i, _ = engine.energies(par, env)
    assert len(strict_arrays.waits) == 1
    other = par._replace(weights=par.weights.copy())
    again, _ = engine.energies(other, env)
    assert len(strict_arrays.waits) == 2
    assert_allclose(again.get(), E_i.get(), rtol=1e-13)


def test_frames_side_by_side_equal_frames_alone():
    """Shifts of atoms, pairs, frames; a frame without pairs, and one of a single type, among them."""
    case, frames = parity.build(2, n_types=2)
    frames = [*frames, Frame(np.eye(3) * 1.7, [1, 1, 1], ("A", "B"))]
    engine = engine_of(case)
    par = case.par._replace(weights=engine.xp.asarray(case.par.weights))
    results = []
    for some in (frames, *([f] for f in frames)):
        env = engine.environment(case.statistics, some)
        E_i, forward = engine.energies(par, env)
        f_pc = engine.pair_gradient(par, env, forward)
        results.append((E_i.get(), engine.forces(env, f_pc).get(), engine.virial(env, f_pc).get()))
    whole, alone = results[0], [np.concatenate(parts) for parts in zip(*results[1:], strict=True)]
    for a, b in zip(whole, alone, strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-11 * max(np.abs(b).max(), 1.0))


def test_many_frames_are_put_side_by_side_with_as_many_operations_as_few(monkeypatch):
    case, frames = parity.build(2, n_types=2)
    engine = engine_of(case)
    counted = []
    for name in ("concatenate", "searchsorted", "arange", "empty"):
        inner = getattr(engine.xp, name)
        count = lambda *a, inner=inner, name=name, **k: counted.append(name) or inner(*a, **k)
        monkeypatch.setattr(engine.xp, name, count, raising=False)
    numbers = []
    for copies in (1, 5):
        parts = [engine.upload(f) for f in frames] * copies
        counted.clear()
        strict_arrays.uploads.clear()
        joined(engine.xp, 2, parts)
        numbers.append((len(counted), len(strict_arrays.uploads)))
    assert numbers[0] == numbers[1]


def test_frames_stay_on_the_device_until_there_is_no_room():
    case, frames = parity.build(1)
    engine = engine_of(case)
    one = engine.upload(frames[0]).nbytes
    kept = device_frames(frames, engine, n_bytes=one)
    first = kept[0][1]
    assert kept[0][1] is first
    for k in range(len(frames)):
        _ = kept[k]
    assert kept.used <= one and kept[0][1] is not first


def test_arrays_of_a_host_code_stay_on_the_device():
    """A host that has types and pairs there: same results, and nothing is uploaded but two numbers."""
    case, frames = parity.build(1)
    engine = engine_of(case)
    xp, pairs = engine.xp, neighbour_pairs(frames[0], case.form.rcut)
    arrays = [xp.asarray(np.asarray(a, np.int32)) for a in (frames[0].types, pairs.i_p, pairs.j_p)]
    r_pc = xp.asarray(pairs.r_pc)
    engine.environment(case.statistics, frames[0])
    strict_arrays.uploads.clear()
    env = engine.build(
        *case.statistics.values(), from_arrays(engine.device, case.form.n_types, *arrays, r_pc)
    )
    assert sum(strict_arrays.uploads) == 8
    par = case.par._replace(weights=xp.asarray(case.par.weights))
    E_i, _ = engine.energies(par, env)
    wanted, _ = engine.energies(par, engine.environment(case.statistics, frames[0]))
    assert (E_i.get() == wanted.get()).all()


def test_too_many_neighbours_and_rough_embeddings_are_refused():
    case, frames = parity.build(1)
    few = dataclasses.replace(case.form, sel=(1, 1))
    engine = make_engine("cuda", few, case.layout, device=on_device.emulated())
    with pytest.raises(InputError, match="sel allows 1"):
        engine.environment(case.statistics, frames)
    rough, _ = parity.build(1, embedding_activation="relu")
    with pytest.raises(InputError, match="or the engine 'cupy'"):
        engine_of(rough)
