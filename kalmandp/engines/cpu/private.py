"""The parts of Numba that are not promised to users, in one place: vectors and counters are made of them.

A release of Numba may change them. `pyproject.toml` admits the releases that the tests have passed with; for
a release that lacks one of them an error is raised here, before a kernel fails with an obscure one. Besides
these, `threads.KERNEL` and `threads.PART` use private options of ``njit`` (``_nrt``, ``forceinline``).
"""

from __future__ import annotations

import sys
from importlib import metadata

from kalmandp.errors import InputError

try:
    from llvmlite import ir
    from numba.core import cgutils
    from numba.core.datamodel import models
    from numba.extending import intrinsic, register_model

    _needed = (cgutils.get_or_insert_function, models.PrimitiveModel, ir.VectorType, ir.IRBuilder.atomic_rmw)
except (ImportError, AttributeError) as error:
    raise InputError(
        f"numba is {metadata.version('numba')}, which lacks what the engine needs ({error}); expected one "
        "that `pip install kalmandp` admits"
    ) from error

__all__ = ["cgutils", "intrinsic", "ir", "leave_out_scipy", "models", "register_model"]


def leave_out_scipy() -> None:
    """Have Numba begin without SciPy, where it is installed; for a program that runs kalmandp alone.

    As the first kernel is loaded, Numba imports SciPy's linear algebra to see if there is one: a third of a
    warm first step. No kernel here uses it; those of a host may, so no host's Numba is begun like this.
    """
    if not {"numba.np.arraymath", "scipy.linalg"} & set(sys.modules):
        sys.modules["scipy.linalg"] = None  # type: ignore[assignment]  # an import of it fails at once
        try:
            import numba.np.arraymath  # noqa: F401
        finally:
            del sys.modules["scipy.linalg"]
