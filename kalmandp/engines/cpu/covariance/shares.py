"""Which rank has which part of P, and what an update of `shared` moves between them.

The tile rows of all blocks are cut into chunks of nearly equal numbers of tiles; the blocks alone decide
where. Each rank has a range of consecutive chunks. `traffic` counts, without allocating anything, the numbers
that `shared` sends: it is judged by what a run sends.
"""

from __future__ import annotations

from math import ceil, log2
from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cpu.covariance import tiling
from kalmandp.engines.cpu.covariance.gain import PIECE
from kalmandp.engines.cpu.covariance.matrix_kernels import PANELS_AT_ONCE
from kalmandp.engines.cpu.covariance.matrix_kernels import PIECE as MATRIX_PIECE
from kalmandp.engines.cpu.covariance.tiled import PANEL, PENDING, WAITING
from kalmandp.engines.cpu.covariance.tiling import FIRST, TILE, W0
from kalmandp.engines.cpu.products import COLUMNS
from kalmandp.kalman.blocks import Blocks
from kalmandp.ranks.team import share
from kalmandp.ranks.tree import is_small, nodes_of

#: Chunks that the tiles of P are cut into, at least; a chunk of a large P has this many tiles, and one of a
#: small P no fewer than the last.
CHUNKS, TILES_PER_CHUNK, FEWEST = 16, 2048, 4
#: A chunk begins where a block does, if that is so near: as a share of the tiles of a chunk.
NEAR = 0.3
#: Bytes of a number that travels.
NUMBER = 8


def cut(rows: np.ndarray, n_tiles: int) -> np.ndarray:
    """First tile row of each chunk, and the end: a function of the blocks alone."""
    n_chunks = max(1, min(max(CHUNKS, n_tiles // TILES_PER_CHUNK), n_tiles // FEWEST))
    per_chunk = n_tiles / n_chunks
    targets = np.arange(1, n_chunks) * per_chunk
    starts = np.searchsorted(rows[:, TILE], targets)
    # where a block begins near by, a chunk does: nothing goes then to those who have its earlier rows
    first_t = np.append(np.flatnonzero(rows[:, FIRST] == np.arange(len(rows))), len(rows))
    tile_t = np.append(rows[:, TILE], n_tiles)
    near = first_t[np.argmin(np.abs(tile_t[first_t][:, None] - targets), axis=0)] if len(targets) else starts
    starts = np.where(np.abs(tile_t[near] - targets) <= NEAR * per_chunk, near, starts)
    return np.unique([0, *starts, len(rows)])


class Shares(NamedTuple):
    """Chunks c and ranks r of P; t counts tile rows through all blocks.

    rows : of the tiling;  starts : first t of each chunk, and the end
    c_r, t_r : first chunk and t of each rank, and the end
    tile_t, first_t, w_t : for each t and the end, its first tile, the first t of its block, its first weight
    """

    rows: np.ndarray
    starts: np.ndarray
    c_r: np.ndarray
    t_r: np.ndarray
    tile_t: np.ndarray
    first_t: np.ndarray
    w_t: np.ndarray

    @property
    def low_r(self) -> np.ndarray:
        """The first t of the block that each rank begins in: of its rows U is needed from there."""
        return np.minimum(self.first_t[self.t_r[:-1]], self.t_r[:-1])

    def pieces(self, size: int) -> np.ndarray:
        """How many pieces of so many weights each rank has, of chunks that are cut into them one by one."""
        pieces_c = -(-np.diff(self.w_t[self.starts]) // size)
        return np.diff(np.concatenate([[0], np.cumsum(pieces_c)])[self.c_r])


def shares(blocks: Blocks, T: int, n_ranks: int, coupled: bool = False) -> Shares:
    """How P in tiles of T × T is shared by so many ranks."""
    tiles = tiling.make_tiling(blocks, T, coupled)
    rows = tiles.rows
    starts = cut(rows, tiles.n_tiles)
    tile_t = np.append(rows[:, TILE], tiles.n_tiles)
    c_r = share(np.diff(tile_t[starts]), n_ranks)
    first_t, w_t = np.append(rows[:, FIRST], len(rows)), np.append(rows[:, W0], blocks.n_weights)
    return Shares(rows, starts, c_r, starts[c_r], tile_t, first_t, w_t)


class Traffic(NamedTuple):
    """What an update by m numbers moves and takes, by rank.

    received_r : bytes that each rank receives
    messages : messages that one waits for after another, at most
    memory_r : bytes of P that each rank keeps
    tiles_r : share of the work on P that each rank has, 1 in all
    """

    received_r: np.ndarray
    messages: float
    memory_r: np.ndarray
    tiles_r: np.ndarray


def traffic(
    blocks: Blocks, n_ranks: int, m: int, dtype: Any = "float64", coupled: bool = False,
    pending: float = PENDING / 2,
) -> Traffic:  # fmt: skip
    """Count what an update of `shared` by m numbers moves, with so many pending columns before it.

    Parameters
    ----------
    blocks : of P;  n_ranks : R;  m : numbers of the update;  dtype, coupled : of P
    pending : columns of U that wait; by default half of the most, as on average

    Notes
    -----
    ::

        A H of rows of earlier ranks of a block      m T (those rows)         to their owners, of each node
        U H of each segment                          pending m (segments)     to all
        H P Hᵀ                                       m² nodes/R + m²          to all, of many numbers a half;
                                                     m² chunks                of a few numbers
        the new weights                              N + 2 pieces             to all
        U, m of PENDING columns of a fold            m T (rows of earlier ranks of a block)
        G, of many numbers                           m (weights of earlier ranks of a block)

    A node (`ranks.tree`) is one sum for the longest run of a rank's chunks that the tree admits.
    """
    T, R = tiling.ROW_BYTES // np.dtype(dtype).itemsize, n_ranks
    s = shares(blocks, T, R, coupled)
    ranks, chunk_r = np.arange(R), np.diff(s.c_r)
    nodes = [(r, first) for r in ranks for first, _ in nodes_of(int(s.c_r[r]), int(s.c_r[r + 1]))]
    rank_n, chunk_n = np.array(nodes, dtype=int).reshape(-1, 2).T
    # each node adds to the rows from the first of its block; those before its rank are others'
    low_n, own_n = s.first_t[s.starts[chunk_n]], s.t_r[rank_n]
    remote = low_n < own_n
    steps = np.zeros(len(s.rows) + 1)
    np.add.at(steps, low_n[remote], 1)
    np.add.at(steps, own_n[remote], -1)
    covered = np.concatenate([[0], np.cumsum(np.cumsum(steps)[:-1])])
    sums_r = np.diff(covered[s.t_r])
    rank_t = np.searchsorted(s.t_r, np.arange(len(s.rows)), side="right") - 1
    asking = np.flatnonzero(s.low_r < s.t_r[:-1])  # ranks that begin within a block of earlier ones
    partners = int(np.max(asking - rank_t[s.low_r[asking]], initial=0))
    segments_r = np.array([_segments(s, r, coupled) for r in ranks])
    many = m > WAITING and not coupled  # by matrix products, before which U is folded in
    w_r, pieces_r = np.diff(s.w_t[s.t_r]), s.pieces(MATRIX_PIECE if many else PIECE)
    waits = pending > 0 and not many
    received = (-(-m // COLUMNS) * COLUMNS if many else m) * T * sums_r
    if waits:
        received = received + pending * m * (segments_r.sum() - segments_r)
    square = m * (m + 1) // 2 if many else m * m
    few = is_small(square, chunk_r.tolist())
    n_r = np.array([square if few else square * (r + 1) // R - square * r // R for r in ranks])
    sent_r = chunk_r if few else np.bincount(rank_n, minlength=R)
    received = received + n_r * (sent_r.sum() - sent_r) + (square - n_r)
    received = received + (w_r.sum() - w_r) + 2 * (pieces_r.sum() - pieces_r)
    earlier = s.w_t[s.t_r[:-1]] - s.w_t[s.low_r] if many else T * np.maximum(0, s.t_r[:-1] - s.low_r)
    received = received + m * earlier
    to_all, panels = ceil(log2(R)) if R > 1 else 0, -(-m // (COLUMNS * PANELS_AT_ONCE if many else PANEL))
    messages = panels * (partners + waits * to_all) + (0 if few else R - 1) + 2 * to_all
    messages += partners if many else partners * m / PENDING
    tiles_r = np.diff(s.tile_t[s.t_r])
    kept_r = s.t_r[1:] - s.low_r  # rows of U: also those of the block that earlier ranks have
    memory = (tiles_r * T + kept_r * PENDING + chunk_r * PENDING) * tiling.ROW_BYTES
    return Traffic(NUMBER * received, messages, memory, tiles_r / max(1, tiles_r.sum()))


def _segments(s: Shares, r: int, coupled: bool) -> int:
    """Pieces of a rank's chunks that are of one block each; coupled, its chunks."""
    starts = s.starts[s.c_r[r] : s.c_r[r + 1]]
    if coupled or not len(starts):
        return len(starts)
    t = np.arange(s.t_r[r], s.t_r[r + 1])
    return len(np.union1d(starts, t[s.first_t[t] == t]))
