"""The order of frames when systems are drawn by given probabilities: ``sys_probs`` and ``prob_uniform``.

Each step draws a system, then the next frames of that system's own shuffle. A small system of high
probability comes round often, a large one may not be finished in an epoch; an epoch is as many frames as
there are.
"""

from __future__ import annotations

import numpy as np

from kalmandp.errors import InputError
from kalmandp.training.config.settings import TrainingSettings
from kalmandp.training.data.feed import Feed


class SystemFeed:
    """Batches of frame numbers, each from one system drawn by its probability; stands in for `Feed`.

    Parameters
    ----------
    systems : frame numbers of each system
    probability_s : of each system, adding up to 1
    batch_size : frames per step; fewer where a system's shuffle ends
    rng : numpy Generator
    """

    def __init__(self, systems, probability_s, batch_size: int, rng: np.random.Generator):
        self.probability_s, self.batch_size, self.rng = np.asarray(probability_s), batch_size, rng
        self.n_frames = sum(len(frames) for frames in systems)
        self.epoch, self.position = 0, 0
        self.orders = [rng.permutation(frames) for frames in systems]
        self.places = np.zeros(len(systems), dtype=np.int64)

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
            self.epoch, self.position = self.epoch + 1, self.position - self.n_frames
        s = int(self.rng.choice(len(self.orders), p=self.probability_s))
        if self.places[s] >= len(self.orders[s]):
            self.orders[s], self.places[s] = self.rng.permutation(self.orders[s]), 0
        batch = self.orders[s][self.places[s] : self.places[s] + self.batch_size]
        self.places[s] += len(batch)
        self.position += len(batch)
        return batch

    def coming(self, n: int) -> np.ndarray:
        """None is known before it is drawn."""
        return np.zeros(0, dtype=np.int64)

    def state(self) -> dict:
        order = np.concatenate(self.orders)
        return {"epoch": self.epoch, "position": self.position, "order": order, "places": self.places}

    def restore(self, state: dict) -> None:
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        ends = np.cumsum([len(order) for order in self.orders])[:-1]
        self.orders = np.split(np.array(state["order"], dtype=np.int64), ends)
        self.places = np.array(state["places"], dtype=np.int64)


def make_feed(t: TrainingSettings, data, batch_size: int, rng: np.random.Generator) -> Feed | SystemFeed:
    """The feed that the input asks for: every frame once an epoch, or systems by probability.

    Raises
    ------
    InputError
        If ``sys_probs`` are not as many as the systems found in the data.
    """
    if not t.by_system:
        return Feed(len(data), batch_size, rng)
    systems = data.by_system()
    if t.sys_probs is None:
        probability_s = np.full(len(systems), 1.0 / len(systems))
    else:
        probability_s = np.array(t.sys_probs)
        if len(probability_s) != len(systems):
            raise InputError(
                f"training_data/sys_probs has {len(probability_s)} numbers; expected {len(systems)}, one "
                f"for each of {', '.join(systems)}"
            )
    return SystemFeed(list(systems.values()), probability_s / probability_s.sum(), batch_size, rng)
