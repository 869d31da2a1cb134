"""Sorting by small integer keys on a device, without waiting for it: CuPy's own sort does wait."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmandp.engines.cuda.launch import THREADS, Device, blocks_for

#: Numbers of a chunk, as in sort.cu.
CHUNK = 1024


def order_of_keys(device: Device, key_n: Any, n_keys: int) -> tuple[Any, Any]:
    """The stable order of integer keys, ``numpy.argsort(key_n, kind="stable")``, and where each key begins.

    Parameters
    ----------
    key_n : (n,) int32 of the device, 0 ≤ key < n_keys; nothing is checked
    n_keys : number of keys

    Returns
    -------
    order_n : (n,) int32;  first_k : (n_keys + 1,) int32, key k has order_n[first_k[k] : first_k[k+1]]
    """
    xp, f, n = device.xp, device.functions("sort.cu"), len(key_n)
    n_chunks = max(1, blocks_for(n, CHUNK))
    counts, order_n = xp.zeros(n_keys * n_chunks, np.int32), xp.empty(n, np.int32)
    f.count_keys(blocks_for(n, CHUNK), THREADS, key_n, n, n_chunks, counts)
    last = xp.cumsum(counts, dtype=np.int32)
    f.place_keys(blocks_for(n, CHUNK), THREADS, key_n, n, n_chunks, counts, last, order_n)
    first_k = xp.zeros(n_keys + 1, np.int32)
    first_k[1:] = last[n_chunks - 1 :: n_chunks]
    return order_n, first_k
