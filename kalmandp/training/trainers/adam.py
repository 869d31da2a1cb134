"""Adam with DeePMD-kit's loss and schedules, on our own analytic gradient: the baseline.

L = p_e mean(ΔE²)/N + p_f mean(ΔF²) + p_v mean(ΔW²)/N

A frame of weight ω (`measurements.weights`) has its squared errors times ω².

p(t) = p_start·α(t)/α(0) + p_limit·(1 − α(t)/α(0)),   α(t) = α(0)·rate^⌊t/decay_steps⌋

Source: DeePMD-kit's documentation, "Fit energy"; Kingma and Ba (2014) for Adam.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import FilterError, InputError, KalmanDPError
from kalmandp.geometry.pairs import force_direction, virial_direction
from kalmandp.potentials.potential import Potential
from kalmandp.ranks.team import Team, agree
from kalmandp.training.config.presets import resolve_adam
from kalmandp.training.config.settings import LearningRateSettings, LossSettings, Settings
from kalmandp.training.measurements.labels import taught
from kalmandp.training.measurements.measurement import Sample, errors, predict
from kalmandp.training.measurements.shared import SharedSample, gathered
from kalmandp.training.measurements.weights import frame_weights
from kalmandp.training.trainers.averaging import WeightAverage
from kalmandp.training.trainers.protocol import Guard, Trainer

#: Terms of the loss.
KINDS = ("energy", "force", "virial")


@dataclass(frozen=True)
class Schedule:
    """Learning rate α(t) and prefactors of the loss, by step."""

    rate: LearningRateSettings
    loss: LossSettings
    n_steps: int

    def learning_rate(self, step: int) -> float:
        """α(t) = α(0)·rate^⌊t/decay_steps⌋."""
        r = self.rate
        n_steps, decay_steps = r.stop_step or self.n_steps, r.decay_steps
        if r.stop_step is not None and step > r.stop_step:
            return r.stop_lr
        if decay_steps >= n_steps:  # DeePMD-kit's own correction of a decay that never comes
            decay_steps = 100 if n_steps // 10 > 100 else n_steps // 100 + 1
        per_decay = r.decay_rate
        if per_decay is None:
            per_decay = (r.stop_lr / r.start_lr) ** (decay_steps / n_steps)
        return r.start_lr * per_decay ** (step // decay_steps)

    def prefactors(self, step: int) -> tuple[float, float, float]:
        """p_e, p_f, p_v at a step: Fit energy, p(t) = p⁰ α(t)/α(0) + p^∞ (1 − α(t)/α(0))."""
        x = self.learning_rate(step) / self.rate.start_lr
        mix = lambda start, limit: start * x + limit * (1.0 - x)
        s = self.loss
        return (
            mix(s.start_pref_e, s.limit_pref_e),
            mix(s.start_pref_f, s.limit_pref_f),
            mix(s.start_pref_v, s.limit_pref_v),
        )


def loss_gradient(potential, sample: Sample, prefactors, kinds=None) -> tuple[float, np.ndarray]:
    """L and ∂L/∂w (N,) for a sample of one or more frames, from a single backward pass.

    Fit energy: L = p_e L_e + p_f L_f + p_v L_v. With Ē = ∂L/∂E and v = ∂L/∂F, ∂L/∂W as directions, one call
    of `atomic.weight_gradient` has the gradient of all three. A term whose label a frame of the sample
    lacks is left out; ``kinds`` are the terms of a sample that is a part of a batch.

    Raises
    ------
    InputError
        If that leaves no term at all.
    """
    p_e, p_f, p_v = prefactors
    par, env, now = potential.parameters, sample.environment, predict(potential, sample)
    g = env.geometry
    kinds = taught(sample.frames, KINDS) if kinds is None else kinds
    xp, n_f = namespace(now.E_f), np.diff(sample.first_f)
    frames, n_f = len(n_f), xp.asarray(n_f)
    loss, E_bar_i, v_pc = 0.0, xp.zeros(sample.n_atoms), []

    def weights(kind: str) -> Any:  # ω² of the frames; 1.0 changes no bit
        weight_f = frame_weights(sample.frames, kind)
        return 1.0 if weight_f is None else xp.asarray(weight_f**2)

    if "energy" in kinds:
        E_error_f = -errors(potential, sample, "energy", now.E_f)
        square_f = weights("energy")
        loss += p_e * (square_f * E_error_f**2 / n_f).mean()
        E_bar_i = (2.0 * p_e * square_f * E_error_f / (n_f * frames))[g.frame_i]
    if "force" in kinds:
        F_error_ic = -errors(potential, sample, "forces", now.F_ic)
        square_f = weights("force")
        square_ic = square_f if isinstance(square_f, float) else square_f[g.frame_i][:, None]
        loss += p_f * (square_ic * F_error_ic**2).mean()
        v_pc.append(force_direction(g, 2.0 * p_f * square_ic * F_error_ic / F_error_ic.size))
    if "virial" in kinds and p_v:
        W_error_fcc = -errors(potential, sample, "virial", now.W_fcc)
        square_f = weights("virial")
        square_fcc = square_f if isinstance(square_f, float) else square_f[:, None, None]
        loss += p_v * (square_fcc * W_error_fcc**2 / n_f[:, None, None]).mean()
        C_fcc = 2.0 * p_v * square_fcc * W_error_fcc / (9 * frames * n_f[:, None, None])
        v_pc.append(virial_direction(g, C_fcc))
    if not v_pc:
        return float(loss), potential.engine.energy_gradient(par, env, now.forward, E_bar_i)
    gradient = potential.engine.weight_gradient(par, env, now.forward, E_bar_i, sum(v_pc[1:], start=v_pc[0]))
    return float(loss), gradient


def shared_gradient(team: Team, potential, sample: SharedSample, prefactors) -> tuple[float, np.ndarray]:
    """`loss_gradient` of a batch whose frames the ranks share: a sum over the frames, in their order.

    Of F frames with n_f atoms each the terms of energies and virials are means over the frames, and the term
    of forces one over all components: frame f has the prefactors p_e/F, p_f n_f/Σn and p_v/F.
    """
    kinds, n = taught(sample.frames, KINDS), len(sample.frames)
    p_e, p_f, p_v = prefactors
    rows: dict[int, np.ndarray] = {}
    failed: Exception | None = None
    try:
        for f, part in enumerate(sample.part_f):
            if part is not None:
                share = part.n_atoms / sample.n_atoms
                loss, gradient = loss_gradient(potential, part, (p_e / n, p_f * share, p_v / n), kinds)
                rows[f] = np.append(gradient, loss)
    except KalmanDPError as error:
        failed = error
    agree(team, failed)
    total = np.zeros(len(potential.weights) + 1)
    for row in gathered(team, n, rows):
        total += row
    return float(total[-1]), total[:-1]


class Adam:
    """w ← w − α m̂/(√v̂ + ε), with running means m of the gradient and v of its square."""

    def __init__(self, weights, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8):
        xp = namespace(weights)
        self.weights = xp.array(weights, dtype=float)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.m, self.v = xp.zeros_like(self.weights), xp.zeros_like(self.weights)
        self.updates = 0

    def update(self, gradient, learning_rate: float) -> None:
        """One step down ``gradient`` (N,). Raises FilterError, state unchanged, if it is not finite."""
        xp = namespace(gradient)
        if not bool(xp.isfinite(gradient).all()):
            raise FilterError("the gradient of the loss is not finite; the weights were not changed")
        self.updates += 1
        self.m += (1 - self.beta1) * (gradient - self.m)
        self.v += (1 - self.beta2) * (gradient * gradient - self.v)
        m_hat = self.m / (1 - self.beta1**self.updates)
        v_hat = self.v / (1 - self.beta2**self.updates)
        self.weights -= learning_rate * m_hat / (xp.sqrt(v_hat) + self.epsilon)

    def state(self) -> dict:
        """Arrays and numbers from which ``restore`` goes on with the same bits."""
        arrays = {name: to_numpy(getattr(self, name)) for name in ("weights", "m", "v")}
        return {**arrays, "updates": self.updates}

    def restore(self, state: dict) -> None:
        for name in ("weights", "m", "v"):
            array = getattr(self, name)
            array[:] = namespace(array).asarray(state[name])
        self.updates = int(state["updates"])


class AdamTrainer(Trainer):
    """The baseline: one Adam step per sample."""

    def __init__(
        self, potential: Potential, settings: Settings, n_steps: int, guard: Guard = contextlib.nullcontext,
        team: Team | None = None,
    ):  # fmt: skip
        self.team = team
        choices = resolve_adam(settings.optimizer)
        self.potential, self.guard = potential, guard
        self.schedule = Schedule(settings.learning_rate, settings.loss, n_steps)
        self.adam = Adam(potential.parameters.weights, choices.adam_beta1, choices.adam_beta2)
        self.average = WeightAverage(self.adam.weights, choices.averaging) if choices.averaging else None

    @property
    def updates(self) -> int:
        return self.adam.updates

    @property
    def learning_rate(self) -> float:
        return self.schedule.learning_rate(self.adam.updates)

    def shares_frames(self, n_frames: int) -> bool:
        return self.team is not None and n_frames > 1

    def step(self, sample: Sample | SharedSample) -> dict:
        step = self.adam.updates
        prefactors = self.schedule.prefactors(step)
        if isinstance(sample, SharedSample):
            assert self.team is not None
            loss, gradient = shared_gradient(self.team, self.potential, sample, prefactors)
        else:
            loss, gradient = loss_gradient(self.potential, sample, prefactors)
        with self.guard():
            self.adam.update(gradient, self.schedule.learning_rate(step))
            self.potential.weights = self.adam.weights
            if self.average is not None:
                self.average.add(self.adam.weights)
        return {"loss": loss}

    def state(self) -> dict:
        return self.adam.state() | ({} if self.average is None else self.average.state())

    def restore(self, state: dict) -> None:
        if "m" not in state:
            raise InputError("the input's optimizer is Adam, the checkpoint's is not; expected the same")
        self.adam.restore(state)
        self.potential.weights = self.adam.weights
        if self.average is not None:
            self.average.restore(state, self.adam.weights)
