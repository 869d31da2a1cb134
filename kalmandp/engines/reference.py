"""The reference passes under the names of the seam: the functions of `potentials.atomic`, unchanged."""

from __future__ import annotations

from kalmandp.engines.protocol import Engine
from kalmandp.geometry import pairs as of_pairs
from kalmandp.geometry.kept import with_pairs
from kalmandp.potentials import atomic
from kalmandp.registry import descriptor_of


class ReferenceEngine(Engine):
    """NumPy: every pass is the reference function itself."""

    name = "numpy"

    def __init__(self, form, layout):
        self.form, self.descriptor = form, descriptor_of(form)

    def environment(self, statistics, frames, pairs=None):
        """The descriptor's environment of a frame, or of frames side by side."""
        return self.descriptor.environment(statistics, self._gather(frames, pairs))

    def frames(self, data):
        """Frames of a data set with their pairs, found once and kept."""
        return with_pairs(data, self.form.cutoff, self.form.type_map)

    def _gather(self, frames, pairs) -> of_pairs.Geometry:
        return of_pairs.gather(frames, self.form.type_map, self.form.cutoff, pairs, self.descriptor.check)

    energies = staticmethod(atomic.energies)
    pair_gradient = staticmethod(atomic.pair_gradient)
    energy_gradient = staticmethod(atomic.energy_gradient)
    weight_gradient = staticmethod(atomic.weight_gradient)
    rows = staticmethod(atomic.rows)

    @staticmethod
    def forces(env, f_pc):
        """`geometry.pairs.forces_from_pairs`."""
        return of_pairs.forces_from_pairs(env.geometry, f_pc)

    @staticmethod
    def virial(env, f_pc):
        """`geometry.pairs.virial_from_pairs`."""
        return of_pairs.virial_from_pairs(env.geometry, f_pc)
