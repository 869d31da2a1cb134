"""What an engine is: the passes of a potential, each named as its reference function.

=========================  ==================================  =============================
pass                       reference                           what it gives
=========================  ==================================  =============================
environment(statistics…)   `Descriptor.environment`            what does not depend on w
energies(par, env)         `potentials.atomic.energies`        E_i and a cache
pair_gradient(…)           `potentials.atomic.pair_gradient`   f_p = ∂E/∂r_p
forces(env, f_pc)          `pairs.forces_from_pairs`           F_i
virial(env, f_pc)          `pairs.virial_from_pairs`           W
energy_gradient(…, Ē)      `potentials.atomic.…`               ∂(Σ Ē E)/∂w
weight_gradient(…, Ē, v)   `potentials.atomic.…`               ∂(Σ Ē E + Σ f·v)/∂w
rows(…, numbers)           `potentials.atomic.rows`            H of many single numbers
=========================  ==================================  =============================
"""

from __future__ import annotations

from typing import Any, Protocol

from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.protocol import Parameters


class Engine(Protocol):
    """The passes of a potential on one device.

    An engine on a GPU has an attribute ``xp`` (CuPy): the weights, Ē and v that it takes, and what it
    returns, are arrays of that module.
    """

    name: str
    form: Any

    def frames(self, data: Any) -> Any:
        """Frames of a data set by number, each with what is kept of it for `environment`."""
        ...

    def environment(self, statistics: dict, frames: Any, pairs: Any = None) -> Any:
        """What depends on the frames alone; ``pairs`` are what `frames` has kept of them, or `Pairs`."""
        ...

    def energies(self, par: Parameters, env: Any) -> tuple[Any, Any]: ...
    def pair_gradient(self, par: Parameters, env: Any, fwd: Any) -> Any: ...
    def forces(self, env: Any, f_pc: Any) -> Any: ...
    def virial(self, env: Any, f_pc: Any) -> Any: ...
    def energy_gradient(self, par: Parameters, env: Any, fwd: Any, E_bar_i: Any) -> Any: ...
    def weight_gradient(self, par: Parameters, env: Any, fwd: Any, E_bar_i: Any, v_pc: Any) -> Any: ...
    def rows(self, par: Parameters, env: Any, fwd: Any, numbers: Numbers) -> Any: ...
