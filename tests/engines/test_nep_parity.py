"""NEP's fused engine against the reference, pass by pass."""

from __future__ import annotations

import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp.engines.cpu.nep.engine import NEPNumbaEngine
from kalmandp.frames.frame import Frame
from kalmandp.geometry.pairs import force_direction, forces_from_pairs, virial_direction, virial_from_pairs
from kalmandp.potentials import atomic

sys.path.insert(0, str(Path(__file__).parents[1] / "potentials"))

from nep_support import Case, random_form, random_frame

#: Twins agree to this, relative to the largest entry: the same sums in other orders.
TOLERANCE = 1e-11


def close(got, wanted, name=""):
    scale = max(float(np.abs(wanted).max(initial=0.0)), 1e-300)
    assert_allclose(got, wanted, rtol=0, atol=TOLERANCE * scale, err_msg=name)


def build(seed, n_types=2, **choices):
    """A random model and five frames side by side: tilted, open, a lonely atom, a slab, a thin cell.

    In the last one atoms see their own images, and one another several times.
    """
    rng = np.random.default_rng(seed)
    form = random_form(rng, n_types, **choices)
    frames = [
        random_frame(rng, form.type_map, 20, "tilted"),
        random_frame(rng, form.type_map, 5, "open"),
        Frame(np.zeros((1, 3)), [0], form.type_map),
        random_frame(rng, form.type_map, 6, "slab"),
        Frame(
            [[0.0, 0.1, 0.0], [1.1, 1.2, 1.9]], [0, n_types - 1], form.type_map, cell=np.diag([1.9, 2.3, 4.0])
        ),
    ]
    return Case(rng, form, frames), rng


CASES = [
    *((seed, 1 + seed % 3, {}) for seed in range(9)),
    (20, 2, {"l_max": (8, 1, 1, 1, 1, 1, 1), "version": 4}),
    (21, 3, {"n_max": (12, 0), "basis_size": (0, 11), "neuron": 30, "version": 3}),
    (22, 1, {"n_max": (0, 8), "basis_size": (16, 0), "l_max": (4, 1, 1), "version": 5}),
    (23, 4, {"zbl": {"inner": 0.8, "outer": 1.9, "factor": 0.8}}),
]


@pytest.mark.parametrize(("seed", "n_types", "choices"), CASES)
def test_engine_equals_the_reference(seed, n_types, choices):
    case, rng = build(seed, n_types, **choices)
    par, env = case.par, case.env
    engine = NEPNumbaEngine(case.form, par.layout, threads=2)
    fused = engine.environment(case.statistics, case.frames)
    E_i, forward = atomic.energies(par, env)
    got_E, got = engine.energies(par, fused)
    close(got_E, E_i, "energies")
    f_pc = atomic.pair_gradient(par, env, forward)
    got_f = engine.pair_gradient(par, fused, got)
    close(got_f, f_pc, "pair gradient")
    close(engine.forces(fused, got_f), forces_from_pairs(env.geometry, f_pc), "forces")
    close(engine.virial(fused, got_f), virial_from_pairs(env.geometry, f_pc), "virial")
    n = env.geometry.n_atoms
    c, C, E_bar = rng.normal(size=(n, 3)), rng.normal(size=(5, 3, 3)), rng.normal(size=n)
    c[n // 2 :] = 0.0  # pairs that do not move
    v_F, v_W = force_direction(env.geometry, c), virial_direction(env.geometry, C)
    wanted = atomic.energy_gradient(par, env, forward, E_bar)
    close(engine.energy_gradient(par, fused, got, E_bar), wanted, "energy gradient")
    for name, E, v in (("F", 0 * E_bar, v_F), ("W", 0 * E_bar, v_W), ("loss", E_bar, v_F + v_W)):
        wanted = atomic.weight_gradient(par, env, forward, E, v)
        close(engine.weight_gradient(par, fused, got, E, v), wanted, f"weight gradient of {name}")


def numbers_of(rng, n_atoms):
    """Some of each kind; an atom with all axes, with one; a component asked for twice; W_xy and W_yx."""
    force = [(3, 0), (3, 1), (3, 2), (n_atoms - 1, 1), (20, 2), (20, 0), (3, 1)]
    force += [(n_atoms - 2, 0), (n_atoms - 2, 2)]  # an atom that sees its own images
    force += [(int(rng.integers(n_atoms)), int(rng.integers(3))) for _ in range(6)]
    virial = [(0, d, c) for d in range(3) for c in range(3)] + [(3, 1, 2), (1, 0, 0), (4, 2, 1)]
    return atomic.Numbers(np.array([0, 3, 1]), np.array(force), np.array([4, 0, 25]), np.array(virial))


@pytest.mark.parametrize(("seed", "n_types", "choices"), CASES)
def test_rows_equal_the_reference(seed, n_types, choices):
    case, rng = build(seed, n_types, **choices)
    engine = NEPNumbaEngine(case.form, case.par.layout, threads=2)
    fused = engine.environment(case.statistics, case.frames)
    _, forward = atomic.energies(case.par, case.env)
    _, got = engine.energies(case.par, fused)
    numbers = numbers_of(rng, case.env.geometry.n_atoms)
    wanted = atomic.rows(case.par, case.env, forward, numbers)
    H = engine.rows(case.par, fused, got, numbers)
    for row, (a, b) in enumerate(zip(H, wanted, strict=True)):
        close(a, b, f"row {row}")


def test_rows_of_nothing():
    case, _ = build(1)
    engine = NEPNumbaEngine(case.form, case.par.layout)
    fused = engine.environment(case.statistics, case.frames)
    _, got = engine.energies(case.par, fused)
    none = np.zeros(0, np.int64)
    empty = atomic.Numbers(none, none.reshape(0, 2), none, none.reshape(0, 3))
    assert engine.rows(case.par, fused, got, empty).shape == (0, case.par.layout.size)


def test_bits_do_not_depend_on_the_number_of_threads():
    """With frames large enough that threads share the work."""
    rng = np.random.default_rng(7)
    form = random_form(rng, 2, neuron=30, n_max=(6, 6), basis_size=(6, 6), l_max=(4, 1), version=4, zbl=None)
    frames = [random_frame(rng, form.type_map, 27, "tilted") for _ in range(8)]
    case = Case(rng, form, frames)
    results = []
    for threads in (1, 2, 3):
        engine = NEPNumbaEngine(form, case.par.layout, threads=threads)
        env = engine.environment(case.statistics, frames)
        E_i, got = engine.energies(case.par, env)
        f_pc = engine.pair_gradient(case.par, env, got)
        n = env.n_atoms
        force = np.stack([np.repeat(np.arange(n), 3), np.tile(np.arange(3), n)], axis=1)
        virial = np.array([(f, 0, c) for f in range(8) for c in range(3)])
        numbers = atomic.Numbers(np.arange(8), force, np.arange(5), virial)
        H = engine.rows(case.par, env, got, numbers)
        results.append((E_i, f_pc.copy(), engine.forces(env, f_pc), engine.virial(env, f_pc), H))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert (a == b).all()
    assert numba.get_num_threads() >= 1
