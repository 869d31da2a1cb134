"""What a prediction and a row of H are made of, for the clocks."""

from __future__ import annotations

import numpy as np

from kalmandp.potentials.atomic import Numbers


def numbers(energy=(), forces=(), virials=()) -> Numbers:
    """What H has rows for: energies of frames f, forces (atom, axis), virials (frame, axis, axis)."""
    rows = lambda values, width: np.asarray(values, np.int64).reshape(-1, width)
    none = np.zeros(0, np.int64)
    return Numbers(np.asarray(energy, np.int64), rows(forces, 2), none, rows(virials, 3))


def predicted(engine, par, statistics, frame, pairs=None):
    """E_i, F and f_p from positions, and pairs if they are known; and the environment."""
    env = engine.environment(statistics, frame, None if pairs is None else [pairs])
    E_i, forward = engine.energies(par, env)
    f_pc = engine.pair_gradient(par, env, forward)
    return E_i, engine.forces(env, f_pc), f_pc, env
