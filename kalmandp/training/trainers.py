"""Turn samples into updates: Kalman's, in the order and manner of a preset, or Adam's, the baseline."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.errors import InputError
from kalmandp.kalman.blocks import partition
from kalmandp.kalman.filter import UpdateInfo
from kalmandp.potential.potential import Potential
from kalmandp.training import measurements
from kalmandp.training.adam import Adam, Schedule, loss_gradient
from kalmandp.training.device import Gpu, Host
from kalmandp.training.diagnostics import Update, innovations
from kalmandp.training.gate import Gate, Refusal
from kalmandp.training.memory import parts_of
from kalmandp.training.noise import AdaptiveNoise
from kalmandp.training.presets import KalmanChoices
from kalmandp.training.settings import Settings

#: Something that goes around every update; `uninterrupted` in a `loop.Run`.
Guard = Callable[[], AbstractContextManager]


class KalmanTrainer:
    """Turns a sample into Kalman updates, in the order and manner that `KalmanChoices` states.

    Parameters
    ----------
    potential : its weights follow the filter's
    choices : of a preset and an input's optimizer
    rng : draws the atoms
    device : where P is and updates are made, by default the processor
    guard : called for a context that each update is made in; by default nothing is around it
    """

    def __init__(
        self, potential: Potential, choices: KalmanChoices, rng: np.random.Generator,
        device: Host | Gpu | None = None, guard: Guard = contextlib.nullcontext,
    ):  # fmt: skip
        self.potential, self.choices, self.rng, self.guard = potential, choices, rng, guard
        self.device = Host() if device is None else device
        self.gate = None if choices.gate is None else Gate(choices.gate)
        self.adaptive = AdaptiveNoise(choices.adapt) if choices.adapt else None
        #: since the last `step` (or `measure`) began: what each update did, why it was left out if it was
        self.log: list[tuple[Update, Refusal | None]] = []
        #: kind_q and noise_q of updates that were not waited for
        self._enqueued: list[tuple[tuple[str, ...], np.ndarray]] = []
        blocks = partition(parts_of(potential.layout), choices.partition, choices.block_size)
        self.filter = self.device.filter(potential, blocks, choices)

    @property
    def updates(self) -> int:
        return self.filter.updates

    @property
    def lam(self) -> float:
        return float(self.filter.lam)

    def step(self, sample: measurements.Sample) -> dict:
        """All updates of one sample; returns the diagnostics of each kind of measurement."""
        done = {m.kind: self.update(m, len(sample.frames)) for m in self.measure(sample)}
        return {kind: info or last for kind, info in done.items()} if (last := self.settle()) else done

    def measure(self, sample: measurements.Sample, rng=None) -> Iterator[measurements.Measurement]:
        """What Algorithm 2, l. 2 to 5, measures on a sample, one after another; each is for one `update`.

        A measurement is predicted when it is asked for, with the weights that the updates before it
        have left. Atoms are drawn from ``rng``, or the trainer's own generator.
        """
        self.log, self._enqueued = [], []
        if self.gate is not None:
            self.gate.begin_step()
        if self.adaptive is not None:
            self.adaptive.begin_step()
        rng = self.rng if rng is None else rng
        choices = self.choices
        if choices.measurement == "signed":
            yield from self._signed(sample, rng)
            return
        groups = self._draw(sample, rng)
        if choices.measurement == "paired":
            # a force update alone would move the energy: P, cut into blocks, has forgotten that the
            # blocks' shares of the energy must add up; measured along, the energy holds them to it
            for group in groups:
                yield self._joint(sample, [group])._replace(kind="paired")
        elif choices.measurement == "matrix":
            yield measurements.matrix(
                self.potential, sample, np.concatenate(groups), choices.noise, self.n_blocks,
                virial="virial" in choices.order, atomic_energy="atomic_energy" in choices.order,
            )  # fmt: skip
        else:
            yield self._joint(sample, groups)

    def _joint(self, sample, groups) -> measurements.Measurement:
        c = self.choices
        return measurements.joint(self.potential, sample, groups, c.noise, self.n_blocks, c.order)

    @property
    def n_blocks(self) -> int:
        return len(self.filter.blocks)

    def _signed(self, sample, rng) -> Iterator[measurements.Measurement]:
        """The paper's sequence: each measurement is predicted with the weights of the last update."""
        p, noise, L = self.potential, self.choices.noise, self.n_blocks
        for kind in self.choices.order:
            if kind == "force":
                for atoms in self._draw(sample, rng):
                    yield measurements.force_signed(p, sample, atoms, noise, L)
            else:
                yield measurements.SIGNED[kind](p, sample, noise, L)

    def _draw(self, sample, rng) -> list[np.ndarray]:
        """y groups of x atoms of each frame, as indices into the sample.

        Without replacement a small frame gives fewer or smaller groups. DeePMD-kit's batch takes the
        same atoms of all its frames, which have the same size.
        """
        y, x = self.choices.n_groups, self.choices.group_size
        sizes, first = np.diff(sample.first_f), sample.first_f[:-1]
        if self.choices.batch_sum:
            shared = rng.integers(0, sizes.min(), size=(y, x))
            return [np.concatenate([o + group for o in first]) for group in shared]
        drawn = [self._draw_from(n, rng) for n in sizes]
        groups = [[o + d[g] for o, d in zip(first, drawn, strict=True) if g < len(d)] for g in range(y)]
        return [np.concatenate(group) for group in groups if group]

    def _draw_from(self, n_atoms: int, rng) -> list[np.ndarray]:
        y, x = self.choices.n_groups, self.choices.group_size
        if self.choices.replacement:
            return list(rng.integers(0, n_atoms, size=(y, x)))
        drawn = rng.permutation(n_atoms)[: y * x]
        return [g for g in np.array_split(drawn, min(y, len(drawn))) if len(g)]

    def update(self, m: measurements.Measurement, n_frames: int = 1):
        """One Kalman update with a measurement that is a mean over ``n_frames`` frames."""
        H, error = m.H_qw, m.error_q
        if self.choices.batch_sum and n_frames > 1:
            H, error = n_frames * H, np.sqrt(n_frames) * error
        noise_q = m.noise_q if self.adaptive is None else self.adaptive.noise(m.kind_q, m.noise_q, error)
        gate, refusal = self.gate, None

        def accept(error_q, S_qq) -> bool:
            nonlocal refusal
            refusal = None if gate is None else gate.judge(innovations(m.kind_q, error_q, S_qq))
            return refusal is None

        with self.guard():  # the potential has the filter's weights at any moment that can be seen
            asked = None if gate is None else accept
            info = self.device.take_in(self.filter, self.potential, H, error, noise_q, asked)
        if info is None:
            self._enqueued.append((m.kind_q, m.noise_q))
        else:
            self._note(self.updates, m.kind_q, m.noise_q, to_numpy(error), info, refusal)
        return info

    def settle(self):
        """Wait for the updates since `measure` began; what the last one did, None if none was waiting."""
        asked, self._enqueued = self._enqueued, []
        done = self.device.settle(self.filter) if asked else []
        first = self.updates - len(asked)
        for n, (what, (error_q, info)) in enumerate(zip(asked, done[-len(asked) :], strict=True), start=1):
            self._note(first + n, *what, error_q, info, None)
        return done[-1][1] if done else None

    def _note(self, update: int, kind_q, noise_q, error_q, info: UpdateInfo, refusal: Refusal | None) -> None:
        if self.adaptive is not None and info.accepted:
            self.adaptive.see(kind_q, noise_q, error_q)
        found = innovations(kind_q, error_q, info.innovation_variance)
        nis, left_out = info.nis / len(error_q), not info.accepted
        self.log.append(
            (Update(update, found, nis, info.step_norm, info.gain_norm, info.lam, left_out), refusal)
        )

    def traces(self) -> np.ndarray:
        """The trace of each block of P."""
        return to_numpy(self.filter.covariance.trace())

    def state(self) -> dict:
        state = self.filter.state(copy=False)
        return state if self.adaptive is None else {**state, **self.adaptive.state()}

    def restore(self, state: dict) -> None:
        blocks = self.filter.blocks
        if "block_sizes" not in state or tuple(state["block_sizes"]) != blocks.sizes:
            raise InputError(
                "the input's optimizer cuts P into other blocks than the checkpoint's; expected the same"
            )
        if self.adaptive is not None:
            self.adaptive.restore(state)
        dtype = self.filter.covariance.dtype
        del self.filter  # or there would be two P in memory
        self.filter = self.device.restored(state)
        self.potential.weights = self.filter.weights
        if self.filter.covariance.dtype != dtype:
            raise InputError(
                f"optimizer/covariance_dtype is {dtype}; expected {self.filter.covariance.dtype}, as in the "
                "checkpoint"
            )


class AdamTrainer:
    """The baseline behind the same interface: one Adam step per sample."""

    lam, gate, log = float("nan"), None, ()

    def __init__(
        self, potential: Potential, settings: Settings, n_steps: int, guard: Guard = contextlib.nullcontext
    ):
        o = settings.optimizer
        self.potential, self.guard = potential, guard
        self.schedule = Schedule(settings.learning_rate, settings.loss, n_steps)
        self.adam = Adam(potential.parameters.weights, o.adam_beta1, o.adam_beta2)

    @property
    def updates(self) -> int:
        return self.adam.updates

    @property
    def learning_rate(self) -> float:
        return self.schedule.learning_rate(self.adam.updates)

    def step(self, sample: measurements.Sample) -> dict:
        step = self.adam.updates
        loss, gradient = loss_gradient(self.potential, sample, self.schedule.prefactors(step))
        with self.guard():
            self.adam.update(gradient, self.schedule.learning_rate(step))
            self.potential.weights = self.adam.weights
        return {"loss": loss}

    def traces(self) -> None:
        """Adam has no P."""

    def state(self) -> dict:
        return self.adam.state()

    def restore(self, state: dict) -> None:
        if "m" not in state:
            raise InputError("the input's optimizer is Adam, the checkpoint's is not; expected the same")
        self.adam.restore(state)
        self.potential.weights = self.adam.weights
