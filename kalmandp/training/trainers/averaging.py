"""Polyak average of recent weights, saved as the model.

Each frame moves the weights towards what fits it best, and the next frame moves them partly back: with a
steady gain they fluctuate about the weights that fit all frames. Their mean does not (Polyak and Juditsky,
SIAM J. Control Optim. 30, 838, 1992). After update t, with 0 < s ≤ 1::

    w̄ ← w̄ + (w − w̄)/(1 + s t)            w̄ = w₀ at first

so that the weights after update k enter with a factor of nearly k^(1/s − 1): w̄ is a mean over about the last
share s of the run, however long it is. The filter (or Adam) never sees w̄: it goes on from its own weights.

Averaged weights give nearly the mean of the forces. But an energy is a sum of large terms that cancel, and
the nets are not linear in the weights: averaging biases the energy, by nearly one constant per atom. The last
bias of the fitting nets corrects it::

    b ← b + δ,    δ = ⟨(E_f − E(frame f))/N_f⟩        over some training frames f of N_f atoms

so that the energy bias of the types stays what it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import require
from kalmandp.potentials.potential import Potential
from kalmandp.training.measurements.measurement import make_sample, predict

#: Training frames, evenly spaced, that δ is taken from.
SHIFT_FRAMES = 32


class WeightAverage:
    """Averaged weights: w̄ of a run.

    Parameters
    ----------
    weights : w₀ (N,), NumPy or CuPy
    share : s
    """

    def __init__(self, weights: Any, share: float):
        self.share, self.updates = share, 0
        self._mean_w = weights.copy()

    def add(self, weights: Any) -> None:
        """Take in the weights after an update."""
        self.updates += 1
        # w̄ ← w̄ + (w − w̄)/(1 + s t)
        self._mean_w += (weights - self._mean_w) / (1.0 + self.share * self.updates)

    @property
    def weights(self) -> np.ndarray:
        """w̄ (N,), of NumPy."""
        return to_numpy(self._mean_w)

    def mark(self) -> tuple[Any, int]:
        """What `put_back` takes: w̄, a copy, and t."""
        return self._mean_w.copy(), self.updates

    def put_back(self, mark: tuple[Any, int]) -> None:
        """Forget what was added since `mark`."""
        self._mean_w, self.updates = mark

    def state(self) -> dict:
        """w̄ and t for a checkpoint."""
        return {"average": self.weights, "averaged": self.updates}

    def restore(self, state: dict, weights: Any) -> None:
        """Go on from what `state` returned; from ``weights`` (N,) where there was no average.

        Raises
        ------
        InputError
            If what is stored is of another size.
        """
        mean_w = state.get("average", weights)
        require(np.shape(mean_w) == weights.shape, "the average stored", np.shape(mean_w), weights.shape)
        self.updates = int(state.get("averaged", 0))
        self._mean_w = namespace(weights).array(mean_w, dtype="float64")


def averaged(potential: Potential, weights, frames, device: Any = "cpu") -> Potential:
    """The potential with averaged weights, its energies shifted by δ per atom, which fits ``frames``.

    Parameters
    ----------
    potential : Potential, which stays as it is
    weights : w̄ (N,)
    frames : pairs of a Frame (or ase.Atoms) and its Pairs, or None to have them found; one without an
        energy is passed over
    device : where the potential computes

    Returns
    -------
    Potential
        With an engine of its own, so that what is asked of it changes no bit of the run.
    """
    new = potential.with_engine(potential.engine.name, device)
    new.weights = weights
    off = []
    for frame, pairs in frames:
        frame = potential.as_frame(frame)
        if frame.energy is None:
            continue
        sample = make_sample(new, [frame], None if pairs is None else [pairs])
        E = float(to_numpy(predict(new, sample, forces=False).E_f)[0])
        off.append((frame.energy - E) / len(frame))
    if off:
        shifted_w = np.array(weights)
        new.layout.shift_energies(shifted_w, float(np.mean(off)))  # b ← b + δ
        new.weights = shifted_w
    return new
