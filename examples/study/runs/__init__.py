"""The study's runs: what one is, the queue that works them off, and what is read from their results."""

from .optimizers import Optimizer, optimizer, with_keys
from .results import Result
from .study import Study
from .systems import System, find_systems
from .unit import Init, Model, Network, Unit

__all__ = [
    "Init", "Model", "Network", "Optimizer", "Result", "Study", "System", "Unit", "find_systems", "optimizer",
    "with_keys",
]  # fmt: skip
