"""The order in which frames come, and the neighbours of frames already seen."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from kalmandp.frames.neighbours import Pairs, neighbour_pairs

#: Bytes of frames and their pairs that a `PairCache` keeps.
CACHE_BYTES = 1 << 30


class Feed:
    """Batches of frame numbers: every epoch is a new permutation, drawn from ``rng``.

    Parameters
    ----------
    n_frames : frames in the data set
    batch_size : frames per step; the last batch of an epoch may be smaller
    rng : numpy Generator
    """

    def __init__(self, n_frames: int, batch_size: int, rng: np.random.Generator):
        self.n_frames, self.batch_size, self.rng = n_frames, min(batch_size, n_frames), rng
        self.epoch, self.position = 0, 0
        self.order = rng.permutation(n_frames)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.n_frames // self.batch_size)

    def next(self) -> np.ndarray:
        """Numbers of the frames of the next batch."""
        if self.position >= self.n_frames:
            self.epoch, self.position = self.epoch + 1, 0
            self.order = self.rng.permutation(self.n_frames)
        batch = self.order[self.position : self.position + self.batch_size]
        self.position += len(batch)
        return batch

    def state(self) -> dict:
        return {"epoch": self.epoch, "position": self.position, "order": self.order}

    def restore(self, state: dict) -> None:
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self.order = np.array(state["order"], dtype=np.int64)


class PairCache:
    """Frames of a data set with their neighbours; the most recently used ones stay in memory."""

    def __init__(self, dataset, cutoff: float, type_map, n_bytes: int = CACHE_BYTES):
        self.dataset, self.cutoff, self.type_map = dataset, cutoff, tuple(type_map)
        self.budget, self.used = n_bytes, 0
        self._kept: OrderedDict[int, tuple] = OrderedDict()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, k: int):
        """Frame k (in the potential's type_map) and its pairs."""
        k = int(k)
        if k in self._kept:
            self._kept.move_to_end(k)
            return self._kept[k]
        frame = self.dataset[k].with_type_map(self.type_map)
        pairs = neighbour_pairs(frame, self.cutoff)
        # the images themselves are not needed again
        pairs = Pairs(pairs.i_p, pairs.j_p, np.zeros((0, 3), np.int32), pairs.r_pc)
        self._kept[k] = (frame, pairs)
        self.used += self._size(pairs)
        while self.used > self.budget and len(self._kept) > 1:
            _, (_, old) = self._kept.popitem(last=False)
            self.used -= self._size(old)
        return frame, pairs

    @staticmethod
    def _size(pairs: Pairs) -> int:
        return pairs.i_p.nbytes + pairs.j_p.nbytes + pairs.r_pc.nbytes
