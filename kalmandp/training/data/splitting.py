"""The data of a run: what it trains on, and what is set aside to judge by."""

from __future__ import annotations

import numpy as np

from kalmandp.errors import InputError
from kalmandp.frames.dataset import Dataset
from kalmandp.training.config.settings import Settings


def datasets(settings: Settings, seed: int) -> tuple[Dataset, Dataset | None]:
    """Training and validation data sets (None if there is none).

    Without validation data, ``validation_fraction`` of the frames are set aside: the last ones of a
    shuffle drawn from ``seed``.

    Raises
    ------
    InputError, FileError
        For systems that hold no frames, or too few to be split, and files that cannot be read.
    """
    rng = np.random.default_rng([seed, 1])
    t = settings.training
    data = Dataset(t.systems, settings.model.type_map)
    if not len(data):
        raise InputError(f"training systems {list(t.systems)} hold no frames")
    if t.validation_systems:
        return data, Dataset(t.validation_systems, data.type_map)
    if t.validation_fraction:
        if len(data) < 2:
            raise InputError(
                f"training systems {list(t.systems)} hold one frame; expected two at least for a "
                "training/validation_fraction"
            )
        order = rng.permutation(len(data))
        cut = max(1, len(data) - max(1, round(t.validation_fraction * len(data))))  # one at least is learnt
        return data.subset(np.sort(order[:cut])), data.subset(np.sort(order[cut:]))
    return data, None
