"""Writing files so that nothing is ever half written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kalmandp.errors import FileError


@contextlib.contextmanager
def replacing(path) -> Iterator[Path]:
    """Give the path of a new file beside ``path``; when the block ends well it takes its place.

    The new file is flushed to the disk before it is renamed. If the block raises, or the disk is full,
    the new file is removed and the old one stays as it was.

    Raises
    ------
    FileError
        If the file cannot be written; the message names it and the system's reason.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent or ".")
        os.close(handle)
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror})") from None
    beside = Path(name)
    try:
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)
        os.replace(beside, path)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def make_folder(path) -> None:
    """Make a folder and those above it; a FileError names it if that cannot be done."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be made a folder ({error.strerror})") from None
