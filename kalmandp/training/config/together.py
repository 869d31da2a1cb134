"""Checks that the options which an input states for an optimizer fit each other and the data."""

from __future__ import annotations

from kalmandp.checks import SectionReader
from kalmandp.errors import InputError
from kalmandp.training.config.n2p2 import OF_TYPE
from kalmandp.training.config.presets import check_weighting, resolve, resolve_n2p2
from kalmandp.training.config.settings import OptimizerSettings


def check_n2p2(read: SectionReader, o: OptimizerSettings) -> None:
    """Check that the stated options fit each other; note those that belong to the other kalman_type."""
    try:
        settings = resolve_n2p2(o)
    except InputError as error:
        raise InputError(f"{read.source}: optimizer: {error}") from None
    idle = OF_TYPE[1 - settings.kalman_type]
    read.ignored += [f"optimizer/{name}" for name in idle if o.get(name) is not None]


def check_weights(read: SectionReader, o: OptimizerSettings) -> None:
    """Check that weights of single numbers fit the measurement, once the preset is known."""
    try:
        check_weighting(resolve(o))
    except InputError as error:
        raise InputError(f"{read.source}: {error}") from None


def check_n2p2_data(read: SectionReader, path: str, value: dict) -> None:
    """n2p2's schedule takes numbers of any structures: there are no batches of frames."""
    for name in ("batch_size", "sys_probs", "auto_prob"):
        if name in value and path == "training/training_data":
            wanted = "none with optimizer n2p2 (task_batch_size_energy and task_batch_size_force are its own)"
            raise read.error(f"{path}/{name}", value[name], wanted)
