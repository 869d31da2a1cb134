"""The weights' error covariance P = diag(P_1, …, P_L): what the filter asks of it, and the plain form.

Letters of array names: w weight, q measurement, l block.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import InputError, require
from kalmandp.kalman.blocks import Blocks
from kalmandp.kalman.cholesky import cholesky


class Gain(NamedTuple):
    """What an update does to the weights, and what it takes from P.

    G_qw : (m, N), G = C⁻¹K for S = CCᵀ
    weights : (N,) the new weights, w + Gᵀz
    step_square : |Gᵀz|², the squared length of the step
    gain_square : Σ G², the trace of K S⁻¹ Kᵀ
    """

    G_qw: Any
    weights: Any
    step_square: float
    gain_square: float


def gain(G_qw: Any, z_q: np.ndarray, weights: Any) -> Gain:
    """Algorithm 1, l. 12, for G that is whitened already; ``z_q`` (m,) is C⁻¹ error."""
    xp = namespace(G_qw)
    # l. 12:  w_l ← w_l + K_l S⁻¹ error = w_l + G_lᵀz
    step_w = xp.einsum("q,qw->w", xp.asarray(z_q), G_qw)
    square = float(xp.sum(step_w * step_w))
    return Gain(G_qw, weights + step_w, square, float(xp.einsum("qw,qw->", G_qw, G_qw)))


class Covariance(Protocol):
    """What the filter needs of a covariance. `DenseCovariance` says what each method computes.

    A class that offers this is made by ``cls(blocks, P0, dtype)`` and again, from its ``state()``, by
    ``cls.from_state(blocks, state)``. Nothing here validates: the filter does, once.

    coupled : whether blocks are coupled within a window; if so it is a `kalman.coupled.Coupled`
    """

    blocks: Blocks
    dtype: Any
    coupled: bool

    def cholesky(self, S_qq: np.ndarray, error_q: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """`kalman.cholesky.cholesky`, or a faster twin of it."""
        ...

    def project(self, H_qw: Any) -> tuple[Any, Any]: ...

    def gain(self, K_qw: Any, C_qq: np.ndarray, z_q: np.ndarray, weights: Any) -> Gain: ...

    def downdate(self, G_qw: Any, lam: float) -> None: ...

    def inflate(self, q: float) -> None: ...

    def diagonal(self) -> Any: ...

    def trace(self) -> Any: ...

    def dense(self, l: int) -> Any: ...

    def assign(self, l: int, P_ww: Any) -> None: ...

    def state(self, copy: bool = True) -> dict[str, Any]: ...

    @property
    def nbytes(self) -> int: ...


class DenseCovariance:
    """P as full square blocks in plain NumPy or CuPy: the reference of every faster form.

    Parameters
    ----------
    blocks : the partition of the N weights
    P0 : the initial variances: one number, or an array (N,). Its module (NumPy, CuPy) is used for P.
    dtype : "float64" or "float32", in which P is stored and multiplied
    """

    coupled = False
    cholesky = staticmethod(cholesky)

    def __init__(self, blocks: Blocks, P0: Any = 1.0, dtype: Any = "float64"):
        xp = namespace(P0)
        self.blocks = blocks
        self.dtype = np.dtype(dtype)
        variance_w = xp.broadcast_to(xp.asarray(P0, dtype=dtype), (blocks.n_weights,))
        self._P = [xp.diag(variance_w[w]) for w in blocks]

    def project(self, H_qw: Any) -> tuple[Any, Any]:
        """Return K (m, N), row q being P H_qᵀ, and H P Hᵀ (m, m). P is only read.

        Algorithm 1, l. 10, for all blocks, and the sum in l. 8: ``K_l = P_l H_lᵀ``, ``Σ_l H_l P_l H_lᵀ``.
        """
        xp = namespace(H_qw)
        K_qw = xp.empty(H_qw.shape)
        HPH_qq = xp.zeros((len(H_qw), len(H_qw)))
        for w, P_ww in zip(self.blocks, self._P, strict=True):
            # K_l = P_l H_lᵀ   (P_l is symmetric)
            K_qw[:, w] = H_qw[:, w].astype(P_ww.dtype) @ P_ww
            HPH_qq += H_qw[:, w] @ K_qw[:, w].T
        return K_qw, HPH_qq

    def whiten(self, K_qw: Any, C_qq: Any) -> Any:
        """Return G = C⁻¹K for the Cholesky factor S = CCᵀ, so that K S⁻¹ Kᵀ = GᵀG. May overwrite K.

        For m = 1 this is √a·K with the paper's a = 1/S.
        """
        if len(K_qw) == 1:
            return K_qw / C_qq[0, 0]
        xp = namespace(K_qw)
        return xp.linalg.solve(C_qq, K_qw)

    def gain(self, K_qw: Any, C_qq: np.ndarray, z_q: np.ndarray, weights: Any) -> Gain:
        """Return G = C⁻¹K, and the weights that Algorithm 1, l. 12, goes to. May overwrite K."""
        return gain(self.whiten(K_qw, namespace(K_qw).asarray(C_qq)), z_q, weights)

    def downdate(self, G_qw: Any, lam: float) -> None:
        """Algorithm 1, l. 11: ``P_l ← (P_l − K_l S⁻¹ K_lᵀ)/λ = (P_l − G_lᵀ G_l)/λ``."""
        for w, P_ww in zip(self.blocks, self._P, strict=True):
            G = G_qw[:, w].astype(P_ww.dtype)
            P_ww -= G.T @ G
            P_ww /= lam

    def inflate(self, q: float) -> None:
        """Add process noise: ``P ← P + q I``."""
        for P_ww in self._P:
            P_ww.reshape(-1)[:: len(P_ww) + 1] += q

    def diagonal(self) -> Any:
        """The variances of the N weights, float64 (N,)."""
        xp = namespace(*self._P)
        return xp.concatenate([xp.diagonal(P_ww) for P_ww in self._P]).astype("float64")

    def trace(self) -> Any:
        """The trace of each block, float64 (L,)."""
        return self.blocks.sums(self.diagonal())

    def dense(self, l: int) -> Any:
        """A copy of block l as a full matrix (n_l, n_l), float64."""
        return self._P[l].astype("float64")

    def assign(self, l: int, P_ww: Any) -> None:
        """Set block l to the symmetric matrix ``P_ww`` (n_l, n_l)."""
        self._P[l][...] = P_ww

    def state(self, copy: bool = True) -> dict[str, Any]:
        """P as NumPy arrays; with ``copy=False`` its own, valid until the next update."""
        return {f"block_{l:04d}": to_numpy(P_ww.copy() if copy else P_ww) for l, P_ww in enumerate(self._P)}

    @classmethod
    def from_state(cls, blocks: Blocks, state: dict[str, Any]) -> DenseCovariance:
        """Make the covariance that ``state`` was taken from, with the same bits."""
        new = cls.__new__(cls)
        new.blocks = blocks
        new._P = []
        for l, n in enumerate(blocks.sizes):
            P_ww = stored(state, f"block_{l:04d}", (n, n))
            new._P.append(namespace(P_ww).array(P_ww))
        new.dtype = np.dtype(new._P[0].dtype)
        return new

    @property
    def nbytes(self) -> int:
        """Bytes held: the squares."""
        return sum(P_ww.nbytes for P_ww in self._P)


def stored(state: dict[str, Any], name: str, shape: tuple[int, ...]) -> Any:
    """Return the floating-point array ``name`` of a stored state, or say what is wrong with it.

    It may be a data set of an open HDF5 file. −1 in ``shape`` stands for any length.
    """
    if name not in state:
        raise InputError(f"the stored covariance P has no {name!r}; it has {', '.join(sorted(state))}")
    array = state[name] if hasattr(state[name], "shape") else np.asarray(state[name])
    what = f"the stored covariance's {name}"
    fits = len(array.shape) == len(shape) and all(
        n in (-1, got) for n, got in zip(shape, array.shape, strict=True)
    )
    require(fits, f"{what} shape", tuple(array.shape), shape)
    require(array.dtype in (np.float32, np.float64), f"{what} type", array.dtype, "float32 or float64")
    return array
