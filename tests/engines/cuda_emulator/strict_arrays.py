"""An array module like CuPy: NumPy inside, but its arrays refuse NumPy's and count what the host waits for.

    xp.asarray(numpy_array), array[numpy_array]     an upload
    array.get(), float(array), bool(array), …       a wait: something is copied to the host
    xp.nonzero(array), array[mask], xp.sort, …      a wait too: CuPy does not come back before it is done
    numpy.asarray(array), numpy_array + array       refused, as by CuPy

An array is no subclass of NumPy's: code that CuPy's would not pass through does not pass here. New arrays are
fenced (a kernel that writes outside is found) and `empty` is filled with NaN. Where Python runs with GCC's
AddressSanitizer (see the package), a kernel that reads outside is found, too.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from types import SimpleNamespace

import numpy as np

from kalmandp import arrays

#: Functions of CuPy's that look at their result before they return: what has a size that depends on the data,
#: Thrust's sorts, and what checks how a factorisation went.
WAITING = frozenset((
    "nonzero", "flatnonzero", "argwhere", "unique", "bincount", "extract", "compress", "repeat", "setdiff1d",
    "sort", "argsort", "lexsort", "partition", "argpartition", "median", "percentile", "quantile",
    "inv", "solve", "cholesky", "eigh", "eigvalsh", "svd", "lstsq", "det",
))  # fmt: skip
#: Methods that CuPy's ufuncs have, and of which of them.
METHODS = {
    "at": ("add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"),
    "reduce": ("add", "multiply"), "accumulate": ("add", "multiply"), "reduceat": ("add",),
}  # fmt: skip

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


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the device: a NumPy array that nobody but this module, and a kernel, may look into."""

    __slots__ = ("_plain",)
    __hash__ = None

    def __init__(self, plain: np.ndarray):
        self._plain = plain

    # what CuPy's array has of NumPy's, without a look at the device
    shape = property(lambda self: self._plain.shape)
    dtype = property(lambda self: self._plain.dtype)
    ndim = property(lambda self: self._plain.ndim)
    size = property(lambda self: self._plain.size)
    nbytes = property(lambda self: self._plain.nbytes)
    itemsize = property(lambda self: self._plain.itemsize)
    strides = property(lambda self: self._plain.strides)
    T = property(lambda self: ndarray(self._plain.T))
    real = property(lambda self: ndarray(self._plain.real))

    @property
    def flags(self):
        return Flags(self._plain.flags)

    @property
    def data(self):
        return SimpleNamespace(ptr=self._plain.ctypes.data)

    def get(self) -> np.ndarray:
        waits.append("get")
        return np.array(self._plain)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("an array of the device is not converted to one of NumPy's but by its get()")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if method != "__call__" and ufunc.__name__ not in METHODS.get(method, ()):
            raise NotImplementedError(f"{ufunc.__name__}.{method} is not in CuPy")
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
        index = _plain(index)
        basic = index if isinstance(index, tuple) else (index,)
        if all(part is not Ellipsis and not isinstance(part, list | np.ndarray) for part in basic):
            index = (*basic, Ellipsis)  # one number is a view too
        return _strict(self._plain[index])

    def __setitem__(self, index, value):
        _note_index(index)
        self._plain[_plain(index)] = _plain(value)

    def __len__(self):
        return len(self._plain)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[k] for k in range(len(self)))

    def __bool__(self):
        waits.append("bool")
        return bool(self._plain)

    def __float__(self):
        waits.append("float")
        return float(self._plain)

    def __int__(self):
        waits.append("int")
        return int(self._plain)

    def __index__(self):
        raise TypeError("an array of the device is no index on the host")

    def tolist(self):
        return self.get().tolist()

    def item(self):
        return self.get().item()

    def __format__(self, spec):
        return format(self.get(), spec)

    def __repr__(self):
        return repr(self.get())

    __str__ = __repr__

    def nonzero(self):
        waits.append("nonzero")
        return _strict(self._plain.nonzero())

    def sort(self, *args, **kwargs):
        waits.append("sort")
        self._plain.sort(*args, **kwargs)


class Flags:
    """What CuPy says of an array's memory: no word of whether it may be written."""

    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.fortran, flags.owndata


for _name in (
    "sum", "max", "min", "mean", "all", "any", "argmax", "argmin", "copy", "astype", "reshape", "ravel",
    "transpose", "take", "cumsum", "squeeze", "fill",
):  # fmt: skip

    def _method(self, *args, _name=_name, **kwargs):
        return _strict(getattr(self._plain, _name)(*_plain(args), **_plain(kwargs)))

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
        return value._plain
    if isinstance(value, np.ndarray):
        raise TypeError("an array of the device is mixed with one of NumPy's")
    if isinstance(value, tuple | list):
        return type(value)(_plain(v) for v in value)
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _strict(value):
    """NumPy's arrays and scalars as arrays of this module: a reduction gives a 0-d array, as in CuPy."""
    if isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value)
        if SANITIZED and value.base is None and value.dtype.kind in "fiu":
            fenced = empty(value.shape, value.dtype)
            fenced._plain[...] = value
            return fenced
        return ndarray(value)
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
    return ndarray(array)


def zeros(shape, dtype=float):
    array = empty(shape, dtype)
    array._plain[...] = 0
    return array


def empty_like(array, dtype=None):
    return empty(array.shape, dtype or array.dtype)


def zeros_like(array, dtype=None):
    return zeros(array.shape, dtype or array.dtype)


def asarray(value, dtype=None):
    """An upload keeps the order of columns before rows, as CuPy's does."""
    if isinstance(value, ndarray):
        return value if dtype is None else value.astype(dtype, copy=False)
    new = np.array(_host(value), dtype=dtype)
    uploads.append(new.nbytes)
    array = empty(new.shape[::-1] if new.flags.fnc else new.shape, new.dtype)
    array = array.T if new.flags.fnc else array
    array._plain[...] = new
    return array


def _host(value):
    """What is on the host; a list of numbers of the device is read back by CuPy only if it is asked to."""
    if isinstance(value, list | tuple) and any(isinstance(v, ndarray) for v in value):
        raise TypeError("a list of arrays of the device is stacked, not uploaded")
    return value


def array(value, dtype=None):
    return asarray(value, dtype).copy()


def ascontiguousarray(value, dtype=None):
    if not isinstance(value, ndarray):
        raise TypeError("ascontiguousarray takes an array of the device; NumPy's are uploaded by asarray")
    return _strict(np.ascontiguousarray(asarray(value, dtype)._plain))


def check_fences(array, name: str) -> None:
    """Raise if something was written just before or after an array that `empty` made."""
    base = array._plain.base if isinstance(array, ndarray) else None
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, np.ndarray) and base.dtype == np.uint8 and base.ndim == 1 and len(base) >= 2 * FENCE:
        if (base[:FENCE] != FENCE_BYTE).any() or (base[-FENCE:] != FENCE_BYTE).any():
            raise AssertionError(f"{name} has written outside an array of shape {array.shape}")


def einsum(*args, **kwargs):
    """In the order of columns before rows: CuPy promises none, and a kernel must not be given it as it is."""
    return _strict(np.asfortranarray(np.einsum(*_plain(args), **_plain(kwargs))))


class Ufunc:
    """A ufunc that takes no array of NumPy's."""

    def __init__(self, ufunc: np.ufunc):
        self.ufunc = ufunc

    def __call__(self, *args, **kwargs):
        return _strict(self.ufunc(*_plain(args), **_plain(kwargs)))

    def at(self, array, *args):
        array.__array_ufunc__(self.ufunc, "at", array, *args)


#: Of CuPy's, what tells the stream of the caller.
cuda = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=0))


def __getattr__(name: str):
    value = getattr(np, name)
    if isinstance(value, np.ufunc):
        return Ufunc(value)
    if not callable(value) or isinstance(value, type):
        return value

    def call(*args, **kwargs):
        _note_wait(name, args)
        return _strict(value(*_plain(args), **_plain(kwargs)))

    return call


arrays.MODULES.append(__name__)
