"""An array module like CuPy: NumPy inside, but its arrays refuse NumPy's and count what the host waits for.

    xp.asarray(numpy_array), array[numpy_array]     an upload
    array.get(), float(array), bool(array), …       a wait: something is copied to the host
    xp.nonzero(array), array[mask], xp.sort, …      a wait too: CuPy does not come back before it is done

New arrays are fenced (a kernel that writes outside is found) and `empty` is filled with NaN. Where Python
runs with GCC's AddressSanitizer (see the package), a kernel that reads outside is found, too.
"""

from __future__ import annotations

import ctypes
import sys
import weakref

import numpy as np

#: Functions of CuPy's that look at their result before they return: what has a size that depends on the data,
#: Thrust's sorts, and what checks how a factorisation went.
WAITING = frozenset((
    "nonzero", "flatnonzero", "argwhere", "unique", "bincount", "extract", "compress", "repeat", "setdiff1d",
    "sort", "argsort", "lexsort", "partition", "argpartition", "median", "percentile", "quantile",
    "inv", "solve", "cholesky", "eigh", "eigvalsh", "svd", "lstsq", "det",
))  # fmt: skip

FENCE = 64
FENCE_BYTE = 0xA5
#: Of AddressSanitizer, if it is there: forbid and allow again to read some bytes.
_process = None if sys.platform == "win32" else ctypes.CDLL(None)
_forbid = getattr(_process, "__asan_poison_memory_region", None)
_allow = getattr(_process, "__asan_unpoison_memory_region", None)
SANITIZED = _forbid is not None
#: Names of what made the host wait for the device, and of what was uploaded.
waits: list[str] = []
uploads: list[int] = []
#: Bytes of each array that was made by `empty` or `zeros`.
allocated: list[int] = []


class ndarray(np.ndarray):
    """A NumPy array that is not one."""

    def get(self) -> np.ndarray:
        waits.append("get")
        return np.array(self.view(np.ndarray))

    def __array_namespace__(self, api_version=None):
        return sys.modules[__name__]

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        inputs = _plain(inputs)
        if out is not None:
            options["out"] = _plain(out)
        if method == "at":
            return ufunc.at(*inputs)
        result = getattr(ufunc, method)(*inputs, **options)
        return out[0] if out is not None else _strict(result)

    def __array_function__(self, function, types_, args, kwargs):
        _note_wait(function.__name__, args)
        return _strict(function(*_plain(args), **_plain(kwargs)))

    def __getitem__(self, index):
        _note_index(index)
        return _strict(self.view(np.ndarray)[_plain(index)])

    def __setitem__(self, index, value):
        _note_index(index)
        self.view(np.ndarray)[_plain(index)] = _plain(value)

    def __bool__(self):
        waits.append("bool")
        return bool(self.view(np.ndarray))

    def __float__(self):
        waits.append("float")
        return float(self.view(np.ndarray))

    def __int__(self):
        waits.append("int")
        return int(self.view(np.ndarray))

    def __index__(self):
        raise TypeError("an array of the device is no index on the host")

    def tolist(self):
        return self.get().tolist()

    item = tolist

    def __complex__(self):
        raise NotImplementedError

    def __iter__(self):
        return (self[k] for k in range(len(self)))

    def __format__(self, spec):
        return format(self.get(), spec)

    def __repr__(self):
        return repr(self.get())

    __str__ = __repr__

    def nonzero(self):
        waits.append("nonzero")
        return _strict(self.view(np.ndarray).nonzero())

    def sort(self, *args, **kwargs):
        waits.append("sort")
        self.view(np.ndarray).sort(*args, **kwargs)


for _name in (
    "sum",
    "max",
    "min",
    "mean",
    "all",
    "any",
    "argmax",
    "argmin",
    "copy",
    "astype",
    "reshape",
    "ravel",
):

    def _method(self, *args, _name=_name, **kwargs):
        return _strict(getattr(self.view(np.ndarray), _name)(*_plain(args), **_plain(kwargs)))

    setattr(ndarray, _name, _method)


def _note_wait(name: str, args) -> None:
    if name in WAITING or (name == "where" and len(args) == 1):
        waits.append(name)


def _note_index(index) -> None:
    """A mask is counted before it is used, which the host waits for; lists are uploaded."""
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, ndarray) and part.dtype == bool and part.ndim:
            waits.append("mask")
        elif isinstance(part, list):
            uploads.append(8 * len(part))


def _plain(value):
    """Arrays of this module as NumPy's; NumPy's own are refused."""
    if isinstance(value, ndarray):
        return value.view(np.ndarray)
    if isinstance(value, np.ndarray):
        raise TypeError("an array of the device is mixed with one of NumPy's")
    if isinstance(value, tuple | list):
        return type(value)(_plain(v) for v in value)
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _strict(value):
    """NumPy's arrays and scalars as arrays of this module: a reduction gives a 0-d array, as in CuPy."""
    if isinstance(value, np.ndarray | np.generic) and not isinstance(value, np.dtype):
        value = np.asarray(value)
        if SANITIZED and value.base is None and value.dtype.kind in "fiu":
            fenced = empty(value.shape, value.dtype)
            fenced.view(np.ndarray)[...] = value
            return fenced
        return value.view(ndarray)
    return type(value)(_strict(v) for v in value) if isinstance(value, tuple | list) else value


def empty(shape, dtype=float):
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    n = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    allocated.append(n)
    memory = np.full(n + 2 * FENCE, FENCE_BYTE, np.uint8)
    array = memory[FENCE : FENCE + n].view(dtype).reshape(shape)
    array[...] = np.nan if dtype.kind == "f" else -(2**30) if dtype.kind == "i" else 0
    if SANITIZED:
        start, size = ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(n + 2 * FENCE)
        for fence in (memory, memory[FENCE + n :]):
            _forbid(ctypes.c_void_p(fence.ctypes.data), ctypes.c_size_t(FENCE))
        weakref.finalize(memory, _allow, start, size)
    return array.view(ndarray)


def zeros(shape, dtype=float):
    array = empty(shape, dtype)
    array.view(np.ndarray)[...] = 0
    return array


def empty_like(array, dtype=None):
    return empty(array.shape, dtype or array.dtype)


def zeros_like(array, dtype=None):
    return zeros(array.shape, dtype or array.dtype)


def asarray(value, dtype=None):
    if isinstance(value, ndarray):
        return value if dtype is None else value.astype(dtype, copy=False)
    new = np.array(value, dtype=dtype)
    uploads.append(new.nbytes)
    array = empty(new.shape, new.dtype)
    array.view(np.ndarray)[...] = new
    return array


def array(value, dtype=None):
    return asarray(value, dtype).copy()


def ascontiguousarray(value, dtype=None):
    value = asarray(value, dtype)
    return _strict(np.ascontiguousarray(value.view(np.ndarray)))


def check_fences(array, name: str) -> None:
    """Raise if something was written just before or after an array that `empty` made."""
    base = getattr(array, "base", None)
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, np.ndarray) and base.dtype == np.uint8 and base.ndim == 1 and len(base) >= 2 * FENCE:
        plain = base.view(np.ndarray)
        if (plain[:FENCE] != FENCE_BYTE).any() or (plain[-FENCE:] != FENCE_BYTE).any():
            raise AssertionError(f"{name} has written outside an array of shape {array.shape}")


def __getattr__(name: str):
    value = getattr(np, name)
    if not callable(value) or isinstance(value, type | np.ufunc):
        return value

    def call(*args, **kwargs):
        _note_wait(name, args)
        return _strict(value(*_plain(args), **_plain(kwargs)))

    return call
