"""Cross-block covariance kept for a window of updates.

Algorithm 1 keeps L blocks and updates each with its own K_l, so after every update the correlations between
blocks are gone: an energy that was just measured may be lost to the next force. A coupled P is cut to its
blocks only when a window of measured numbers is over::

    P = s (diag(A_1, …, A_L) − UᵀU)              U (k, N), k ≤ WINDOW

Within the window this is the P of the global filter (GEKF) that began with the blocks A. At its end::

    A_l ← s (A_l − U_lᵀ U_l),   U ← empty,   s ← 1

A diagonal block of a positive definite matrix is positive definite: P may be cut after any whole update, and
never in the middle of one. An update of more than half a window ends it by itself, so that P is then
Algorithm 1's. The cost is that of the L blocks and a product of U with H.

Letters of array names: k number measured in this window; w, q, l as in `kalman.covariance`.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, Protocol

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import require
from kalmandp.kalman.blocks import Blocks
from kalmandp.kalman.cholesky import cholesky
from kalmandp.kalman.covariance import Covariance, DenseCovariance, Gain, stored

#: Numbers measured before P is cut to its blocks. With 32, forces were some percent worse. With 128, they
#: were up to a tenth better after as many updates, but not after as much time: every update reads U.
WINDOW = 64


def is_over(k: int, m: int) -> bool:
    """Whether a window with ``k`` numbers ends, after an update of ``m``: another such would not fit."""
    return k + m > WINDOW


class Coupled(Covariance, Protocol):
    """A covariance whose blocks are coupled within a window."""

    @property
    def window(self) -> tuple[np.ndarray, float]:
        """U (k, N), float64, and s; they may be set."""
        ...

    def cut(self) -> None:
        """End the window: A_l ← s(A_l − U_lᵀU_l)."""
        ...


def move(source: Any, target: Any) -> None:
    """Copy P, with the U of its window, from ``source`` into a new ``target`` of another form."""
    if not (source.coupled and target.coupled):
        for l in range(len(source.blocks)):
            target.assign(l, source.dense(l))
        return
    U_kw, scale = source.window
    for l, w in enumerate(source.blocks):
        # P_l = s (A_l − U_lᵀ U_l)
        target.assign(l, to_numpy(source.dense(l)) / scale + U_kw[:, w].T @ U_kw[:, w])
    target.window = U_kw, scale


class Windows:
    """Decides when P is cut: a mix-in for a form of P that collects pending columns U and folds them into A.

    It stands before that class among the bases, and uses its ``_n_pending`` (number of pending columns) and
    ``fold`` (which puts them into A).
    """

    coupled = True

    def downdate(self, G_qw: Any, lam: float) -> None:
        """P ← (P − GᵀG)/λ, all of it; the window ends if another update of this size would not fit."""
        form: Any = super()
        k, m = self._n_pending + len(G_qw), len(G_qw)  # type: ignore[attr-defined]
        # if U overflows, the form folds it in between; each block of A sums the same terms then, but P is cut
        # before all of G is in it, and is therefore cut once more at the end
        form.downdate(G_qw, lam)
        if is_over(k, m):
            self.cut()

    def cut(self) -> None:
        """End the window: A_l ← s(A_l − U_lᵀU_l)."""
        self.fold()  # type: ignore[attr-defined]


class CoupledCovariance:
    """Coupled blocks, the reference: `DenseCovariance` for A, and U beside it. Same methods and meaning.

    Parameters
    ----------
    blocks : the partition of the N weights
    P0 : the initial variances: one number, or an array (N,). Its module (NumPy, CuPy) is used for P.
    dtype : "float64" or "float32", in which A and U are stored
    """

    coupled = True
    cholesky = staticmethod(cholesky)

    def __init__(self, blocks: Blocks, P0: Any = 1.0, dtype: Any = "float64"):
        self._begin(DenseCovariance(blocks, P0, dtype), namespace(P0))

    def _begin(self, A: DenseCovariance, xp: Any) -> None:
        self.A, self.blocks, self.dtype = A, A.blocks, A.dtype
        self._U_kw, self._scale = xp.zeros((0, A.blocks.n_weights), A.dtype), 1.0

    def project(self, H_qw: Any) -> tuple[Any, Any]:
        """Return K = P Hᵀ as rows (m, N), and H P Hᵀ (m, m). P is only read."""
        # K = s (A Hᵀ − Uᵀ(U Hᵀ)),   H P Hᵀ = s (H A Hᵀ − (U Hᵀ)ᵀ(U Hᵀ))
        K_qw, HAH_qq = self.A.project(H_qw)
        UH_kq = self._U_kw @ H_qw.T
        return self._scale * (K_qw - UH_kq.T @ self._U_kw), self._scale * (HAH_qq - UH_kq.T @ UH_kq)

    def gain(self, K_qw: Any, C_qq: np.ndarray, z_q: np.ndarray, weights: Any) -> Gain:
        """Return G = C⁻¹K, and the weights that Algorithm 1, l. 12, goes to."""
        return self.A.gain(K_qw, C_qq, z_q, weights)

    def downdate(self, G_qw: Any, lam: float) -> None:
        """P ← (P − GᵀG)/λ, all of it: s(A − UᵀU) − GᵀG = s(A − UᵀU − GᵀG/s), then s ← s/λ."""
        new_kw = (G_qw / sqrt(self._scale)).astype(self.dtype)
        self._U_kw = namespace(G_qw).concatenate([self._U_kw, new_kw])
        self._scale /= lam
        if is_over(len(self._U_kw), len(G_qw)):
            self.cut()

    def cut(self) -> None:
        """End the window: A_l ← s(A_l − U_lᵀU_l)."""
        self.A.downdate(self._U_kw, 1.0 / self._scale)
        self._U_kw, self._scale = self._U_kw[:0], 1.0

    def inflate(self, q: float) -> None:
        """Add process noise: P ← P + q I."""
        self.A.inflate(q / self._scale)

    def diagonal(self) -> Any:
        """The variances of the N weights, float64 (N,)."""
        xp = namespace(self._U_kw)
        U_kw = self._U_kw.astype("float64")
        return self._scale * (self.A.diagonal() - xp.einsum("kw,kw->w", U_kw, U_kw))

    def trace(self) -> Any:
        """The trace of each block, float64 (L,)."""
        return self.blocks.sums(self.diagonal())

    def dense(self, l: int) -> Any:
        """A copy of the diagonal block l of P as a full matrix (n_l, n_l), float64."""
        U_kw = self._U_kw[:, list(self.blocks)[l]].astype("float64")
        return self._scale * (self.A.dense(l) - U_kw.T @ U_kw)

    def assign(self, l: int, P_ww: Any) -> None:
        """Set block l to the symmetric matrix ``P_ww`` (n_l, n_l), and end the window for the others."""
        self.cut()
        self.A.assign(l, P_ww)

    @property
    def window(self) -> tuple[np.ndarray, float]:
        """U (k, N), float64, and s."""
        return to_numpy(self._U_kw).astype("float64"), self._scale

    @window.setter
    def window(self, U_and_scale: tuple[np.ndarray, float]) -> None:
        U_kw, self._scale = U_and_scale
        self._U_kw = namespace(self._U_kw).asarray(U_kw, dtype=self.dtype)

    def state(self, copy: bool = True) -> dict[str, Any]:
        """A, U and s as they are: what goes on from here has the same bits."""
        return {**self.A.state(copy), "pending": to_numpy(self._U_kw), "scale": self._scale}

    @classmethod
    def from_state(cls, blocks: Blocks, state: dict[str, Any]) -> CoupledCovariance:
        """Make the covariance that ``state`` was taken from, with the same bits."""
        new = cls.__new__(cls)
        U_kw = stored(state, "pending", (-1, blocks.n_weights))
        new._begin(DenseCovariance.from_state(blocks, state), namespace(U_kw))
        require(len(U_kw) <= WINDOW, "pending numbers stored", len(U_kw), f"≤ {WINDOW}")
        new._U_kw, new._scale = np.array(U_kw), float(stored(state, "scale", ())[()])
        require(0 < new._scale < np.inf, "the scale stored", new._scale, "a positive number")
        return new

    @property
    def nbytes(self) -> int:
        """Bytes held: the squares and U."""
        return self.A.nbytes + self._U_kw.nbytes
