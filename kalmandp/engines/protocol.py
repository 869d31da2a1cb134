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

Every engine is a subclass of `Engine`, and says there where it computes and where labels are.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

import numpy as np

from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.protocol import Parameters


class Engine(Protocol):
    """The passes of a potential on one device.

    name, form : its name in `registry.ENGINES`, and the potential's form
    device : "cpu", or the `cuda.launch.Device` that it computes on
    xp : NumPy or CuPy: the weights, Ē and v that it takes, and what it returns, are arrays of that module
    """

    name: str
    form: Any
    device: Any = "cpu"
    xp: Any = np

    @staticmethod
    def unfit(form: Any) -> str | None:
        """Why this engine cannot compute a form; None if it can."""
        return None

    def labels(self, env: Any, name: str, values_f: list[np.ndarray]) -> Any:
        """The label ``name`` of all frames of ``env``, joined, where the engine computes."""
        return self.xp.asarray(np.concatenate(values_f))

    def memory_of(self, frames: Any) -> int:
        """Bytes that these frames take on the engine's device; 0 where that is the host's own memory."""
        return 0

    @abstractmethod
    def frames(self, data: Any) -> Any:
        """Frames of a data set by number, each with what is kept of it for `environment`."""
        ...

    @abstractmethod
    def environment(self, statistics: dict, frames: Any, pairs: Any = None) -> Any:
        """What depends on the frames alone; ``pairs`` are what `frames` has kept of them, or `Pairs`."""
        ...

    @abstractmethod
    def energies(self, par: Parameters, env: Any) -> tuple[Any, Any]: ...
    @abstractmethod
    def pair_gradient(self, par: Parameters, env: Any, fwd: Any, once: bool = False) -> Any:
        """``once``: of this environment nothing else will be asked; nothing need be kept for rows of H."""
        ...

    @abstractmethod
    def forces(self, env: Any, f_pc: Any) -> Any: ...
    @abstractmethod
    def virial(self, env: Any, f_pc: Any) -> Any: ...
    @abstractmethod
    def energy_gradient(self, par: Parameters, env: Any, fwd: Any, E_bar_i: Any) -> Any: ...
    @abstractmethod
    def weight_gradient(self, par: Parameters, env: Any, fwd: Any, E_bar_i: Any, v_pc: Any) -> Any: ...
    @abstractmethod
    def rows(self, par: Parameters, env: Any, fwd: Any, numbers: Numbers) -> Any: ...
