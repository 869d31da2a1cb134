"""Rows of a matrix in spans, and the sum of two of them without a copy: what `shared` adds up as a tree."""

from __future__ import annotations

import numpy as np

#: Rows one behind the other: the number of the first, and (rows, …).
Span = tuple[int, np.ndarray]


def joined(left: list[Span], right: list[Span]) -> list[Span]:
    """The sum of two nodes: where both have a row, in the place of the right one's.

    The right one begins no earlier than the left, and has all rows from there on.
    """
    first, alone = right[0][0], []
    for t, x in left:
        if t < first:
            alone.append((t, x[: first - t]))
        for u, y in right if t + len(x) > first else ():
            a, b = max(t, u), min(t + len(x), u + len(y))
            if a < b:
                y[a - u : b - u] += x[a - t : b - t]
    return alone + right


def between(rows: list[Span], t0: int, t1: int) -> list[Span]:
    """Those of the tile rows t0 ≤ t < t1."""
    cut = [(max(t, t0), x[max(0, t0 - t) : max(0, t1 - t)]) for t, x in rows]
    return [(t, x) for t, x in cut if len(x)]
