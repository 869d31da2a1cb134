"""The covariance on the CPU at the price of one read of half of P: twin of `kalman.covariance`.

Each block is kept as its lower half, in square tiles, as::

    P = s (A − Uᵀ U)

An update (P − GᵀG)/λ touches neither A nor the old columns: the rows G/√s are added to U, and s ← s/λ.
When U is full it is folded in, A ← s(A − UᵀU), s ← 1, as one matrix product per tile. The projection
P Hᵀ reads every tile once and uses it twice, as it stands and transposed.

Updates by more than `PANEL` numbers are matrix products (`matrix`); beyond `WAITING` numbers they go
straight into A, with what was pending.

Letters: t tile of w (T weights, the last of a block padded with zeros); T, k, q, w as elsewhere.
"""

from __future__ import annotations

from functools import cached_property
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace
from kalmandp.engines.cpu.buffers import Store, aligned_zeros
from kalmandp.engines.cpu.covariance import gain as gain_kernels
from kalmandp.engines.cpu.covariance import pending as pending_kernels
from kalmandp.engines.cpu.covariance import tiles as tiles_kernels
from kalmandp.engines.cpu.covariance.tiling import (
    CHUNKS,
    FIRST,
    ROW_BYTES,
    TILE,
    TILES_PER_SEGMENT,
    W0,
    W1,
    Tiling,
    make_tiling,
)
from kalmandp.engines.cpu.threads import Team
from kalmandp.errors import require
from kalmandp.kalman.blocks import Blocks
from kalmandp.kalman.cholesky import cholesky
from kalmandp.kalman.coupled import WINDOW, CoupledCovariance, Windows
from kalmandp.kalman.covariance import DenseCovariance, Gain, stored

#: Columns of U before they are folded in, a multiple of four. A fold reads and writes A once, and every
#: update reads U twice; the number was chosen by the errors of the trained models (`kalman.coupled`).
PENDING = WINDOW
#: Right-hand sides that go through P together. More are a matrix product: `matrix`.
PANEL = 16
#: Rows of G that join the pending columns at most; more go straight into A, together with the pending ones.
WAITING = WINDOW // 2


class TiledCovariance:
    """P as halves in tiles with pending columns; same methods and meaning as `DenseCovariance`.

    Parameters
    ----------
    blocks : the partition of the N weights
    P0 : the initial variances: one number or an array (N,)
    dtype : of the tiles and the pending columns. Sums over tiles, K, and H P Hᵀ are float64 always.

    Notes
    -----
    The same bits for any number of threads (`numba.set_num_threads`). An update allocates nothing that
    grows with P. Not for use by two host threads at once.
    """

    #: whether U couples the blocks, as in `kalman.coupled`; else each block has the part of U that is its own
    coupled = False

    def __init__(self, blocks: Blocks, P0: Any = 1.0, dtype: Any = "float64"):
        xp = namespace(P0)
        require(xp is np, "the tiled covariance's array module", xp.__name__, "numpy (it is for the CPU)")
        self._make(blocks, dtype)
        variance_w = np.broadcast_to(np.asarray(P0, dtype=self.dtype), (blocks.n_weights,))
        t, j = self._tile_of_weight()
        self._tiles[self._diagonal_tiles()[t], j, j] = variance_w

    def _make(self, blocks: Blocks, dtype: Any) -> None:
        self.blocks = blocks
        self.dtype = np.dtype(dtype)
        self._T = ROW_BYTES // self.dtype.itemsize
        self._tiling = make_tiling(blocks, self._T, self.coupled)
        T, n_t = self._T, len(self._tiling.rows)
        self._tiles = aligned_zeros((self._tiling.n_tiles, T, T), self.dtype)
        self._pending = aligned_zeros((PENDING, n_t, T), self.dtype)
        self._n_pending = 0
        self._scale = 1.0
        self._work = _Work(0, self._tiling, self.dtype)
        self._team, self._store = Team(), Store()

    @staticmethod
    def needs(blocks: Blocks, dtype: Any = "float64") -> int:
        """Bytes of the tiles and the pending columns, before any of them is allocated."""
        T = ROW_BYTES // np.dtype(dtype).itemsize
        rows_l = [-(-n // T) for n in blocks.sizes]
        tiles = sum(k * (k + 1) // 2 for k in rows_l)
        return (tiles * T + sum(rows_l) * PENDING) * ROW_BYTES

    def project(self, H_qw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return K = P Hᵀ as rows (m, N), and H P Hᵀ (m, m)."""
        H_qw = np.ascontiguousarray(H_qw, dtype=np.float64)
        m = len(H_qw)
        K_qw = self._store.empty(H_qw.shape)
        if m > PANEL:
            return K_qw, self._matrix.project(
                self._team, self._tiles, self._pending, self._n_pending, self._scale, H_qw, K_qw
            )
        self._project_panel(H_qw, K_qw)
        if m == 1:
            return K_qw, np.sum(H_qw * K_qw).reshape(1, 1)
        parts = np.empty((CHUNKS, m, m))
        self._team.run(gain_kernels.gram, m * H_qw.size, H_qw, K_qw, parts)
        return K_qw, parts.sum(axis=0)

    def _project_panel(self, H_qw: np.ndarray, K_qw: np.ndarray) -> None:
        tiling, n_k = self._tiling, _up_to_four(self._n_pending)
        m = len(H_qw)
        if self._work.capacity < m or self._work.threads < self._team.size:
            self._work = _Work(m, tiling, self.dtype, self._team.size)
        X, sums, Z_parts = self._work.views(m)
        tiles_kernels.pack(X, H_qw, tiling.rows)
        run, tables = self._team.run, (tiling.segments, tiling.block_segments)
        work = m * self._tiles.size
        run(tiles_kernels.multiply_tiles, work, self._tiles, tiling.rows, tiling.chunks, X, sums)
        work = m * n_k * len(tiling.rows) * self._T
        if n_k:
            run(pending_kernels.multiply_pending, work, self._pending, n_k, *tables, X, Z_parts)
        run(
            pending_kernels.gather, work + K_qw.size, self._pending, n_k, self._scale, tiling, sums, Z_parts,
            self._work.Y, K_qw,
        )  # fmt: skip

    def gain(self, K_qw: np.ndarray, C_qq: np.ndarray, z_q: np.ndarray, weights: np.ndarray) -> Gain:
        """Return G = C⁻¹K, and the weights that Algorithm 1, l. 12, goes to; K is overwritten."""
        if len(K_qw) > PANEL:
            return self._matrix.gain(self._team, K_qw, C_qq, z_q, weights)
        new = self._store.empty(weights.shape)
        parts = np.empty((-(-len(weights) // gain_kernels.PIECE), 2))
        self._team.run(gain_kernels.gain, (2 + len(K_qw)) * K_qw.size, K_qw, C_qq, z_q, weights, new, parts)
        step_square, gain_square = parts.sum(axis=0).tolist()
        return Gain(K_qw, new, step_square, gain_square)

    def cholesky(self, S_qq: np.ndarray, error_q: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Twin of `kalman.cholesky`; that itself where the matrix is small."""
        if len(S_qq) <= PANEL:
            return cholesky(S_qq, error_q)
        from kalmandp.engines.cpu.cholesky import factor

        return factor(S_qq, error_q)

    def downdate(self, G_qw: np.ndarray, lam: float) -> None:
        """P ← (P − GᵀG)/λ: G joins the pending columns, which are folded in when they are full."""
        if len(G_qw) > WAITING:
            self._matrix.downdate(
                self._team, self._tiles, self._pending, self._n_pending, self._scale, G_qw, lam
            )
            self._n_pending, self._scale = 0, 1.0
            return
        tiling, done = self._tiling, 0
        while done < len(G_qw):
            if self._n_pending == PENDING:
                self.fold()
            rows = G_qw[done : done + PENDING - self._n_pending]
            # s(A − UᵀU) − GᵀG = s(A − UᵀU − GᵀG/s)
            factor = 1 / sqrt(self._scale)
            pending_kernels.append(self._pending, self._n_pending, rows, factor, tiling.rows)
            self._n_pending += len(rows)
            done += len(rows)
        self._scale /= lam

    def fold(self) -> None:
        """A ← s(A − UᵀU), s ← 1, and no pending columns. P stays what it is, to rounding."""
        if not self._n_pending and self._scale == 1.0:
            return
        self._team.run(
            pending_kernels.fold, self._n_pending * self._tiles.size, self._tiles, self._pending,
            self._n_pending, self._scale, self._tiling.rows, self._tiling.chunks, self._work.turned,
        )  # fmt: skip
        self._n_pending = 0
        self._scale = 1.0

    def inflate(self, q: float) -> None:
        """P ← P + q I."""
        t, j = self._tile_of_weight()
        self._tiles[self._diagonal_tiles()[t], j, j] += self.dtype.type(q / self._scale)

    def diagonal(self) -> np.ndarray:
        """The variances of the N weights, float64 (N,)."""
        t, j = self._tile_of_weight()
        A_tj = np.einsum("tjj->tj", self._tiles[self._diagonal_tiles()], dtype=np.float64)
        U_tkj = self._columns
        A_tj = A_tj - np.einsum("tkj,tkj->tj", U_tkj, U_tkj, dtype=np.float64)
        return self._scale * A_tj[t, j]

    def trace(self) -> np.ndarray:
        """The trace of each block, float64 (L,)."""
        return self.blocks.sums(self.diagonal())

    def dense(self, l: int) -> np.ndarray:
        """Block l as a full matrix (n_l, n_l), float64."""
        T, n = self._T, self.blocks.sizes[l]
        P_ww = np.empty((-(-n // T) * T,) * 2)
        for r, columns, tiles in self._tile_rows(l):
            P_ww[r, columns] = tiles.transpose(1, 0, 2).reshape(T, -1)
            P_ww[columns, r] = P_ww[r, columns].T
        first = self._first_tile(l)
        U_tkj = self._columns[first : first + len(P_ww) // T].astype(np.float64)
        U_kw = U_tkj.transpose(1, 0, 2).reshape(self._n_pending, len(P_ww))
        return (self._scale * (P_ww - U_kw.T @ U_kw))[:n, :n]

    def assign(self, l: int, P_ww: np.ndarray) -> None:
        """Set block l to the symmetric matrix ``P_ww`` (n_l, n_l)."""
        self.fold()
        T, n = self._T, self.blocks.sizes[l]
        padded = np.zeros((-(-n // T) * T,) * 2, dtype=self.dtype)
        padded[:n, :n] = P_ww
        for r, columns, tiles in self._tile_rows(l):
            tiles[...] = padded[r, columns].reshape(T, -1, T).transpose(1, 0, 2)

    def state(self, copy: bool = True) -> dict[str, Any]:
        """A, U, s as they are: nothing is folded, so that what goes on from here has the same bits."""
        return {
            "tiles": self._tiles.copy() if copy else self._tiles,
            "pending": self._columns.copy() if copy else self._columns,
            "scale": self._scale,
        }

    @classmethod
    def from_state(cls, blocks: Blocks, state: dict[str, Any]) -> TiledCovariance:
        """Make the covariance that ``state`` was taken from, with the same bits."""
        new = cls.__new__(cls)
        tiles = stored(state, "tiles", (-1, -1, -1))
        new._make(blocks, tiles.dtype)
        tiles = stored(state, "tiles", new._tiles.shape)
        U_tkj = stored(state, "pending", (len(new._tiling.rows), -1, new._T))
        new._n_pending = U_tkj.shape[1]
        require(new._n_pending <= PENDING, "pending columns stored", new._n_pending, f"≤ {PENDING}")
        for t in range(0, len(tiles), 1024):  # piecewise: it may be a data set in a file, as large as P
            new._tiles[t : t + 1024] = tiles[t : t + 1024]
        new._columns[...] = U_tkj
        new._scale = float(stored(state, "scale", ())[()])
        require(0 < new._scale < np.inf, "the scale stored", new._scale, "a positive number")
        return new

    @cached_property
    def _matrix(self) -> Any:
        """Updates by many numbers at once, compiled when the first comes."""
        from kalmandp.engines.cpu.covariance.matrix import MatrixUpdates

        return MatrixUpdates(self._tiling, self._T, self._store)

    @property
    def nbytes(self) -> int:
        """Bytes held: tiles, pending columns and work space."""
        matrix = self.__dict__.get("_matrix")  # made by the first update by many numbers
        return sum(x.nbytes for x in (self._tiles, self._pending, self._work, matrix) if x is not None)

    @property
    def _columns(self) -> np.ndarray:
        """U as (t, k, T), a view."""
        return self._pending[: self._n_pending].transpose(1, 0, 2)

    def _first_tile(self, l: int) -> int:
        """The first tile t of the weights of block l."""
        return int(self._first_tiles[l])

    @cached_property
    def _first_tiles(self) -> np.ndarray:
        return np.cumsum([0, *(-(-n // self._T) for n in self.blocks.sizes)])

    def _tile_rows(self, l: int):
        """Slices of rows and columns, and the tiles there (columns first), of each tile row of block l."""
        T, first = self._T, self._first_tile(l)
        for i in range(-(-self.blocks.sizes[l] // T)):
            start = self._tiling.rows[first + i, TILE]
            yield slice(i * T, i * T + T), slice(0, i * T + T), self._tiles[start : start + i + 1]

    def _diagonal_tiles(self) -> np.ndarray:
        rows = self._tiling.rows
        return rows[:, TILE] + np.arange(len(rows)) - rows[:, FIRST]

    def _tile_of_weight(self) -> tuple[np.ndarray, np.ndarray]:
        rows = self._tiling.rows
        t = np.repeat(np.arange(len(rows)), rows[:, W1] - rows[:, W0])
        return t, np.arange(len(t)) - rows[t, W0]


class _Work:
    """Work space for up to ``capacity`` right-hand sides and ``threads`` threads."""

    def __init__(self, capacity: int, tiling: Tiling, dtype: np.dtype, threads: int = 1):
        T = ROW_BYTES // dtype.itemsize
        n_c, n_g = len(tiling.chunks), len(tiling.segments)
        self.capacity, self.threads = capacity, threads
        self._shapes = (
            ((len(tiling.rows),), (T,), dtype),  # X: H in tiles
            ((tiling.n_sums,), (T,), np.float64),  # sums of the chunks
            ((n_g, PENDING), (), np.float64),  # Z = U X of each segment
        )
        self._flat = [aligned_zeros((int(np.prod(a + b)) * capacity,), kind) for a, b, kind in self._shapes]
        self.turned = aligned_zeros((n_c, T, PENDING), dtype)  # U of one tile row, transposed
        # what a segment's own tiles add to K
        self.Y = aligned_zeros((threads, TILES_PER_SEGMENT, max(1, min(capacity, PANEL)), T), dtype)

    def views(self, m: int) -> tuple[np.ndarray, ...]:
        """X, sums, Z_parts for m right-hand sides."""
        return tuple(
            flat[: int(np.prod(a + b)) * m].reshape(*a, m, *b)
            for flat, (a, b, _) in zip(self._flat, self._shapes, strict=True)
        )

    @property
    def nbytes(self) -> int:
        arrays = [*self._flat, self.turned, self.Y]
        return sum(array.nbytes for array in arrays)


class CoupledTiledCovariance(Windows, TiledCovariance):
    """Twin of `kalman.coupled.CoupledCovariance`: the pending columns are its U, a fold ends its window."""

    @property
    def window(self) -> tuple[np.ndarray, float]:
        """U (k, N), float64, and s."""
        t, j = self._tile_of_weight()
        return self._columns[t, :, j].T.astype(np.float64), self._scale

    @window.setter
    def window(self, U_and_scale: tuple[np.ndarray, float]) -> None:
        U_kw, self._scale = U_and_scale
        pending_kernels.append(self._pending, 0, np.ascontiguousarray(U_kw), 1.0, self._tiling.rows)
        self._n_pending = len(U_kw)


def _up_to_four(n: int) -> int:
    return -(-n // 4) * 4


class CovarianceCase(NamedTuple):
    """A run of updates in which ``twin`` must agree with ``reference``, class by class."""

    reference: type
    twin: type
    blocks: Blocks
    dtype: str
    m: int
    updates: int
    rtol: float


def covariance_cases() -> list[CovarianceCase]:
    """What the parity test runs: odd block sizes, one and several right-hand sides, both precisions.

    float32 rounds P at every fold and, in the reference, at every update: their difference grows as a
    random walk of steps 6e-8.
    """
    odd = Blocks((1, 33, 200, 64, 97, 1, 131))
    return [
        CovarianceCase(reference, twin, odd, dtype, m, updates, rtol)
        for reference, twin in (
            (DenseCovariance, TiledCovariance),
            (CoupledCovariance, CoupledTiledCovariance),
        )
        for dtype, rtol in (("float64", 1e-10), ("float32", 1e-4))
        for m, updates in ((1, 1000), (2, 100), (5, 1000), (40, 50))
    ]
