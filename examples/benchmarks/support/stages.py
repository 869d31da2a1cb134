"""What is timed: the passes of the potential, updates of the filter, whole frames, Adam, inference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kalmandp import RLEKF, Frame, Potential
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.geometry.pairs import force_direction
from kalmandp.geometry.verlet import VerletList
from kalmandp.training.config.presets import PRESETS
from kalmandp.training.config.settings import (
    LearningRateSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    Settings,
    TrainingSettings,
)
from kalmandp.training.measurements.measurement import make_sample
from kalmandp.training.trainers.adam import AdamTrainer
from kalmandp.training.trainers.kalman import KalmanTrainer

from .bars import OURS
from .turns import Clock, clock

GROUP = 6  # atoms of one force update in the paper's sequence
SKIN = 1.0  # Å
#: Passes through the net: forward; backward; and with a gradient by the weights as much again.
PASSES = {"energies": 1, "pair gradient, forces, virial": 1, "∂E/∂w": 2, f"∂(c·F)/∂w, {GROUP} atoms": 5}
#: Frames in one run, after which the covariance has been folded in about as often as in a long one: once,
#: as its 64 columns are those of 13 frames of 5 numbers (65), of 8 frames of 4 × 2, and of 16 of 2 × 2.
FRAMES = {("signed", 4): 13, ("paired", 4): 8, ("joint", 4): 13, ("paired", 2): 16}
ADAM = "Adam step"
SIGNED = "frame, signed (1 + 4 updates), float64"
DEFAULT = "frame, the default"
INFERENCE, KEPT = "inference, {:,} atoms", ", list kept"
#: (stage, who) -> its clock
Clocks = dict[tuple[str, str], Clock]


def stages(p: Potential, frame: Frame, who: str) -> Clocks:
    """The passes of the potential one by one, by the engine that ``p`` has."""
    engine, par = p.engine, p.parameters
    pairs = [neighbour_pairs(frame, p.form.cutoff)]
    env = p.environment([frame], pairs)
    _, forward = engine.energies(par, env)
    ones, zeros = np.ones(len(frame)), np.zeros(len(frame))
    c_ic = np.zeros((len(frame), 3))
    c_ic[:GROUP] = 1.0 / (3 * GROUP)

    def forces() -> None:
        f_pc = engine.pair_gradient(par, env, forward)
        engine.forces(env, f_pc)
        engine.virial(env, f_pc)

    def along() -> None:
        engine.weight_gradient(par, env, forward, zeros, force_direction(env.geometry, c_ic))

    energies, pair_gradient, by_weights, along_forces = PASSES
    runs = {
        "environment": lambda: p.environment([frame], pairs),
        energies: lambda: engine.energies(par, env),
        pair_gradient: forces,
        by_weights: lambda: engine.energy_gradient(par, env, forward, ones),
        along_forces: along,
    }
    if who == OURS:
        runs = {"neighbours": lambda: neighbour_pairs(frame, p.form.cutoff)} | runs
    return {(stage, who): clock(run) for stage, run in runs.items()}


def updates(kalman: RLEKF, sizes, who: str, rng: np.random.Generator, cycle: int) -> Clocks:
    """Updates with random H of m numbers; one run is whole cycles of the covariance, folding included.

    ``cycle`` is the number of columns that the covariance gathers before it folds them in.
    """
    N = len(kalman.weights)
    clocks: Clocks = {}
    for m in sizes:
        H_qw, error_q = rng.normal(size=(m, N)) / np.sqrt(N), rng.normal(size=m)
        per_cycle = round(2 * cycle / m) if cycle % m else cycle // m

        update = clock(lambda H_qw=H_qw, error_q=error_q: kalman.update(H_qw, error_q, 1.0))
        clocks[f"update, m = {m}, {kalman.covariance.dtype}", who] = in_cycles(update, per_cycle)
    return clocks


def in_cycles(seconds: Clock, cycle: int) -> Clock:
    """A clock that always runs ``cycle`` times as often as it is told, and states the mean."""
    return lambda count: seconds(count * cycle) / cycle


def frames(p: Potential, frame: Frame, block_size: int) -> Clocks:
    """Whole RLEKF frames, environment included, neighbours kept as in training."""
    pairs = [neighbour_pairs(frame, p.form.cutoff)]
    default = replace(PRESETS["default"], block_size=min(block_size, PRESETS["default"].block_size))
    paper = PRESETS["paper"]
    groups = {"n_groups": paper.n_groups, "group_size": paper.group_size, "norm": paper.norm}
    large = replace(default, block_size=block_size, coupled=False, **groups)
    single = replace(large, covariance_dtype="float32")
    clocks: Clocks = {}

    def add(stage: str, trainer: KalmanTrainer, measurement: str) -> None:
        choices = replace(trainer.choices, measurement=measurement)

        def run() -> None:
            trainer.choices = choices
            trainer.step(make_sample(trainer.potential, [frame], pairs))

        clocks[stage, OURS] = in_cycles(clock(run), FRAMES[measurement, choices.n_groups])

    def trainer(choices) -> KalmanTrainer:
        return KalmanTrainer(p.with_engine(None), choices, np.random.default_rng(1))

    add(SIGNED, trainer(replace(paper, block_size=block_size)), "signed")
    many = f"{default.n_groups} updates of 2, N_b {default.block_size}"
    add(f"{DEFAULT} ({many}), float64", trainer(default), default.measurement)
    for dtype, one in (("float64", trainer(large)), ("float32", trainer(single))):
        if dtype == "float32":
            add("frame, signed, float32", one, "signed")
        add(f"frame, paired (4 updates of 2), {dtype}", one, "paired")
        add(f"frame, joint (1 update of 5), {dtype}", one, "joint")
    return clocks


def adam(p: Potential, frame: Frame) -> Clock:
    """Our own Adam step: environment, energies, forces, gradient of the loss, weights."""
    settings = Settings(
        ModelSettings(p.form.kind, p.type_map, p.form.cutoff), OptimizerSettings(type="Adam"), LossSettings(),
        LearningRateSettings(), TrainingSettings(systems=()),
    )  # fmt: skip
    trainer = AdamTrainer(p.with_engine(None), settings, 1_000_000)
    pairs = [neighbour_pairs(frame, p.form.cutoff)]
    return clock(lambda: trainer.step(make_sample(trainer.potential, [frame], pairs)))


def inference(p: Potential, frame: Frame) -> Clocks:
    """Energy, forces and virial, with a new neighbour search each time and with one that is kept."""
    verlet = VerletList(p.form.cutoff, SKIN)

    def with_skin() -> None:
        p.evaluate(frame, p.environment([frame], [verlet.pairs(frame)]))

    name = INFERENCE.format(len(frame))
    return {(name, OURS): clock(lambda: p.evaluate(frame)), (name + KEPT, OURS): clock(with_skin)}
