"""Write an HDF5 file so that a full disk is an error and not the end of the process.

HDF5 (seen up to 2.0) does not survive a write that fails: closing the file afterwards reads freed
memory. So failures are hidden from it here: its bytes go through `Absorber`, which remembers the
first failure, holds what follows in memory, and lets the caller raise it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import h5py

from kalmandp.files.replacing import naming, replacing

PAGE = 1 << 12
#: Bytes of tables of contents that HDF5 keeps; they take some twenty times as much in memory.
TABLE_CACHE = 1 << 21


class Absorber(io.RawIOBase):
    """A new file that never fails to be written; ``error`` is the failure that was kept quiet."""

    def __init__(self, path: str):
        self._file = open(path, "w+b", buffering=0)
        self._pages: dict[int, bytearray] = {}
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer) -> int:
        place, view = self._file.tell(), memoryview(buffer).cast("B")
        count = self._file.readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        for page, start, stop, inside in _pages(place, len(view)):
            if page in self._pages:
                view[start:stop] = self._pages[page][inside : inside + stop - start]
        self._file.seek(place + len(view))
        return len(view)

    def write(self, data) -> int:
        place, view = self._file.tell(), memoryview(data).cast("B")
        done = 0
        while self.error is None and done < len(view):
            try:
                done += self._file.write(view[done:]) or 0
            except OSError as error:
                self.error = error
        if done < len(view):
            self._keep(place + done, view[done:])
            self._file.seek(place + len(view))
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        if self.error is None:
            try:
                return self._file.truncate(size)
            except OSError as error:
                self.error = error
        return size or 0

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error
        super().close()

    def _keep(self, place: int, view: memoryview) -> None:
        for page, start, stop, inside in _pages(place, len(view)):
            if page not in self._pages:
                self._file.seek(page * PAGE)
                self._pages[page] = bytearray(self._file.read(PAGE).ljust(PAGE, b"\0"))
            self._pages[page][inside : inside + stop - start] = view[start:stop]


def _pages(place: int, length: int) -> Iterator[tuple[int, int, int, int]]:
    """For each page that [place, place + length) touches: number, start, stop, start inside it."""
    start = 0
    while start < length:
        page, inside = divmod(place + start, PAGE)
        stop = min(length, start + PAGE - inside)
        yield page, start, stop, inside
        start = stop


class Hdf5Writer:
    """An HDF5 file that is being written, and the check that all of it has reached the file."""

    def __init__(self, path: str, beside: str):
        self.path = path
        with naming(path):
            self._absorber = Absorber(beside)
            # the format of HDF5 1.10: compact, and its tables carry checksums
            self.file = h5py.File(self._absorber, "w", libver=("v110", "latest"))
            limit_tables(self.file)

    def check(self) -> None:
        """Raise what has gone wrong so far."""
        with naming(self.path):
            if self._absorber.error is not None:
                raise self._absorber.error

    def close(self) -> None:
        self.file.close()
        self._absorber.close()


@contextlib.contextmanager
def writing_hdf5(path, *, overwrite: bool = True) -> Iterator[Hdf5Writer]:
    """Write an HDF5 file beside ``path`` and put it in place once it is whole.

    Use ``writer.file`` (an ``h5py.File``), and ``writer.check()`` after each large piece, so that a
    full disk is noticed before the memory is full too.

    Raises
    ------
    FileError
        If the file cannot be written; the old one is then as it was.
    """
    with replacing(path, overwrite=overwrite) as beside:
        with contextlib.closing(Hdf5Writer(path, beside)) as writer:
            yield writer
        writer.check()


def limit_tables(file: h5py.File) -> None:
    """Keep HDF5 from holding the tables of contents of 10⁵ arrays in memory."""
    config = file.id.get_mdc_config()
    config.set_initial_size = True
    config.initial_size = config.min_size = TABLE_CACHE // 2
    config.max_size = TABLE_CACHE
    file.id.set_mdc_config(config)
