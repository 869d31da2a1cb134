"""The other members of a committee that a run trains: ``"committee": n`` in the section ``training``.

The run's own model is the first member. The others begin with other random weights, have a filter each, and
learn the same batches in the same order; frames are read, and their neighbours found, once for all. How far
the members differ on a frame says where they do not know (`kalmandp model-devi`, `kalmandp select`).

    run's model   model.dp        member k   model-k.dp, k = 2 … n        (nep-2.txt, …)

What member k draws in a step depends on the seed, k and the step alone. Its trainer's state is in the run's
checkpoint, so that a restart has the same bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kalmandp.errors import InputError
from kalmandp.training.measurements.measurement import make_sample
from kalmandp.training.starting import new_potential
from kalmandp.training.trainers.choose import make_trainer
from kalmandp.training.trainers.uninterrupted import uninterrupted


class Members:
    """Members 2 … n of a run's committee.

    Parameters
    ----------
    run : `training.loop.Run`, with its data and its trainer
    per_epoch : steps of an epoch
    begun : whether the run begins with a model

    Raises
    ------
    InputError
        Where there can be no committee: without a Kalman filter, from a model, on several ranks or a GPU.
    """

    def __init__(self, run: Any, per_epoch: int, begun: bool):
        s, device, self.seed = run.settings, run.device, run.seed
        what = f"training/committee is {s.training.committee}"
        if not s.optimizer.is_kalman:
            raise InputError(f"{what} with optimizer/type {s.optimizer.type}; expected RLEKF")
        if begun:
            raise InputError(f"{what} in a run that begins with a model; members begin with random weights")
        if run.team.size > 1 or device.device != "cpu":
            where = f"{device.device} and {run.team.size} ranks"
            raise InputError(f"{what} on {where}; expected one rank, and the device cpu")
        self.trainers: dict[int, Any] = {}
        for k in range(2, s.training.committee + 1):
            rng = np.random.default_rng([run.seed, *s.model.seeds, k])
            potential = new_potential(s.model, run.data, rng, None, device.device)
            self.trainers[k] = make_trainer(
                s, potential, rng, device, n_steps=run.n_steps, steps_per_epoch=per_epoch,
                guard=uninterrupted, data=run.data,
            )  # fmt: skip

    def step(self, frames: list, pairs: list, step: int, settled: bool) -> None:
        """Teach all members a batch.

        Parameters
        ----------
        frames, pairs : of the batch
        step : its number in the run
        settled : whether a gate is at work
        """
        for k, trainer in self.trainers.items():
            trainer.rng = np.random.default_rng([self.seed, k, step])
            if trainer.gate is not None:
                trainer.gate.at_work = settled
            trainer.step(make_sample(trainer.potential, frames, pairs))

    def state(self) -> dict[str, Any]:
        """The states of all trainers, names led by the number of the member."""
        states = ((k, trainer.state()) for k, trainer in self.trainers.items())
        return {f"{k}/{name}": value for k, state in states for name, value in state.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`, as it was written into a checkpoint."""
        for k, trainer in self.trainers.items():
            own = {name.partition("/")[2]: x for name, x in state.items() if name.partition("/")[0] == str(k)}
            if not own:
                raise InputError(f"the checkpoint has no member {k}; expected a committee as in the input")
            trainer.restore(own)


def model_path(first: Path, k: int) -> Path:
    """The file of member ``k`` beside that of the run's own model."""
    return first.with_name(f"{first.stem}-{k}{first.suffix}")
