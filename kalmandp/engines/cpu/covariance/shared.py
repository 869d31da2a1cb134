"""The covariance in tiles (`tiled`), its tile rows shared out over ranks: twin of `kalman.covariance`.

Each rank has a range of consecutive chunks (`shares`): of A their tiles, of U, K and G their weights. H, the
weights and all small things are on every rank. Tile (I, J) is used twice, for K_I and for K_J, so a chunk
adds to the K of earlier chunks of its block. ::

    what travels in an update of m numbers      numbers
    A H of a block that several ranks have      m · (rows of earlier ranks), of each node, to owners
    U H of each segment                         m · (columns waiting), to all
    H P Hᵀ of each node                         m²/R
    the new weights                             N, to all
    U, when it is folded in                     WINDOW · (rows of earlier ranks of a block)
    G of many numbers, in its place             m · (weights of earlier ranks of a block)

Sums over chunks are one tree (`ranks.tree`): the bits do not depend on the number of ranks.
The stored state is that of a `TiledCovariance`: either class goes on from a state of the other.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from kalmandp.engines.cpu.buffers import Store, aligned_zeros
from kalmandp.engines.cpu.covariance import matrix_kernels, tiling
from kalmandp.engines.cpu.covariance import pending as pending_kernels
from kalmandp.engines.cpu.covariance import shared_kernels as kernels
from kalmandp.engines.cpu.covariance import tiles as tiles_kernels
from kalmandp.engines.cpu.covariance.gain import PIECE
from kalmandp.engines.cpu.covariance.matrix import Halves, Tables, gain_of_pieces
from kalmandp.engines.cpu.covariance.matrix_kernels import PANELS_AT_ONCE
from kalmandp.engines.cpu.covariance.matrix_kernels import PIECE as MATRIX_PIECE
from kalmandp.engines.cpu.covariance.rounds import squares_from
from kalmandp.engines.cpu.covariance.shares import shares
from kalmandp.engines.cpu.covariance.spans import between, joined
from kalmandp.engines.cpu.covariance.tiled import (
    PANEL,
    PENDING,
    WAITING,
    CoupledTiledCovariance,
    TiledCovariance,
)
from kalmandp.engines.cpu.covariance.tiling import FIRST, TILE, W0, W1
from kalmandp.engines.cpu.products import COLUMNS
from kalmandp.engines.cpu.threads import Team as Threads
from kalmandp.errors import require
from kalmandp.kalman.blocks import Blocks
from kalmandp.kalman.coupled import Windows
from kalmandp.kalman.covariance import Gain, stored
from kalmandp.ranks import tree
from kalmandp.ranks.rows import Rows
from kalmandp.ranks.team import Alone, Team


class SharedTiledCovariance(TiledCovariance):
    """P in tiles over the ranks of ``team``, which a subclass has (`shared_class`)."""

    ranks: Team = Alone()

    def __init__(self, blocks: Blocks, P0: Any = 1.0, dtype: Any = "float64"):
        self._make(blocks, dtype)
        variance_w = np.broadcast_to(np.asarray(P0, dtype=self.dtype), (blocks.n_weights,))[self._own_w]
        t, j = self._tile_of_weight()
        self._tiles[self._diagonal_tiles()[t], j, j] = variance_w

    def _make(self, blocks: Blocks, dtype: Any) -> None:
        self.blocks, self.dtype = blocks, np.dtype(dtype)
        T = self._T = tiling.ROW_BYTES // self.dtype.itemsize
        s, me = shares(blocks, T, self.ranks.size, self.coupled), self.ranks.rank
        rows, starts, c_r, first_t, w_t = s.rows, s.starts, s.c_r, s.first_t, s.w_t
        self._t_r, self._low_r = s.t_r, s.low_r
        self._tile_r, self._chunks_r = s.tile_t[s.t_r], np.diff(c_r).tolist()
        self._w_r = w_t[self._t_r]
        #: whether a block lies on more than one rank: only then A H, and U of a fold, go from one to another
        self._crosses = bool((s.low_r < s.t_r[:-1]).any())
        self._t0, self._t1, self._low = int(self._t_r[me]), int(self._t_r[me + 1]), int(self._low_r[me])
        self._own_w = slice(int(self._w_r[me]), int(self._w_r[me + 1]))
        self._w_low, self._wanted_r = int(w_t[self._low]), w_t[s.low_r].tolist()
        # the same tables, of the tile rows from the first of our first block to our last
        own = rows[self._low : self._t1].copy()
        own[:, TILE] -= self._tile_r[me]
        own[:, FIRST] -= self._low
        own[:, [W0, W1]] -= self._w_low
        self._rows, self._home = own, self._t0 - self._low
        self._chunk_rows = [(int(a), int(b)) for a, b in pairwise(starts)]
        self._low_c = [int(first_t[a]) for a, _ in self._chunk_rows]
        self._c_r, self._nodes_r = c_r.tolist(), [tree.nodes_of(a, b) for a, b in pairwise(c_r.tolist())]
        chunks, place = [], 0
        for a, b in self._chunk_rows[c_r[me] : c_r[me + 1]]:
            low = int(first_t[a])
            chunks.append((a - self._low, b - self._low, low - self._low, place))
            place += b - low + 1
        self._chunks, self._n_sums = np.array(chunks, dtype=np.int64).reshape(-1, 4), place
        self._segments, group, self._segments_r = self._make_segments(rows)
        self._group_g = group
        base = self._w_low - self._own_w.start
        bounds = [(own[a, W0] + base, own[b - 1, W1] + base) for a, b, *_ in self._chunks]
        self._bounds = np.array(bounds, dtype=np.int64).reshape(-1, 2)
        self._pieces_of = {}
        for size in (PIECE, MATRIX_PIECE):
            pieces = [(w, min(w + size, b)) for a, b in self._bounds.tolist() for w in range(a, b, size)]
            self._pieces_of[size] = np.array(pieces, dtype=np.int64).reshape(-1, 2), s.pieces(size)
        self._squares = _tables(T, own, self._home)
        self._tiles = aligned_zeros((int(self._tile_r[me + 1] - self._tile_r[me]), T, T), self.dtype)
        self._pending = aligned_zeros((PENDING, len(own), T), self.dtype)
        self._turned = aligned_zeros((len(chunks), T, PENDING), self.dtype)
        self._n_pending, self._scale = 0, 1.0
        self._team, self._store = Threads(), Store()

    def _make_segments(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Pieces of chunks that are of one block (coupled: chunks): ours, the group of all, how many."""
        own, group, counts = [], [], []
        block_t = np.cumsum(rows[:, FIRST] == np.arange(len(rows))) - 1
        for r, (i, j) in enumerate(pairwise(self._c_r)):
            before = len(group)
            for a, b in self._chunk_rows[i:j]:
                inner = [] if self.coupled else [t for t in range(a + 1, b) if rows[t, FIRST] == t]
                for t, u in pairwise([a, *inner, b]):
                    group.append(0 if self.coupled else int(block_t[t]))
                    if r == self.ranks.rank:
                        own.append((t - self._low, u - self._low, group[-1]))
            counts.append(len(group) - before)
        return np.array(own, dtype=np.int64).reshape(-1, 3), np.array(group), counts

    def project(self, H_qw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return our weights' part of K = P Hᵀ, as rows, and the whole H P Hᵀ.

        Parameters
        ----------
        H_qw : (m, N), the same on every rank

        Returns
        -------
        K_qw (m, our weights), H P Hᵀ (m, m), the latter the same on every rank
        """
        m, w = len(H_qw), self._own_w
        K_qw = self._store.empty((m, w.stop - w.start))
        if self._is_matrix(m):
            return K_qw, self._project_many(H_qw, K_qw)
        for q in range(0, m, PANEL):
            H = np.ascontiguousarray(H_qw[q : q + PANEL, self._w_low : w.stop], dtype=np.float64)
            self._project_few(H, K_qw[q : q + PANEL])
        parts = np.empty((len(self._chunks), m, m))
        H = np.ascontiguousarray(H_qw[:, w], dtype=np.float64)
        self._team.run(kernels.gram, m * H.size, H, K_qw, self._bounds, parts)
        return K_qw, tree.sum_in_tree(self.ranks, parts, self._chunks_r)

    def _is_matrix(self, m: int) -> bool:
        """Whether an update by m numbers is made of matrix products, for which nothing may wait in U."""
        return m > WAITING and not self.coupled

    def _project_many(self, H_qw: np.ndarray, K_qw: np.ndarray) -> np.ndarray:
        """`project` by matrix products, in panels of 16 measurements; H P Hᵀ."""
        self.fold()
        m, T, n_own = len(H_qw), self._T, self._t1 - self._t0
        H = np.ascontiguousarray(H_qw[:, self._w_low : self._own_w.stop], dtype=np.float64)
        panels = -(-m // COLUMNS)
        X = self._store.empty((panels, len(self._rows), T * COLUMNS))
        self._team.run(kernels.turn, H.size, H, self._rows, T, X.reshape(-1))
        Y = np.empty((panels, n_own, T * COLUMNS))
        for panel in range(0, panels, PANELS_AT_ONCE):
            n = min(PANELS_AT_ONCE, panels - panel)
            sums = self._store.empty((n, self._n_sums, T * COLUMNS))
            self._team.run(
                kernels.multiply_panels, 2 * COLUMNS * n * self._tiles.size, self._tiles.reshape(-1), T,
                self._rows, self._chunks, X.reshape(-1), panel, n, sums.reshape(-1),
            )  # fmt: skip
            self._sum(sums.transpose(1, 0, 2), Y[panel : panel + n].transpose(1, 0, 2))
        own = self._rows[self._home :].copy()
        own[:, [W0, W1]] -= self._own_w.start - self._w_low
        X_own = np.ascontiguousarray(X[:, self._home :])
        space = self._store.empty((self._team.size, panels * COLUMNS, panels * COLUMNS))
        parts = np.empty((len(self._chunks), m * (m + 1) // 2))
        self._team.run(
            kernels.finish_panels, m * m * K_qw.shape[1], T, own, self._chunks[:, :2] - self._home,
            X_own.reshape(-1), Y.reshape(-1), K_qw, space.reshape(-1), parts,
        )  # fmt: skip
        q, p = np.tril_indices(m)
        HPH_qq = np.empty((m, m))
        HPH_qq[q, p] = HPH_qq[p, q] = tree.sum_in_tree(self.ranks, parts, self._chunks_r)
        return HPH_qq

    def _project_few(self, H_qw: np.ndarray, K_qw: np.ndarray) -> None:
        m, T, n_k = len(H_qw), self._T, self._n_pending
        X = self._store.zeros((len(self._rows), m, T), self.dtype)
        sums = self._store.zeros((self._n_sums, m, T))
        tiles_kernels.pack(X, H_qw, self._rows)
        self._team.run(
            tiles_kernels.multiply_tiles, m * self._tiles.size, self._tiles, self._rows, self._chunks, X, sums
        )
        Y = np.empty((self._t1 - self._t0, m, T))
        self._sum(sums, Y)
        Z = np.zeros((int(self._group_g[-1]) + 1, n_k, m))
        work = n_k * m * (self._t1 - self._t0) * T
        if n_k:
            parts = np.empty((len(self._segments), n_k, m))
            self._team.run(
                kernels.multiply_pending, work, self._pending, n_k, self._segments, X, parts
            )  # fmt: skip
            parts = self.ranks.gather(parts.ravel(), [g * n_k * m for g in self._segments_r])
            np.add.at(Z, self._group_g, parts.reshape(-1, n_k, m))
        self._team.run(
            kernels.finish, work, self._pending, n_k, self._scale, self._rows, self._segments, Z, Y,
            self._home, self._own_w.start - self._w_low, K_qw,
        )  # fmt: skip

    def _sum(self, sums: np.ndarray, Y: np.ndarray) -> None:
        """Y ← A X of our own tile rows (own t, …): what all chunks add to them, as a tree of chunks.

        ``sums`` (places, …): what our chunks have added, each to the tile rows from the first of its block;
        it is used up.
        """
        shape, me = sums.shape[1:], self.ranks.rank
        t0, t1 = int(self._t_r[me]), int(self._t_r[me + 1])
        leaves = {}
        for c, (low, b, place) in enumerate(self._chunks[:, [2, 1, 3]].tolist(), self._c_r[me]):
            leaves[c, c + 1] = [(low + self._low, sums[place : place + b - low])]
        own = {node: tree.summed(leaves, node, joined) for node in self._nodes_r[me]}
        known = {node: cut for node, rows in own.items() if (cut := between(rows, t0, t1))}
        to_r, counts = [], []
        for r in range(self.ranks.size if self._crosses else 0):
            a, b = int(self._t_r[r]), int(self._t_r[r + 1]) if r < me else 0
            sent = [x.ravel() for rows in own.values() for _, x in between(rows, a, b)]
            to_r.append(sent[0] if len(sent) == 1 else np.concatenate([np.zeros(0), *sent]))
            counts.append(sum(t1 - i for _, i in self._from(r)) * int(np.prod(shape)))
        for r, got in enumerate(self.ranks.exchange(to_r, counts) if self._crosses else []):
            for node, i in self._from(r):
                n = (t1 - i) * int(np.prod(shape))
                known[node], got = [(i, got[:n].reshape(t1 - i, *shape))], got[n:]
        for t, x in tree.summed(known, tree.root(len(self._chunk_rows)), joined) or []:
            Y[t - t0 : t - t0 + len(x)] = x

    def _from(self, r: int) -> list[tuple[tree.Node, int]]:
        """Nodes of a later rank's chunks that add to tile rows of ours: to those from row t on."""
        t0, t1 = int(self._t_r[self.ranks.rank]), int(self._t_r[self.ranks.rank + 1])
        nodes = self._nodes_r[r] if r > self.ranks.rank else []
        return [(node, max(t0, self._low_c[node[0]])) for node in nodes if self._low_c[node[0]] < t1 > t0]

    def gain(self, K_qw: np.ndarray, C_qq: np.ndarray, z_q: np.ndarray, weights: np.ndarray) -> Gain:
        """Return our part of G = C⁻¹K, and all the weights that Algorithm 1, l. 12, goes to.

        Parameters
        ----------
        K_qw : (m, our weights), overwritten with G;  C_qq : (m, m);  z_q : (m,);  weights : (N,)
        """
        own = np.ascontiguousarray(weights[self._own_w])
        many = self._is_matrix(len(K_qw))
        pieces, pieces_r = self._pieces_of[MATRIX_PIECE if many else PIECE]
        new, parts = np.empty(len(own)), np.empty((len(pieces), 2))
        if many:
            parts = gain_of_pieces(self._team, self._store, K_qw, C_qq, z_q, own, new, pieces)
        else:
            self._team.run(
                kernels.gain, (2 + len(K_qw)) * K_qw.size, K_qw, C_qq, z_q, own, new, pieces, parts
            )
        every = self.ranks.gather(
            np.concatenate([new, parts.ravel()]),
            [int(n) + 2 * int(p) for n, p in zip(np.diff(self._w_r), pieces_r, strict=True)],
        )
        after, squares, start = [], [], 0
        for n, p in zip(np.diff(self._w_r).tolist(), pieces_r, strict=True):
            after.append(every[start : start + n])
            squares.append(every[start + n : start + n + 2 * p].reshape(-1, 2))
            start += n + 2 * int(p)
        step_square, gain_square = np.concatenate(squares).sum(axis=0).tolist()
        return Gain(K_qw, np.concatenate(after), step_square, gain_square)

    def downdate(self, G_qw: np.ndarray, lam: float) -> None:
        """P ← (P − GᵀG)/λ: our part of G (m, our weights) joins the pending columns, folded in when full."""
        if self._is_matrix(len(G_qw)):
            self._downdate_many(G_qw, lam)
            return
        rows, done = self._rows[self._home :].copy(), 0
        rows[:, [W0, W1]] -= self._own_w.start - self._w_low
        while done < len(G_qw):
            if self._n_pending == PENDING:
                self.fold()
            G = np.ascontiguousarray(G_qw[done : done + PENDING - self._n_pending])
            own = self._pending[:, self._home :]
            pending_kernels.append(own, self._n_pending, G, 1 / np.sqrt(self._scale), rows)
            self._n_pending += len(G)
            done += len(G)
        self._scale /= lam

    def _downdate_many(self, G_qw: np.ndarray, lam: float) -> None:
        """The same with all rows of G at once; that of our first block's earlier weights is sent to us."""
        self.fold()
        m, me, to_r, counts, place = len(G_qw), self.ranks.rank, [], [], self._own_w.start
        G = self._store.empty((m, self._own_w.stop - self._w_low))
        G[:, place - self._w_low :] = G_qw
        for r in range(self.ranks.size if self._crosses else 0):
            i, j = max(self._wanted_r[r], place), min(int(self._w_r[r]), self._own_w.stop)
            to_r.append(G_qw[:, i - place : max(i, j) - place].ravel() if r > me else np.zeros(0))
            i, j = self._earlier(r)
            counts.append(m * (j - i))
        for r, got in enumerate(self.ranks.exchange(to_r, counts) if self._crosses else []):
            i, j = self._earlier(r)
            G[:, i - self._w_low : j - self._w_low] = got.reshape(m, j - i)
        T = self._T
        U = self._store.empty((len(self._rows) * T // COLUMNS, m, COLUMNS))
        none = np.zeros(0, dtype=self.dtype)
        self._team.run(
            matrix_kernels.downdate, m * self._tiles.size, self._squares,
            Halves(self._tiles.reshape(-1), none, 0, 1 / lam), G, 1.0, U, U.reshape(-1),
        )  # fmt: skip

    def _earlier(self, r: int) -> tuple[int, int]:
        """The weights of our first block that an earlier rank has: first, and end."""
        i = max(self._w_low, int(self._w_r[r]))
        return i, max(i, min(self._own_w.start, int(self._w_r[r + 1]))) if r < self.ranks.rank else i

    def fold(self) -> None:
        """A ← s(A − UᵀU), s ← 1; U of the earlier rows of our first block comes from their ranks."""
        n_k = self._n_pending
        if not n_k and self._scale == 1.0:
            return
        to_r, counts, me = [], [], self.ranks.rank
        for r in range(self.ranks.size if self._crosses else 0):
            i, j = max(int(self._low_r[r]), self._t0), min(int(self._t_r[r]), self._t1)
            mine = self._pending[:n_k, i - self._low : j - self._low] if r > me and i < j else np.zeros(0)
            to_r.append(np.ascontiguousarray(mine, dtype=np.float64).ravel())
            i, j = max(self._low, int(self._t_r[r])), min(self._t0, int(self._t_r[r + 1]))
            counts.append(n_k * max(0, j - i) * self._T if r < me else 0)
        for r, got in enumerate(self.ranks.exchange(to_r, counts) if self._crosses else []):
            if r < me and len(got):
                i, j = max(self._low, int(self._t_r[r])), min(self._t0, int(self._t_r[r + 1]))
                self._pending[:n_k, i - self._low : j - self._low] = got.reshape(n_k, j - i, self._T)
        self._team.run(
            pending_kernels.fold, n_k * self._tiles.size, self._tiles, self._pending, n_k, self._scale,
            self._rows, self._chunks, self._turned,
        )  # fmt: skip
        self._n_pending, self._scale = 0, 1.0

    def diagonal(self) -> np.ndarray:
        """The variances of the N weights, float64 (N,)."""
        t, j = self._tile_of_weight()
        A_tj = np.einsum("tjj->tj", self._tiles[self._diagonal_tiles()]).astype(np.float64)
        for u_tj in self._columns.transpose(1, 0, 2).astype(np.float64):
            A_tj = A_tj - u_tj * u_tj
        return self.ranks.gather(self._scale * A_tj[t, j], np.diff(self._w_r).tolist())

    def dense(self, l: int) -> np.ndarray:
        """Block l as a full matrix (n_l, n_l), float64: P times unit vectors."""
        w = list(self.blocks)[l]
        columns = []
        for first in range(w.start, w.stop, PANEL):
            n = min(PANEL, w.stop - first)
            H_qw = np.zeros((n, self.blocks.n_weights))
            H_qw[np.arange(n), first + np.arange(n)] = 1.0
            K_qw = self.project(H_qw)[0]
            K_wq = self.ranks.gather(K_qw.T.ravel(), [int(k) * n for k in np.diff(self._w_r)])
            columns.append(K_wq.reshape(-1, n)[w])
        return np.concatenate(columns, axis=1)

    def assign(self, l: int, P_ww: np.ndarray) -> None:
        """Not for a shared P: it is made by its variances, or from what was stored."""
        require(False, "a block of a shared covariance", "set", "one that is stored")

    def state(self, copy: bool = True) -> dict[str, Any]:
        """A, U, s as they are, in the form of `TiledCovariance`; the arrays lie on all ranks (`Rows`)."""
        U_tkj = self._columns
        tiles, pending = (x.copy() if copy else x for x in (self._tiles, U_tkj))
        return {
            "tiles": Rows(self.ranks, "tiles", tiles, np.diff(self._tile_r).tolist()),
            "pending": Rows(self.ranks, "pending", pending, np.diff(self._t_r).tolist()),
            "scale": self._scale,
        }

    @classmethod
    def from_state(cls, blocks: Blocks, state: dict[str, Any]) -> SharedTiledCovariance:
        """Make the covariance that ``state`` was taken from; each rank reads its own part."""
        new = cls.__new__(cls)
        new._make(blocks, stored(state, "tiles", (-1, -1, -1)).dtype)
        me, T = new.ranks.rank, new._T
        tiles = stored(state, "tiles", (int(new._tile_r[-1]), T, T))
        U_tkj = stored(state, "pending", (int(new._t_r[-1]), -1, T))
        new._n_pending = U_tkj.shape[1]
        require(new._n_pending <= PENDING, "pending columns stored", new._n_pending, f"≤ {PENDING}")
        first = int(new._tile_r[me])
        for t in range(0, len(new._tiles), 1024):  # piecewise: it may be a data set in a file
            end = min(t + 1024, len(new._tiles))
            new._tiles[t:end] = tiles[first + t : first + end]
        if new._n_pending and new._t0 < new._t1:
            new._columns[...] = U_tkj[new._t0 : new._t1]
        new._scale = float(stored(state, "scale", ())[()])
        require(0 < new._scale < np.inf, "the scale stored", new._scale, "a positive number")
        return new

    @property
    def nbytes(self) -> int:
        """Bytes of tiles and pending columns on this rank."""
        return self._tiles.nbytes + self._pending.nbytes + self._turned.nbytes

    @property
    def _columns(self) -> np.ndarray:
        """U of our own rows as (t, k, T), a view."""
        return self._pending[: self._n_pending, self._home :].transpose(1, 0, 2)

    def _diagonal_tiles(self) -> np.ndarray:
        rows = self._rows[self._home :]
        return rows[:, TILE] + np.arange(self._home, len(self._rows)) - rows[:, FIRST]

    def _tile_of_weight(self) -> tuple[np.ndarray, np.ndarray]:
        rows = self._rows[self._home :]
        t = np.repeat(np.arange(len(rows)), rows[:, W1] - rows[:, W0])
        return t, np.arange(len(t)) + (rows[0, W0] if len(rows) else 0) - rows[t, W0]


def _tables(T: int, rows: np.ndarray, home: int) -> Tables:
    """What `matrix_kernels.downdate` goes through, of the tile rows from ``home`` on."""
    squares, pairs = squares_from(rows, home, kernels.SIDE)
    none = lambda *shape: np.zeros(shape, dtype=np.int64)
    return Tables(T, rows, squares, pairs, segments=none(0, 3), z_of_tile=none(0), ranges=none(0, 2))


class SharedCoupledCovariance(Windows, SharedTiledCovariance):
    """The same with blocks coupled within a window: twin of `kalman.coupled.CoupledCovariance`."""

    window = CoupledTiledCovariance.window


def shared_class(team: Team, coupled: bool) -> type:
    """The covariance whose tiles the ranks of ``team`` share."""
    base = SharedCoupledCovariance if coupled else SharedTiledCovariance
    return type(base.__name__, (base,), {"ranks": team})
