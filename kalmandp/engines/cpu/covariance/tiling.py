"""Where the pieces of P lie, for one partition and one tile size: the tables that all its kernels take.

Letters: t tile of w (T weights, the last of a block padded with zeros).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from kalmandp.kalman.blocks import Blocks

#: A row of a tile is four cache lines: T = 32 for float64, 64 for float32. Measured: two such rows at
#: once are read from memory as fast as a plain sum reads; rows of 512 bytes, or four at once, slower.
ROW_BYTES = 256
#: Tasks that a pass over P is cut into: a constant, so that sums do not depend on the machine.
CHUNKS = 64
TILES_PER_CHUNK = 16
TILES_PER_SEGMENT = 16

# columns of ``rows`` (one line per tile t of w): first tile of P's row, first t of the block, weights, and
# whether the block is this one tile
TILE, FIRST, W0, W1, ALONE = range(5)
# columns of ``chunks``: rows R0 ≤ t < R1; first tile of w in its sums, where these begin
R0, R1, LOW, PLACE = range(4)
# columns of ``segments``: tiles T0 ≤ t < T1 of one block
T0, T1, BLOCK = range(3)


class Tiling(NamedTuple):
    """Where everything lies, for one partition and one tile size; int64 tables of the kernels."""

    rows: np.ndarray
    chunks: np.ndarray
    touched: np.ndarray
    segments: np.ndarray
    block_segments: np.ndarray
    n_tiles: int
    n_sums: int


def make_tiling(blocks: Blocks, T: int, coupled: bool = False) -> Tiling:
    """``coupled``: U H is the sum over all weights, as if all segments were of one block."""
    rows, segments, n_tiles = [], [], 0
    for l, w in enumerate(blocks):
        first = len(rows)
        for start in range(w.start, w.stop, T):
            rows.append((n_tiles, first, start, min(start + T, w.stop), w.stop - w.start <= T))
            n_tiles += len(rows) - first
        for t in range(first, len(rows), TILES_PER_SEGMENT):
            segments.append((t, min(t + TILES_PER_SEGMENT, len(rows)), 0 if coupled else l))
    rows = np.array(rows, dtype=np.int64)
    chunks, n_sums = _make_chunks(rows, n_tiles)
    chunk_of_row = np.searchsorted(chunks[:, R1], np.arange(len(rows)), side="right")
    last_row = np.searchsorted(rows[:, FIRST], rows[:, FIRST], side="right") - 1
    touched = np.stack([chunk_of_row, chunk_of_row[last_row]], axis=1)
    segments = np.array(segments, dtype=np.int64)
    block_segments = np.searchsorted(segments[:, BLOCK], np.arange(segments[-1, BLOCK] + 2))
    return Tiling(rows, chunks, touched, segments, block_segments, n_tiles, n_sums)


def _make_chunks(rows: np.ndarray, n_tiles: int) -> tuple[np.ndarray, int]:
    """Cut the tile rows into chunks of nearly equal numbers of tiles."""
    n_chunks = max(1, min(CHUNKS, n_tiles // TILES_PER_CHUNK))
    targets = np.arange(1, n_chunks) * (n_tiles / n_chunks)
    bounds = np.unique([0, *np.searchsorted(rows[:, TILE], targets), len(rows)])
    chunks, place = [], 0
    for start, stop in pairwise(bounds.tolist()):
        low = rows[start, FIRST]
        chunks.append((start, stop, low, place))
        place += stop - low + 1  # one more, for what is not wanted
    return np.array(chunks, dtype=np.int64), int(place)
