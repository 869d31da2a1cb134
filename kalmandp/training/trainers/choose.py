"""The trainer that an input asks for."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np

from kalmandp.errors import InputError
from kalmandp.potentials.potential import Potential
from kalmandp.registry import kind_of, load
from kalmandp.training.config.presets import PRESETS, resolve, resolve_n2p2, resolve_snes
from kalmandp.training.config.settings import N2P2, Settings
from kalmandp.training.last_layer import last_layer_columns
from kalmandp.training.measurements.virial_offset import volumes_tell
from kalmandp.training.placement.device import Cpu, Gpu
from kalmandp.training.placement.memory import check_generation, check_memory, parts_of
from kalmandp.training.trainers.adam import AdamTrainer
from kalmandp.training.trainers.kalman import KalmanTrainer
from kalmandp.training.trainers.n2p2_trainer import N2P2Trainer
from kalmandp.training.trainers.protocol import Guard, Trainer
from kalmandp.training.trainers.snes import SNESTrainer


def make_trainer(
    settings: Settings, potential: Potential, rng: np.random.Generator, device: Cpu | Gpu, *, n_steps: int,
    steps_per_epoch: int, guard: Guard = contextlib.nullcontext, trained: bool = False,
    data=None,
) -> Trainer:  # fmt: skip
    """The trainer of an input's optimizer.

    Parameters
    ----------
    settings : the input
    potential : its weights are trained
    rng : draws atoms and members
    device : where P is
    n_steps, steps_per_epoch : of the run, for what is scheduled
    guard : called for a context that each update is made in
    trained : whether the weights are those of a model, and no p0 is stated for them
    data : the training data; an offset of virials that is not stated depends on their volumes

    Raises
    ------
    InputError
        For choices that contradict each other, or a P (or a generation) that does not fit into the free
        memory.
    """
    o = settings.optimizer
    if o.type == "Adam":
        return AdamTrainer(potential, settings, n_steps, guard=guard, team=device.team)
    if o.type == "SNES":
        members = resolve_snes(o)
        check_generation(potential.layout.size, members.population)
        return SNESTrainer(potential, members, rng, guard=guard, team=device.team)
    if o.type == N2P2:
        if device.team is not None and device.team.size > 1:
            raise InputError(
                f"optimizer/type is {N2P2!r} on {device.team.size} ranks, which have nothing to share in it; "
                "expected RLEKF, Adam or SNES, or one rank"
            )
        return _n2p2(settings, potential, device, steps_per_epoch, guard)
    choices = resolve(o).of_trained() if trained else resolve(o)
    if choices.virial_offset and o.get("virial_offset") is None and "virial" in choices.order:
        choices = replace(choices, virial_offset=data is not None and volumes_tell(data))
    if o.get("last_layer") is True:  # asked for: raises now, not at the end, if it cannot be solved for
        last_layer_columns(potential.layout)
    check_memory(parts_of(potential.layout), choices, device)
    per_epoch = steps_per_epoch * choices.updates_per_step
    return KalmanTrainer(potential, choices, rng, device, guard=guard, per_epoch=per_epoch)


def _n2p2(settings: Settings, potential: Potential, device, steps_per_epoch: int, guard: Guard) -> Trainer:
    if device.device != "cpu":
        raise InputError('optimizer/type is "n2p2", whose updates are of one number; expected device "cpu"')
    check_memory(parts_of(potential.layout), PRESETS["n2p2"], device)  # a full P, as large or larger
    place = kind_of(potential.form).net_units
    units = load(place)(potential.form) if place else (1.0, 1.0)
    return N2P2Trainer(potential, resolve_n2p2(settings.optimizer), steps_per_epoch, units, guard)
