"""The filter of learning on the fly, with its replay buffer. It knows nothing of ASE.

A new frame is learned in `ROUNDS` rounds: the frame itself, then some that were learned before, drawn at
random, so that nothing is forgotten. A frame is looked at `ROUNDS` (1 + `REPLAY`) times in this way; R is
that many times the variance of a label, so that P counts each label about once. Before a frame is learned P
is widened if the errors of its forces are larger than P allows. The work per frame is the same from the first
to the last. What is drawn depends on the seed and on the number of the frame alone.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erfc, sqrt
from typing import Any, NamedTuple

import numpy as np

from kalmandp.frames.frame import Frame
from kalmandp.potentials.potential import Potential, Result
from kalmandp.registry import KINDS, load
from kalmandp.training.measurements.measurement import make_sample, predict
from kalmandp.training.online import OnlineTrainer
from kalmandp.training.screening import Screen
from kalmandp.training.uncertainty import Uncertainty

#: Rounds over a new frame, and frames of the buffer in each.
ROUNDS, REPLAY = 4, 3
#: Errors that a small model leaves: of forces (eV/Å), of energies and virials (eV per atom). Those of
#: energies and virials are wide: far from what is learned yet, they would draw the weights along.
SIGMA_F, SIGMA_E, SIGMA_W = 0.01, 5e-4, 2.5e-3
#: Frames, those learned last, that the floor of the calibration is taken from: what is left of the errors
#: grows with the temperature, and that of a cold crystal says nothing of a melt.
FLOOR_FRAMES = 8
#: P₀ of random weights, and of a model that is trained. With 1 the first steps may be so long that neurons
#: saturate, which never come back.
P0_NEW, P0_TRAINED = 0.1, 0.01
#: A label is wanted if it may bring this share of the force components within the tolerance, or if σ of an
#: atom without r is above so many tolerances. f is not taken for less than `LEAST_FACTOR` there: a few lucky
#: predictions prove nothing.
SHARE, FAR, LEAST_FACTOR = 0.05, 2.0, 0.5
#: Atoms whose H P Hᵀ is computed at a check, at most, if that of the draws from P, times `DOUBT`, is that
#: large; steps after which others are drawn.
SUSPECTS, DOUBT, RENEW = 4, 2.5, 1000
#: Copies of the first frame from which statistics are taken: standard deviation of displacements, Å, and
#: strain.
TINY = 1e-30
RATTLES, STRAIN = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3), 0.02


def optimizer(trained: bool, choices: dict[str, Any]) -> dict[str, Any]:
    """Settings of the filter: `choices` in the place of the defaults."""
    factor = sqrt(ROUNDS * (1 + REPLAY))
    own = {
        "preset": "matrix", "p0": P0_TRAINED if trained else P0_NEW, "averaging": 0.0, "adapt": 0.0,
        "lam": 1.0,  # the buffer repeats old frames; what they said is not to be forgotten
        "sigma_f": factor * SIGMA_F, "sigma_e": factor * SIGMA_E, "sigma_w": factor * SIGMA_W,
    }  # fmt: skip
    return own | choices


def rattled(frame: Frame, rng: np.random.Generator) -> list[Frame]:
    """Copies of a frame as a simulation may make them, without labels: statistics are taken from them."""
    copies = []
    for size in RATTLES:
        positions = frame.positions + rng.normal(0.0, size, frame.positions.shape)
        cell = frame.cell
        if cell is not None:
            F = np.eye(3) + rng.normal(0.0, STRAIN, (3, 3))
            positions, cell = positions @ F, cell @ F
        copies.append(Frame(positions, frame.types, frame.type_map, cell, frame.pbc, source="rattled"))
    return copies


def new_potential(frame: Frame, seed: int, choices: dict[str, Any]) -> Potential:
    """A potential with random weights for a first, labelled frame."""
    rng = np.random.default_rng([seed, 0])
    choices = dict(choices)
    usual = next(kind for kind, parts in KINDS.items() if parts.first)
    kind = choices.pop("kind", choices.pop("type", usual))
    own = load(KINDS[kind].first) if kind in KINDS and KINDS[kind].first else {}
    frames = [frame, *rattled(frame, rng)]
    return Potential.create(frame.type_map, kind=kind, frames=frames, rng=rng, **{**own, **choices})


class Checked(NamedTuple):
    """A prediction, and whether a label is wanted.

    share, floor : shares of the force components that are expected to be off by more than the tolerance, now
        and if P were zero
    largest : eV/Å, f √(H P Hᵀ) of the atom with the largest
    wanted : share − floor > `SHARE`, or largest > `FAR` tolerances
    """

    result: Result
    share: float
    floor: float
    largest: float
    wanted: bool


def beyond(tolerance: float, variance_i: Any) -> float:
    """The share of normal errors with these variances that are larger than the tolerance, the mean over i."""
    ratio_i = tolerance / np.sqrt(2.0 * np.maximum(variance_i, TINY))
    return float(np.mean([erfc(x) for x in np.ravel(ratio_i).tolist()]))


class Learner:
    """A potential that learns frame by frame.

    Parameters
    ----------
    online : OnlineTrainer
    seed : for what is drawn
    """

    def __init__(self, online: OnlineTrainer, seed: int):
        self.online, self.seed = online, seed
        self.frames: list[Frame] = []
        self._drawn: tuple[tuple[int, int], Screen] | None = None

    @property
    def potential(self) -> Potential:
        return self.online.potential

    def evaluate(self, frame: Frame, pairs) -> Result:
        """Predict a frame whose neighbours are known."""
        return self.potential.evaluate(frame, self.potential.environment([frame], [pairs]))

    def predict(self, frame: Frame) -> tuple[Result, Uncertainty]:
        """Predict a frame with its uncertainty."""
        return self.online.predict_with_uncertainty(frame)

    def check(self, frame: Frame, pairs: Any, step: int, tolerance: Callable) -> Checked:
        """Predict a frame, and decide whether a label is wanted.

        H P Hᵀ of all atoms comes from draws (`training.screening`). H is computed only of atoms that may be
        `FAR` beyond the tolerance: of the `SUSPECTS` largest. Without a screen it is of all.

        Parameters
        ----------
        frame, pairs : the frame, and its neighbours
        step : of the simulation; other steps are drawn from P every `RENEW` of them
        tolerance : function of the forces (n, 3): the error of a component that is accepted, eV/Å
        """
        sample = make_sample(self.potential, [frame], [pairs])
        now = predict(self.potential, sample)
        result = Result(float(now.E_f[0]), now.F_ic, now.W_fcc[0], now.E_i)
        calibration, accepted = self.online.calibration, tolerance(result.forces)
        square, floor = max(calibration.factor("force"), LEAST_FACTOR) ** 2, calibration.floor("force") ** 2
        far, screen = (FAR * accepted) ** 2, self._screen(step)
        v_i = screen.variance(sample, now)
        if v_i is None:
            v_i = screen.exact(sample, now, np.arange(len(frame)))
            largest = float(v_i.max(initial=0.0))
        else:
            order = np.argsort(v_i)[::-1][:SUSPECTS]
            largest = float(v_i[order].max(initial=0.0))
            if len(may := order[square * DOUBT * v_i[order] > far]):
                largest = float(screen.exact(sample, now, may).max())
        sigma = sqrt(square * largest)
        share, without = beyond(accepted, square * v_i + floor), beyond(accepted, floor)
        return Checked(result, share, without, sigma, share - without > SHARE or sigma**2 > far)

    def _screen(self, step: int) -> Screen:
        """Draws that depend on the seed, the labels and the step alone: a run that goes on has the same."""
        key = (len(self.frames), step // RENEW)
        if self._drawn is None or self._drawn[0] != key:
            rng = np.random.default_rng([self.seed, 3, *key])
            self._drawn = key, Screen(self.potential, self.online.filter, rng)
        return self._drawn[1]

    def learn(self, frame: Frame) -> None:
        """Learn a labelled frame, with some of those before it."""
        n = len(self.frames)
        rng = np.random.default_rng([self.seed, 1, n])
        if n:  # before anything is learned errors say nothing about P
            self.online.calibrate(frame, widen_to=P0_NEW)
        for _ in range(ROUNDS):
            others: Any = rng.choice(n, min(REPLAY, n), replace=False) if n else []
            for old in [frame, *(self.frames[int(k)] for k in others)]:
                self.online.learn(old)
        self.frames.append(frame)
        self.online.calibrate(learnt=self.frames[-FLOOR_FRAMES:])

    def rms_force(self) -> float:
        """RMS force component of the frames learned last, eV/Å."""
        forces = [frame.forces for frame in self.frames[-FLOOR_FRAMES:] if frame.forces is not None]
        return float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else 0.0

    def error(self, frame: Frame) -> float:
        """RMS error of the force components of a labelled frame, eV/Å."""
        return float(np.sqrt(np.mean((self.potential.evaluate(frame).forces - frame.forces) ** 2)))
