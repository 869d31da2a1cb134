"""The reference passes under the names of the seam: the functions of `potential/`, unchanged."""

from __future__ import annotations

from kalmandp.potential import environment, jacobian, model


class ReferenceEngine:
    """NumPy (or CuPy, if the arrays are on a device): every pass is the reference function itself."""

    name = "numpy"

    def __init__(self, architecture, layout):
        self.architecture = architecture

    def environment(self, davg, dstd, frames, pairs=None):
        return environment.environment_of(self.architecture, davg, dstd, frames, pairs)

    energies = staticmethod(model.energies)
    pair_gradient = staticmethod(model.pair_gradient)
    forces = staticmethod(model.forces_from_pairs)
    virial = staticmethod(model.virial_from_pairs)
    energy_gradient = staticmethod(jacobian.energy_gradient)
    weight_gradient = staticmethod(jacobian.weight_gradient)
