"""Numbers taken from the data before training: davg and dstd."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.environment import raw_environment

#: Smallest standard deviation, as in DeePMD-kit: a floor, so that rare rows are not amplified.
STD_FLOOR = 1e-2


class Statistics(NamedTuple):
    """davg_tk, dstd_tk : (n_types, 4), 1/Å;  closest : distance of the closest pair, Å, ∞ without one."""

    davg_tk: np.ndarray
    dstd_tk: np.ndarray
    closest: float


def environment_statistics(architecture: Architecture, frames, pairs=None) -> Statistics:
    """Mean and spread of R over all slots of each centre type, padding included.

    One mean and one spread for the radial row, and one spread (mean 0) for the three angular rows::

        davg_t = (⟨R_0⟩, 0, 0, 0),    dstd_t = (std R_0, σ_a, σ_a, σ_a),  std ≥ 0.01

    Parameters
    ----------
    architecture : Architecture
    frames : iterable of Frame
    pairs : iterable of Pairs, if the neighbours are known

    Returns
    -------
    Statistics
    """
    a = architecture
    moment_t = np.zeros((a.n_types, 5))  # slots, ΣR0, ΣR0², ΣRa, ΣRa²
    closest = np.inf
    pairs = iter(pairs) if pairs is not None else None
    for frame in frames:
        frame = frame.with_type_map(a.type_map)
        found = neighbour_pairs(frame, a.rcut) if pairs is None else next(pairs)
        moment_t[:, 0] += np.bincount(frame.types, minlength=a.n_types) * a.n_neighbours
        if not len(found.i_p):
            continue
        distance_p = np.sqrt((found.r_pc * found.r_pc).sum(-1))
        closest = min(closest, float(distance_p.min()))
        R_pk, _ = raw_environment(found.r_pc, a.rcut_smth, a.rcut)
        t_p, angular = frame.types[found.i_p], R_pk[:, 1:]
        columns = (R_pk[:, 0], R_pk[:, 0] ** 2, angular.mean(1), (angular**2).mean(1))
        for n, values in enumerate(columns, start=1):
            moment_t[:, n] += np.bincount(t_p, values, minlength=a.n_types)
    slots = np.maximum(moment_t[:, 0], 1.0)
    mean_r, square_r, mean_a, square_a = (moment_t[:, 1:] / slots[:, None]).T
    seen = moment_t[:, 0] > 0
    spread = lambda square, mean: np.sqrt(np.maximum(square - mean * mean, 0.0))
    std_r = np.where(seen, np.maximum(spread(square_r, mean_r), STD_FLOOR), 1.0)
    std_a = np.where(seen, np.maximum(spread(square_a, mean_a), STD_FLOOR), 1.0)
    davg_tk = np.zeros((a.n_types, 4))
    davg_tk[:, 0] = mean_r
    return Statistics(davg_tk, np.stack([std_r, std_a, std_a, std_a], axis=1), closest)
