"""What a run will take, before it runs: weights, blocks, memory of P, updates, time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from kalmandp.errors import InputError
from kalmandp.frames.dataset import Dataset
from kalmandp.ranks.team import Alone
from kalmandp.registry import KINDS, kind_of, load
from kalmandp.training.config.presets import PRESETS, KalmanChoices, resolve, resolve_snes
from kalmandp.training.config.settings import N2P2, Settings
from kalmandp.training.data.choose import feed_of
from kalmandp.training.measurements.labels import LABEL_OF, check_labels, learnt_kinds
from kalmandp.training.measurements.measurement import make_sample, predict
from kalmandp.training.measurements.shared import shared_pieces, shared_sample
from kalmandp.training.placement import ranks_model
from kalmandp.training.placement.device import open_device
from kalmandp.training.placement.memory import SHARE, covariance_need, generation_memory, parts_of
from kalmandp.training.placement.ranks_model import Network, OnRanks
from kalmandp.training.placement.shared import SharedCpu
from kalmandp.training.starting import new_potential
from kalmandp.training.trainers.choose import make_trainer
from kalmandp.training.trainers.kalman import KalmanTrainer

#: Frames from which the model's form and the time of a step are taken.
SOME_FRAMES = 8
#: Steps that are timed, after one that compiles.
TIMED_STEPS = 3
#: Largest block of the P that an update is timed on for several ranks: P itself may need all of them.
MEASURED_BLOCK = 4096


class Plan(NamedTuple):
    """What a run will take.

    Attributes
    ----------
    n_frames : frames to train on;  atoms_per_frame : of those looked at, on average
    type_map : of the model;  model : names and values that say what it is made of
    looked_at : frames that a model counted "auto" was made from, 0 if all
    n_weights : N;  block_sizes : of P, empty for Adam and SNES
    memory : bytes of P, or of a generation of SNES;  memory_free : free now, 0 if that is not known
    frames_memory : bytes of all frames with their pairs on a GPU, where they stay if there is room; else 0
    steps_per_epoch, n_steps, updates_per_step : of the run
    seconds_per_step : measured, None if it was not
    on_ranks : of several ranks (`ranks_model`), None if they were not asked for
    """

    n_frames: int
    atoms_per_frame: float
    type_map: tuple[str, ...]
    model: list[tuple[str, str]]
    looked_at: int
    optimizer: str
    n_weights: int
    block_sizes: tuple[int, ...]
    memory: int
    memory_free: int
    frames_memory: int
    steps_per_epoch: int
    n_steps: int
    updates_per_step: int
    seconds_per_step: float | None
    on_ranks: OnRanks | None = None

    @property
    def fits(self) -> bool:
        """Whether P fits into the memory that is free."""
        need = self.memory if self.on_ranks is None else self.on_ranks.memory
        return not self.memory_free or need <= SHARE * self.memory_free


def make_plan(
    settings: Settings, timing: bool = True, engine: str | None = None, device=None, ranks: int = 1,
    network: Network | None = None,
) -> Plan:  # fmt: skip
    """Plan a run. Nothing is written, and P is only made for the timing, if it fits.

    Parameters
    ----------
    settings : from `read_input`
    timing : measure the time of a step on a frame of the data
    device : "cpu" or "cuda", in place of the input's training/device
    ranks, network : with more than one rank also what a step on them takes, from parts measured here

    Raises
    ------
    InputError, FileError
        As the run itself would, for the frames that are looked at; for ranks that cannot share the run.
    """
    t, m, o = settings.training, settings.model, settings.optimizer
    place = open_device(device or t.device)
    with Dataset(t.systems, m.type_map) as data:
        check_labels(data, settings)
        n_frames = _frames_to_train(len(data), settings)
        some = data.subset(np.unique(np.linspace(0, len(data) - 1, SOME_FRAMES).astype(int)))
        # a form that the data make is that of the run
        own = KINDS[m.kind].form_frames
        n_form = min(len(data), max(SOME_FRAMES, load(own)(m.choices) if own else 0))
        of_form = data.subset(np.unique(np.linspace(0, len(data) - 1, n_form).astype(int)))
        potential = new_potential(m, of_form, np.random.default_rng(0), engine, place.device)
        batch = settings.frames_per_step(data.natoms(0))
        steps_per_epoch = -(-n_frames // min(batch, n_frames))
        if o.type == N2P2:  # a step is an update by numbers of any frames
            updates = feed_of(settings, data, np.random.default_rng(0)).steps_per_epoch
            steps_per_epoch = max(1, round(updates * n_frames / len(data)))
        n_steps = t.n_steps or max(1, round((t.n_epochs or 0) * steps_per_epoch))
        choices = resolve(o) if o.is_kalman else PRESETS["n2p2"] if o.type == N2P2 else None
        block_sizes, memory = _covariance(potential, choices, place)
        if o.type == "SNES":
            memory = generation_memory(potential.layout.size, resolve_snes(o).population)
        plan = Plan(
            n_frames=n_frames,
            atoms_per_frame=float(np.mean([some.natoms(k) for k in range(len(some))])),
            type_map=potential.type_map,
            model=load(kind_of(potential.form).rows)(potential.form),
            looked_at=n_form if n_form < len(data) else 0,
            optimizer=f"{o.type}, preset {o.preset}" if (o.type, o.preset) != ("Adam", "default") else o.type,
            n_weights=potential.layout.size,
            block_sizes=block_sizes,
            memory=memory,
            memory_free=place.free_bytes(),
            frames_memory=round(place.frames_memory(potential, some) / len(some) * n_frames),
            steps_per_epoch=steps_per_epoch,
            n_steps=n_steps,
            updates_per_step=choices.updates_per_step if choices and o.is_kalman else 1,
            seconds_per_step=None,
        )
        if ranks > 1:
            parts = _on_ranks(settings, potential, choices, some, batch, ranks, network, timing)
            return plan._replace(on_ranks=parts)
        if timing and plan.fits:
            trainer = make_trainer(
                settings, potential, np.random.default_rng(0), place, n_steps=n_steps,
                steps_per_epoch=steps_per_epoch,
            )  # fmt: skip
            frames = [some[k] for k in np.resize(_fullest(some, settings), batch)]
            if o.type == N2P2:
                seconds = _time(_update(settings, some, potential, trainer))
            else:
                seconds = _time(lambda: trainer.step(make_sample(potential, frames)))
            plan = plan._replace(seconds_per_step=seconds)
    return plan


def _fullest(some: Dataset, settings: Settings) -> np.ndarray:
    """Numbers of the frames, those with the most labels to learn first: their step is the longest."""
    missing_k = np.zeros(len(some))
    for kind in learnt_kinds(settings):
        missing_k[some.lacking(LABEL_OF[kind])] += 1
    return np.argsort(missing_k, kind="stable")


def _frames_to_train(n: int, settings: Settings) -> int:
    """Without the validation_fraction, if frames are kept back for it."""
    t = settings.training
    if t.validation_systems or not t.validation_fraction:
        return n
    return max(1, n - max(1, round(t.validation_fraction * n)))


def _covariance(potential, choices, place) -> tuple[tuple[int, ...], int]:
    """Sizes of the blocks of P, and its bytes."""
    if choices is None:
        return (), 0
    need = covariance_need(parts_of(potential.layout), choices, place)
    return need.blocks.sizes, need.memory


def _on_ranks(
    settings: Settings, potential, choices, some: Dataset, batch: int, ranks: int, network, timing: bool
) -> OnRanks:  # fmt: skip
    """What a step takes on several ranks."""
    o = settings.optimizer
    if not o.is_kalman:
        raise InputError(f"optimizer/type is {o.type!r}, which has no P; expected RLEKF for several ranks")
    need = covariance_need(parts_of(potential.layout), choices)
    frames = [some[k] for k in np.resize(_fullest(some, settings), batch)]
    step, rates = step_and_rates(potential, choices, frames, timing)
    parts = None if rates is None else rates.parts(need.blocks, step)
    return ranks_model.on_ranks(
        need.blocks, ranks, step, parts, network, choices.covariance_dtype, choices.coupled
    )


def step_and_rates(
    potential, choices: KalmanChoices, frames: list, timing: bool = True
) -> tuple[ranks_model.Step, ranks_model.Rates | None]:
    """What a step on these frames measures, and the seconds of its parts by which they grow.

    All is timed as a rank does it that is alone: frames of a batch one by one, P in chunks. The update is of
    blocks of `MEASURED_BLOCK` weights at most: P itself may need all ranks.

    Parameters
    ----------
    potential : Potential;  choices : of a filter;  frames : of one step
    timing : measure; otherwise there are no rates
    """
    small = replace(choices, block_size=min(choices.block_size, MEASURED_BLOCK))
    team, rng = Alone(), np.random.default_rng(0)
    trainer = KalmanTrainer(potential, small, np.random.default_rng(0), SharedCpu(team), per_epoch=1.0)
    one_by_one = trainer.shares_frames(len(frames))

    def prepare() -> Any:
        if not one_by_one:
            return make_sample(potential, frames)
        return shared_sample(team, frames, lambda frame: make_sample(potential, [frame]), lambda frame: frame)

    sample = prepare()
    found = list(trainer.measure(sample, rng))
    pieces = shared_pieces(choices, [m.kind_q for m in found], len(frames))
    step = ranks_model.Step(max(len(m.H_qw) for m in found), len(found), *pieces)
    if not timing:
        return step, None
    made = _time(lambda: list(trainer.measure(sample, rng)))
    ready = _time(prepare)
    H, N = found[-1].H_qw, len(trainer.filter.weights)
    H = np.pad(H, ((0, 0), (0, N - H.shape[1])))
    zero, R_q = np.zeros(len(H)), np.ones(len(H))
    operation = _time(lambda: trainer.filter.update(H, zero, R_q)) / sum(
        ranks_model.operations(trainer.filter.blocks, len(H))
    )
    if one_by_one:  # all of a frame is made by its rank
        return step, ranks_model.Rates((made + ready) / (step.rows * N), operation, 0.0, 0.0)
    predicted = _time(lambda: predict(potential, sample))
    return step, ranks_model.Rates(
        max(made - predicted, 0.0) / (step.rows * N), operation, predicted / N, ready
    )


def _update(settings: Settings, some: Dataset, potential, trainer) -> Callable[[], object]:
    """A step of n2p2's schedule on these frames."""
    feed, kept = feed_of(settings, some, np.random.default_rng(0)), potential.engine.frames(some)

    def step() -> object:
        chosen = [kept[k] for k in trainer.choose(feed, kept)]
        return trainer.step(make_sample(potential, [f for f, _ in chosen], [pairs for _, pairs in chosen]))

    return step


def _time(step: Callable[[], object]) -> float:
    """Seconds of a step: the shortest of a few, after one that compiles."""
    step()
    seconds = []
    for _ in range(TIMED_STEPS):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
