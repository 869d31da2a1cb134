"""Every engine against the reference, pass by pass, over the registry itself: all kinds, all engines."""

from __future__ import annotations

from functools import partial

import numba
import numpy as np
import on_device
import pytest
from cases import PAPER, Case, random_frame
from numpy.testing import assert_allclose
from parity import TOLERANCE, build, check, passes, seeded

from kalmandp.arrays import to_numpy
from kalmandp.engines.cpu.activation import CODES, apply
from kalmandp.engines.cpu.deep_potential.environment import sum_nodes
from kalmandp.errors import InputError
from kalmandp.potentials.activations import NAMES
from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.registry import ENGINES, KINDS, make_engine

#: Kinds with the engines that they have beside the reference.
TWINS = [
    (kind, name)
    for kind, row in KINDS.items()
    for name, (device, reference) in ENGINES.items()
    if name != "numpy" and (reference or device in row.fused)
]


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


@pytest.mark.parametrize(
    "choices",
    [
        {"embedding": (25, 25, 25), "axis_neuron": 25, "fitting": (20, 20, 20), "fitting_resnet_dt": True},
        {"embedding": (7, 14), "axis_neuron": 12, "fitting": (3, 20, 17), "type_one_side": False},
    ],
)
def test_rows_of_force_components_of_wide_and_narrow_layers(choices):
    """Layers of several vectors and remainders, of too few rows for a block, with time steps and skips."""
    a = Architecture(("A", "B"), 4.5, 0.5, (120, 120), **{**PAPER, **choices})
    rng = np.random.default_rng(9)
    check("numba", Case(rng, a, frame := random_frame(rng, 2, 7)), [frame])


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
