"""The errors a user can meet. Each message names what is wrong, what was got and what was wanted."""

from __future__ import annotations


class KalmanDPError(Exception):
    """Base of every error raised on purpose by this package."""


class InputError(KalmanDPError, ValueError):
    """An argument, a label or a setting that cannot be used."""


class FileError(KalmanDPError, OSError):
    """A file that is missing, damaged, of another kind, or cannot be written."""


class FilterError(KalmanDPError, ArithmeticError):
    """The filter met a number it must not use; its state is as it was before the update."""


class MissingPackage(KalmanDPError, ImportError):
    """An optional package is needed; the message carries the install line."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed; "
            f'install it with:  pip install "kalmandp[{extra}]"'
        )


def require(condition: bool, what: str, got: object, wanted: object, error=InputError) -> None:
    """Raise ``error`` with "<what> is <got>; expected <wanted>" unless ``condition`` holds."""
    if not condition:
        raise error(f"{what} is {got}; expected {wanted}")
