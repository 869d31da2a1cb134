"""What a trainer is: an optimizer that turns samples into better weights, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kalmandp.potentials.potential import Potential
    from kalmandp.training.measurements.measurement import Sample

#: Something that goes around every update; `uninterrupted` in a `loop.Run`.
Guard = Callable[[], AbstractContextManager]


class Trainer(ABC):
    """The base of all trainers, with defaults for what an optimizer does not have.

    Attributes
    ----------
    potential : its weights follow the optimizer's
    average : `averaging.WeightAverage` of the weights; None to save those of the last update
    gate : `measurements.gate.Gate`, None if nothing is left out
    log : since the last step began, what each update did and why it was left out if it was
    lam : λ of a filter, not a number without one
    learning_rate : of the next step, not a number for a filter
    frame_trials : batches to try until one has some `surplus`; 1 to take what comes
    """

    potential: Potential
    average: Any = None
    gate: Any = None
    log: Any = ()
    frame_trials: int = 1

    @property
    def lam(self) -> float:
        return float("nan")

    @property
    def learning_rate(self) -> float:
        return float("nan")

    @property
    @abstractmethod
    def updates(self) -> int:
        """Updates made so far."""

    def choose(self, feed: Any, frames: Any) -> np.ndarray:
        """Numbers of the frames of the next step, as the feed has them.

        Parameters
        ----------
        feed : of the run
        frames : the data, by number each with what the engine keeps of it
        """
        return feed.next()

    def shares_frames(self, n_frames: int) -> bool:
        """Whether ranks measure the frames of a batch one by one, each on one of them."""
        return False

    @abstractmethod
    def step(self, sample: Sample) -> dict:
        """Learn a sample; returns diagnostics by name."""

    @abstractmethod
    def state(self) -> dict:
        """Arrays, numbers and strings for a checkpoint."""

    @abstractmethod
    def restore(self, state: dict) -> None:
        """Go on from what `state` returned, with the same bits."""

    def learn_prior(self, samples: Iterable[Sample]) -> None:  # noqa: B027, what has no P has no prior
        """For weights that were trained on these samples: make P what it is after learning them."""

    def finished(self, potential: Potential, frames: Any, held: Any) -> Potential:
        """The model at the end of a run, of the one that would be saved.

        Parameters
        ----------
        potential : with the weights to be saved
        frames : the training data
        held : the validation data, None if there are none
        """
        return potential

    def surplus(self, sample: Sample) -> float:
        """How far a sample's error is above the threshold by which samples are passed over; ∞ without one."""
        return np.inf

    def traces(self) -> np.ndarray | None:
        """The trace of each block of P; None without a P."""
        return None
