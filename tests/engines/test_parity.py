"""Every engine against the reference, pass by pass, over the registry itself: all kinds, all engines."""

from __future__ import annotations

from functools import partial

import numba
import numpy as np
import on_device
import pytest
from cases import PAPER, Case, named, random_architecture, random_form, random_frame
from numpy.testing import assert_allclose

from kalmandp.arrays import to_numpy
from kalmandp.engines.cpu.activation import CODES, apply
from kalmandp.engines.cpu.deep_potential.environment import sum_nodes
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry.pairs import force_direction, virial_direction
from kalmandp.potentials import network
from kalmandp.potentials.activations import NAMES
from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.table import (
    CPU_ORDER,
    CPU_STEP,
    CPU_TOLERANCE,
    ORDER,
    SMALLEST_STEP,
    SMOOTH,
    STEP,
    TableGrid,
    interpolation_error,
    lagrange_coefficients,
)
from kalmandp.potentials.deep_potential.table_step import AT_WORST
from kalmandp.registry import ENGINES, KINDS, default_engine, make_engine

#: Twins agree to this, relative to the largest entry.
TOLERANCE = 1e-10
#: Kinds with the engines that they have beside the reference.
TWINS = [
    (kind, name)
    for kind, row in KINDS.items()
    for name, (device, reference) in ENGINES.items()
    if name != "numpy" and (reference or device in row.fused)
]


def passes(engine, case, frames, rng):
    """Every pass of the seam on the same input."""
    put = getattr(engine, "xp", np).asarray
    par = case.par._replace(weights=put(case.par.weights))
    env = engine.environment(case.statistics, frames)
    E_i, forward = engine.energies(par, env)
    f_pc = engine.pair_gradient(par, env, forward)
    n = env.geometry.n_atoms
    c, C, E_bar = rng.normal(size=(n, 3)), rng.normal(size=(env.geometry.n_frames, 3, 3)), rng.normal(size=n)
    c[n // 2 :] = 0.0  # pairs that do not move
    v_F, v_W = force_direction(env.geometry, put(c)), virial_direction(env.geometry, put(C))
    E_bar, none = put(E_bar), put(np.zeros(n))
    results = {
        "energies": E_i,
        "pair_gradient": f_pc,
        "forces": engine.forces(env, f_pc),
        "virial": engine.virial(env, f_pc),
        "energy_gradient": engine.energy_gradient(par, env, forward, E_bar),
        "force_gradient": engine.weight_gradient(par, env, forward, none, v_F),
        "virial_gradient": engine.weight_gradient(par, env, forward, none, v_W),
        "loss_gradient": engine.weight_gradient(par, env, forward, E_bar, v_F + v_W),
    }
    results = {name: to_numpy(value) for name, value in results.items()}
    numbers = some_numbers(n, env.geometry.n_frames, rng)
    H_mw = to_numpy(engine.rows(par, env, forward, numbers))
    assert H_mw.shape == (sum(map(len, numbers)), case.layout.size)
    ends = np.cumsum([len(part) for part in numbers])[:-1]
    kinds = ("energy", "force", "atomic energy", "virial")  # each with a scale of its own
    return results | {f"rows, {of}": H for of, H in zip(kinds, np.split(H_mw, ends), strict=True)}


def some_numbers(n_atoms: int, n_frames: int, rng) -> Numbers:
    """Numbers of every kind, of single atoms and of all axes, in no order, some of them twice."""
    atoms = np.append(rng.permutation(n_atoms)[:5], 0)
    force_k = np.stack([np.repeat(atoms, 2), rng.integers(0, 3, 2 * len(atoms))], axis=1)
    virial_k = np.array([[f, d, c] for f in range(n_frames) for d, c in ((0, 0), (1, 2), (2, 0))])
    return Numbers(np.arange(n_frames), force_k, atoms[:4], virial_k)


def build(seed, n_types=2, kind="se_e2_a", device="cpu", **choices):
    """A potential that the fused engine of a device takes, and frames of all sorts."""
    rng = np.random.default_rng(seed)
    frames = [
        random_frame(rng, n_types, 7, "tilted"),
        random_frame(rng, n_types, 5, "open"),
        Frame(np.zeros((1, 3)), [0], tuple("ABCD"[:n_types])),
        random_frame(rng, n_types, 6, "slab"),
    ]
    if kind == "se_e2_a":
        choices.setdefault("embedding_activation", SMOOTH[seed % len(SMOOTH)])
        form = random_architecture(rng, n_types, **choices)
    else:
        form = random_form(kind, rng, n_types, device, **choices)
    return Case(rng, form, frames[0]), [named(frame, form) for frame in frames]


@pytest.mark.parametrize(("kind", "name"), TWINS)
@pytest.mark.parametrize("seed", (0, 1, 2, 4, 5, 6))  # 0: of se_e2_a so short a cut-off that there is no pair
def test_engines_equal_the_reference(kind, name, seed):
    case, frames = build(seed, 1 + seed % 3, kind, ENGINES[name][0])
    if kind == "se_e2_a":
        assert (len(case.env.geometry.i_p) > 0) == (seed > 0)
    check(name, case, frames)


@pytest.mark.parametrize("name", [n for n in ENGINES if n != "numpy"])
@pytest.mark.parametrize("phi", [*NAMES, "silut:1.5"])
def test_every_activation(name, phi):
    case, frames = build(1, embedding_activation="tanh", fitting_activation=phi)
    check(name, case, frames)


@pytest.mark.parametrize("name", [n for n in ENGINES if n != "numpy"])
def test_excluded_types_and_the_papers_network(name):
    choices = {**PAPER, "exclude_types": ((0, 0),), "type_one_side": False}
    a = Architecture(("A", "B"), 4.5, 0.5, (120, 120), **choices)
    rng = np.random.default_rng(8)
    frames = [random_frame(rng, 2, 7), random_frame(rng, 2, 3, "open")]
    check(name, Case(rng, a, frames[0]), frames)


def check(name, case, frames, tolerance=TOLERANCE, **options):
    wanted = passes(make_engine("numpy", case.form, case.layout), case, frames, seeded())
    engine = make_engine(name, case.form, case.layout, **(options or on_device.options(name)))
    got = passes(engine, case, frames, seeded())
    for key, value in wanted.items():
        size = np.abs(value).max(initial=1e-300)
        assert_allclose(got[key], value, rtol=0, atol=tolerance * size, err_msg=key)


def seeded():
    return np.random.default_rng(99)


class Planted:
    """An engine whose pass ``wrong`` is off by 1e-9 of the largest entry, at that entry."""

    def __init__(self, engine, wrong: str):
        self._engine, self._wrong = engine, wrong

    def __getattr__(self, name: str):
        found = getattr(self._engine, name)
        if name != self._wrong:
            return found

        def off(*arguments):
            value = found(*arguments)
            array, rest = (value[0], value[1:]) if isinstance(value, tuple) else (value, None)
            array = array.copy()
            flat = array.reshape(-1)
            largest = int(np.abs(to_numpy(flat)).argmax())
            flat[largest] = flat[largest] * (1 + 1e-9)
            return array if rest is None else (array, *rest)

        return off


#: What is not as wanted when a pass is wrong: all that is made of it.
SEEN = {
    "energies": {"energies"},
    "pair_gradient": {"pair_gradient", "forces", "virial"},
    "forces": {"forces"},
    "virial": {"virial"},
    "energy_gradient": {"energy_gradient"},
    "weight_gradient": {"force_gradient", "virial_gradient", "loss_gradient"},
    "rows": {"rows, energy", "rows, force", "rows, atomic energy", "rows, virial"},
}


@pytest.mark.parametrize(("kind", "name"), TWINS)
def test_an_error_in_any_pass_is_seen(kind, name):
    """One number off by 1e-9 of itself, in each pass of each engine: the check fails there, not elsewhere."""
    case, frames = build(1, 2, kind, ENGINES[name][0])
    wanted = passes(make_engine("numpy", case.form, case.layout), case, frames, seeded())
    engine = make_engine(name, case.form, case.layout, **on_device.options(name))
    for wrong, names in SEEN.items():
        got = passes(Planted(engine, wrong), case, frames, seeded())
        seen = differing(got, wanted)
        assert seen and seen <= names and (wrong == "rows" or seen >= names - {"virial", "forces"}), wrong


def of_table(change, forward):
    """The forward pass with another table."""
    return forward._replace(table=change(forward.table))


#: Mistakes inside of the fused engine of se_e2_a, in what its passes read of the forward pass; who sees them.
MISTAKES = {
    "φ″ of the fitting net forgotten": (
        lambda f: f._replace(cache=f.cache._replace(d2=0 * f.cache.d2)), SEEN["weight_gradient"],
    ),
    "φ′ of the embedding taken for 1": (
        partial(of_table, lambda t: t._replace(cache=t.cache._replace(d1=0 * t.cache.d1 + 1))),
        SEEN["energy_gradient"] | SEEN["weight_gradient"],
    ),
    "slopes of the table's polynomials halved": (
        partial(of_table, lambda t: t._replace(pairs=t.pairs._replace(dc_an=t.pairs.dc_an / 2))),
        SEEN["pair_gradient"] | SEEN["weight_gradient"],
    ),
    "another T": (
        lambda f: f._replace(T_ikm=1.001 * f.T_ikm),
        SEEN["pair_gradient"] | SEEN["energy_gradient"] | SEEN["weight_gradient"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_inside_of_the_fused_engine_is_seen(mistake):
    """The fused tangent above all: what it forgets, and nothing else, is not as wanted."""
    tanh = dict(embedding_activation="tanh", fitting_activation="tanh")
    case, frames = build(1, embedding=(3, 6), fitting=(6, 6), **tanh)
    wanted = passes(make_engine("numpy", case.form, case.layout), case, frames, seeded())
    engine = make_engine("numba", case.form, case.layout)
    right, (change, names) = engine.energies, MISTAKES[mistake]

    def energies(par, env):
        E_i, forward = right(par, env)
        return E_i, change(forward)

    engine.energies = energies
    seen = {name for name in differing(passes(engine, case, frames, seeded()), wanted)}
    assert {name for name in seen if not name.startswith("rows")} == names
    # rows of energies are energy gradients, rows of forces and virials are tangents
    assert ("rows, energy" in seen) == ("energy_gradient" in names)
    assert ("rows, force" in seen) == ("rows, virial" in seen) == ("force_gradient" in names)


def differing(got: dict, wanted: dict) -> set[str]:
    """The names of what is not as wanted."""
    size = lambda value: np.abs(value).max(initial=1e-300)
    return {name for name in wanted if size(got[name] - wanted[name]) > TOLERANCE * size(wanted[name])}


def test_a_forgotten_padding_is_seen():
    """The parity check fails if the fused engine forgets the padding."""
    case, frames = build(1)
    engine = make_engine("numba", case.form, case.layout)
    forget = engine.environment

    def environment(statistics, frames, pairs=None):
        env = forget(statistics, frames, pairs)
        empty = env._replace(count_iv=0 * env.count_iv)
        return env._replace(nodes=sum_nodes(case.form, engine._team, empty, env.nodes.step))

    engine.environment = environment
    wanted = passes(make_engine("numpy", case.form, case.layout), case, frames, seeded())
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
            engine = make_engine("numba", case.form, case.layout)
            results.append(passes(engine, case, frames, seeded()))
    finally:
        numba.set_num_threads(before)
    for key, value in results[0].items():
        assert (value == results[1][key]).all(), key


def test_rows_of_force_components_are_the_same_bits_for_any_number_of_threads_and_beside_any_others():
    case, frames = build(2)
    every_k = np.stack(np.nonzero(np.ones((7, 3))), axis=1)
    nothing = np.zeros(0, int)
    numbers = Numbers(nothing, every_k, nothing, np.zeros((0, 3), int))
    H_mw = []
    for threads in (1, 2, 3):
        engine = make_engine("numba", case.form, case.layout, threads=threads)
        run = engine._team.run
        engine._team.run = lambda kernel, work, *args, run=run: run(kernel, 1e12, *args)
        env = engine.environment(case.statistics, frames)
        _, forward = engine.energies(case.par, env)
        H_mw.append(engine.rows(case.par, env, forward, numbers))
        backwards = numbers._replace(force_k=every_k[::-1])
        H_mw.append(engine.rows(case.par, env, forward, backwards)[::-1])
    assert np.abs(H_mw[0]).max() > 0.0
    assert all((H == H_mw[0]).all() for H in H_mw)


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
    case.par = case.par._replace(weights=weights * 16)
    # ∂F/∂w is off by up to some thousand times the estimate, 1e-10 here
    check("numba", case, frames, tolerance=1e-6)
    engine, env, table = tabulated(case, frames)
    assert table.pairs.inverse_step == 1 / SMALLEST_STEP and CPU_TOLERANCE < table.error <= AT_WORST
    assert engine.tabulate(case.par, env).error == table.error
    case.par = case.par._replace(weights=weights * 24)
    with pytest.raises(InputError, match=r"too sharp for a table of step 0\.0003125"):
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


def test_twins_of_activations_have_the_same_names():
    assert set(CODES) == set(NAMES)


@numba.njit
def tanh_of_rows(rows, phi, d1, d2):
    for r in range(len(rows)):
        apply(0, 0.0, False, rows[r], phi[r], d1[r], d2[r])


def test_tanh_is_good_to_the_last_places_for_vectors_and_what_is_left_over():
    """Rows of 25 numbers are three vectors and one number more; both have the ends of the scale in them."""
    ends = [0.0, -0.0, 1e-300, -1e-9, 1e-4, 19.9, 20.1, -700.0, np.inf, -np.inf]
    x = np.concatenate([ends, np.random.default_rng(0).normal(size=615) * 3])
    for turn in range(25):  # every number in every place
        rows = np.roll(x, turn).reshape(25, 25)
        phi, d1, d2 = np.empty((3, 25, 25))
        tanh_of_rows(rows, phi, d1, d2)
        t = np.tanh(rows)
        assert_allclose(phi, t, rtol=1e-15)  # 3 units in the last place are at most 7e-16
        # 1 − t² cancels: what is left of a unit in the last place of t
        assert_allclose(d1, 1 - t * t, rtol=0, atol=1e-15)
        assert_allclose(d2, -2 * t * (1 - t * t), rtol=0, atol=2e-15)
    rows[:] = np.nan
    tanh_of_rows(rows, phi, d1, d2)
    assert np.isnan([phi, d1, d2]).all()


def test_an_unknown_engine_is_an_error():
    case, _ = build(0)
    with pytest.raises(InputError, match="engine is 'fortran'; expected one of"):
        make_engine("fortran", case.form, case.layout)
