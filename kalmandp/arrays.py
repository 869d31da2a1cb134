"""NumPy or CuPy? The only place that asks.

Mathematical code starts with ``xp = namespace(x)`` and goes on in ``xp``; it runs unchanged on both.

Index letters used as suffixes of array names in the whole package::

    f frame    i atom (centre)    j neighbour atom    p pair (i -> j)    c, d Cartesian
    k the four components of R    m, s columns of G   n table node       w weight    q measurement
"""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np

#: Modules whose arrays are taken beside NumPy's. A stand-in for CuPy, as the tests have, adds its name.
MODULES = ["cupy"]


def namespace(*arrays):
    """Return the array module (numpy or cupy) that the arguments belong to.

    A module is looked up among those already imported: an array of CuPy's can only exist if CuPy was
    imported, so nothing is ever imported just to ask.
    """
    for name in MODULES:
        module = sys.modules.get(name)
        if module is not None and any(isinstance(a, module.ndarray) for a in arrays):
            return module
    return np


def to_numpy(array) -> np.ndarray:
    """Return ``array`` as a NumPy array (copied from the device if it lives there)."""
    return array.get() if namespace(array) is not np else np.asarray(array)


def segment_sum(values, index, n: int):
    """Sum rows of ``values`` that share an index: ``out[index[p]] += values[p]``.

    Parameters
    ----------
    values : array, shape (p, ...)
    index : int array, shape (p,), entries in 0 … n-1
    n : number of segments

    Returns
    -------
    array, shape (n, ...), of the dtype of ``values``
    """
    xp = namespace(values)
    out = xp.zeros((n, *values.shape[1:]), dtype=values.dtype)
    xp.add.at(out, index, values)
    return out


def piece_sums(values, first):
    """Sums of consecutive pieces, ``out[f] = Σ values[first[f] : first[f+1]]``, in a fixed order.

    Parameters
    ----------
    values : array, shape (i,)
    first : (f + 1,) NumPy array
    """
    xp = namespace(values)
    if xp is np:
        return np.add.reduceat(values, first[:-1])
    return xp.stack([values[a:b].sum() for a, b in pairwise(first.tolist())])
