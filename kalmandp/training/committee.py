"""Several potentials taught by one pass over the frames: how far they differ says where they do not know.

A committee of models that differ in their random weights (query by committee; DP-GEN's) is usually made by as
many runs. Here the frames are read, and their neighbours found, once for all members. Each member has a
filter of its own and draws its own atoms: its bits are those of an `OnlineTrainer` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kalmandp.errors import require
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.potentials.potential import Potential
from kalmandp.ranks.team import Alone, Team, in_turn
from kalmandp.training.choosing import Chosen
from kalmandp.training.online import OnlineTrainer, StepInfo
from kalmandp.training.report.model_deviation import Deviation, model_deviation


class Committee:
    """Potentials that learn the same frames.

    Parameters
    ----------
    potentials : Potential of one type_map each; their forms may differ
    rngs : a numpy Generator for each; draws its atoms
    threads : as for `OnlineTrainer`
    **optimizer : as for `OnlineTrainer`

    Attributes
    ----------
    members : list of OnlineTrainer

    Raises
    ------
    InputError
        For no potentials, another number of generators, or type_maps that differ.

    Examples
    --------
    >>> import numpy as np
    >>> import kalmandp
    >>> data = kalmandp.Dataset("data/si64_lda_train.h5")
    >>> rngs = [np.random.default_rng(seed) for seed in range(3)]
    >>> potentials = [
    ...     kalmandp.Potential.create(data.type_map, rcut=4.0, frames=data[:2], rng=rng, embedding=(4, 8),
    ...                               axis_neuron=2, fitting=(8,))
    ...     for rng in rngs
    ... ]
    >>> committee = Committee(potentials, rngs)
    >>> for frame in data[:4]:
    ...     infos = committee.learn(frame)
    >>> committee.deviation(data[9]).force_i.shape
    (64,)
    """

    def __init__(
        self, potentials: Sequence[Potential], rngs: Sequence[np.random.Generator], *,
        threads: int | None = 1, **optimizer,
    ):  # fmt: skip
        require(len(potentials) > 0, "potentials", len(potentials), "at least one")
        require(len(rngs) == len(potentials), "rngs", len(rngs), f"{len(potentials)}, one for each potential")
        for potential in potentials:
            expected = potentials[0].type_map
            require(potential.type_map == expected, "a type_map", potential.type_map, f"{expected} in all")
        self.members = [
            OnlineTrainer(potential, rng=rng, threads=threads, **optimizer)
            for potential, rng in zip(potentials, rngs, strict=True)
        ]

    @property
    def potentials(self) -> list[Potential]:
        """The members' potentials, with the weights of their last updates."""
        return [member.potential for member in self.members]

    def learn(self, frames) -> list[StepInfo]:
        """Teach all members a `Frame`, or a list of them as one batch; what each did.

        Parameters
        ----------
        frames : Frame or list of Frame

        Raises
        ------
        FilterError
            If an update would spoil a member: that member has not learned the frame, those before it have.
        """
        frames = [frames] if isinstance(frames, Frame) else list(frames)
        frames = [frame.with_type_map(self.members[0].potential.type_map) for frame in frames]
        pairs: dict = {}
        infos = []
        for member in self.members:
            cutoff = member.potential.form.cutoff
            if cutoff not in pairs:
                pairs[cutoff] = [neighbour_pairs(frame, cutoff) for frame in frames]
            infos.append(member.learn(frames, pairs[cutoff]))
        return infos

    def deviation(self, frame: Frame) -> Deviation:
        """How far the members differ on a frame (`training.report.model_deviation`).

        Parameters
        ----------
        frame : Frame; its labels are not looked at
        """
        return model_deviation(self.potentials, frame)


def choose(
    potentials: Sequence[Potential], pool: Sequence[Any], n: int, team: Team | None = None
) -> Iterator[Chosen]:
    """The ``n`` frames of a pool whose largest deviation of a force is largest (DP-GEN).

    Each frame is judged by itself, so that frames which are alike are chosen together
    (`training.choosing` takes into account what was chosen before).

    Parameters
    ----------
    potentials : two or more
    pool : frames; labels are not used
    n : how many, at most all
    team : ranks that share the pool

    Yields
    ------
    Chosen
        With σ of a force component, the deviation of a force/√3.

    Raises
    ------
    InputError
        For n below 1, or fewer than two potentials.
    """
    require(n > 0, "the number of frames to choose", n, "at least 1")
    require(len(potentials) > 1, "the number of models", len(potentials), "at least 2, which can differ")
    ranks: Team = Alone() if team is None else team
    look = lambda k: model_deviation(potentials, potentials[0].as_frame(pool[k])).force_i / np.sqrt(3.0)
    sigmas = list(in_turn(ranks, len(pool), look))
    order = sorted(range(len(pool)), key=lambda k: -sigmas[k].max())
    for k in order[:n]:
        rms, atom = float(np.sqrt((sigmas[k] ** 2).mean())), int(np.argmax(sigmas[k]))
        yield Chosen(k, rms, rms, atom, float(sigmas[k][atom]))
