"""Every fused engine against the reference, pass by pass, over the registry itself."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from cases import PAPER, Case, random_architecture, random_frame
from numpy.testing import assert_allclose

from kalmandp.engines import POTENTIAL_ENGINES, default_engine, potential_engine
from kalmandp.engines.cpu_activation import CODES
from kalmandp.engines.table import SMOOTH, TableGrid, interpolation_error
from kalmandp.engines.table import TOLERANCE as TABLE_TOLERANCE
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.potential import jacobian, network
from kalmandp.potential.activations import NAMES
from kalmandp.potential.architecture import Architecture

#: Twins agree to this, relative to the largest entry.
TOLERANCE = 1e-10


def passes(engine, case, frames, rng):
    """Every pass of the seam on the same input."""
    env = engine.environment(case.davg, case.dstd, frames)
    E_i, forward = engine.energies(case.par, env)
    f_pc = engine.pair_gradient(case.par, env, forward)
    n = env.n_atoms
    c, C, E_bar = rng.normal(size=(n, 3)), rng.normal(size=(env.n_frames, 3, 3)), rng.normal(size=n)
    c[n // 2 :] = 0.0  # pairs that do not move
    v_F = jacobian.force_direction(env, c)
    v_W = jacobian.virial_direction(env, C)
    return {
        "energies": E_i,
        "pair_gradient": f_pc,
        "forces": engine.forces(env, f_pc),
        "virial": engine.virial(env, f_pc),
        "energy_gradient": engine.energy_gradient(case.par, env, forward, E_bar),
        "force_gradient": engine.weight_gradient(case.par, env, forward, np.zeros(n), v_F),
        "virial_gradient": engine.weight_gradient(case.par, env, forward, np.zeros(n), v_W),
        "loss_gradient": engine.weight_gradient(case.par, env, forward, E_bar, v_F + v_W),
    }


def build(seed, n_types=2, **choices):
    rng = np.random.default_rng(seed)
    frames = [
        random_frame(rng, n_types, 7, "tilted"),
        random_frame(rng, n_types, 5, "open"),
        Frame(np.zeros((1, 3)), [0], tuple("ABCD"[:n_types])),
        random_frame(rng, n_types, 6, "slab"),
    ]
    choices.setdefault("embedding_activation", SMOOTH[seed % len(SMOOTH)])
    a = random_architecture(rng, n_types, **choices)
    return Case(rng, a, frames[0]), frames


@pytest.mark.parametrize("name", [n for n in POTENTIAL_ENGINES if n != "numpy"])
@pytest.mark.parametrize("seed", range(6))
def test_engines_equal_the_reference(name, seed):
    case, frames = build(seed, n_types=1 + seed % 3)
    check(name, case, frames)


@pytest.mark.parametrize("name", [n for n in POTENTIAL_ENGINES if n != "numpy"])
@pytest.mark.parametrize("phi", [*NAMES, "silut:1.5"])
def test_every_activation(name, phi):
    case, frames = build(3, embedding_activation="tanh", fitting_activation=phi)
    check(name, case, frames)


@pytest.mark.parametrize("name", [n for n in POTENTIAL_ENGINES if n != "numpy"])
def test_excluded_types_and_the_papers_network(name):
    a = Architecture(("A", "B"), 4.5, 0.5, (120, 120), exclude_types=((0, 0),), type_one_side=False, **PAPER)
    rng = np.random.default_rng(8)
    frames = [random_frame(rng, 2, 7), random_frame(rng, 2, 3, "open")]
    check(name, Case(rng, a, frames[0]), frames)


def check(name, case, frames):
    wanted = passes(potential_engine("numpy", case.architecture, case.layout), case, frames, seeded())
    engine = potential_engine(name, case.architecture, case.layout)
    got = passes(engine, case, frames, seeded())
    for key, value in wanted.items():
        size = np.abs(value).max(initial=1e-300)
        assert_allclose(got[key], value, rtol=0, atol=TOLERANCE * size, err_msg=key)


def seeded():
    return np.random.default_rng(99)


def test_a_planted_error_is_seen():
    """The parity check fails if the fused engine forgets the padding."""
    case, frames = build(1)
    engine = potential_engine("numba", case.architecture, case.layout)
    forget = engine.environment

    def environment(davg, dstd, frames, pairs=None):
        env = forget(davg, dstd, frames, pairs)
        return env._replace(nodes=engine._nodes(env._replace(count_iv=0 * env.count_iv), env.nodes.step))

    engine.environment = environment
    wanted = passes(potential_engine("numpy", case.architecture, case.layout), case, frames, seeded())
    got = passes(engine, case, frames, seeded())
    assert np.abs(got["energies"] - wanted["energies"]).max() > 1e-6


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only: nothing to compare")
def test_the_same_bits_for_any_number_of_threads():
    case, frames = build(2)
    before = numba.get_num_threads()
    try:
        results = []
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(threads)
            engine = potential_engine("numba", case.architecture, case.layout)
            results.append(passes(engine, case, frames, seeded()))
    finally:
        numba.set_num_threads(before)
    for key, value in results[0].items():
        assert (value == results[1][key]).all(), key


def test_extending_the_table_changes_no_bit():
    case, frames = build(4)
    engine = potential_engine("numba", case.architecture, case.layout)
    before = passes(engine, case, frames, seeded())
    engine.grid = engine.grid.covering(-7.0, 55.0)
    after = passes(engine, case, frames, seeded())
    for key, value in before.items():
        assert (value == after[key]).all(), key


def test_the_tables_error_falls_as_the_eighth_power_of_its_step():
    rng = np.random.default_rng(0)
    a = Architecture(("A",), 6.0, 0.5, (100,), **PAPER)
    case = Case(rng, a, random_frame(rng, 1, 4))
    layers = case.layout.embedding(case.par.weights, 0)

    def evaluate(g):
        G, caches = network.forward(layers, g)
        return G, network.tangent(layers, caches, np.ones_like(g))[0]

    coarse, coarse_slope = interpolation_error(evaluate, TableGrid(0, 0, 0.32).covering(-1, 8))
    fine, fine_slope = interpolation_error(evaluate, TableGrid(0, 0, 0.16).covering(-1, 8))
    assert coarse / fine > 2**6 and coarse_slope / fine_slope > 2**5
    assert max(interpolation_error(evaluate, TableGrid(0, 0).covering(-1, 8))) < 1e-11


def test_a_sharp_net_gets_a_finer_table():
    """Large weights: the step is halved until the estimate is met, and the twin still agrees."""
    case, frames = build(1, embedding_activation="tanh")
    case.par = case.par._replace(weights=case.par.weights * 2.5)
    check("numba", case, frames)
    engine = potential_engine("numba", case.architecture, case.layout)
    env = engine.environment(case.davg, case.dstd, frames)
    table = engine.tabulate(case.par, env)
    assert table.grid.step < engine.grid.step
    coarse = engine._table(case.par, env, engine.grid, engine._nodes(env, engine.grid.step))
    assert coarse.error > TABLE_TOLERANCE >= table.error


def test_kinked_embeddings_are_left_to_the_reference():
    case, frames = build(1, embedding_activation="relu")
    with pytest.raises(InputError, match="activation 'relu' makes too rough"):
        potential_engine("numba", case.architecture, case.layout)
    assert default_engine(case.architecture) == "numpy"


def test_twins_of_activations_have_the_same_names():
    assert set(CODES) == set(NAMES)


def test_an_unknown_engine_is_an_error():
    case, _ = build(0)
    with pytest.raises(InputError, match="engine is 'fortran'; expected one of"):
        potential_engine("fortran", case.architecture, case.layout)
