"""Where the tiles of P lie on a device, and how right-hand sides go through them: tables for the kernels."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np

from kalmandp.engines.cuda.launch import blocks_for
from kalmandp.errors import require
from kalmandp.kalman.blocks import Blocks
from kalmandp.kalman.coupled import WINDOW

#: Columns of U before they are folded in. A fold reads and writes A once: 2/WINDOW of a read of A per column.
PENDING = WINDOW
#: Right-hand sides that go through P together, and what that costs in reads of half of P: the kernels are
#: compiled for each of these numbers. Up to 8 the memory decides (and a sum per tile, written and read);
#: beyond, arithmetic: an estimate, for a GPU with 7 float64 operations to a byte, at two thirds of its peak.
PANELS = {1: 1.03, 2: 1.06, 4: 1.12, 8: 1.25, 16: 2.2, 32: 3.4, 64: 6.7}
#: The largest of them whose sums are those of the lower half.
NARROW = 8
#: Columns of P that one block of threads takes in a row of tiles; weights whose U x is summed together. The
#: strips of the paper's network are then several times what a GPU runs at once, so that none is idle long.
STRIP = 512
SEGMENT = 512
#: As STRIP, for many right-hand sides: longer, since each strip has a sum for each of them.
WIDE_STRIP = 2048


class Tiling(NamedTuple):
    """Where everything lies, for one partition and one tile size; int32 tables of the kernels (NumPy).

    rows : for each tile t of w: first tile of its row, first and last t of its block, its weights
    strips : pieces of tile rows of the lower halves;  first_strip : (t + 1,) of each row
    wide_strips, first_wide : the same of whole rows
    segments : pieces of blocks;  tile_segments : first and one past the last of t's block; 0 and 1, the sum
        of all segments, where blocks are coupled (`kalman.coupled`)
    tile_rows : the row t of each tile
    """

    rows: np.ndarray
    strips: np.ndarray
    first_strip: np.ndarray
    wide_strips: np.ndarray
    first_wide: np.ndarray
    segments: np.ndarray
    tile_segments: np.ndarray
    tile_rows: np.ndarray

    @property
    def n_tiles(self) -> int:
        return len(self.tile_rows)


def make_tiling(blocks: Blocks, T: int, coupled: bool = False) -> Tiling:
    """Cut the lower halves of all blocks into tiles of T × T, and these into strips."""
    rows, strips, wide, segments, tile_segments, n_tiles = [], [], [], [], [], 0
    first_strip, first_wide = [0], [0]
    n_s, n_w, n_g = STRIP // T, WIDE_STRIP // T, SEGMENT // T
    for w in blocks:
        first, n_t = len(rows), blocks_for(w.stop - w.start, T)
        first_segment = len(segments)
        segments += [(t, min(t + n_g, first + n_t)) for t in range(first, first + n_t, n_g)]
        for t in range(first, first + n_t):
            start = w.start + (t - first) * T
            rows.append((n_tiles, first, first + n_t - 1, start, min(start + T, w.stop)))
            strips += [(t, c, min(c + n_s, t + 1)) for c in range(first, t + 1, n_s)]
            first_strip.append(len(strips))
            wide += [(t, c, min(c + n_w, first + n_t)) for c in range(first, first + n_t, n_w)]
            first_wide.append(len(wide))
            tile_segments.append((first_segment, len(segments)))
            n_tiles += t - first + 1
    if coupled:
        tile_segments = [(0, 1)] * len(rows)
    require(n_tiles < 2**31, "the number of tiles of P", n_tiles, "less than 2³¹")
    widths = 5, 3, 1, 3, 1, 2, 2  # for a device that has no block
    table = lambda lines, width: np.array(lines, dtype=np.int32).reshape(-1, *[width] * (width > 1))
    lengths = [t - row[1] + 1 for t, row in enumerate(rows)]
    tile_rows = np.repeat(np.arange(len(rows), dtype=np.int32), lengths)
    lines = rows, strips, first_strip, wide, first_wide, segments, tile_segments
    return Tiling(*map(table, lines, widths), tile_rows)


@cache
def panels(m: int) -> tuple[int, ...]:
    """How m right-hand sides go through P at the least cost: the last panel may have room to spare.

    Examples
    --------
    >>> panels(2), panels(5), panels(13), panels(72)
    ((2,), (8,), (16,), (64, 8))
    """
    if m <= 0:
        return ()
    ways = ((width, *panels(m - width)) for width in sorted(PANELS, reverse=True))
    return min(ways, key=lambda way: (sum(PANELS[width] for width in way), len(way)))


def work_shapes(tiling: Tiling, T: int, width: int) -> tuple[tuple[int, ...], ...]:
    """Shapes of X, row sums, column sums and Z for ``width`` right-hand sides."""
    halves = width <= NARROW
    return (
        (len(tiling.rows), width, T),
        (len(tiling.strips if halves else tiling.wide_strips), width, T),
        (tiling.n_tiles if halves else 0, width, T),
        (len(tiling.segments), PENDING, width),
    )


def work_bytes(tiling: Tiling, T: int, itemsize: int, width: int) -> int:
    X, *sums = map(prod, work_shapes(tiling, T, width))
    return itemsize * X + 8 * sum(sums)
