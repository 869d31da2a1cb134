"""The energy of an atom of each type, fitted to the data before training: E ≈ Σ_t n_t b_t."""

from __future__ import annotations

import numpy as np

from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame

#: Singular values of the atom counts below this share of the largest leave the bias undetermined.
RCOND = 1e-6


def energy_bias(frames, type_map, given=None, rcond: float = RCOND, predicted=None) -> np.ndarray:
    """Energy per atom of each type by least squares, E ≈ Σ_t n_t bias_t (smallest norm if undetermined).

    Parameters
    ----------
    frames : iterable of Frame; those without an energy are passed over
    type_map : names of the types
    given : optional list with a number (eV) or None per type; numbers are kept as they are
    rcond : singular values below this share of the largest count as zero
    predicted : function of a frame, what is subtracted from its energy (eV) beforehand

    Returns
    -------
    bias_t : (n_types,) eV

    Raises
    ------
    InputError
        For another number of ``given`` energies than types, or a species that is not in ``type_map``.
    """
    n_types = len(type_map)
    given = [None] * n_types if given is None else list(given)
    if len(given) != n_types:
        raise InputError(f"there are {len(given)} given energies; expected {n_types}, one per type")
    counts, energies = [], []
    for frame in frames:
        if frame.energy is not None:
            counts.append(_count(frame, type_map))
            energies.append(frame.energy - (0.0 if predicted is None else predicted(frame)))
    bias = np.array([0.0 if g is None else float(g) for g in given])
    free = np.array([g is None for g in given])
    if counts and free.any():
        n_ft = np.array(counts, dtype=float)
        rest = np.array(energies) - n_ft @ bias
        bias[free] = np.linalg.lstsq(n_ft[:, free], rest, rcond=rcond)[0]
    return bias


def _count(frame: Frame, type_map) -> np.ndarray:
    types = frame.with_type_map(type_map).types
    return np.bincount(types, minlength=len(type_map))
