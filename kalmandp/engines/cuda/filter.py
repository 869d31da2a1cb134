"""The Kalman filter on a GPU: `kalman.filter.RLEKF` whose updates need not wait for the device.

    kalman.update(H, error, noise)       as RLEKF: waits, returns what the update did, or raises
    kalman.enqueue(H, error, noise)      returns at once; any number of them, then
    kalman.synchronize()                 waits, returns what each of them did, or raises

What an update checks (H P Hᵀ finite and not negative, S positive definite, the step finite) is checked on
the device. A check that fails sets a flag there, and from then on nothing changes the weights or P;
`synchronize` finds the flag, puts the host's own counters back to the update that failed, and raises what
RLEKF would have raised: weights, P, λ and the count of updates are those before that update.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.engines.cuda.covariance import CUDA_COVARIANCES
from kalmandp.engines.cuda.launch import THREADS, CupyDevice, Device, blocks_for
from kalmandp.errors import FilterError, require
from kalmandp.kalman.blocks import Blocks
from kalmandp.kalman.coupled import CoupledCovariance, move
from kalmandp.kalman.covariance import DenseCovariance
from kalmandp.kalman.filter import RLEKF, UpdateInfo, check_finite

#: What ``status`` of filter.cu says.
FAILURES = {
    1: "H P Hᵀ is not finite; the filter is unchanged",
    2: "H P Hᵀ is {value:.3e} for measurement {q}; expected ≥ 0: the covariance P is no longer positive "
    "definite; the filter is unchanged",
    3: "the innovation variance S is not positive definite: pivot {value:.3e} at measurement {q} of {m}; "
    "expected a positive number; the filter is unchanged",
    4: "the error is not finite; expected finite numbers; the filter is unchanged",
    5: "the step of the weights is not finite; the filter is unchanged",
}


class Enqueued(NamedTuple):
    """An asynchronous update: the host's counters before it, and arrays of the device that it fills."""

    counters: tuple
    lam: float
    updates: int
    S_qq: Any
    error_q: Any
    nis: Any
    squares: Any


class CudaRLEKF(RLEKF):
    """RLEKF with weights and P on a CUDA device.

    Parameters
    ----------
    weights : the initial weights, (N,), NumPy or CuPy; copied to the device
    blocks, P0, lam, nu, process_noise, dtype : as `RLEKF` has them
    coupled : P is cut to its blocks once in a window (`kalman.coupled`)
    device : by default the current CUDA device
    """

    def __init__(
        self, weights: Any, blocks=None, *, P0: Any = 1.0, lam: float = 0.98, nu: float = 0.9987,
        process_noise: float = 0.0, dtype: Any = "float64", coupled: bool = False,
        device: Device | None = None,
    ):  # fmt: skip
        device = CupyDevice() if device is None else device
        kind = "cuda coupled" if coupled else "cuda"
        super().__init__(
            device.xp.asarray(weights), blocks, P0=device.xp.asarray(P0), lam=lam, nu=nu, dtype=dtype,
            process_noise=process_noise, covariance=partial(CUDA_COVARIANCES[kind], device=device),
        )  # fmt: skip
        self._begin(device, kind)

    def _begin(self, device: Device, kind: str) -> None:
        self.device, self._kind = device, kind
        self._f = device.functions("filter.cu")
        xp = device.xp
        self._done, self._detail = xp.zeros(1, np.int32), xp.zeros(2)
        self._make_pieces()
        self._journal: list[Enqueued] = []
        self._noise: dict[bytes, Any] = {}

    def _make_pieces(self) -> None:
        N = len(self.weights)
        first = np.append(np.arange(0, N, THREADS, dtype=np.int32), np.int32(N))
        self._pieces, self._parts = self.device.xp.asarray(first), self.device.xp.zeros((len(first) - 1, 2))

    def update(
        self, H: Any, error: Any, noise: Any, accept: Callable[[np.ndarray, np.ndarray], bool] | None = None
    ) -> UpdateInfo:
        """Take in one measurement; the contract is that of `RLEKF.update`."""
        self._require_whole()
        self.synchronize()
        H_qw, error_q, R_qq = self._measurement(H, error, noise)
        check_finite("H", H_qw, self.device.xp)
        projected = None
        if accept is not None:
            projected = self.covariance.project(H_qw)
            S_qq, _, _, nis = self._innovation(projected[1], error_q, R_qq)
            if not accept(error_q, S_qq):
                return UpdateInfo(S_qq, nis, 0.0, 0.0, self.lam, accepted=False)
        self.enqueue(H_qw, self.device.xp.asarray(error_q), R_qq, projected)
        return self.synchronize()[-1][1]

    def enqueue(self, H_qw: Any, error_q: Any, noise: Any, projected: tuple[Any, Any] | None = None) -> None:
        """Put one update into the caller's stream. Nothing is read back; `synchronize` tells how it went.

        Parameters
        ----------
        H_qw : (m, N) and error_q : (m,), float64 arrays of the device
        noise : R on the host, a number, (m,) or (m, m)
        projected : what ``covariance.project(H_qw)`` returned, if it was asked for already; it is used up
        """
        self._require_whole()
        xp, f, m, N = self.device.xp, self._f, len(H_qw), len(self.weights)
        covariance: Any = self.covariance
        status = covariance.status
        require(H_qw.shape == (m, N), "H's shape", H_qw.shape, f"(m, {N})")
        require(error_q.shape == (m,), "error's shape", error_q.shape, f"({m},) as H has {m} rows")
        error_q, nis, squares = xp.ascontiguousarray(error_q), xp.empty(1), xp.empty(2)
        S_qq, C_qq, z_q = xp.empty((m, m)), xp.empty((m, m)), xp.empty(m)
        self._whole = False
        self._journal.append(
            Enqueued(covariance.counters, self.lam, self.updates, S_qq, error_q, nis, squares)
        )
        # l. 10:  K_l = P_l H_lᵀ
        K_qw, HPH_qq = covariance.project(H_qw) if projected is None else projected
        # l. 8:  S = λ R + Σ_l H_l P_l H_lᵀ = C Cᵀ,  z = C⁻¹ error
        f.innovation(
            1, THREADS, HPH_qq, self._on_device(noise, m), error_q, m, self.lam, status, self._detail, S_qq,
            C_qq, z_q, nis,
        )  # fmt: skip
        # l. 12:  w_l ← w_l + Gᵀz,  G = C⁻¹ K
        G_qw = covariance.whiten(K_qw, C_qq)
        step_w, parts = self._step(G_qw, z_q)
        f.accept(
            blocks_for(N), THREADS, self.weights, step_w, N, status, parts, len(parts), self._done, squares
        )
        # l. 11:  P_l ← (P_l − G_lᵀ G_l)/λ, and P ← P + q I if asked for
        covariance.downdate(G_qw, self.lam)
        if self.process_noise:
            covariance.inflate(self.process_noise)
        # l. 14:  λ ← ν λ + 1 − ν
        self.lam = self.nu * self.lam + 1 - self.nu
        self.updates += 1
        self._whole = True

    def _step(self, G_qw: Any, z_q: Any) -> tuple[Any, Any]:
        """Δw = Gᵀz (N,), and Σ Δw², Σ G² of pieces of the weights."""
        m, N = G_qw.shape
        step_w = self.device.xp.empty(N)
        self._f.weight_step(
            len(self._parts), THREADS, G_qw, z_q, self.weights, self._pieces, m, N, self.covariance.status,
            step_w, self._parts,
        )  # fmt: skip
        return step_w, self._parts

    def synchronize(self) -> list[tuple[np.ndarray, UpdateInfo]]:
        """Wait for the updates enqueued so far; the error_q and what was done, for each of them.

        Raises
        ------
        FilterError
            If one of them met a number it must not use. Those before it are taken in; weights, P, λ and
            the count of updates are as they were before the one that failed. Or if putting one of them into
            the stream was interrupted half way.
        """
        self._require_whole()
        if not self._journal:
            return []
        journal, self._journal = self._journal, []
        covariance: Any = self.covariance
        # all figures in one transfer
        flags = (flag.astype(np.float64) for flag in (covariance.status, self._done))
        arrays = [a for u in journal for a in (u.S_qq.ravel(), u.error_q, u.nis, u.squares)]
        figures = to_numpy(self.device.xp.concatenate([*flags, self._detail, *arrays]))
        (status, n_done, value, q), figures = figures[:4].tolist(), figures[4:]
        self._done[...] = 0
        if status:
            failed = journal[int(n_done)]
            covariance.counters, self.lam, self.updates = failed.counters, failed.lam, failed.updates
            covariance.status[...] = 0
            m = len(failed.error_q)
            raise FilterError(FAILURES[int(status)].format(value=value, q=int(q), m=m))
        done, at = [], 0
        for u in journal:
            m = len(u.error_q)
            S_qq, error_q, nis, step, gain = np.split(figures[at : at + m * m + m + 3], _places(m))
            info = UpdateInfo(S_qq.reshape(m, m), float(nis[0]), sqrt(step[0]), sqrt(gain[0]), u.lam)
            done.append((error_q, info))
            at += m * m + m + 3
        return done

    def _on_device(self, noise: Any, m: int) -> Any:
        """R (m, m) on the device; the same for all frames of a size, so that it is uploaded once."""
        R_qq = np.asarray(noise, dtype=np.float64)
        R_qq = R_qq if R_qq.ndim == 2 else np.diag(np.broadcast_to(R_qq, m))
        key = R_qq.tobytes()
        if key not in self._noise:
            if len(self._noise) >= 64:
                self._noise.clear()
            self._noise[key] = self.device.xp.asarray(np.ascontiguousarray(R_qq))
        return self._noise[key]

    def state(self, copy: bool = True) -> dict[str, Any]:
        """As `RLEKF.state`, of NumPy arrays; enqueued updates are synchronized first."""
        self.synchronize()
        return super().state(copy)

    @classmethod
    def from_state(cls, state: dict[str, Any], covariance: str | None = None, device: Device | None = None):
        """Return the filter whose `state` this is, on the device; P may come from any covariance."""
        device = CupyDevice() if device is None else device
        new, kind, P = cls._without_covariance(state)
        if kind in CUDA_COVARIANCES:
            new.covariance = CUDA_COVARIANCES[kind].from_state(new.blocks, P, device)
        else:
            source = RLEKF.from_state(state).covariance
            kind = "cuda coupled" if kind.endswith(" coupled") else "cuda"
            new.covariance = CUDA_COVARIANCES[kind](new.blocks, 1.0, source.dtype, device)
            move(source, new.covariance)
        new.weights = device.xp.asarray(new.weights)
        new._begin(device, kind)
        return new


def _places(m: int) -> list[int]:
    """Where S, error_q, nis, |Δw|² and Σ G² of an update end, one after another."""
    return list(np.cumsum([m * m, m, 1, 1]))


def for_the_host(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a CUDA filter as one that `RLEKF.from_state` reads without a device: P in full blocks."""
    kind = state["covariance"]
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if kind not in CUDA_COVARIANCES:
        return state
    blocks = Blocks(tuple(np.asarray(state["block_sizes"]).tolist()))
    P = {name[2:]: value for name, value in state.items() if name.startswith("P/")}
    there = CUDA_COVARIANCES[kind].from_state(blocks, P, HostArrays())
    here = (CoupledCovariance if there.coupled else DenseCovariance)(blocks, 1.0, there.dtype)
    move(there, here)
    rest = {name: value for name, value in state.items() if not name.startswith("P/")}
    squares = {f"P/{name}": value for name, value in here.state(copy=False).items()}
    return {**rest, **squares, "covariance": kind.replace("cuda", "dense")}


class HostArrays:
    """A `Device` whose arrays are NumPy's and that runs no kernel: enough to read a stored covariance."""

    xp = np

    def functions(self, file: str, **constants: Any) -> Any:
        raise NotImplementedError(f"{file} runs on a device")

    def free_bytes(self) -> int:
        return 0
