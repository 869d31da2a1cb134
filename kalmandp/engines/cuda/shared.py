"""P on the GPUs of several ranks: each has whole blocks. Twin of `engines.cpu.covariance.shared`.

Blocks meet in H P Hᵀ and, if coupled, in U H. The blocks are cut into at most `CHUNKS` chunks of nearly equal
numbers of tiles, by the blocks alone; each rank d has a range of them. An update by m numbers is ::

    K_d = P_d H_dᵀ                                  with the columns of H that are its blocks'
    S = λ R + Σ_c H_c K_c = C Cᵀ                    m² numbers of each chunk c, to all
    G_d = C⁻¹ K_d;   Δw_d = G_dᵀ C⁻¹ error          N numbers of Δw, to all, which have all weights
    P_d ← (P_d − G_dᵀ G_d)/λ

and, where blocks are coupled, (columns waiting) · m numbers of U H of each chunk, to all. No K, no G and no
tile leaves its device. Sums go through the weights of a chunk, and then through the chunks: the bits do not
depend on the number of ranks. A rank may have no block at all. The stored state is that of `CudaCovariance`.

A block is not cut: P of one block (GEKF) lies on one device, however many there are.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from kalmandp.engines.cuda.covariance import (
    CUDA_COVARIANCES,
    PARTS,
    ROW_BYTES,
    CoupledCudaCovariance,
    CudaCovariance,
)
from kalmandp.engines.cuda.exchange import Exchange
from kalmandp.engines.cuda.filter import CudaRLEKF
from kalmandp.engines.cuda.launch import THREADS, Device, blocks_for
from kalmandp.engines.cuda.tiling import NARROW, PENDING, SEGMENT
from kalmandp.kalman.blocks import Blocks
from kalmandp.kalman.cholesky import cholesky
from kalmandp.kalman.coupled import move
from kalmandp.kalman.covariance import Gain, gain, stored
from kalmandp.kalman.filter import RLEKF
from kalmandp.ranks.rows import Rows
from kalmandp.ranks.team import share

#: Chunks of blocks at most. Of more than so many ranks some have nothing to do.
CHUNKS = 64
#: Weights of a piece of a chunk, whose |Δw|² and Σ G² are summed by one block of threads.
PIECE = THREADS
#: What ``status`` of filter.cu says of a step that is not finite.
STEP_NOT_FINITE = 5


class Shares:
    """Which rank has which blocks of P.

    l_c, c_r : first block of each chunk, and first chunk of each rank, and their ends
    w_r, t_r, tile_r : first weight, tile row and tile of each rank, and the ends
    """

    def __init__(self, blocks: Blocks, T: int, n_ranks: int):
        rows_l = np.array([blocks_for(n, T) for n in blocks.sizes])
        tiles_l = rows_l * (rows_l + 1) // 2
        self.l_c = np.unique(share(tiles_l, min(CHUNKS, len(blocks))))
        self.c_r = share(np.diff(self._ends(tiles_l)[self.l_c]), n_ranks)
        self.l_r = self.l_c[self.c_r]
        self.w_l = self._ends(blocks.sizes)
        self.w_r, self.t_r, self.tile_r = (
            self._ends(x)[self.l_r] for x in (blocks.sizes, rows_l, tiles_l)
        )  # fmt: skip

    @staticmethod
    def _ends(sizes: Any) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def own(self, blocks: Blocks, rank: int) -> Blocks:
        """The blocks of a rank; it may have none."""
        sizes = blocks.sizes[self.l_r[rank] : self.l_r[rank + 1]]
        if sizes:
            return Blocks(sizes)
        none = object.__new__(Blocks)  # what a user states has one block at least
        object.__setattr__(none, "sizes", ())
        return none


class _CoupledBlocks(CoupledCudaCovariance):
    """The coupled blocks of one device: U H is summed over all devices."""

    shared: SharedCudaCovariance

    def _sum_of_segments(self, parts: Any, width: int) -> Any:
        return self.shared.sum_of_segments(parts, width, self._n_pending)


class SharedCudaCovariance:
    """P over the devices of a team; methods and meaning as `CudaCovariance`, K and G being our weights' part.

    Parameters
    ----------
    blocks, P0, dtype : as `CudaCovariance` has them, of the whole P
    device : ours;  exchange : between the devices of all ranks
    """

    coupled = False
    cholesky = staticmethod(cholesky)
    #: what our blocks are
    _form: Any = CudaCovariance

    def __init__(
        self, blocks: Blocks, P0: Any = 1.0, dtype: Any = "float64", *, device: Device, exchange: Exchange
    ):
        self._place(blocks, dtype, device, exchange)
        xp = device.xp
        variance_w = xp.broadcast_to(xp.asarray(P0), (blocks.n_weights,))[self.own_w]
        self.own = self._form(self._blocks, variance_w, dtype, device)
        self.own.shared = self

    def _place(self, blocks: Blocks, dtype: Any, device: Any, exchange: Exchange) -> None:
        self.blocks, self.dtype, self.device = blocks, np.dtype(dtype), device
        self.exchange, self.ranks = exchange, exchange.team
        T, me = ROW_BYTES // self.dtype.itemsize, self.ranks.rank
        s = self.shares = Shares(blocks, T, self.ranks.size)
        self._blocks = s.own(blocks, me)
        self.own_w = slice(int(s.w_r[me]), int(s.w_r[me + 1]))
        self.chunks_r = np.diff(s.c_r).tolist()
        self.weights_r = np.diff(s.w_r).tolist()
        #: ends of our chunks: of weights, tile rows and segments among our own
        l = s.l_c[s.c_r[me] : s.c_r[me + 1] + 1]
        self._w_c = (s.w_l[l] - s.w_l[l[0]]).tolist()
        rows_l = [blocks_for(n, T) for n in self._blocks.sizes]
        segments_l = [blocks_for(n, SEGMENT // T) for n in rows_l]
        table = lambda x: device.xp.asarray(np.concatenate([[0], np.cumsum(x)])[l - l[0]].astype(np.int32))
        self._t_c, self._g_c = table(rows_l), table(segments_l)

    @property
    def status(self) -> Any:
        return self.own.status

    def project(self, H_qw: Any) -> tuple[Any, Any]:
        """Return our weights' part of K = P Hᵀ, as rows, and the whole H P Hᵀ (m, m), on every rank.

        Parameters
        ----------
        H_qw : (m, N), the same on every rank
        """
        xp, m, n_c = self.device.xp, len(H_qw), len(self._w_c) - 1
        H_qw = xp.ascontiguousarray(H_qw[:, self.own_w], dtype=np.float64)
        K_qw, parts = self.own.rows(H_qw), xp.empty((n_c, m, m))
        f = self.own._functions
        if m > NARROW:
            for c, (a, b) in enumerate(pairwise(self._w_c)):
                parts[c] = xp.ascontiguousarray(H_qw[:, a:b]) @ xp.ascontiguousarray(K_qw[:, a:b]).T
        else:
            f.piece_sums((n_c, m * m), PARTS, self.own.gram(H_qw, K_qw), self._t_c, m * m, parts)
        every, HPH_qq = self.exchange.gather(parts, [n * m * m for n in self.chunks_r]), xp.empty((m, m))
        f.sum_parts(m * m, PARTS, every, sum(self.chunks_r), m * m, HPH_qq)
        return K_qw, HPH_qq

    def sum_of_segments(self, parts: Any, width: int, n_pending: int) -> Any:
        """U x (PENDING, width), Σ over chunks of their segments; only the rows that wait are made."""
        xp, n, n_c = self.device.xp, n_pending * width, len(self._w_c) - 1
        Z, sums = xp.empty((PENDING, width)), xp.empty((n_c, PENDING * width))
        if not n:
            return Z
        f = self.own._functions
        f.piece_sums((n_c, n), PARTS, parts, self._g_c, PENDING * width, sums)
        own = xp.ascontiguousarray(sums[:, :n])
        every = self.exchange.gather(own, [k * n for k in self.chunks_r])
        f.sum_parts(n, PARTS, every, sum(self.chunks_r), n, Z)
        return Z

    def whiten(self, K_qw: Any, C_qq: Any) -> Any:
        """Return our part of G = C⁻¹K; K is overwritten."""
        return self.own.whiten(K_qw, C_qq)

    def gain(self, K_qw: Any, C_qq: np.ndarray, z_q: np.ndarray, weights: Any) -> Gain:
        """Not asked by `SharedCudaRLEKF`; for `Covariance`: our part of G, and all the weights."""
        found = gain(self.whiten(K_qw, self.device.xp.asarray(C_qq)), z_q, weights[self.own_w])
        return found._replace(weights=self.exchange.gather(found.weights, self.weights_r))

    def downdate(self, G_qw: Any, lam: float) -> None:
        """P ← (P − GᵀG)/λ, of our part of G (m, our weights)."""
        self.own.downdate(G_qw, lam)

    def fold(self) -> None:
        self.own.fold()

    def inflate(self, q: float) -> None:
        self.own.inflate(q)

    @property
    def counters(self) -> tuple[int, float]:
        return self.own.counters

    @counters.setter
    def counters(self, values: tuple[int, float]) -> None:
        self.own.counters = values

    def diagonal(self) -> Any:
        """The variances of the N weights, float64 (N,), on every rank."""
        return self.exchange.gather(self.own.diagonal(), self.weights_r)

    def trace(self) -> Any:
        """The trace of each block, float64 (L,), on every rank."""
        return self.exchange.gather(self.own.trace(), np.diff(self.shares.l_r).tolist())

    def dense(self, l: int) -> Any:
        """Block l as a full matrix (n_l, n_l), float64, on every rank."""
        n, xp = self.blocks.sizes[l], self.device.xp
        owner = int(np.searchsorted(self.shares.l_r, l, side="right")) - 1
        mine = owner == self.ranks.rank
        own = self.own.dense(l - int(self.shares.l_r[owner])) if mine else xp.empty(0)
        counts = [n * n if r == owner else 0 for r in range(self.ranks.size)]
        return self.exchange.gather(xp.ascontiguousarray(own), counts).reshape(n, n)

    def assign(self, l: int, P_ww: Any) -> None:
        """Set block l to the symmetric matrix ``P_ww`` (n_l, n_l): on the rank that has it."""
        first, end = self.shares.l_r[self.ranks.rank : self.ranks.rank + 2]
        if first <= l < end:
            self.own.assign(l - int(first), P_ww)

    def state(self, copy: bool = True) -> dict[str, Any]:
        """A, U, s as they are, in the form of `CudaCovariance`; the arrays lie on all ranks (`Rows`)."""
        own, s = self.own.state(copy), self.shares
        return {
            "tiles": Rows(self.ranks, "tiles", own["tiles"], np.diff(s.tile_r).tolist()),
            "pending": Rows(self.ranks, "pending", own["pending"], np.diff(s.t_r).tolist()),
            "scale": own["scale"],
        }

    @classmethod
    def from_state(cls, blocks: Blocks, state: dict[str, Any], *, device: Any, exchange: Exchange) -> Any:
        """Make the covariance that ``state`` was taken from; each rank reads its own part."""
        new: Any = cls.__new__(cls)
        new._place(blocks, stored(state, "tiles", (-1, -1, -1)).dtype, device, exchange)
        new.own = new._form(new._blocks, 1.0, new.dtype, device)
        new.own.shared, s, me = new, new.shares, new.ranks.rank
        new.own._read(
            state, (int(s.tile_r[me]), int(s.t_r[me])), (int(s.tile_r[-1]), int(s.t_r[-1]))
        )  # fmt: skip
        return new

    @staticmethod
    def needs(blocks: Blocks, dtype: Any, m: int, n_ranks: int) -> int:
        """Bytes on the device that has most."""
        s = Shares(blocks, ROW_BYTES // np.dtype(dtype).itemsize, n_ranks)
        own = (s.own(blocks, r) for r in range(n_ranks))
        return max(CudaCovariance.needs(b, dtype, m) for b in own)

    @property
    def nbytes(self) -> int:
        """Bytes held on our device."""
        return self.own.nbytes


class SharedCoupledCudaCovariance(SharedCudaCovariance):
    """The same with blocks coupled within a window: twin of `kalman.coupled.CoupledCovariance`."""

    coupled = True
    _form = _CoupledBlocks

    def cut(self) -> None:
        """End the window: A_l ← s(A_l − U_lᵀU_l)."""
        self.own.cut()

    @property
    def window(self) -> tuple[np.ndarray, float]:
        """U (k, N), float64, and s, on every host."""
        U_kw, scale = self.own.window
        k = len(U_kw)
        return self.ranks.gather(U_kw.T, [k * n for n in self.weights_r]).reshape(-1, k).T, scale

    @window.setter
    def window(self, U_and_scale: tuple[np.ndarray, float]) -> None:
        U_kw, scale = U_and_scale
        self.own.window = U_kw[:, self.own_w], scale


#: By whether blocks are coupled.
SHARED: tuple[Any, Any] = SharedCudaCovariance, SharedCoupledCudaCovariance


class SharedCudaRLEKF(CudaRLEKF):
    """`CudaRLEKF` whose P lies on the devices of a team; weights and all small things are on every one.

    Parameters
    ----------
    as `CudaRLEKF`, and ``exchange``, between the devices of all ranks (`cuda.exchange`)
    """

    def __init__(
        self, weights: Any, blocks=None, *, exchange: Exchange, device: Any, coupled: bool = False,
        P0: Any = 1.0, **choices: Any,
    ):  # fmt: skip
        xp = device.xp
        RLEKF.__init__(
            self, xp.asarray(weights), blocks, P0=xp.asarray(P0),
            covariance=partial(SHARED[coupled], device=device, exchange=exchange), **choices,
        )  # fmt: skip
        self._begin(device, _kind(coupled))

    def _make_pieces(self) -> None:
        P: Any = self.covariance
        first = [w for a, b in pairwise(P._w_c) for w in range(a, b, PIECE)]
        ends = [P._w_c[-1]] if P._w_c[-1] else []
        xp = self.device.xp
        self._pieces = xp.asarray(np.array([*first, *ends], dtype=np.int32))
        self._parts = xp.zeros((len(first), 2))
        s = P.shares
        self._pieces_r = [
            sum(blocks_for(int(b - a), PIECE) for a, b in pairwise(s.w_l[s.l_c[i : j + 1]]))
            for i, j in pairwise(s.c_r)
        ]

    def _step(self, G_qw: Any, z_q: Any) -> tuple[Any, Any]:
        """Δw (N,) of all weights, and Σ Δw², Σ G² of all pieces: each rank makes its own."""
        P: Any = self.covariance
        xp, (m, n) = self.device.xp, G_qw.shape
        own = xp.empty(n)
        self._f.weight_step(
            len(self._parts), THREADS, G_qw, z_q, xp.ascontiguousarray(self.weights[P.own_w]), self._pieces,
            m, n, P.status, own, self._parts,
        )  # fmt: skip
        counts = [w + 2 * p for w, p in zip(P.weights_r, self._pieces_r, strict=True)]
        every = P.exchange.gather(xp.concatenate([own, self._parts.reshape(-1)]), counts)
        steps, parts, start = [], [], 0
        for w, p in zip(P.weights_r, self._pieces_r, strict=True):
            steps.append(every[start : start + w])
            parts.append(every[start + w : start + w + 2 * p])
            start += w + 2 * p
        step_w = xp.concatenate(steps)
        # what one device has found, all must know
        bad = xp.logical_not(xp.isfinite(self.weights + step_w).all())
        found = xp.where((P.status == 0) & bad, STEP_NOT_FINITE, P.status)
        P.status[...] = found.astype(np.int32)
        return step_w, xp.concatenate(parts).reshape(-1, 2)

    @classmethod
    def from_state(  # type: ignore[override]
        cls, state: dict[str, Any], covariance: str | None = None, *, device: Any, exchange: Exchange
    ):
        """The filter whose `state` this is: each rank reads its own part of P.

        A P that was not on a GPU is read whole by every host, and each device gets its own blocks.
        """
        new, kind, P = cls._without_covariance(state)
        coupled = kind.endswith(" coupled")
        if kind in CUDA_COVARIANCES:
            new.covariance = SHARED[coupled].from_state(new.blocks, P, device=device, exchange=exchange)
        else:
            there: Any = RLEKF.from_state(state).covariance
            new.covariance = SHARED[coupled](new.blocks, 1.0, there.dtype, device=device, exchange=exchange)
            move(there, new.covariance)
        new.weights = device.xp.asarray(new.weights)
        new._begin(device, _kind(coupled))
        return new


def _kind(coupled: bool) -> str:
    return "cuda coupled" if coupled else "cuda"
