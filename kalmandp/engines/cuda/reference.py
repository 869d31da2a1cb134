"""The reference passes on CuPy's arrays."""

from __future__ import annotations

from kalmandp.engines.cuda.launch import CupyDevice, Device
from kalmandp.engines.reference import ReferenceEngine


class CupyEngine(ReferenceEngine):
    """The same functions on CuPy's arrays, for every activation; pairs are found by the host.

    CuPy adds up pairs that share an atom by atomics: the last bits change from run to run.
    """

    name = "cupy"

    def __init__(self, form, layout, device: Device | None = None):
        super().__init__(form, layout)
        self.device = CupyDevice() if device is None else device
        self.xp = self.device.xp

    def environment(self, statistics, frames, pairs=None):
        """As the reference's, its arrays on the device."""
        put, g = self.xp.asarray, self._gather(frames, pairs)
        arrays = {name: put(getattr(g, name)) for name in ("types_i", "frame_i", "i_p", "j_p", "r_pc")}
        on_device = {name: put(value) for name, value in statistics.items()}
        return self.descriptor.environment(on_device, g._replace(**arrays))
