"""From H P Hᵀ to the variance of an error: what P does not know, learned from errors that were seen.

P is the covariance of the weights if the model can be exact, its tangent plane holds, and errors of
measurements are independent. None of this is quite true. For each kind c of number (energy, force, virial)
two numbers are therefore learned from predictions whose errors became known afterwards::

    var e_q = f_c² H_q P H_qᵀ + r_c²

    r_c²   the mean square of the errors that are left where the model has learned: what no weights remove
    f_c²   the larger of Q₁(68.3 %) and Q₂(95.4 %)/4, Q_k being quantiles of (e² − k² r_c²)/(H P Hᵀ) over
           recent predictions: of these errors 68.3 % at least were within one σ, 95.4 % within two

The errors must be those of numbers that the filter had not yet seen: its innovations. A quantile heeds a few
wild errors as little as one wild error.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import require
from kalmandp.kalman.filter import RLEKF

#: Predictions that f is taken from: few, because P and the model go on; more where each has few numbers,
#: until there are so many numbers.
BATCHES, MOST_BATCHES, NUMBERS = 6, 24, 100
#: Shares of the errors of a normal distribution that are within one σ and two.
WITHIN_ONE, WITHIN_TWO = 0.6827, 0.9545
#: f² is never below this: a few lucky predictions prove nothing.
LEAST = 0.25


class Calibration:
    """f and r of each kind of number; f = 1 and r = 0 before anything is known.

    Examples
    --------
    Errors three times as large as P says:

    >>> rng = np.random.default_rng(1)
    >>> calibration = Calibration()
    >>> for _ in range(16):
    ...     calibration.see("force", 3.0 * rng.normal(size=300), np.ones(300))
    >>> round(calibration.factor("force"))
    3
    """

    def __init__(self) -> None:
        self._seen: dict[str, deque] = {}
        self._floor: dict[str, float] = {}
        self._factor: dict[str, float] = {}

    def see(self, kind: str, error_q: Any, variance_q: Any) -> None:
        """Take in errors of predictions, and what P said of them.

        Parameters
        ----------
        kind : of all these numbers
        error_q : (m,) prediction − label
        variance_q : (m,) H P Hᵀ, in the units of error²
        """
        square_q, variance_q = np.square(np.ravel(error_q)), np.ravel(variance_q)
        require(square_q.shape == variance_q.shape, "variance_q's shape", variance_q.shape, square_q.shape)
        known = variance_q > 0
        if known.any():
            batches = self._seen.setdefault(kind, deque())
            batches.append(np.stack([square_q[known], variance_q[known]]))
            while len(batches) > BATCHES and _enough(batches):
                batches.popleft()
            self._fit(kind)

    def see_residual(self, kind: str, mean_square: float) -> None:
        """Set r²: the mean square of the errors of numbers that the model has learned."""
        self._floor[kind] = float(mean_square)
        if kind in self._seen:
            self._fit(kind)

    def factor(self, kind: str) -> float:
        """f of a kind."""
        return self._factor.get(kind, 1.0)

    def floor(self, kind: str) -> float:
        """r of a kind."""
        return float(np.sqrt(self._floor.get(kind, 0.0)))

    def variance(self, kind: str, variance_q: Any) -> Any:
        """f² H P Hᵀ + r² of H P Hᵀ."""
        return self.factor(kind) ** 2 * variance_q + self._floor.get(kind, 0.0)

    def widened(self, q: float) -> None:
        """P has become q times as large: what was seen is told of the P that is now."""
        for kind, batches in self._seen.items():
            for batch in batches:
                batch[1] *= q
            self._fit(kind)

    def _fit(self, kind: str) -> None:
        square_q, variance_q = np.concatenate(list(self._seen[kind]), axis=1)
        floor = self._floor.get(kind, 0.0)
        one = np.quantile((square_q - floor) / variance_q, WITHIN_ONE)
        two = np.quantile((square_q - 4.0 * floor) / variance_q, WITHIN_TWO)
        self._factor[kind] = float(np.sqrt(max(one, two / 4.0, LEAST)))

    def state(self) -> dict[str, np.ndarray]:
        """Arrays by name, to be stored: of each batch e² and H P Hᵀ, and r²."""
        state = {}
        for kind, batches in self._seen.items():
            state[f"{kind}/seen"] = np.concatenate(list(batches), axis=1)
            state[f"{kind}/sizes"] = np.array([b.shape[1] for b in batches])
        return state | {f"{kind}/floor": np.array([r]) for kind, r in self._floor.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Calibration:
        """The calibration that ``state`` was taken from."""
        new = cls()
        for name, value in state.items():
            kind, _, what = name.partition("/")
            if what == "floor":
                new._floor[kind] = float(np.asarray(value)[0])
            elif what == "seen":
                ends = np.cumsum(np.asarray(state[f"{kind}/sizes"]))[:-1]
                new._seen[kind] = deque(np.split(np.asarray(value), ends, axis=1))
        for kind in new._seen:
            new._fit(kind)
        return new


def widen(kalman: RLEKF, error_q: Any, variance_q: Any, noise: float, P0: float) -> float:
    """P ← q P where innovations are larger than P and R allow; return q.

    The filter's tangent plane moves as it learns, and what it learned far from here counts for too much: P is
    then too small, and new numbers cannot move the weights. With the innovations of one prediction::

        q = Σ e²/Σ (H P Hᵀ + R),   at least 1, and tr P at most N P₀

    (A fading memory that the innovations choose: the strong tracking filter of D. H. Zhou and P. M. Frank,
    Int. J. Control 65, 295 (1996), with one factor for all weights.)

    Parameters
    ----------
    kalman : its P is changed
    error_q, variance_q : (m,) innovations of one kind, and H P Hᵀ
    noise : R of each
    P0 : the prior variance of a weight, which P does not grow beyond on average
    """
    N = len(kalman.weights)
    allowed = float(np.sum(variance_q)) + np.size(variance_q) * noise
    room = N * P0 / float(np.sum(to_numpy(kalman.covariance.trace())))
    q = min(float(np.sum(np.square(error_q))) / allowed, room)
    if not 1.0 < q < np.inf:
        return 1.0
    # P ← (P − 0)/λ with λ = 1/q
    kalman.covariance.downdate(namespace(kalman.weights).zeros((1, N)), 1.0 / q)
    return q


def _enough(batches: deque) -> bool:
    """Whether the first of the batches can be done without."""
    rest = sum(batch.shape[1] for batch in batches) - batches[0].shape[1]
    return rest >= NUMBERS or len(batches) > MOST_BATCHES
