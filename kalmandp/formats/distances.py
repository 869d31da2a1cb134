"""What distances say of the unit of length: how far apart neighbouring atoms are, over a bond's length.

In Å neighbours are 0.85 to 1.25 bond lengths apart, in compressed crystals 0.8, in bohr 1.6 to 2.3.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kalmandp.errors import InputError
from kalmandp.formats.units import BOHR
from kalmandp.frames.elements import UNBOUND, covalent_radii
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import neighbour_pairs

#: Within these a length is Å, or bohr; anything else is neither.
ANGSTROM, IN_BOHR = (0.62, 1.35), (1.5, 2.6)
#: Neighbours are searched within REACH, in the file's own unit, in FRAMES frames at most.
REACH, FRAMES = 10.0, 20


def spacing(frame: Frame, reach: float = REACH) -> float:
    """Median over the atoms of the shortest distance over a bond's length; NaN if none is known."""
    radius_t = covalent_radii(frame.type_map)
    radius_t[[name in UNBOUND for name in frame.type_map]] = np.nan
    try:
        pairs = neighbour_pairs(frame, reach)
    except InputError:
        return np.nan  # atoms on top of each other
    r_p = np.sqrt((pairs.r_pc * pairs.r_pc).sum(1))
    ratio_p = r_p / (radius_t[frame.types[pairs.i_p]] + radius_t[frame.types[pairs.j_p]])
    ratio_i = np.full(len(frame), np.inf)
    known = np.isfinite(ratio_p)
    np.minimum.at(ratio_i, pairs.i_p[known], ratio_p[known])
    finite = ratio_i[np.isfinite(ratio_i)]
    return float(np.median(finite)) if len(finite) else np.nan


def length_unit(frames: Iterable[Frame]) -> tuple[float | None, float]:
    """The unit of length that distances point to.

    Returns
    -------
    1 for Å, `BOHR` for bohr, or None if neither fits or there are no distances; and the median spacing
    """
    found = [s for s in map(spacing, frames) if np.isfinite(s)]
    usual = float(np.median(found)) if found else np.nan
    for (low, high), unit in ((ANGSTROM, 1.0), (IN_BOHR, BOHR)):
        if low <= usual <= high:
            return unit, usual
    return None, usual


def closest(frames: Iterable[Frame], reach: float = REACH) -> float:
    """The shortest distance of two atoms, in the unit of the frames; ∞ if none is within reach."""
    shortest = np.inf
    for frame in frames:
        try:
            r_pc = neighbour_pairs(frame, reach).r_pc
        except InputError:
            return 0.0  # atoms on top of each other
        shortest = min(shortest, float(np.sqrt((r_pc * r_pc).sum(1).min(initial=np.inf))))
    return shortest
