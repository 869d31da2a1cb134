"""A cache of frames, each with what was made for it: the most recently used stay in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

#: Bytes of main memory that the kept frames of a data set may fill.
CACHE_BYTES = 1 << 30
#: Share of a GPU's free memory that kept frames may fill.
DEVICE_SHARE = 0.25


class KeptFrames:
    """Items ``(frame, made)`` of a data set by number, kept up to a number of bytes.

    Parameters
    ----------
    dataset : frames, by number
    type_map : the frames are given in this one
    make : frame -> what goes with it
    size : frame, what was made -> the bytes that keeping them takes
    n_bytes : room for them; the last item is kept even if it needs more
    """

    def __init__(
        self, dataset, type_map, make: Callable[[Any], Any], size: Callable[[Any, Any], int],
        n_bytes: int = CACHE_BYTES,
    ):  # fmt: skip
        self.dataset, self.type_map, self.make, self.size = dataset, tuple(type_map), make, size
        self.budget, self.used = n_bytes, 0
        self._kept: OrderedDict[int, tuple] = OrderedDict()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, k: int):
        """Frame k in the type_map, and what was made for it."""
        k = int(k)
        if k in self._kept:
            self._kept.move_to_end(k)
            return self._kept[k]
        frame = self.dataset[k].with_type_map(self.type_map)
        made = self.make(frame)
        self._kept[k] = (frame, made)
        self.used += self.size(frame, made)
        while self.used > self.budget and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self.used -= self.size(*old)
        return frame, made


def frame_bytes(frame) -> int:
    """Bytes of a frame's arrays: positions, types, cell and labels."""
    return sum(value.nbytes for value in vars(frame).values() if isinstance(value, np.ndarray))
