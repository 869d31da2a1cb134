"""The neighbours of frames that have been seen."""

from __future__ import annotations

import numpy as np

from kalmandp.frames.kept import CACHE_BYTES, KeptFrames, frame_bytes
from kalmandp.geometry.neighbours import Pairs, neighbour_pairs


def with_pairs(dataset, cutoff: float, type_map, n_bytes: int = CACHE_BYTES) -> KeptFrames:
    """Frames of a data set with their `Pairs` within ``cutoff`` (Å), found once and kept."""

    def make(frame) -> Pairs:
        pairs = neighbour_pairs(frame, cutoff)
        # the images themselves are not needed again
        return Pairs(pairs.i_p, pairs.j_p, np.zeros((0, 3), np.int32), pairs.r_pc)

    size = lambda frame, pairs: frame_bytes(frame) + sum(x.nbytes for x in pairs)
    return KeptFrames(dataset, type_map, make, size, n_bytes)
