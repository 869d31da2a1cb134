"""Write under another name, sync, rename: a file is complete, or as it was before."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator

from kalmandp.errors import FileError, KalmanDPError


@contextlib.contextmanager
def replacing(path, *, overwrite: bool = True, folder: bool = False) -> Iterator[str]:
    """Give the name of a new file (or folder) beside ``path``; put it in place if all went well.

    Whatever fails, a full disk or an interrupt, leaves the old file as it was, nothing beside it.

    Parameters
    ----------
    path : what is to be written
    overwrite : False refuses to replace a file that is there
    folder : make a folder; one that is there already must be empty

    Raises
    ------
    FileError
        If the place cannot be written to. Errors of the body pass through; `naming` is for those.
    """
    path = os.path.realpath(os.fspath(path))
    parent = os.path.dirname(path)
    _check_place(path, parent, overwrite, folder)
    beside = os.path.join(parent, f".kalmandp-{os.getpid()}-{time.monotonic_ns():x}.part")
    try:
        with naming(path):
            if folder:
                os.mkdir(beside)
        yield beside
        with naming(path):
            for written in _below(beside):
                _sync(written)
            os.replace(beside, path)
            _sync(parent)
    finally:
        if os.path.isdir(beside):
            shutil.rmtree(beside, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.remove(beside)


@contextlib.contextmanager
def naming(path) -> Iterator[None]:
    """Turn an error of the operating system's or of HDF5's into a FileError that names ``path``."""
    try:
        yield
    except KalmanDPError:
        raise
    except (OSError, RuntimeError) as error:
        raise FileError(f"{path}: cannot be written ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    found = re.search(r"error message = '([^']+)'", str(error))  # what HDF5 says of errno
    return found.group(1) if found else " ".join(str(error).split())[:200]


def write_lines(path, lines: Iterable[str]) -> None:
    """A text file of these lines, which appears whole or not at all; a FileError names it if it cannot."""
    with replacing(path) as beside, naming(path), open(beside, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def make_folder(path) -> None:
    """Make a folder and those above it; a FileError names it if that cannot be done."""
    try:
        os.makedirs(path or ".", exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be made a folder ({error.strerror})") from None


def _check_place(path: str, parent: str, overwrite: bool, folder: bool) -> None:
    if not os.path.isdir(parent):
        raise FileError(f"{path}: there is no folder {parent} to write into")
    if not os.path.exists(path):
        return
    if folder:
        if not os.path.isdir(path) or os.listdir(path):
            raise FileError(f"{path}: exists and is not an empty folder; expected a new name")
    elif not os.path.isfile(path):
        raise FileError(f"{path}: is not a regular file; expected the name of a file")
    elif not overwrite:
        raise FileError(f"{path}: exists; expected a new name, or overwrite=True")


def _below(path: str) -> Iterator[str]:
    """The file itself, or the files and folders in a folder and then the folder."""
    if os.path.isdir(path):
        for folder, folders, files in os.walk(path):
            yield from (os.path.join(folder, name) for name in files + folders)
    yield path


def _sync(path: str) -> None:
    """Have a file, or a folder's list of names, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
