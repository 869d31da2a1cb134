"""Neural-network potentials, trained by an extended Kalman filter, every derivative by hand.

The public names are listed in ``__all__``; they are imported when first used, so that
``import kalmandp`` stays fast.
"""

from importlib import import_module

__version__ = "0.11.0"

_PUBLIC = {
    "Architecture": "kalmandp.potentials.deep_potential.architecture",
    "Dataset": "kalmandp.frames.dataset",
    "FileError": "kalmandp.errors",
    "FilterError": "kalmandp.errors",
    "Frame": "kalmandp.frames.frame",
    "InputError": "kalmandp.errors",
    "KalmanDPError": "kalmandp.errors",
    "MissingPackage": "kalmandp.errors",
    "OnTheFly": "kalmandp.on_the_fly.calculator",
    "OnlineTrainer": "kalmandp.training.online",
    "Potential": "kalmandp.potentials.potential",
    "RLEKF": "kalmandp.kalman.filter",
    "convert": "kalmandp.formats.convert",
    "evaluate": "kalmandp.training.report.metrics",
    "partition": "kalmandp.kalman.blocks",
    "read_input": "kalmandp.training.config.inputs",
    "train": "kalmandp.training.loop",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kalmandp' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
