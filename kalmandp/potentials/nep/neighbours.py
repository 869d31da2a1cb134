"""What a NEP makes of the numbers of neighbours in data: it takes any, but GPUMD runs it with a limit.

A nep.txt states the most radial and angular neighbours, MN, and GPUMD makes room for a quarter more. It
refuses a file that states more than `MOST`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.geometry.neighbours import NeighbourStatistics
from kalmandp.potentials.protocol import Remark
from kalmandp.potentials.settings import ModelSettings

#: The largest MN of radial neighbours that GPUMD takes: 1024 with a quarter of room.
MOST = 819


def made_of(seen: NeighbourStatistics) -> list[tuple[str, str, object]]:
    """The number that a nep.txt with this cut-off would state."""
    return [("MN", f"MN of a nep.txt (at most {MOST})", int(seen.most_f.max()))]


def remarks(seen: NeighbourStatistics, model: ModelSettings | None) -> Iterator[Remark]:
    """More neighbours than GPUMD has room for. Without a model the cut-off may be another kind's: nothing."""
    beyond = np.flatnonzero(seen.most_f > MOST)
    if model is not None and len(beyond):
        yield Remark(
            "warning", "neighbours",
            f"an atom has {seen.most_f.max()} neighbours within {seen.cutoff:g} Å; GPUMD takes {MOST}",
            "The model would be trained, but GPUMD would not run it: take a smaller radial cut-off", beyond,
        )  # fmt: skip
