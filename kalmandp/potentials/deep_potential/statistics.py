"""Numbers taken from the data before training: davg and dstd."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kalmandp.geometry.neighbours import neighbour_counts, neighbour_pairs
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.environment import raw_environment

#: Smallest standard deviation, as in DeePMD-kit: a floor, so that rare rows are not amplified.
STD_FLOOR = 1e-2


class Statistics(NamedTuple):
    """davg_tk, dstd_tk : (n_types, 4), 1/Å;  closest : distance of the closest pair, Å, ∞ without one."""

    davg_tk: np.ndarray
    dstd_tk: np.ndarray
    closest: float


class Seen(NamedTuple):
    """What frames hold, from one search for their neighbours.

    sum_nt : (5, n_types) by the centre's type: atoms, ΣR0, ΣR0², ΣRa, ΣRa²
    most_t : the most neighbours of each type that an atom has;  closest : as in `Statistics`
    """

    sum_nt: np.ndarray
    most_t: np.ndarray
    closest: float


def look_at(architecture: Architecture, frames, pairs=None) -> Seen:
    """Go through frames once; ``sel`` of the architecture does not matter."""
    a = architecture
    sum_nt, most_t, closest = np.zeros((5, a.n_types)), np.zeros(a.n_types, np.int64), np.inf
    pairs = iter(pairs) if pairs is not None else None
    for frame in frames:
        frame = frame.with_type_map(a.type_map)
        found = neighbour_pairs(frame, a.rcut) if pairs is None else next(pairs)
        sum_nt[0] += np.bincount(frame.types, minlength=a.n_types)
        if not len(found.i_p):
            continue
        most_t = np.maximum(most_t, neighbour_counts(frame, found).max(axis=0))
        distance_p = np.sqrt((found.r_pc * found.r_pc).sum(-1))
        closest = min(closest, float(distance_p.min()))
        R_pk, _ = raw_environment(found.r_pc, a.rcut_smth, a.rcut)
        t_p, angular = frame.types[found.i_p], R_pk[:, 1:]
        columns = (R_pk[:, 0], R_pk[:, 0] ** 2, angular.mean(1), (angular**2).mean(1))
        for n, values in enumerate(columns, start=1):
            sum_nt[n] += np.bincount(t_p, values, minlength=a.n_types)
    return Seen(sum_nt, most_t, closest)


def environment_statistics(architecture: Architecture, frames, pairs=None) -> Statistics:
    """Mean and spread of R over all slots of each centre type, padding included: `statistics_of` frames.

    Parameters
    ----------
    architecture : Architecture
    frames : iterable of Frame
    pairs : iterable of Pairs, if the neighbours are known

    Returns
    -------
    Statistics
    """
    return statistics_of(architecture, look_at(architecture, frames, pairs))


def statistics_of(architecture: Architecture, found: Seen) -> Statistics:
    """Mean and spread of R over all slots of each centre type, padding included.

    One mean and one spread for the radial row, and one spread (mean 0) for the three angular rows::

        davg_t = (⟨R_0⟩, 0, 0, 0),    dstd_t = (std R_0, σ_a, σ_a, σ_a),  std ≥ 0.01

    Parameters
    ----------
    architecture : Architecture
    found : of the frames

    Returns
    -------
    Statistics
    """
    a = architecture
    slots = np.maximum(found.sum_nt[0] * a.n_neighbours, 1.0)
    mean_r, square_r, mean_a, square_a = found.sum_nt[1:] / slots
    seen = found.sum_nt[0] > 0
    spread = lambda square, mean: np.sqrt(np.maximum(square - mean * mean, 0.0))
    std_r = np.where(seen, np.maximum(spread(square_r, mean_r), STD_FLOOR), 1.0)
    std_a = np.where(seen, np.maximum(spread(square_a, mean_a), STD_FLOOR), 1.0)
    davg_tk = np.zeros((a.n_types, 4))
    davg_tk[:, 0] = mean_r
    return Statistics(davg_tk, np.stack([std_r, std_a, std_a, std_a], axis=1), found.closest)
