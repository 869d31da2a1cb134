"""A cache of frames, each with what was made for it: the most recently used stay in memory.

Frames of the next step can be announced (`KeptFrames.ahead`): a thread reads them while this one computes.
What it meets, a frame that cannot be read, is raised where that frame is asked for, as without it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

#: Bytes of main memory that the kept frames of a data set may fill.
CACHE_BYTES = 1 << 30
#: Share of a GPU's free memory that kept frames may fill.
DEVICE_SHARE = 0.25
#: Frames that are read before they are needed, at most.
AHEAD = 64


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
        self._coming: dict[int, Future] = {}
        self._reader: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, k: int):
        """Frame k in the type_map, and what was made for it."""
        k = int(k)
        if k in self._kept:
            self._kept.move_to_end(k)
            return self._kept[k]
        coming = self._coming.pop(k, None)
        frame = self._read(k) if coming is None else coming.result()
        made = self.make(frame)
        self._kept[k] = (frame, made)
        self.used += self.size(frame, made)
        while self.used > self.budget and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self.used -= self.size(*old)
        return frame, made

    def ahead(self, numbers: Iterable[int]) -> None:
        """Begin to read these frames, `AHEAD` at most, in this order; they are asked for next.

        What was announced before and is not among them is forgotten.

        Parameters
        ----------
        numbers : of the frames
        """
        wanted = list(islice((k for k in map(int, numbers) if k not in self._kept), AHEAD))
        for k in set(self._coming).difference(wanted):
            self._coming.pop(k).cancel()
        for k in wanted:
            if k not in self._coming:
                if self._reader is None:
                    self._reader = ThreadPoolExecutor(1, "frames ahead")
                self._coming[k] = self._reader.submit(self._read, k)

    def _read(self, k: int):
        return self.dataset[k].with_type_map(self.type_map)


def frame_bytes(frame) -> int:
    """Bytes of a frame's arrays: positions, types, cell and labels."""
    return sum(value.nbytes for value in vars(frame).values() if isinstance(value, np.ndarray))
