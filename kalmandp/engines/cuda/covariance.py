"""The covariance on a GPU at the price of one read of half of P: twin of `kalman.covariance`.

Each block is kept as its lower half, in square tiles, as::

    P = s (A − Uᵀ U)

An update (P − GᵀG)/λ touches neither A nor the old columns: the rows G/√s are added to U, and s ← s/λ.
When U is full it is folded in, A ← s(A − UᵀU), s ← 1, one pass over the tiles. The projection P Hᵀ reads
every tile once and uses it twice, as it stands and transposed; up to eight right-hand sides share the read.
More of them go through P as a matrix product, 16, 32 or 64 at a time, which reads each tile twice
(project_wide.cu).

Blocks meet in two places only: H P Hᵀ = Σ_l H_l P_l H_lᵀ and, where they are coupled (`kalman.coupled`), U H.
So a `CudaCovariance` of some of the blocks may live on a device of its own: `cuda.shared`.

Letters: t tile of w (T weights, the last of a block padded with zeros); T, k, q, w as elsewhere.
"""

from __future__ import annotations

from functools import cached_property
from math import sqrt
from typing import Any

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.engines.cuda.launch import THREADS, CupyDevice, Device, Functions, blocks_for, check_memory
from kalmandp.engines.cuda.tiling import NARROW, PENDING, Tiling, make_tiling, panels, work_bytes, work_shapes
from kalmandp.errors import require
from kalmandp.kalman.blocks import Blocks
from kalmandp.kalman.cholesky import cholesky
from kalmandp.kalman.coupled import Windows
from kalmandp.kalman.covariance import Gain, gain, stored

#: Threads of a sum over segments, or over the weights of a block.
PARTS = 128
#: Bytes of a row of a tile: 16 for each lane of a warp. T is 64 in float64 and 128 in float32.
ROW_BYTES = 512


class CudaCovariance:
    """P as halves in tiles with pending columns; same methods and meaning as `DenseCovariance`.

    Parameters
    ----------
    blocks : the partition of the N weights
    P0 : the initial variances: one number or an array (N,), of NumPy or CuPy
    dtype : of the tiles, the pending columns and sums of a few hundred products; longer sums, K and H P Hᵀ
        are float64 always.
    device : where P lives; by default the current CUDA device

    Raises
    ------
    InputError
        If P does not fit into the memory that the device has free; nothing is allocated then.

    Notes
    -----
    The same bits from run to run on one kind of device. Nothing here waits for the device but `dense`,
    `state` and what the caller reads.
    """

    #: whether U couples the blocks, as in `kalman.coupled`; else each block has the part of U that is its own
    coupled = False
    cholesky = staticmethod(cholesky)

    def __init__(self, blocks: Blocks, P0: Any = 1.0, dtype: Any = "float64", device: Device | None = None):
        self._make(blocks, dtype, device)
        xp = self.device.xp
        variance_w = xp.asarray(P0) if namespace(P0) is not xp else P0
        variance_w = xp.broadcast_to(variance_w.astype(self.dtype), (blocks.n_weights,))
        t, j = self._tile_of_weight
        self._tiles[self._diagonal_tiles[t], j, j] = variance_w

    def _make(self, blocks: Blocks, dtype: Any, device: Device | None) -> None:
        self.device = CupyDevice() if device is None else device
        self.blocks = blocks
        self.dtype = np.dtype(dtype)
        self._T = ROW_BYTES // self.dtype.itemsize
        self._tiling = make_tiling(blocks, self._T, self.coupled)
        check_memory(self.device, self.needs(blocks, dtype), "the covariance P")
        xp, T, n_t = self.device.xp, self._T, len(self._tiling.rows)
        self._tables = Tiling(*map(xp.asarray, self._tiling))
        self._tiles = xp.zeros((self._tiling.n_tiles, T, T), self.dtype)
        self._pending = xp.zeros((n_t, PENDING, T), self.dtype)
        self._n_pending = 0
        self._scale = 1.0
        self._work: dict[int, tuple] = {}
        #: Not zero once an update has failed: from then on nothing changes P.
        self.status = xp.zeros(1, np.int32)

    @staticmethod
    def needs(blocks: Blocks, dtype: Any = "float64", m: int = 1) -> int:
        """Bytes on the device: tiles, pending columns, and the work space of m right-hand sides."""
        itemsize = np.dtype(dtype).itemsize
        T = ROW_BYTES // itemsize
        tiling = make_tiling(blocks, T)
        work = sum(work_bytes(tiling, T, itemsize, width) for width in set(panels(m)))
        return (tiling.n_tiles * T + len(tiling.rows) * PENDING) * T * itemsize + work

    @property
    def _functions(self) -> Functions:
        return self.device.functions("covariance.cu", REAL=self._real)

    @property
    def _real(self) -> str:
        return {"float64": "double", "float32": "float"}[str(self.dtype)]

    def project(self, H_qw: Any) -> tuple[Any, Any]:
        """Return K = P Hᵀ as rows (m, N), and H P Hᵀ (m, m)."""
        xp, m = self.device.xp, len(H_qw)
        H_qw = xp.ascontiguousarray(H_qw, dtype=np.float64)
        K_qw = self.rows(H_qw)
        if m > NARROW:
            return K_qw, xp.ascontiguousarray(H_qw @ K_qw.T)
        parts, HPH_qq = self.gram(H_qw, K_qw), xp.empty((m, m))
        self._functions.sum_parts(m * m, THREADS, parts, len(parts), m * m, HPH_qq)
        return K_qw, HPH_qq

    def rows(self, H_qw: Any) -> Any:
        """K = P Hᵀ as rows, of a contiguous H (m, N)."""
        K_qw, q = self.device.xp.empty((len(H_qw), self.blocks.n_weights)), 0
        for width in panels(len(H_qw)):
            self._project_panel(width, H_qw[q : q + width], K_qw[q : q + width])
            q += width
        return K_qw

    def gram(self, H_qw: Any, K_qw: Any) -> Any:
        """H Kᵀ of the weights of each tile (t, m, m)."""
        m, n_t = len(H_qw), len(self._tiling.rows)
        parts = self.device.xp.empty((n_t, m, m))
        self._functions.gram(
            n_t, THREADS, H_qw, K_qw, m, self.blocks.n_weights, self._tables.rows, parts
        )  # fmt: skip
        return parts

    def _project_panel(self, width: int, H_qw: Any, K_qw: Any) -> None:
        """K = P Hᵀ for at most ``width`` rows; the kernels take that many, the others are zeros."""
        tiling, tables, f, m = self._tiling, self._tables, self._functions, len(H_qw)
        N, n_t, halves = self.blocks.n_weights, len(tiling.rows), width <= NARROW
        strips, first_strip = (
            (tables.strips, tables.first_strip) if halves else (tables.wide_strips, tables.first_wide)
        )
        project = self.device.functions(
            "project.cu" if halves else "project_wide.cu", REAL=self._real, RHS=width
        )
        X, row_sums, column_sums, Z_parts = self._work_space(width)
        f.pack(n_t, self._T, X, width, 0, H_qw, m, width, N, 1.0, tables.rows, self._always)
        project.multiply(
            len(strips) + len(tiling.segments), THREADS, self._tiles, self._pending, self._n_pending, X,
            tables.rows, strips, len(strips), tables.segments, row_sums, column_sums, Z_parts,
        )  # fmt: skip
        if self.coupled:  # U x is one sum over all weights: made once, not by each tile
            Z_parts = self._sum_of_segments(Z_parts, width)
        f.gather(
            n_t, 4 * self._T, self._pending, self._n_pending, self._scale, tables.rows, first_strip,
            tables.tile_segments, row_sums, column_sums, Z_parts, halves, width, m, N, K_qw,
        )  # fmt: skip

    def _sum_of_segments(self, parts: Any, width: int) -> Any:
        """U x (PENDING, width), of what each segment has of it."""
        Z = self.device.xp.empty((PENDING, width))
        self._functions.sum_parts(PENDING * width, PARTS, parts, len(parts), PENDING * width, Z)
        return Z

    def _work_space(self, width: int) -> tuple:
        """X, row sums, column sums and Z; kept, so that updates allocate little."""
        if width not in self._work:
            xp = self.device.xp
            shapes = work_shapes(self._tiling, self._T, width)
            dtypes = self.dtype, np.float64, np.float64, np.float64
            self._work[width] = tuple(xp.empty(s, d) for s, d in zip(shapes, dtypes, strict=True))
        return self._work[width]

    def whiten(self, K_qw: Any, C_qq: Any) -> Any:
        """Return G = C⁻¹K; K is overwritten."""
        m, N = K_qw.shape
        self._functions.whiten(blocks_for(N), THREADS, K_qw, self.device.xp.ascontiguousarray(C_qq), m, N)
        return K_qw

    def gain(self, K_qw: Any, C_qq: np.ndarray, z_q: np.ndarray, weights: Any) -> Gain:
        """Return G = C⁻¹K, and the weights that Algorithm 1, l. 12, goes to; K is overwritten."""
        return gain(self.whiten(K_qw, self.device.xp.asarray(C_qq)), z_q, weights)

    def downdate(self, G_qw: Any, lam: float) -> None:
        """P ← (P − GᵀG)/λ: G joins the pending columns, which are folded in when they are full."""
        done, m, N = 0, len(G_qw), self.blocks.n_weights
        while done < m:
            if self._n_pending == PENDING:
                self.fold()
            rows = G_qw[done : done + PENDING - self._n_pending]
            # s(A − UᵀU) − GᵀG = s(A − UᵀU − GᵀG/s)
            self._functions.pack(
                len(self._tiling.rows), self._T, self._pending, PENDING, self._n_pending, rows, len(rows),
                len(rows), N, 1 / sqrt(self._scale), self._tables.rows, self.status,
            )  # fmt: skip
            self._n_pending += len(rows)
            done += len(rows)
        self._scale /= lam

    def fold(self) -> None:
        """A ← s(A − UᵀU), s ← 1, and no pending columns. P stays what it is, to rounding."""
        tables = self._tables
        self._functions.fold(
            self._tiling.n_tiles, THREADS, self._tiles, self._pending, self._n_pending, self._scale,
            tables.tile_rows, tables.rows, self.status,
        )  # fmt: skip
        self._n_pending = 0
        self._scale = 1.0

    def inflate(self, q: float) -> None:
        """P ← P + q I, unless an update has failed."""
        t, j = self._tile_of_weight
        q = self.device.xp.where(self.status == 0, q / self._scale, 0.0).astype(self.dtype)
        self._tiles[self._diagonal_tiles[t], j, j] += q

    @property
    def counters(self) -> tuple[int, float]:
        """Pending columns and scale, which the host keeps; what a failed update needs to be undone."""
        return self._n_pending, self._scale

    @counters.setter
    def counters(self, values: tuple[int, float]) -> None:
        self._n_pending, self._scale = values

    def diagonal(self) -> Any:
        """The variances of the N weights, float64 (N,)."""
        t, j = self._tile_of_weight
        A_w = self._tiles[self._diagonal_tiles[t], j, j].astype(np.float64)
        U_tkj = self._pending[:, : self._n_pending].astype(np.float64)
        return self._scale * (A_w - (U_tkj * U_tkj).sum(axis=1)[t, j])

    def trace(self) -> Any:
        """The trace of each block, float64 (L,)."""
        xp, n_l = self.device.xp, len(self.blocks)
        trace_l, first_l = xp.empty(n_l), xp.asarray(np.cumsum([0, *self.blocks.sizes], dtype=np.int32))
        self._functions.piece_sums(n_l, PARTS, self.diagonal(), first_l, 1, trace_l)
        return trace_l

    def dense(self, l: int) -> Any:
        """Block l as a full matrix (n_l, n_l), float64."""
        xp, T, n = self.device.xp, self._T, self.blocks.sizes[l]
        first, n_t = self._first_tile(l), blocks_for(n, T)
        P_ww = xp.empty((n_t * T, n_t * T))
        for r, columns, tiles in self._tile_rows(l):
            P_ww[r, columns] = self._tiles[tiles].transpose(1, 0, 2).reshape(T, -1)
            P_ww[columns, r] = P_ww[r, columns].T
        U_tkj = self._pending[first : first + n_t, : self._n_pending].astype(np.float64)
        U_kw = U_tkj.transpose(1, 0, 2).reshape(self._n_pending, n_t * T)
        P_ww -= U_kw.T @ U_kw
        P_ww *= self._scale
        return P_ww[:n, :n]

    def assign(self, l: int, P_ww: Any) -> None:
        """Set block l to the symmetric matrix ``P_ww`` (n_l, n_l), of NumPy or CuPy, row by row of tiles."""
        if self._n_pending or self._scale != 1.0:
            self.fold()
        xp, T, n = self.device.xp, self._T, self.blocks.sizes[l]
        for r, columns, tiles in self._tile_rows(l):
            piece = xp.asarray(P_ww[r.start : min(r.stop, n), : min(columns.stop, n)])
            padded = xp.zeros((T, columns.stop), self.dtype)
            padded[: piece.shape[0], : piece.shape[1]] = piece.astype(self.dtype)
            self._tiles[tiles] = padded.reshape(T, -1, T).transpose(1, 0, 2)

    def state(self, copy: bool = True) -> dict[str, Any]:
        """A, U, s as NumPy arrays: nothing is folded, so that what goes on from here has the same bits."""
        return {
            "tiles": to_numpy(self._tiles),
            "pending": to_numpy(self._pending[:, : self._n_pending]),
            "scale": self._scale,
        }

    @classmethod
    def from_state(
        cls, blocks: Blocks, state: dict[str, Any], device: Device | None = None
    ) -> CudaCovariance:
        """Make the covariance that ``state`` was taken from, with the same bits."""
        new = cls.__new__(cls)
        new._make(blocks, stored(state, "tiles", (-1, -1, -1)).dtype, device)
        new._read(state)
        return new

    def _read(self, state: dict[str, Any], first_tile: int = 0, first_t: int = 0, whole: bool = True) -> None:
        """Take A, U and s from a stored state: all of it, or the part from these tiles on."""
        new, xp = self, self.device.xp
        tiles = stored(state, "tiles", new._tiles.shape)
        U_tkj = stored(state, "pending", (len(new._tiling.rows), -1, new._T))
        new._n_pending = U_tkj.shape[1]
        require(new._n_pending <= PENDING, "pending columns stored", new._n_pending, f"≤ {PENDING}")
        for t in range(0, len(tiles), 1024):  # piecewise: it may be a data set in a file, as large as P
            new._tiles[t : t + 1024] = xp.asarray(np.asarray(tiles[t : t + 1024]))
        new._pending[:, : new._n_pending] = xp.asarray(np.asarray(U_tkj[...]))
        new._scale = float(stored(state, "scale", ())[()])
        require(0 < new._scale < np.inf, "the scale stored", new._scale, "a positive number")
        return new

    @property
    def nbytes(self) -> int:
        """Bytes held: tiles, pending columns and work space."""
        work = sum(array.nbytes for arrays in self._work.values() for array in arrays)
        return self._tiles.nbytes + self._pending.nbytes + work

    def _first_tile(self, l: int) -> int:
        """The first tile t of the weights of block l."""
        return int(self._first_tiles[l])

    @cached_property
    def _first_tiles(self) -> np.ndarray:
        return np.cumsum([0, *(blocks_for(n, self._T) for n in self.blocks.sizes)])

    def _tile_rows(self, l: int):
        """Slices of rows, columns and tiles of each tile row of block l."""
        T, first = self._T, self._first_tile(l)
        for i in range(blocks_for(self.blocks.sizes[l], T)):
            start = int(self._tiling.rows[first + i, 0])
            yield slice(i * T, i * T + T), slice(0, i * T + T), slice(start, start + i + 1)

    @cached_property
    def _always(self) -> Any:
        return self.device.xp.zeros(1, np.int32)

    @cached_property
    def _diagonal_tiles(self) -> Any:
        rows = self._tiling.rows
        return self.device.xp.asarray(rows[:, 0] + np.arange(len(rows)) - rows[:, 1])

    @cached_property
    def _tile_of_weight(self) -> tuple[Any, Any]:
        rows = self._tiling.rows
        t = np.repeat(np.arange(len(rows)), rows[:, 4] - rows[:, 3])
        return self.device.xp.asarray(t), self.device.xp.asarray(np.arange(len(t)) - rows[t, 3])


class CoupledCudaCovariance(Windows, CudaCovariance):
    """Twin of `kalman.coupled.CoupledCovariance`: the pending columns are its U, a fold ends its window."""

    @property
    def window(self) -> tuple[np.ndarray, float]:
        """U (k, N), float64, and s, on the host."""
        t, j = (to_numpy(index) for index in self._tile_of_weight)
        U_tkj = to_numpy(self._pending[:, : self._n_pending]).astype(np.float64)
        return U_tkj.transpose(0, 2, 1)[t, j].T, self._scale

    @window.setter
    def window(self, U_and_scale: tuple[np.ndarray, float]) -> None:
        U_kw, self._scale = U_and_scale
        t, j = self._tile_of_weight
        U_kw = self.device.xp.asarray(np.ascontiguousarray(U_kw), dtype=self.dtype)
        for k in range(len(U_kw)):
            self._pending[t, k, j] = U_kw[k]
        self._n_pending = len(U_kw)


#: By the name that a stored filter has.
CUDA_COVARIANCES = {"cuda": CudaCovariance, "cuda coupled": CoupledCudaCovariance}
