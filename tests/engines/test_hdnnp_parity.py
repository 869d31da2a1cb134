"""The fused engine of an HDNNP against the reference, pass by pass."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hdnnp_cases import Case, frame_of, judges, random_case, random_form, random_frame, unpack
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kalmandp.engines.cpu.hdnnp.engine import NumbaEngine
from kalmandp.engines.cpu.hdnnp.moments import FEW
from kalmandp.engines.cpu.hdnnp.tables import symmetry_tables
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.geometry.pairs import force_direction, virial_direction
from kalmandp.potentials import atomic
from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.hdnnp.environment import symmetry_functions
from kalmandp.potentials.hdnnp.files import read_folder
from kalmandp.potentials.hdnnp.symmetry_functions import SymmetryFunction

#: Twins agree to this, relative to the largest entry.
TOLERANCE = 1e-11


def some_numbers(rng, geometry) -> Numbers:
    n, f = geometry.n_atoms, geometry.n_frames
    draw = lambda m, *tops: np.stack([rng.integers(0, top, m) for top in tops], axis=1)
    return Numbers(rng.integers(0, f, 2), draw(5, n, 3), rng.integers(0, n, 2), draw(4, f, 3, 3))


def compare(case: Case, frames, rng, engine=None):
    engine = NumbaEngine(case.form, case.layout) if engine is None else engine
    par, ref = case.par, case.env
    env = engine.environment(case.statistics, frames)
    E_i, cache = engine.energies(par, env)
    once_pc = engine.pair_gradient(par, env, cache, once=True).copy()
    assert not env.derived
    f_pc = engine.pair_gradient(par, env, cache)
    E_ref, forward = atomic.energies(par, ref)
    f_ref = atomic.pair_gradient(par, ref, forward)
    g = case.geometry
    c, C, E_bar = (
        rng.normal(size=(g.n_atoms, 3)),
        rng.normal(size=(g.n_frames, 3, 3)),
        rng.normal(size=g.n_atoms),
    )
    c[g.n_atoms // 2 :] = 0.0  # pairs that do not move
    v = {"force": force_direction(g, c), "virial": virial_direction(g, C)}
    none, numbers = np.zeros(g.n_atoms), some_numbers(rng, g)
    G_id, _ = symmetry_functions(case.form, g, derivatives=False)
    results = {
        "G": (env.functions.G_id, G_id),
        "q": (env.q_id, ref.q_id),
        "energies": (E_i, E_ref),
        "pair_gradient": (f_pc, f_ref),
        "pair_gradient, once": (once_pc, f_ref),
        "forces": (engine.forces(env, f_pc), case.forces()),
        "virial": (engine.virial(env, f_pc), case.virial()),
        "energy_gradient": (engine.energy_gradient(par, env, cache, E_bar), case.energy_gradient(E_bar)),
        "loss": (
            engine.weight_gradient(par, env, cache, E_bar, sum(v.values())),
            case.weight_gradient(E_bar, sum(v.values())),
        ),
        "rows": (engine.rows(par, env, cache, numbers), atomic.rows(par, ref, forward, numbers)),
        "strains": (
            env.derivatives.strain_ikd.transpose(1, 0, 2) * env.pairs.factor_td[g.types_i],
            case.descriptor.strain_directions(ref),
        ),
    }
    for name, v_pc in v.items():
        results[name] = (
            engine.weight_gradient(par, env, cache, none, v_pc), case.weight_gradient(none, v_pc)
        )  # fmt: skip
    # rounding of sums that cancel, and of polynomials whose coefficients reach 540
    inner = max((np.abs(x.dq_bnc).max() for x in ref.classes), default=0.0)
    for name, (got, wanted) in results.items():
        size = max(np.abs(wanted).max(initial=0.0), 1e-2 * inner, 1.0)
        assert_allclose(got, wanted, rtol=0, atol=TOLERANCE * size, err_msg=name)


@pytest.mark.parametrize("name", sorted(judges("models")))
def test_the_judges_models(name, tmp_path):
    judge = judges("models")[name]
    model = read_folder(unpack(judge["files"], tmp_path), "metal")
    frames = [frame_of(s, model.form.type_map) for s in judge["values"]["structures"]]
    compare(Case(*model[:4], frames), frames, np.random.default_rng(1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_random_forms(seed, n_types):
    rng = np.random.default_rng(seed)
    form = random_form(rng, n_types)
    if seed % 4 == 0:  # a function listed twice is two inputs
        twice = [[*rows, rows[0]] for rows in form.functions]
        form = type(form)(**{**form.to_dict(), "functions": twice})
    kinds = ("tilted", "slab", "open")
    frames = [random_frame(rng, form, int(rng.integers(1, 7)), kinds[k]) for k in rng.integers(0, 3, 2)]
    compare(random_case(rng, form, frames), frames, rng)


ANGULAR = [
    SymmetryFunction(9, ("H", "H"), 4.0, eta=0.1, rs=0.5, zeta=4.0, lam=-1.0),
    SymmetryFunction(9, ("H", "H"), 4.0, eta=0.1, rs=0.5, zeta=1.0, lam=0.5),
    SymmetryFunction(9, ("H", "H"), 3.5, eta=0.2, zeta=3.0),
    SymmetryFunction(9, ("H", "O"), 4.0, eta=0.1, rs=0.5, zeta=2.0, lam=-1.0),
    SymmetryFunction(9, ("O", "O"), 4.0, eta=0.2, zeta=4.0),
    SymmetryFunction(9, ("O", "O"), 4.0, eta=0.2, zeta=5.0),
    SymmetryFunction(9, ("H", "O"), 4.0, eta=0.1, rs=0.5, zeta=1.5),
    SymmetryFunction(3, ("H", "H"), 4.0, eta=0.1, zeta=4.0, lam=-1.0),
    SymmetryFunction(22, ("H", "O"), 3.0, left=30.0, right=150.0),
]


@pytest.mark.parametrize("n_atoms", [2, 6, 27])
def test_moments_and_triples_side_by_side(n_atoms):
    """Functions of type 9 by triples and, of a crowd, by moments, beside functions that need triples."""
    rng = np.random.default_rng(n_atoms)
    form = random_form(
        rng, 2, type_map=("H", "O"), functions=(ANGULAR, ANGULAR[::-1]), cutoff_alpha=0.0, length_unit=1.0,
        activations=("tanh", "linear"), hidden=(5,), scaling="none",
    )  # fmt: skip
    frames = [random_frame(rng, form, n_atoms) for _ in range(2)]
    case = random_case(rng, form, frames, scale=1e-2)
    tables, g = symmetry_tables(form), case.geometry
    by_triples, all_of_them = tables.n_a[[0, 1, 3]].T
    assert (by_triples > 0).any() and (by_triples < all_of_them).all()
    crowd = [np.bincount(g.i_p[g.types_i[g.j_p] == s], minlength=g.n_atoms).max() >= FEW for s in (0, 1)]
    assert all(crowd) == (n_atoms == 27) or n_atoms == 6
    compare(case, frames, rng)


def test_a_pair_at_the_cutoff_and_atoms_in_line():
    """A crystal, whose atoms are in line and at the cutoff: nothing becomes 0/0."""
    functions = [f._replace(rc=3.0) for f in ANGULAR] + [SymmetryFunction(2, ("H",), 3.0, eta=0.5)]
    rng = np.random.default_rng(0)
    form = random_form(rng, 2, type_map=("H", "O"), functions=(functions, functions), length_unit=1.0)
    sites = 1.5 * np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3)
    frame = Frame(sites, np.arange(8) % 2, form.type_map, cell=3.0 * np.eye(3))
    compare(random_case(rng, form, [frame]), [frame], rng)


def water_like(rng):
    form = random_form(
        rng, 2, hidden=(6, 5), activations=("tanh", "tanh", "linear"), cutoff_kind=2, scaling="sigma",
        scale_min=0.0, scale_max=1.0,
    )  # fmt: skip
    frames = [random_frame(rng, form, 27) for _ in range(3)]
    return random_case(rng, form, frames), frames


def test_kept_functions_are_those_of_the_frames():
    """Frames side by side, from what was kept of each: the same bits as from the frames themselves."""
    rng = np.random.default_rng(4)
    case, frames = water_like(rng)
    engine = NumbaEngine(case.form, case.layout)
    kept = engine.frames(frames)
    pairs = [neighbour_pairs(f, case.form.cutoff) for f in frames]
    numbers = some_numbers(rng, case.geometry)

    def results(env):
        E_i, cache = engine.energies(case.par, env)
        f_pc = engine.pair_gradient(case.par, env, cache).copy()
        return E_i, f_pc, engine.rows(case.par, env, cache, numbers)

    one = results(engine.environment(case.statistics, frames))
    for given_pairs in (pairs, [kept[k][1] for k in range(3)]):
        E_i, f_pc, H_mw = results(engine.environment(case.statistics, frames, given_pairs))
        assert (E_i == one[0]).all() and (f_pc == one[1]).all() and (H_mw == one[2]).all()
    arrays = [value for f in frames for value in vars(f).values() if isinstance(value, np.ndarray)]
    assert kept.used == sum(kept[k][1].nbytes for k in range(3)) + sum(a.nbytes for a in arrays)


def test_bits_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(2)
    case, frames = water_like(rng)
    numbers, E_bar = some_numbers(rng, case.geometry), rng.normal(size=case.geometry.n_atoms)
    v_pc = force_direction(case.geometry, rng.normal(size=(case.geometry.n_atoms, 3)))
    bits = []
    for threads in (1, 2, 3, min(5, numba.config.NUMBA_NUM_THREADS + 3)):
        engine = NumbaEngine(case.form, case.layout, threads=threads)
        run = engine._team.run
        engine._team.run = lambda kernel, work, *args, run=run: run(kernel, 1e12, *args)
        env = engine.environment(case.statistics, frames)
        E_i, cache = engine.energies(case.par, env)
        once_pc = engine.pair_gradient(case.par, env, cache, once=True).copy()
        f_pc = engine.pair_gradient(case.par, env, cache)
        kept = engine.functions(frames).derivatives
        results = (
            kept.dG, env.derivatives.strain_ikd, E_i, once_pc, f_pc, engine.forces(env, f_pc),
            engine.energy_gradient(case.par, env, cache, E_bar),
            engine.weight_gradient(case.par, env, cache, E_bar, v_pc),
            engine.rows(case.par, env, cache, numbers),
        )  # fmt: skip
        bits.append(b"".join(np.ascontiguousarray(x).tobytes() for x in results))
    assert all(b == bits[0] for b in bits)
