"""Every pass of an engine and of the reference on the same input: what the tests of engines share."""

from __future__ import annotations

import numpy as np
import on_device
from cases import Case, named, random_architecture, random_form, random_frame
from numpy.testing import assert_allclose

from kalmandp.arrays import to_numpy
from kalmandp.frames.frame import Frame
from kalmandp.geometry.pairs import force_direction, virial_direction
from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.deep_potential.table import SMOOTH
from kalmandp.registry import make_engine

#: Twins agree to this, relative to the largest entry.
TOLERANCE = 1e-10


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


def check(name, case, frames, tolerance=TOLERANCE, **options):
    wanted = passes(make_engine("numpy", case.form, case.layout), case, frames, seeded())
    engine = make_engine(name, case.form, case.layout, **(options or on_device.options(name)))
    got = passes(engine, case, frames, seeded())
    for key, value in wanted.items():
        size = np.abs(value).max(initial=1e-300)
        assert_allclose(got[key], value, rtol=0, atol=tolerance * size, err_msg=key)


def seeded():
    return np.random.default_rng(99)
