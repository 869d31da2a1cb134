"""The reference passes under the names of the seam: the functions of `potential/`, unchanged."""

from __future__ import annotations

from kalmandp.engines.cuda.launch import CupyDevice, Device
from kalmandp.potentials.deep_potential import environment, jacobian, model


class ReferenceEngine:
    """NumPy: every pass is the reference function itself."""

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


class CupyEngine(ReferenceEngine):
    """The same functions on CuPy's arrays, for every activation; pairs are found by the host.

    CuPy adds up pairs that share an atom by atomics: the last bits change from run to run.
    """

    name = "cupy"

    def __init__(self, architecture, layout, device: Device | None = None):
        super().__init__(architecture, layout)
        self.device = CupyDevice() if device is None else device
        self.xp = self.device.xp

    def environment(self, davg, dstd, frames, pairs=None):
        a, put = self.architecture, self.xp.asarray
        types_i, frame_i, n_frames, i_p, j_p, r_pc = environment.gather(a, frames, pairs)
        atoms = put(types_i), put(frame_i), n_frames
        return environment.build_environment(a, put(davg), put(dstd), *atoms, put(i_p), put(j_p), put(r_pc))
