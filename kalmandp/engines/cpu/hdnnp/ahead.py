"""A tiny HDNNP, to have the kernels of a first step compiled (`engines.cpu.ahead`)."""

from __future__ import annotations

from kalmandp.engines.cpu.ahead import Tiny
from kalmandp.engines.cpu.hdnnp.function_kernels import symmetry_functions
from kalmandp.engines.cpu.hdnnp.kernels import pair_gradient, rows
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.hdnnp.symmetry_functions import SymmetryFunction


def tiny() -> Tiny:
    radial, angular = SymmetryFunction(2, ("H",), 4.0, 1.0), SymmetryFunction(3, ("H", "H"), 4.0, 1.0)
    form = HDNNPForm(("H",), ((radial, angular),))
    return Tiny(form, (symmetry_functions, rows, pair_gradient), by_rows=True)
