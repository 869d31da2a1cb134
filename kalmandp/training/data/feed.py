"""The order in which frames come."""

from __future__ import annotations

import numpy as np


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

    @property
    def progress(self) -> float:
        """Epochs so far."""
        return self.epoch + self.position / self.n_frames

    def next(self) -> np.ndarray:
        """Numbers of the frames of the next batch."""
        if self.position >= self.n_frames:
            self.epoch, self.position = self.epoch + 1, 0
            self.order = self.rng.permutation(self.n_frames)
        batch = self.order[self.position : self.position + self.batch_size]
        self.position += len(batch)
        return batch

    def coming(self, n: int) -> np.ndarray:
        """Numbers of the next frames, n at most, as far as they are drawn: those of this epoch."""
        return self.order[self.position : self.position + n]

    def state(self) -> dict:
        return {"epoch": self.epoch, "position": self.position, "order": self.order}

    def restore(self, state: dict) -> None:
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self.order = np.array(state["order"], dtype=np.int64)
