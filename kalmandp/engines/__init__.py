"""Speed, behind one seam.

An engine offers the passes of the potential under the names of their reference functions; the covariance
of the filter, the search for neighbours and the distances of a Verlet list have twins in the same way.
`POTENTIAL_ENGINES`, `COVARIANCES`, `NEIGHBOUR_SEARCHES` and `PAIR_FILTERS` list them all, and the parity
tests loop over these lists: nothing can be added here and stay untested.

An engine on a GPU has an attribute ``xp`` (CuPy): the weights, Ē and v that it takes, and what it returns,
are arrays of that module.

===========================  =============================================  ===========================
pass                         reference                                      what it gives
===========================  =============================================  ===========================
environment(davg, dstd, …)   `deep_potential.environment.environment_of`    what does not depend on w
energies(par, env)           `deep_potential.model.energies`                E_i and a cache
pair_gradient(par, env, c)   `deep_potential.model.pair_gradient`           f_p = ∂E/∂r_p
forces(env, f_pc)            `deep_potential.model.forces_from_pairs`       F_i
virial(env, f_pc)            `deep_potential.model.virial_from_pairs`       W
energy_gradient(…, Ē)        `deep_potential.jacobian.energy_gradient`      ∂(Σ Ē E)/∂w
weight_gradient(…, Ē, v)     `deep_potential.jacobian.weight_gradient`      ∂(Σ Ē E + Σ f·v)/∂w
===========================  =============================================  ===========================
"""

from __future__ import annotations

from importlib import import_module

from kalmandp.errors import InputError

#: name -> (module, class) of the engines of the potential
POTENTIAL_ENGINES = {
    "numpy": ("kalmandp.engines.reference", "ReferenceEngine"),
    "numba": ("kalmandp.engines.cpu.deep_potential.engine", "NumbaEngine"),
    "cupy": ("kalmandp.engines.reference", "CupyEngine"),
    "cuda": ("kalmandp.engines.cuda.deep_potential.engine", "CudaEngine"),
}

#: name -> (module, function) that finds the pairs of a frame within a cut-off
NEIGHBOUR_SEARCHES = {
    "vesin": ("kalmandp.geometry.neighbours", "neighbour_pairs"),
    "cuda": ("kalmandp.engines.cuda.neighbours", "neighbour_pairs"),
}

#: name -> (module, function) that keeps the pairs of a Verlet list that are within the cut-off
PAIR_FILTERS = {
    "numpy": ("kalmandp.geometry.verlet", "pairs_within"),
    "numba": ("kalmandp.engines.cpu.pairs", "pairs_within"),
}

#: name -> (module, class) of the covariances of the filter
COVARIANCES = {
    "dense": ("kalmandp.kalman.covariance", "DenseCovariance"),
    "dense coupled": ("kalmandp.kalman.coupled", "CoupledCovariance"),
    "tiled": ("kalmandp.engines.cpu.covariance.tiled", "TiledCovariance"),
    "tiled coupled": ("kalmandp.engines.cpu.covariance.tiled", "CoupledTiledCovariance"),
    "cuda": ("kalmandp.engines.cuda.covariance", "CudaCovariance"),
    "cuda coupled": ("kalmandp.engines.cuda.covariance", "CoupledCudaCovariance"),
}


def find(registry: dict, name: str, what: str):
    """The class registered under ``name``; its module is imported now and not before.

    Raises
    ------
    InputError
        If the name is not registered. There is no silent fall-back to another engine.
    """
    if name not in registry:
        raise InputError(f"{what} is {name!r}; expected one of {', '.join(sorted(registry))}")
    module, attribute = registry[name]
    return getattr(import_module(module), attribute)


#: device -> its fused engine of the potential, and the reference functions there
ENGINES_OF = {"cpu": ("numba", "numpy"), "cuda": ("cuda", "cupy")}


def default_engine(architecture, device: str = "cpu") -> str:
    """The device's fused engine wherever its table of the embedding converges, else the reference."""
    from kalmandp.potentials.deep_potential.table import SMOOTH

    if device not in ENGINES_OF:
        raise InputError(f"device is {device!r}; expected one of {', '.join(ENGINES_OF)}")
    fused, reference = ENGINES_OF[device]
    return fused if architecture.embedding_activation.lower() in SMOOTH else reference


def choose_engine(engine: str | None, device, architecture, layout):
    """Make the engine of that name, or the default one of a device.

    ``device`` is "cpu", "cuda" (the current CUDA device), or what `cuda.launch.Device` describes.
    """
    if isinstance(device, str):
        name = engine or default_engine(architecture, device)
        return potential_engine(name, architecture, layout)
    name = engine or default_engine(architecture, "cuda")
    return potential_engine(name, architecture, layout, device=device)


def potential_engine(name: str, architecture, layout, **options):
    """Make the engine of that name for a potential; ``options`` are the engine's own."""
    return find(POTENTIAL_ENGINES, name, "engine")(architecture, layout, **options)
