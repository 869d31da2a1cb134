"""One run in a folder at a time.

A run holds the file ``.kalmandp.lock`` in its folder locked (``flock``) and writes into it who it is. The
lock is the operating system's: it ends with the process however that ends, so what a killed run leaves
behind blocks nobody. A file that a killed run was writing (`files.replacing`) is removed by the next one.

The package filelock would not do: it empties the file that it locks, so that the one who waits cannot be told
who holds the folder.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from kalmandp.errors import FileError
from kalmandp.files.replacing import make_folder

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

NAME = ".kalmandp.lock"
#: What `flock` says where a file system, or this system, has no locks.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@contextlib.contextmanager
def one_run_in(folder) -> Iterator[None]:
    """Hold a folder for one run: of this process or another, on this machine or another that shares it.

    Raises
    ------
    FileError
        If another run holds it (the message says which), or the folder cannot be written to.

    Warns
    -----
    UserWarning
        If the file system has no locks: the run goes on without.
    """
    make_folder(folder)
    path = os.path.join(os.fspath(folder), NAME)
    handle = _locked(path)
    if handle is None:
        yield
        return
    try:
        _clear_up_after(_owner(handle), folder)
        _sign(handle)
        yield
    finally:
        # removed while it is still ours: who waits for this very file finds that it is no longer there
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(handle)


def _locked(path: str) -> int | None:
    """A locked handle of the file at ``path``; None where there are no locks."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise FileError(f"{path}: cannot be written ({error.strerror})") from None
        try:
            if fcntl is None:
                raise OSError(errno.ENOSYS, "this system has no flock")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                return handle
            os.close(handle)  # another run ended in this moment and took the file with it
        except BlockingIOError:
            words = f"{os.path.dirname(path)}: {_words(_owner(handle))}; expected a folder of its own"
            os.close(handle)
            raise FileError(words) from None
        except OSError as error:
            os.close(handle)
            if error.errno not in NO_LOCKS:
                raise FileError(f"{path}: cannot be locked ({error.strerror})") from None
            warnings.warn(
                f"{path}: this file system has no locks ({error.strerror}); take care that no two runs "
                "share the folder", stacklevel=2,
            )  # fmt: skip
            return None


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    """Say who holds the lock. A disk too full for that is no reason to stop here."""
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
    with contextlib.suppress(OSError):
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(owner).encode(), 0)


def _owner(handle: int) -> dict:
    """Who holds the lock, or held it last; empty if that is not known."""
    try:
        owner = json.loads(os.pread(handle, 4096, 0))
        return {"pid": int(owner["pid"]), "host": str(owner["host"]), "since": str(owner["since"])}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _words(owner: dict) -> str:
    if not owner:
        return "another run is in this folder"
    return "another run is in this folder (process {pid} on {host}, since {since})".format(**owner)


def _clear_up_after(owner: dict, folder) -> None:
    """Remove the half-written files of the run that held the lock last: it was killed."""
    name = f".kalmandp-{owner.get('pid')}-*.part"
    for path in (*Path(folder).glob(name), *Path(folder).glob(f"*/{name}")):
        with contextlib.suppress(OSError):
            path.unlink()
