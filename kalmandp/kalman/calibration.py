"""From H P Hᵀ to the variance of an error: what P does not know, learned from errors that were seen.

P is the covariance of the weights if the model can be exact, its tangent plane holds, and errors of
measurements are independent. None of this is quite true. For each kind c of number (energy, force, virial)
two numbers are therefore learned from predictions whose errors became known afterwards::

    var e_q = f_c² H_q P H_qᵀ + r_c²

    r_c²/f_c²  how much of the errors does not grow with H P Hᵀ: the ratio of the largest likelihood, errors
               being distributed as Student's t with four degrees of freedom (their tails are heavier than
               those of a normal distribution), and its scale that of the median; ln f being 0 ± ln 2
               before anything is seen
    f_c²       the larger of Q(68.3 %) and Q(95.4 %)/4, Q being quantiles of e²/(H P Hᵀ + r²/f²) over recent
               predictions: of these errors 68.3 % at least were within one σ, 95.4 % within two

The errors must be those of numbers that the filter had not yet seen: its innovations. Errors of what it has
learned are smaller than r, as a model bends towards its labels. A few very large errors hardly change a
quantile.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import require
from kalmandp.kalman.filter import RLEKF

#: f and r are taken from the last BATCHES predictions (few, because P and the model change), or from up to
#: MOST_BATCHES where these hold fewer than NUMBERS numbers.
BATCHES, MOST_BATCHES, NUMBERS = 12, 24, 100
#: Shares of the errors of a normal distribution that are within one σ and two; the median of its squares.
WITHIN_ONE, WITHIN_TWO, MEDIAN = 0.6827, 0.9545, 0.4549
#: Ratios r²/f² that are tried, in medians of H P Hᵀ; and the standard deviation of ln f before anything is
#: seen: where errors do not tell f from r, f is near 1.
RATIOS, PRIOR = np.concatenate([[0.0], np.geomspace(0.03, 3e5, 28)]), float(np.log(2.0))
#: Degrees of freedom of Student's t.
FREEDOM = 4.0
TINY = 1e-30


class Calibration:
    """f and r of each kind of number; f = 1 and r = 0 before anything is known.

    Parameters
    ----------
    batches : of how many of the last predictions; None for all, if P and the model do not change

    Examples
    --------
    Errors three times as large as P says:

    >>> rng = np.random.default_rng(1)
    >>> calibration = Calibration()
    >>> for _ in range(16):
    ...     variance_q = rng.uniform(0.1, 10.0, 300)
    ...     calibration.see("force", 3.0 * rng.normal(size=300) * np.sqrt(variance_q), variance_q)
    >>> round(calibration.factor("force"))
    3
    """

    def __init__(self, batches: int | None = BATCHES) -> None:
        self.batches = batches
        self._seen: dict[str, deque] = {}
        self._residual: dict[str, float] = {}
        self._fitted: dict[str, tuple[float, float]] = {}  # f², r²

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
            while self.batches and len(batches) > self.batches and _enough(batches):
                batches.popleft()
            self._fit(kind)

    def see_residual(self, kind: str, mean_square: float) -> None:
        """Take in the mean square of the errors of numbers that the model has learned.

        It is r² until there are predictions of numbers that it has not.
        """
        self._residual[kind] = float(mean_square)

    def residual(self, kind: str) -> float:
        """RMS error of the numbers that the model has learned."""
        return float(np.sqrt(self._residual.get(kind, 0.0)))

    def factor(self, kind: str) -> float:
        """f of a kind."""
        return float(np.sqrt(self._of(kind)[0]))

    def floor(self, kind: str) -> float:
        """r of a kind."""
        return float(np.sqrt(self._of(kind)[1]))

    def variance(self, kind: str, variance_q: Any) -> Any:
        """f² H P Hᵀ + r² of H P Hᵀ."""
        square, floor = self._of(kind)
        return square * variance_q + floor

    def _of(self, kind: str) -> tuple[float, float]:
        return self._fitted.get(kind, (1.0, self._residual.get(kind, 0.0)))

    def widened(self, q: float) -> None:
        """P has become q times as large: multiply the variances of earlier predictions by q, too."""
        for kind, batches in self._seen.items():
            for batch in batches:
                batch[1] *= q
            self._fit(kind)

    def _fit(self, kind: str) -> None:
        self._fitted[kind] = fit(*np.concatenate(list(self._seen[kind]), axis=1))

    def state(self) -> dict[str, np.ndarray]:
        """Arrays by name, to be stored: of each batch e² and H P Hᵀ, and the squared residual as "floor"."""
        state = {}
        for kind, batches in self._seen.items():
            state[f"{kind}/seen"] = np.concatenate(list(batches), axis=1)
            state[f"{kind}/sizes"] = np.array([b.shape[1] for b in batches])
        return state | {f"{kind}/floor": np.array([r]) for kind, r in self._residual.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Calibration:
        """The calibration that ``state`` was taken from."""
        new = cls()
        for name, value in state.items():
            kind, _, what = name.partition("/")
            if what == "floor":
                new._residual[kind] = float(np.asarray(value)[0])
            elif what == "seen":
                ends = np.cumsum(np.asarray(state[f"{kind}/sizes"]))[:-1]
                new._seen[kind] = deque(np.split(np.asarray(value), ends, axis=1))
        for kind in new._seen:
            new._fit(kind)
        return new


def fit(square_q: np.ndarray, variance_q: np.ndarray) -> tuple[float, float]:
    """f² and r² of errors with squares e² and of their H P Hᵀ > 0, both (m,)."""
    middle, best, ratio = float(np.median(variance_q)), np.inf, 0.0
    for tried in RATIOS * middle:
        v_q = variance_q + tried
        s_q = v_q * (max(float(np.median(square_q / v_q)), TINY) / MEDIAN)
        # −ln of Student's t for e with the scale √s, and of the prior of f
        loss = float(np.sum(0.5 * np.log(s_q) + 0.5 * (FREEDOM + 1) * np.log1p(square_q / (FREEDOM * s_q))))
        loss += 0.5 * (0.5 * np.log(s_q[0] / v_q[0]) / PRIOR) ** 2
        if loss < best:
            best, ratio = loss, float(tried)
    share_q = square_q / (variance_q + ratio)
    one, two = np.quantile(share_q, WITHIN_ONE), np.quantile(share_q, WITHIN_TWO)
    square = float(max(one, two / 4.0, TINY))
    return square, square * ratio


def widen(kalman: RLEKF, error_q: Any, variance_q: Any, noise: float, P0: float) -> float:
    """P ← q P where innovations are larger than P and R allow; return q.

    The filter's tangent plane moves as it learns, and what it learned at weights far from the current ones
    counts too much: P is then too small, and new numbers cannot move the weights. With the innovations of
    one prediction::

        q = Σ e²/Σ (H P Hᵀ + R),   at least 1, and tr P at most N P₀

    (A forgetting factor 1/q that the innovations choose: the strong tracking filter of D. H. Zhou and
    P. M. Frank, Int. J. Control 65, 295 (1996), with one factor for all weights.)

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
    """Whether the oldest of the batches can be dropped."""
    rest = sum(batch.shape[1] for batch in batches) - batches[0].shape[1]
    return rest >= NUMBERS or len(batches) > MOST_BATCHES
