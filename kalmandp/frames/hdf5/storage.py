"""Where arrays lie: an HDF5 file or a folder of ``.npy`` files, behind one small interface.

A store knows nothing of atoms. It lists names such as ``O64H128/set.000/coord.npy``, reads small
arrays whole, and large ones row by row. Nothing is ever unpickled, and an array that
claims to be larger than its file can hold is refused: a damaged file gives an error and fills no memory.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import h5py
import numpy as np
from h5py import h5t

from kalmandp.errors import FileError, InputError, KalmanDPError
from kalmandp.files import check_global_heaps
from kalmandp.files.hdf5_writing import limit_tables
from kalmandp.registry import FRAME_FILES, load

#: How a file of HDF5 begins.
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: Arrays kept open at a time; opening one takes longer than reading a row.
OPEN_ARRAYS = 320
#: Bytes of decompressed chunks that each open array keeps.
CHUNK_CACHE = 1 << 18
#: More names of types than this are a sign of damage.
MOST_WORDS = 1 << 16
#: Classes of HDF5's types that hold numbers.
NUMBERS = (h5t.INTEGER, h5t.FLOAT)
#: No compression of HDF5's makes data smaller than this (deflate's limit is 1:1032).
BEST_COMPRESSION = 1100


class Rows(Protocol):
    """An array on disk whose first axis counts frames; ``rows[k]`` reads one of them, ``rows[a:b]`` some."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, k): ...


class Description(NamedTuple):
    """What is known of an array without reading it; ``units`` is what an attribute of it says."""

    shape: tuple[int, ...]
    units: str | None


class Store(Protocol):
    """What a layout needs of an HDF5 file or a folder."""

    path: str

    def names(self) -> list[str]:
        """Names of all arrays, relative to where the store begins, in a fixed order."""

    def address(self, system: str) -> str:
        """What a user would write to get at one system."""

    def integers(self, name: str) -> np.ndarray: ...

    def words(self, name: str) -> list[str]: ...

    def rows(self, name: str) -> Rows: ...

    def whole(self, name: str) -> np.ndarray: ...

    def describe(self, name: str) -> Description: ...

    def attributes(self, names: Iterable[str] | None = None) -> dict:
        """Attributes of the file, all or some."""

    def close(self) -> None: ...


def open_store(path) -> Store:
    """The store at ``path``: a folder, an HDF5 file, or ``file.h5#/group``.

    Raises
    ------
    FileError
        If there is nothing, or nothing that can be read.
    """
    text = path_text(path)
    if os.path.isdir(text):
        return FolderStore(text)
    name, mark, group = text.rpartition("#")
    if os.path.exists(text) or not mark:
        name, group = text, "/"
    if not os.path.exists(name):
        raise FileError(f"{name}: no such file or folder")
    return Hdf5Store(name, group, _content(name))


def _content(path: str) -> bytes | None:
    """The frames of a file of another format as the bytes of an HDF5 file; None for HDF5 itself."""
    if not os.path.isfile(path) or not os.path.getsize(path):
        return None
    with reading(path), open(path, "rb") as file:
        # a file of HDF5 may begin with a block of the user's, whose size is a power of two
        if file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE or h5py.is_hdf5(path):
            return None
    return load(FRAME_FILES)(path)


def path_text(path) -> str:
    """``path`` as text, or an InputError if it is none."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InputError(f"{path!r} is not the name of a file or folder")
    return text


@contextlib.contextmanager
def reading(address: str):
    """Turn whatever goes wrong while a file is read into a FileError that names it."""
    try:
        yield
    except KalmanDPError:
        raise
    except FileNotFoundError:
        raise FileError(f"{address}: no such file or folder") from None
    except MemoryError:
        raise FileError(f"{address}: too large for the memory, or damaged") from None
    except Exception as error:  # NumPy and h5py raise errors of any class for damaged bytes
        reason = " ".join(str(error.args[0] if error.args else error).split())[:200]
        raise FileError(f"{address}: cannot be read or is damaged ({reason})") from None


class Recent:
    """The arrays used last, so that going through a system does not open them for each frame."""

    def __init__(self, opener):
        self._opener = opener
        self._kept: OrderedDict[str, Rows] = OrderedDict()

    def __call__(self, name: str) -> Rows:
        rows = self._kept.pop(name, None)
        self._kept[name] = rows = self._opener(name) if rows is None else rows
        if len(self._kept) > OPEN_ARRAYS:
            self._kept.popitem(last=False)
        return rows

    def clear(self) -> None:
        self._kept.clear()


class Hdf5Store:
    """The arrays of an HDF5 file below one of its groups."""

    def __init__(self, path: str, group: str = "/", content: bytes | None = None):
        self.path = path
        self.rows = Recent(lambda name: h5py.Dataset(self._open(name), readonly=True))
        self._heaps_are_whole = content is not None
        if not os.path.isfile(path):
            raise FileError(f"{path}: is not a regular file; expected an HDF5 file or a folder")
        self._bytes = os.path.getsize(path)
        if self._bytes == 0:
            raise FileError(f"{path}: is empty (0 bytes); expected an HDF5 file")
        with reading(path):
            if content is not None:
                self._bytes = len(content)
            elif not h5py.is_hdf5(path):
                raise FileError(
                    f"{path}: is not an HDF5 file, or is damaged at its beginning "
                    "(`kalmandp convert` makes one of extended XYZ and other formats)"
                )
            opened = path if content is None else io.BytesIO(content)
            self._file = h5py.File(opened, "r", rdcc_nbytes=CHUNK_CACHE)
            limit_tables(self._file)
        try:
            self._root = self._find_group(group)
            self._prefix = f"{path}#/" + self._root.name.strip("/")
        except BaseException:
            self.close()
            raise

    def _find_group(self, group: str) -> h5py.Group:
        group = "/" + group.strip("/")
        with reading(f"{self.path}#{group}"):
            root = self._file["/"]
            found = root if group == "/" else root.get(group)
            if not isinstance(found, h5py.Group):
                raise FileError(f"{self.path}: there is no group {group!r} in the file")
            return found

    def names(self) -> list[str]:
        found: list[str] = []
        with reading(self.path):
            # every object is visited once, so that a cycle of links has an end
            self._root.id.links.visit(lambda name: found.append(os.fsdecode(name)))
        return sorted(found)

    def address(self, system: str) -> str:
        return self._prefix + ("/" if system and self._prefix[-1] != "/" else "") + system

    def integers(self, name: str) -> np.ndarray:
        return np.atleast_1d(self._values(name, (h5t.INTEGER,), "integers"))

    def words(self, name: str) -> list[str]:
        found = self._open(name, (h5t.STRING,), "text")
        if math.prod(found.shape) > MOST_WORDS:
            raise FileError(f"{self.address(name)}: has shape {found.shape}; expected at most {MOST_WORDS}")
        self._check_texts(found)
        values = np.atleast_1d(self._values(name, (h5t.STRING,), "text")).tolist()
        with reading(self.address(name)):
            return [v.decode() if isinstance(v, bytes) else str(v) for v in values]

    def whole(self, name: str) -> np.ndarray:
        return self._values(name)

    def describe(self, name: str) -> Description:
        found = self._open(name)
        with reading(self.address(name)):
            if not h5py.h5a.get_num_attrs(found):
                return Description(found.shape, None)
            notes = self._notes(h5py.Dataset(found), ("units", "unit"))
            stated = notes.get("units", notes.get("unit"))
            return Description(found.shape, None if stated is None else str(stated))

    def attributes(self, names: Iterable[str] | None = None) -> dict:
        with reading(self.path):
            return self._notes(self._file, names)

    def close(self) -> None:
        self.rows.clear()
        # a damaged file may also fail to close; nothing was written to it
        with contextlib.suppress(Exception):
            self._file.close()

    def _notes(self, place, names: Iterable[str] | None) -> dict:
        """Attributes that are texts or numbers; there may be others, links of all kinds."""
        notes = {}
        for name in names or place.attrs:
            if name in place.attrs:
                found = place.attrs.get_id(name)
                if found.get_type().get_class() in (*NUMBERS, h5t.STRING):
                    self._check_texts(found)
                    notes[name] = _plain(place.attrs[name])
        return notes

    def _check_texts(self, found) -> None:
        """Texts of variable length are read only from a file whose heaps are whole."""
        kind = found.get_type()
        if kind.get_class() == h5t.STRING and kind.is_variable_str() and not self._heaps_are_whole:
            check_global_heaps(self.path)
            self._heaps_are_whole = True

    def _values(self, name: str, kinds=NUMBERS, wanted: str = "numbers") -> np.ndarray:
        found = self._open(name, kinds, wanted)
        with reading(self.address(name)):
            return h5py.Dataset(found)[()]

    def _open(self, name: str, kinds=NUMBERS, wanted: str = "numbers") -> h5py.h5d.DatasetID:
        # h5py's lower layer: a file may hold 10⁵ arrays, and its upper layer takes ten times longer
        address = self.address(name)
        with reading(address):
            found = h5py.h5d.open(self._root.id, os.fsencode(name))
            kind, shape = found.get_type(), found.shape
            if kind.get_class() not in kinds:
                raise FileError(f"{address} is of type {kind.dtype}; expected {wanted}")
            contiguous = found.get_offset() is not None
            limit = self._bytes * (1 if contiguous else BEST_COMPRESSION)
            if math.prod(shape) * kind.get_size() > limit:
                raise FileError(
                    f"{address}: is damaged (shape {shape} does not fit into a file of {self._bytes} bytes)"
                )
            return found


class FolderStore:
    """The arrays in a folder and the folders below it."""

    def __init__(self, path: str):
        self.path = path
        self.rows = Recent(lambda name: NpyRows(self.address(name)))

    def names(self) -> list[str]:
        found: list[str] = []
        seen: set[str] = set()
        with reading(self.path):
            for folder, folders, files in os.walk(self.path, followlinks=True, onerror=_raise):
                real = os.path.realpath(folder)
                if real in seen:  # a link that leads back
                    folders.clear()
                    continue
                seen.add(real)
                prefix = os.path.relpath(folder, self.path).replace(os.sep, "/")
                found += [name if prefix == "." else f"{prefix}/{name}" for name in files]
        return sorted(found)

    def address(self, system: str) -> str:
        return os.path.join(self.path, system) if system else self.path

    def integers(self, name: str) -> np.ndarray:
        with reading(self.address(name)):
            words = Path(self.address(name)).read_text(encoding="utf-8").split()
            return np.array([int(word) for word in words], dtype=np.int64)

    def words(self, name: str) -> list[str]:
        with reading(self.address(name)):
            return Path(self.address(name)).read_text(encoding="utf-8").split()

    def whole(self, name: str) -> np.ndarray:
        rows = NpyRows(self.address(name))
        with reading(rows.path):
            return np.load(rows.path, allow_pickle=False)

    def describe(self, name: str) -> Description:
        return Description(NpyRows(self.address(name)).shape, None)

    def attributes(self, names: Iterable[str] | None = None) -> dict:
        return {}

    def close(self) -> None:
        self.rows.clear()


class NpyRows:
    """An ``.npy`` file read row by row.

    The file is opened for each row: a data set of many folders would otherwise run out of file
    handles, and a file that is cut short under a memory map takes the whole process down.
    """

    def __init__(self, path: str):
        self.path = path
        with reading(path), open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if header is None:
                raise FileError(f"{path}: is an npy file of version {version}; expected 1.0 or 2.0")
            self.shape, self._fortran, self.dtype = header(file)
            self._start = file.tell()
        if self.dtype.hasobject or self.dtype.kind not in "iufb":
            raise FileError(f"{path}: is of type {self.dtype}; expected numbers")
        self._check_length(os.path.getsize(path))

    def _check_length(self, there: int) -> None:
        wanted = self._start + math.prod(self.shape) * self.dtype.itemsize
        if min(self.shape, default=1) < 0 or there < wanted:
            raise FileError(
                f"{self.path}: is truncated or damaged ({there} bytes; an array of shape "
                f"{self.shape} and type {self.dtype} takes {wanted})"
            )

    def __getitem__(self, k: int | slice) -> np.ndarray:
        """Row ``k``, or the rows from ``k.start`` to before ``k.stop``."""
        if not isinstance(k, slice):
            return self[int(k) : int(k) + 1][0]
        width, n = math.prod(self.shape[1:]), k.stop - k.start
        with reading(self.path), open(self.path, "rb") as file:
            if self._fortran and width > 1:
                # columns lie together: so many numbers from each
                starts = range(k.start, width * self.shape[0], self.shape[0])
                columns = np.stack([self._numbers(file, start, n) for start in starts], axis=-1)
                return columns.reshape(n, *self.shape[1:][::-1]).transpose(0, *range(len(self.shape))[:0:-1])
            return self._numbers(file, k.start * width, n * width).reshape(n, *self.shape[1:])

    def _numbers(self, file, start: int, count: int) -> np.ndarray:
        file.seek(self._start + start * self.dtype.itemsize)
        return np.frombuffer(file.read(count * self.dtype.itemsize), dtype=self.dtype)


def _plain(value):
    """An attribute as a Python value: text instead of bytes, numbers instead of arrays of one."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.size == 1:
        return _plain(value.reshape(())[()])
    return value.item() if isinstance(value, np.generic) else value


def _raise(error):
    raise error
