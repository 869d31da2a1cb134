"""The table of the embedding in the fused engine: its error, its step, and that neither changes a bit."""

from __future__ import annotations

import numpy as np
import pytest
from cases import PAPER, Case, random_frame
from numpy.testing import assert_allclose
from parity import build, check, passes, seeded

from kalmandp.errors import InputError
from kalmandp.potentials import network
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.table import (
    CPU_ORDER,
    CPU_STEP,
    CPU_TOLERANCE,
    ORDER,
    SMALLEST_STEP,
    STEP,
    TableGrid,
    interpolation_error,
    lagrange_coefficients,
)
from kalmandp.potentials.deep_potential.table_step import AT_WORST
from kalmandp.registry import default_engine, make_engine


def test_extending_the_table_changes_no_bit():
    case, frames = build(4)
    engine = make_engine("numba", case.form, case.layout)
    before = passes(engine, case, frames, seeded())
    engine.grid = engine.grid.covering(-7.0, 55.0)
    after = passes(engine, case, frames, seeded())
    for key, value in before.items():
        assert (value == after[key]).all(), key


def evaluate_embedding(case):
    layers = case.layout.layers(case.par.weights, f"embedding.{0}")

    def evaluate(g):
        G, caches = network.forward(layers, g)
        return G, network.tangent(layers, caches, np.ones_like(g))[0]

    return evaluate


@pytest.mark.parametrize(("order", "step", "smallest"), [(ORDER, 0.16, STEP), (CPU_ORDER, 0.16, CPU_STEP)])
def test_the_tables_error_falls_as_a_power_of_its_step(order, step, smallest):
    """The power is ``order``, one less for G′; less is asked for, as the next term is not small yet."""
    rng = np.random.default_rng(0)
    a = Architecture(("A",), 6.0, 0.5, (100,), **PAPER)
    evaluate = evaluate_embedding(Case(rng, a, random_frame(rng, 1, 4)))
    error = lambda h: interpolation_error(evaluate, TableGrid(0, 0, h, order).covering(-1, 8))
    (coarse, coarse_slope), (fine, fine_slope) = error(2 * step), error(step)
    assert coarse / fine > 2 ** (0.7 * order) and coarse_slope / fine_slope > 2 ** (0.6 * order)
    assert max(error(smallest)) < 1e-11


@pytest.mark.parametrize("order", [ORDER, CPU_ORDER])
def test_lagrange_polynomials_are_one_at_their_node_and_nothing_at_the_others(order):
    c_na, x = lagrange_coefficients(order), np.arange(order) - (order - 1) / 2
    # evaluated at the outer nodes the terms of a polynomial cancel
    size = np.abs(c_na) @ np.abs(x) ** np.arange(order)[:, None]
    assert_allclose((c_na @ x ** np.arange(order)[:, None] - np.eye(order)) / size, 0, atol=1e-15)


def test_a_sharp_net_gets_a_finer_table():
    """Large weights: the step is halved until the estimate is met, and the twin still agrees."""
    case, frames = build(1, embedding_activation="tanh")
    case.par = case.par._replace(weights=case.par.weights * 4)
    check("numba", case, frames)
    engine, env, table = tabulated(case, frames)
    assert table.pairs.inverse_step > 1.9 / CPU_STEP
    assert table.error <= CPU_TOLERANCE < 1e-3 * coarse_error(engine, case, env)


def test_a_net_too_sharp_for_its_table_is_trained_on_and_a_wild_one_refused():
    """At the smallest step the estimate may be up to AT_WORST, which is found again from any guess."""
    case, frames = build(1, embedding_activation="tanh")
    weights = case.par.weights
    case.par = case.par._replace(weights=weights * 32)
    # ∂F/∂w is off by up to some thousand times the estimate, 1e-14 here
    check("numba", case, frames, tolerance=1e-10)
    engine, env, table = tabulated(case, frames)
    assert table.pairs.inverse_step == 1 / SMALLEST_STEP and CPU_TOLERANCE < table.error <= AT_WORST
    assert engine.tabulate(case.par, env).error == table.error
    case.par = case.par._replace(weights=weights * 48)
    with pytest.raises(InputError, match=r"too sharp for a table of step 1\.95313e-05"):
        tabulated(case, frames)


def tabulated(case, frames):
    engine = make_engine("numba", case.form, case.layout)
    env = engine.environment(case.statistics, frames)
    return engine, env, engine.tabulate(case.par, env)


def coarse_error(engine, case, env):
    """The estimate for the largest step, from a table of that step."""
    return estimates(engine, case, env, 0)[0]


def estimates(engine, case, env, halvings):
    """The estimates for steps h, h/2, …, all from the nodes of the last."""
    top = engine.grid
    return engine._errors(env, top, engine._node_values(case.par, env, top.refined(halvings)), halvings)


@pytest.mark.parametrize("sharpness", [1.0, 4.0])
@pytest.mark.parametrize("guess", range(4))
def test_where_the_search_for_a_step_begins_changes_no_bit(sharpness, guess):
    """A grid that is too coarse, one that is too fine: the same table is found, by the same estimates."""
    case, frames = build(1, embedding_activation="tanh")
    case.par = case.par._replace(weights=case.par.weights * sharpness)
    wanted = passes(make_engine("numba", case.form, case.layout), case, frames, seeded())
    engine, env, table = tabulated(case, frames)
    engine._halvings = guess
    assert estimates(engine, case, env, guess) == estimates(engine, case, env, guess + 1)[: guess + 1]
    got = passes(engine, case, frames, seeded())
    for key, value in wanted.items():
        assert (value == got[key]).all(), key


def test_kinked_embeddings_are_left_to_the_reference():
    case, frames = build(1, embedding_activation="relu")
    with pytest.raises(InputError, match="activation 'relu' makes too rough"):
        make_engine("numba", case.form, case.layout)
    assert default_engine(case.form) == "numpy"
