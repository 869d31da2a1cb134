"""Which atoms of a frame a model is least sure of, by a few draws from P instead of H of all forces.

H P Hᵀ of all 3n forces needs 3n rows of H and their product with P. With K weights w + δ_k, δ_k ~ N(0, P), ::

    v_i = (1/3K) Σ_kc ((F_ic(w + ε δ_k) − F_ic(w))/ε)²  ≈  (H P Hᵀ)_i,    the mean over the atom's components

costs K predictions in one environment, whatever the number of weights. It is off by √(2/3K) of itself or more
(as far as the components of an atom go together): good for finding atoms, of which H tells exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.kalman.filter import RLEKF
from kalmandp.kalman.uncertainty import draws, padded, prediction_variance
from kalmandp.potentials.potential import Potential
from kalmandp.training.measurements.measurement import Prediction, Sample, predict
from kalmandp.training.uncertainty import numbers_of

#: K; and ε: so small that forces are linear in the step, so large that rounding is no matter.
DRAWS, EPSILON = 3, 1e-4


class Screen:
    """Draws from P, for one P and the weights that it belongs to.

    Parameters
    ----------
    potential : with the weights of now
    kalman : its P, which is only read
    rng : numpy Generator
    """

    def __init__(self, potential: Potential, kalman: RLEKF, rng: np.random.Generator):
        self.potential, self.filter = potential, kalman
        step_kw, N = draws(kalman, DRAWS, rng), potential.layout.size
        #: w + ε δ_k; None if nothing can be drawn from this P
        self.members: list[Potential] | None = None
        if step_kw is not None:
            self.members = [
                potential.replace(weights=potential.weights + EPSILON * step_w[:N]) for step_w in step_kw
            ]

    def variance(self, sample: Sample, now: Prediction) -> np.ndarray | None:
        """v_i (n,), (eV/Å)²; None if nothing can be drawn from this P.

        Parameters
        ----------
        sample : a frame
        now : its prediction by ``potential``
        """
        if self.members is None:
            return None
        square_ic = sum((predict(member, sample).F_ic - now.F_ic) ** 2 for member in self.members)
        return to_numpy(square_ic).mean(axis=1) / (DRAWS * EPSILON**2)

    def exact(self, sample: Sample, now: Prediction, atoms: Any) -> np.ndarray:
        """(H P Hᵀ)_i of some atoms by their rows of H, the mean over an atom's components; (k,) (eV/Å)²."""
        force_k = numbers_of(sample.n_atoms).force_k.reshape(-1, 3, 2)[np.asarray(atoms)].reshape(-1, 2)
        none = np.zeros(0, dtype=int)
        numbers = numbers_of(0)._replace(energy_f=none, force_k=force_k, virial_k=np.zeros((0, 3), dtype=int))
        p = self.potential
        H_qw = p.engine.rows(p.parameters, sample.environment, now.forward, numbers)
        v_q = to_numpy(prediction_variance(self.filter, padded(H_qw, len(self.filter.weights))))
        return v_q.reshape(-1, 3).mean(axis=1)
