"""A tiny NEP, to have the kernels of a first step compiled (`engines.cpu.ahead`)."""

from __future__ import annotations

from kalmandp.engines.cpu.ahead import Tiny
from kalmandp.engines.cpu.nep.force_kernels import force_rows
from kalmandp.engines.cpu.nep.prediction_kernels import jacobians, pair_gradient
from kalmandp.engines.cpu.nep.row_kernels import motion_rows
from kalmandp.potentials.nep.form import NEPForm


def tiny() -> Tiny:
    form = NEPForm(("A",), radial_cutoff=4.0, angular_cutoff=4.0, n_max=(1, 1), basis_size=(1, 1), neuron=1)
    return Tiny(form, (force_rows, motion_rows, jacobians, pair_gradient), by_rows=True)
