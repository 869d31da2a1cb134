"""A tiny Deep Potential, to have the kernels of a first step compiled (`engines.cpu.ahead`)."""

from __future__ import annotations

from kalmandp.engines.cpu.ahead import Tiny
from kalmandp.engines.cpu.deep_potential.gradient_kernels import weight_gradient
from kalmandp.engines.cpu.deep_potential.prediction_kernels import atomic_energies, pair_gradient, tabulate
from kalmandp.potentials.deep_potential.architecture import Architecture


def tiny() -> Tiny:
    form = Architecture(("A",), 4.0, 0.5, (20,), embedding=(8,), axis_neuron=2, fitting=(8,))
    return Tiny(form, (weight_gradient, pair_gradient, atomic_energies, tabulate), by_rows=False)
