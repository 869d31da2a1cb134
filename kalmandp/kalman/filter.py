"""The extended Kalman filter for the weights of a model, with a block-diagonal covariance.

The model h(w) is any differentiable function. A measurement of m ≥ 1 numbers y = h(w) + η, η ~ N(0, R),
changes the weights by (Algorithm 1 of the RLEKF paper, which is m = 1 and R = L)::

    S    = λ R + Σ_l H_l P_l H_lᵀ                    H = ∂h/∂w, error = y − h(w)
    K_l  = P_l H_lᵀ
    w_l ← w_l + K_l S⁻¹ error
    P_l ← (P_l − K_l S⁻¹ K_lᵀ)/λ
    λ   ← ν λ + 1 − ν

For one block this is P⁻¹ ← λ P⁻¹ + Hᵀ R⁻¹ H: recursive least squares that forgets with the factor λ.

From the paper's equations to these lines. Eq. (1) is the model, y = h(w) + η with weights that do not move;
eq. (2) replaces h by its tangent plane, linearised at the current weights, with H = ∂h/∂w (a column in the
paper, a row here); (3) and (4) are that linear problem, which Kalman's filter solves exactly. Eq. (5) makes
old data count less: numbers of step t are multiplied by α_t = Π_i λ_i^(−1/2), which grows. The filter for (5)
reads ::

    a_t = λ⁻¹ HᵀPH + α²R,    K_t = λ⁻¹ P H a_t⁻¹,    P_t = (1 − K_t Hᵀ) λ⁻¹ P,    w_t = w_{t−1} + K_t ε_t

The paper sets α²R = L, so α never has to be computed. Multiply a_t by λ and call it S: a_t = S/λ turns K_t
into P H S⁻¹ and P_t into (P − P H S⁻¹ HᵀP)/λ. These are the lines above, and R stands for the paper's α²R.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import FilterError, InputError, require
from kalmandp.kalman.blocks import BLOCK_SIZE, Blocks, Part, partition
from kalmandp.kalman.coupled import move
from kalmandp.kalman.covariance import Covariance
from kalmandp.registry import COVARIANCES, find


class UpdateInfo(NamedTuple):
    """What one update did. All are functions of what went in; none costs another pass over P.

    Attributes
    ----------
    innovation_variance : S (m, m), the variance the filter expected of ``error``
    nis : errorᵀ S⁻¹ error, the normalised innovation squared; m on average if the noise is right
    step_norm : |Δw|
    gain_norm : √tr(K S⁻¹ Kᵀ), the root mean square of |Δw| over errors drawn from N(0, S)
    lam : the forgetting factor λ that this update used
    accepted : False if the measurement was left out; then step_norm and gain_norm are 0
    """

    innovation_variance: np.ndarray
    nis: float
    step_norm: float
    gain_norm: float
    lam: float
    accepted: bool = True


class RLEKF:
    """Reorganized layer extended Kalman filter: RLEKF, eq. (1) to (5).

    Parameters
    ----------
    weights : the initial weights, (N,), NumPy or CuPy. They are copied, unless ``copy`` is False;
        ``filter.weights`` is the filter's own float64 array, changed in place by `update`.
    blocks : a `Blocks`, or block sizes that add up to N. Without it the weights are cut evenly into
        blocks of at most 5120.
    P0 : initial variance of the weights: a number or an array (N,)
    lam, nu : the forgetting factor λ of the first update and its rate ν: λ ← νλ + 1 − ν
    process_noise : q ≥ 0, added to the diagonal of P after each update; it may be changed at any time
    covariance : ``"dense"`` (the plain reference), ``"tiled"`` (halves, the fused CPU engine) or
        ``"cuda"`` (halves, on a GPU; the weights are CuPy's); each also as ``"dense coupled"`` …, which
        keeps blocks coupled for a window (`kalman.coupled`); or a class that offers
        `kalmandp.kalman.Covariance`
    dtype : ``"float64"`` or ``"float32"``: the numbers of P. Weights are float64 in any case.
    copy : False to keep ``weights`` itself, a writeable float64 array: `update` then changes the caller's
        own array in place
    stored_as : the name that `state` gives to a class of yours, whose state has the form of that name

    Examples
    --------
    A line through noisy points, one at a time:

    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> line = RLEKF(np.zeros(2), P0=100.0, lam=1.0)
    >>> for x in rng.uniform(-1, 1, 200):
    ...     y = 3.0 * x - 1.0 + 0.1 * rng.normal()
    ...     H = np.array([[x, 1.0]])  # ∂h/∂w of h(w) = w₀ x + w₁
    ...     info = line.update(H, y - H @ line.weights, noise=0.1**2)
    >>> np.round(line.weights, 1)
    array([ 3., -1.])

    The whole filter in plain NumPy, for blocks of any size, is the same to rounding:

    >>> def update(w, P_l, lam, nu, blocks, H, error, R):
    ...     S = lam * R + sum(H[:, l] @ P @ H[:, l].T for l, P in zip(blocks, P_l))   # l. 8
    ...     for l, P in zip(blocks, P_l):
    ...         K = P @ H[:, l].T                                                     # l. 10
    ...         w[l] += K @ np.linalg.solve(S, error)                                 # l. 12
    ...         P[...] = (P - K @ np.linalg.solve(S, K.T)) / lam                      # l. 11
    ...     return nu * lam + 1 - nu                                                  # l. 14
    >>> kalman = RLEKF(np.ones(5), [2, 3], P0=2.0, lam=0.98, nu=0.9987)
    >>> w, P_l, lam, blocks = np.ones(5), [2 * np.eye(2), 2 * np.eye(3)], 0.98, [slice(0, 2), slice(2, 5)]
    >>> for _ in range(20):
    ...     H, error, R = rng.normal(size=(3, 5)), rng.normal(size=3), np.diag([1.0, 2.0, 3.0])
    ...     info = kalman.update(H, error, R)
    ...     lam = update(w, P_l, lam, 0.9987, blocks, H, error, R)
    >>> bool(np.allclose(w, kalman.weights, rtol=1e-12)), bool(np.isclose(lam, kalman.lam))
    (True, True)
    >>> bool(np.allclose(P_l[1], kalman.covariance.dense(1), rtol=1e-10))
    True

    Raises
    ------
    InputError
        Shapes, types or settings that cannot be used.
    """

    def __init__(
        self,
        weights: Any,
        blocks: Blocks | Sequence[int] | None = None,
        *,
        P0: Any = 1.0,
        lam: float = 0.98,
        nu: float = 0.9987,
        process_noise: float = 0.0,
        covariance: str | type = "dense",
        dtype: Any = "float64",
        copy: bool = True,
        stored_as: str | None = None,
    ):
        self.weights = _weights(weights, copy)
        self.blocks = _blocks(blocks, len(self.weights))
        self.lam = _factor("lam", lam)
        self.nu = _factor("nu", nu)
        self.process_noise = process_noise
        self.updates, self._whole = 0, True
        P0_w = _variances(P0, self.weights)
        require(str(np.dtype(dtype)) in ("float32", "float64"), "dtype", dtype, "float32 or float64")
        self.covariance: Covariance = _covariance_class(covariance)(self.blocks, P0_w, dtype)
        self._kind = covariance if stored_as is None else stored_as

    @property
    def process_noise(self) -> float:
        """q of P ← P + q I after each update, a finite number ≥ 0: InputError when it is set to another."""
        return self._process_noise

    @process_noise.setter
    def process_noise(self, q: float) -> None:
        require(np.ndim(q) == 0 and 0 <= q < np.inf, "process_noise", q, "a finite number ≥ 0")
        self._process_noise = float(q)

    def update(
        self, H: Any, error: Any, noise: Any, accept: Callable[[np.ndarray, np.ndarray], bool] | None = None
    ) -> UpdateInfo:
        """Take in one measurement of m numbers: Algorithm 1, l. 8 to 16.

        Parameters
        ----------
        H : ∂h/∂w, (m, N); (N,) is taken as m = 1
        error : y − h(w), (m,), or a number for m = 1
        noise : R, the variance of the measurement noise in the units of error²: a number, the
            variances (m,), or the covariance (m, m)
        accept : asked as ``accept(error, S)``, arrays (m,) and (m, m), before anything is changed. Where
            it answers False the measurement is left out: weights, P, λ and the count are as before.

        Raises
        ------
        InputError
            Wrong shapes, or noise that is not a variance.
        FilterError
            A number that is not finite, or S or P not positive definite: weights, P, λ and the count of
            updates are exactly as before then.

        Notes
        -----
        An interrupt (Ctrl-C raises KeyboardInterrupt between any two lines of Python) during the last lines
        may leave P changed and the weights not. `state` and `update` of such a filter raise FilterError.
        """
        self._require_whole()
        H_qw, error_q, R_qq = self._measurement(H, error, noise)
        xp = namespace(H_qw)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            # l. 10:  K_l = P_l H_lᵀ
            K_qw, HPH_qq = self.covariance.project(H_qw)
            if not bool(xp.isfinite(HPH_qq).all()):
                check_finite("H", H_qw, xp)  # H is scanned only if H P Hᵀ is not finite
            # l. 8:  S = λ R + Σ_l H_l P_l H_lᵀ
            # S = C Cᵀ,  z = C⁻¹ error,  G = C⁻¹ K:  K S⁻¹ error = Gᵀz,  K S⁻¹ Kᵀ = GᵀG
            S_qq, C_qq, z_q, nis = self._innovation(HPH_qq, error_q, R_qq)
            if accept is not None and not accept(error_q, S_qq):
                return UpdateInfo(S_qq, nis, 0.0, 0.0, self.lam, accepted=False)
            # l. 12:  w_l ← w_l + K_l S⁻¹ error
            gain = self.covariance.gain(K_qw, C_qq, z_q, self.weights)
        if not bool(xp.isfinite(gain.weights).all()):
            raise FilterError("the step of the weights is not finite; the filter is unchanged")
        info = UpdateInfo(
            innovation_variance=S_qq,
            nis=nis,
            step_norm=sqrt(gain.step_square),
            gain_norm=sqrt(gain.gain_square),
            lam=self.lam,
        )
        self._whole = False
        # l. 11:  P_l ← (P_l − K_l S⁻¹ K_lᵀ)/λ, and P ← P + q I if asked for
        self.covariance.downdate(gain.G_qw, self.lam)
        if self.process_noise:
            self.covariance.inflate(self.process_noise)
        self.weights[...] = gain.weights
        # l. 14:  λ ← ν λ + 1 − ν
        self.lam = self.nu * self.lam + 1 - self.nu
        self.updates += 1
        self._whole = True
        return info

    @contextlib.contextmanager
    def learning_prior(self) -> Iterator[None]:
        """A ``with`` block in which λ = 1, nothing is forgotten; afterwards λ and the count are as before.

        An update with an error of zero changes P by H and R and leaves the weights alone. Such updates, made
        with the data that the weights were trained on, turn the P₀ of unknown weights into the covariance of
        trained ones: P⁻¹ = P₀⁻¹ + Σ HᵀR⁻¹H, a Laplace approximation of the posterior.
        """
        lam, updates = self.lam, self.updates
        self.lam = 1.0
        yield
        self.lam, self.updates = lam, updates

    def _innovation(self, HPH_qq: Any, error_q: np.ndarray, R_qq: np.ndarray) -> tuple:
        """S = λ R + H P Hᵀ = C Cᵀ, z = C⁻¹ error, and zᵀz = errorᵀ S⁻¹ error; NumPy."""
        S_qq = self.lam * R_qq
        S_qq += _checked(to_numpy(HPH_qq), S_qq)
        C_qq, z_q, q = self.covariance.cholesky(S_qq, error_q)
        if q < len(S_qq):
            raise FilterError(
                f"the innovation variance S is not positive definite: pivot {C_qq[q, q]:.3e} at measurement "
                f"{q} of {len(S_qq)}; expected a positive number; the filter is unchanged"
            )
        return S_qq, C_qq, z_q, float(np.sum(z_q * z_q))

    def state(self, copy: bool = True) -> dict[str, Any]:
        """Everything the filter is, as plain arrays, numbers and one string, ready for HDF5.

        Names with a slash are groups there.

        Parameters
        ----------
        copy : False gives the filter's own arrays, valid until the next update: a writer needs no second
            P in memory

        Raises
        ------
        FilterError
            If an update was interrupted half way.
        """
        self._require_whole()
        require(isinstance(self._kind, str), "covariance", self._kind, "a name, to be stored")
        weights = to_numpy(self.weights)
        state = {
            "weights": weights.copy() if copy else weights,
            "lam": self.lam,
            "nu": self.nu,
            "process_noise": self.process_noise,
            "updates": self.updates,
            "block_sizes": np.array(self.blocks.sizes, dtype=np.int64),
            "covariance": self._kind,
        }
        for name, value in self.covariance.state(copy).items():
            state[f"P/{name}"] = value
        return state

    @classmethod
    def from_state(cls, state: dict[str, Any], covariance: str | type | None = None) -> RLEKF:
        """Return the filter whose `state` this is: it goes on with the same bits.

        Parameters
        ----------
        state : what `state` returned, or the same read from a file
        covariance : another covariance than the stored one: P then has the same values to rounding. A class
            reads P itself, in the form of the stored name, with the same bits
        """
        new, kind, P = cls._without_covariance(state)
        new._kind = kind
        if isinstance(covariance, type):
            new.covariance = covariance.from_state(new.blocks, P)  # type: ignore[attr-defined]
            return new
        new.covariance = _covariance_class(kind).from_state(new.blocks, P)
        return new if covariance in (None, kind) else new._moved_to(covariance)

    @classmethod
    def _without_covariance(cls, state: dict[str, Any]) -> tuple[Any, str, dict[str, Any]]:
        """The filter of a state but for P, the covariance's name, and its state."""
        missing = {"weights", "lam", "nu", "updates", "block_sizes", "covariance"} - set(state)
        require(not missing, "the filter's state", f"without {sorted(missing)}", "all of them")
        kind = state["covariance"]
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        new = cls.__new__(cls)
        new.weights = _weights(state["weights"])
        new.blocks = _blocks(np.asarray(state["block_sizes"]).tolist(), len(new.weights))
        new.lam = _factor("lam", state["lam"])
        new.nu = _factor("nu", state["nu"])
        new.process_noise = float(state.get("process_noise", 0.0))
        new.updates, new._whole = int(state["updates"]), True
        return new, kind, {name[2:]: value for name, value in state.items() if name.startswith("P/")}

    def _require_whole(self) -> None:
        if not self._whole:
            raise FilterError(
                "the filter was interrupted in the middle of an update: its weights and P do not belong "
                "together; go on from the last state that was saved"
            )

    def _moved_to(self, covariance: str) -> RLEKF:
        dtype = self.covariance.dtype
        moved = _covariance_class(covariance)(self.blocks, 1.0, dtype)
        move(self.covariance, moved)
        self.covariance, self._kind = moved, covariance
        return self

    def _measurement(self, H: Any, error: Any, noise: Any) -> tuple[Any, np.ndarray, np.ndarray]:
        """Check a measurement; return H (m, N), error (m,), R (m, m), the last two in NumPy.

        Whether H is finite is left to who projects it.
        """
        xp = namespace(self.weights)
        N = len(self.weights)
        H_qw = xp.atleast_2d(_floats(xp, "H", H))
        error_q = np.atleast_1d(_floats(np, "error", to_numpy(error)))
        R = _floats(np, "noise", to_numpy(noise))
        require(H_qw.ndim == 2 and H_qw.shape[1] == N, "H's shape", np.shape(H), f"(m, {N})")
        m = len(H_qw)
        require(m > 0, "the number of measurements", m, "at least 1")
        require(error_q.shape == (m,), "error's shape", np.shape(error), f"({m},) as H has {m} rows")
        wanted = f"() or ({m},) or ({m}, {m}) as H has {m} rows"
        require(R.shape in ((), (m,), (m, m)), "noise's shape", R.shape, wanted)
        check_finite("error", error_q, np)
        check_finite("noise", R, np)
        variances = np.diagonal(R) if R.ndim == 2 else R
        require(bool((variances >= 0).all()), "the smallest noise", variances.min(), "a variance ≥ 0")
        if R.ndim == 2:
            asymmetry = np.abs(R - R.T).max()
            small = 1e-10 * np.abs(R).max()
            require(asymmetry <= small, "the asymmetry of noise", asymmetry, "a symmetric matrix")
            R_qq = (R + R.T) / 2
        else:
            R_qq = np.diag(np.broadcast_to(R, m))
        return H_qw, error_q, R_qq


def _checked(HPH_qq: np.ndarray, noise_qq: np.ndarray) -> np.ndarray:
    """Return H P Hᵀ made symmetric, or refuse it: not finite, or P not positive definite along H.

    Where H P Hᵀ is small, rounding may push it below zero; that is harmless while it is far below the
    noise it is added to.
    """
    HPH_qq = HPH_qq + HPH_qq.T
    HPH_qq *= 0.5
    if not np.isfinite(HPH_qq).all():
        raise FilterError("H P Hᵀ is not finite; the filter is unchanged")
    excess_q = np.diagonal(HPH_qq) + 0.1 * np.diagonal(noise_qq)
    if excess_q.min() < 0:
        worst = int(np.argmin(excess_q))
        raise FilterError(
            f"H P Hᵀ is {HPH_qq[worst, worst]:.3e} for measurement {worst}; expected ≥ 0: the covariance "
            "P is no longer positive definite; the filter is unchanged"
        )
    return HPH_qq


def _covariance_class(covariance: str | type) -> Any:
    if not isinstance(covariance, str):
        return covariance
    return find(COVARIANCES, covariance, "covariance")


def _weights(given: Any, copy: bool = True) -> Any:
    xp = namespace(given)
    weights = _floats(xp, "weights", given)
    require(weights.ndim == 1 and weights.size > 0, "weights' shape", weights.shape, "(N,), N ≥ 1")
    if not bool(xp.isfinite(weights).all()):
        raise InputError("weights hold a number that is not finite; expected finite weights")
    if copy:
        return weights.copy()
    in_place = weights is given and getattr(weights.flags, "writeable", True)
    require(in_place, "weights with copy=False", type(given).__name__, "a writeable array of float64")
    return weights


def _blocks(blocks: Blocks | Sequence[int] | None, N: int) -> Blocks:
    if blocks is None:
        return partition([Part("weights", N, "weights")], "SEKF", BLOCK_SIZE)
    blocks = blocks if isinstance(blocks, Blocks) else Blocks(tuple(blocks))
    require(blocks.n_weights == N, "the blocks' sum", blocks.n_weights, f"{N}, the number of weights")
    return blocks


def _factor(name: str, value: Any) -> float:
    require(np.ndim(value) == 0 and 0 < value <= 1, name, value, "a number in (0, 1]")
    return float(value)


def _variances(P0: Any, weights: Any) -> Any:
    xp = namespace(weights)
    P0 = _floats(xp, "P0", P0)
    require(P0.shape in ((), weights.shape), "P0's shape", P0.shape, f"() or {weights.shape}")
    if not bool(((P0 > 0) & (P0 < np.inf)).all()):
        raise InputError(f"P0 is {P0 if P0.ndim == 0 else 'not positive throughout'}; expected variances > 0")
    return xp.broadcast_to(P0, weights.shape)


def _floats(xp: Any, name: str, value: Any) -> Any:
    try:
        return xp.asarray(value, dtype="float64")
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {type(value).__name__}; expected an array of numbers") from error


def check_finite(name: str, array: Any, xp: Any) -> None:
    """Raise FilterError where ``array`` of the module ``xp`` has a number that is not finite; say where."""
    finite = xp.isfinite(array)
    if not bool(finite.all()):
        at = tuple(int(i) for i in np.argwhere(~to_numpy(finite))[0])
        where = f"[{', '.join(map(str, at))}]" if at else ""
        raise FilterError(
            f"{name}{where} is {float(array[at])}; expected a finite number; the filter is unchanged"
        )
