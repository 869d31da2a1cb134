"""A buffer pool: a fresh page of memory costs more than the arithmetic done in it."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

#: Lengths are rounded up to this many bytes at least, and by an eighth at most, so that arrays of nearly one
#: size share memory: with frames of many sizes the store would fill up with pieces that fit none of them.
GRAIN, FINENESS = 1 << 14, 4
#: float64 numbers in a cache line.
LINE = 8
#: Bytes that a store keeps for later at most.
KEEP = 1 << 28


class Store:
    """Gives out arrays, and takes their memory back when the last view of an array is gone.

    An array from `empty` is like one from `numpy.empty`: it may be kept as long as one likes.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[np.ndarray]] = {}
        self._kept = 0

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
        """An array with arbitrary contents, beginning on a cache line."""
        dtype = np.dtype(dtype)
        n_bytes = prod(shape) * dtype.itemsize
        grain = max(GRAIN, 1 << n_bytes.bit_length() >> FINENESS)
        size = -(-max(n_bytes, 1) // grain) * grain
        try:
            memory = self._free[size].pop()
            self._kept -= size
        except (KeyError, IndexError):
            memory = aligned(size)
        return np.asarray(_Loan(self, memory))[:n_bytes].view(dtype).reshape(shape)

    def several(self, *shapes: tuple[int, ...]) -> list[np.ndarray]:
        """Arrays of float64 in one piece of memory, each beginning on a cache line: one loan, not several."""
        size, places = _side_by_side(shapes)
        whole = self.empty((size,))
        return [whole[a:b].reshape(shape) for (a, b), shape in zip(places, shapes, strict=True)]

    def zeros(self, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
        """An array of zeros."""
        array = self.empty(shape, dtype)
        array[...] = 0
        return array

    def _take_back(self, memory: np.ndarray) -> None:
        if self._kept + len(memory) <= KEEP:
            self._free.setdefault(len(memory), []).append(memory)
            self._kept += len(memory)


class _Loan:
    """Owner of an array's memory while any view of it lives: NumPy keeps it as the array's base."""

    def __init__(self, store: Store, memory: np.ndarray) -> None:
        self._store, self._memory = store, memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._store._take_back(self._memory)


@lru_cache(maxsize=256)
def _side_by_side(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, list[tuple[int, int]]]:
    """Numbers that arrays of these shapes take, and where each lies, beginning on cache lines."""
    counts = [prod(shape) for shape in shapes]
    ends = list(accumulate(-(-count // LINE) * LINE for count in counts))
    return ends[-1], [(a, a + n) for a, n in zip([0, *ends[:-1]], counts, strict=True)]


def aligned(n_bytes: int, make=np.empty) -> np.ndarray:
    """Bytes that begin on a cache line: loads that straddle two lines cost a third of the speed."""
    memory = make(n_bytes + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + n_bytes]


def aligned_zeros(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Zeros of that shape and type, beginning on a cache line."""
    dtype = np.dtype(dtype)
    return aligned(prod(shape) * dtype.itemsize, np.zeros).view(dtype).reshape(shape)
