"""The feed that an input asks for."""

from __future__ import annotations

import numpy as np

from kalmandp.training.config.presets import resolve_n2p2
from kalmandp.training.config.settings import N2P2, Settings
from kalmandp.training.data.feed import Feed
from kalmandp.training.data.system_feed import SystemFeed, make_feed
from kalmandp.training.data.update_feed import UpdateFeed


def feed_of(settings: Settings, data, rng: np.random.Generator) -> Feed | SystemFeed | UpdateFeed:
    """The order of training: of frames, or, with n2p2's filter, of single numbers of them.

    Parameters
    ----------
    settings : the input
    data : Dataset; only its tables of contents are looked at
    rng : draws the order

    Raises
    ------
    InputError
        If the input's probabilities do not fit the data, or an epoch has no update.
    """
    if settings.optimizer.type != N2P2:
        return make_feed(settings.training, data, settings.frames_per_step(data.natoms(0)), rng)
    atoms_f = [data.natoms(k) for k in range(len(data))]
    lacking = {"energy": data.lacking("energy"), "force": data.lacking("forces")}
    return UpdateFeed(resolve_n2p2(settings.optimizer), atoms_f, lacking, rng)
