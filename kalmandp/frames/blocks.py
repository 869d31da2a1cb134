"""Many frames at once: what `Frame` asks of the numbers of one, asked of arrays of them.

A frame that passes here would pass there, and is made without being looked at again; of one that does
not, `Frame` itself says what is wrong. So there is one set of messages, and blocks are only quicker.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kalmandp.frames.frame import LARGEST, Frame, is_flat

#: Attributes of a frame that are an array of its own, and those that are one number.
ARRAYS = ("positions", "cell", "forces", "virial", "atomic_energies")
NUMBERS = ("energy", "weight", "energy_weight")


def sound_frames(values: Mapping[str, np.ndarray], pbc) -> np.ndarray:
    """Which frames have numbers that `Frame` takes as they are, (n_frames,) booleans.

    Parameters
    ----------
    values : attribute of `Frame` -> (n_frames, …) float64, the attributes of all frames
    pbc : three booleans, those of all frames; with a cell if one is true
    """
    sound_f = np.ones(len(values["positions"]), dtype=bool)
    for name, value in values.items():
        by_frame = value.reshape(len(value), -1)
        most = LARGEST[name][0] if name in LARGEST else np.finfo(float).max
        sound_f &= (np.abs(by_frame) <= most).all(1)  # not true of NaN and ∞ either
    for name in ("weight", "energy_weight"):
        if name in values:
            sound_f &= values[name] > 0
    if any(pbc):
        cell_fcd = np.where(sound_f[:, None, None], values["cell"], np.eye(3))
        # a vector of zeros, which a slab may have, is completed by `Frame`
        sound_f &= ~is_flat(cell_fcd) & (cell_fcd != 0.0).any(axis=2).all(axis=1)
    return sound_f


def sound_frame(values: Mapping[str, np.ndarray], f: int, types, type_map, pbc, source: str) -> Frame:
    """Frame ``f`` of ``values``, which `sound_frames` found to be sound; its arrays are its own.

    Parameters
    ----------
    values, pbc : as for `sound_frames`
    types : (n_atoms,) int32, within ``type_map``
    type_map, source : of the frame
    """
    made = object.__new__(Frame)
    own = vars(made)
    own.update(types=types, type_map=type_map, pbc=pbc, source=source)
    for name in ARRAYS:
        own[name] = values[name][f].copy() if name in values else None
    for name in NUMBERS:
        own[name] = float(values[name][f]) if name in values else None
    return made
