"""Calling readers that may raise anything for a file they do not understand."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

from kalmandp.errors import FileError, KalmanDPError


def check_there(path: str) -> None:
    if not os.path.exists(path):
        raise FileError(f"{path}: no such file or folder")


def foreign(path: str, whose: str, call: Callable):
    """The result of a reader, or a FileError that gives its reason."""
    try:
        with warnings.catch_warnings():
            # advice to the programmers who call it
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return call()
    except KalmanDPError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileError(f"{path}: {whose} cannot read it ({reason})") from error
