"""Algorithm 2: frame after frame, an energy update and then force updates, until the data are learnt.

    for record in train(settings):
        ...                                   # the caller owns the loop

One step takes one batch (a frame, as a rule) through: neighbours → environment → prediction → measurement
(H, error, noise) → Kalman update → weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from kalmandp.errors import FilterError, InputError
from kalmandp.files import make_folder
from kalmandp.frames.dataset import Dataset
from kalmandp.kalman.blocks import Part, partition
from kalmandp.potential.potential import Potential
from kalmandp.training import measurements
from kalmandp.training.adam import Adam, Schedule, loss_gradient
from kalmandp.training.checkpoint import load_checkpoint, save_checkpoint
from kalmandp.training.device import Host, open_device
from kalmandp.training.feed import Feed
from kalmandp.training.history import History, Record
from kalmandp.training.inputs import read_input
from kalmandp.training.metrics import Metrics, evaluate
from kalmandp.training.presets import KalmanChoices, resolve
from kalmandp.training.settings import Settings

NAN = float("nan")
#: Validation frames looked at for a line of the learning curve (all of them at the end).
VALIDATION_FRAMES = 32


class KalmanTrainer:
    """Turns a sample into Kalman updates, in the order and manner that `KalmanChoices` states."""

    def __init__(
        self, potential: Potential, choices: KalmanChoices, rng: np.random.Generator, device=None
    ):  # fmt: skip
        self.potential, self.choices, self.rng = potential, choices, rng
        self.device = Host() if device is None else device
        parts = [Part(t.name, t.size, t.layer) for t in potential.layout.tensors]
        blocks = partition(parts, choices.partition, choices.block_size)
        self.filter = self.device.filter(potential, blocks, choices)

    @property
    def updates(self) -> int:
        return self.filter.updates

    @property
    def lam(self) -> float:
        return float(self.filter.lam)

    def step(self, sample: measurements.Sample) -> dict:
        """All updates of one sample; returns the diagnostics of each kind of measurement."""
        return self.device.settle(self.filter, self._updates_of(sample))

    def _updates_of(self, sample: measurements.Sample) -> dict:
        B = len(sample.frames)
        if self.choices.measurement == "signed":
            return {m.kind: self._update(m, B) for m in self._signed(sample)}
        groups = self._draw(sample)
        if self.choices.measurement == "paired":
            # a force update alone would move the energy: P, cut into blocks, has forgotten that the
            # blocks' shares of the energy must add up; measured along, the energy holds them to it
            infos = [self._update(self._joint(sample, [g]), B) for g in groups]
            return {"paired": infos[-1]}
        if self.choices.measurement == "matrix":
            m = measurements.matrix(
                self.potential, sample, np.concatenate(groups), self.choices.noise,
                self.n_blocks, virial="virial" in self.choices.order,
            )  # fmt: skip
        else:
            m = self._joint(sample, groups)
        return {m.kind: self._update(m, B)}

    def _joint(self, sample, groups) -> measurements.Measurement:
        c = self.choices
        return measurements.joint(self.potential, sample, groups, c.noise, self.n_blocks, c.order)

    @property
    def n_blocks(self) -> int:
        return len(self.filter.blocks)

    def _signed(self, sample) -> Iterator[measurements.Measurement]:
        """The paper's sequence: each measurement is predicted with the weights of the last update."""
        p, noise, L = self.potential, self.choices.noise, self.n_blocks
        for kind in self.choices.order:
            if kind == "energy":
                yield measurements.energy_signed(p, sample, noise, L)
            elif kind == "force":
                for atoms in self._draw(sample):
                    yield measurements.force_signed(p, sample, atoms, noise, L)
            else:
                yield measurements.virial_signed(p, sample, noise, L)

    def _draw(self, sample) -> list[np.ndarray]:
        """y groups of x atoms of each frame, as indices into the sample.

        Without replacement a small frame gives fewer or smaller groups. DeePMD-kit's batch takes the
        same atoms of all its frames, which have the same size.
        """
        y, x = self.choices.n_groups, self.choices.group_size
        sizes, first = np.diff(sample.first_f), sample.first_f[:-1]
        if self.choices.batch_sum:
            shared = self.rng.integers(0, sizes.min(), size=(y, x))
            return [np.concatenate([o + group for o in first]) for group in shared]
        drawn = [self._draw_from(n) for n in sizes]
        groups = [[o + d[g] for o, d in zip(first, drawn, strict=True) if g < len(d)] for g in range(y)]
        return [np.concatenate(group) for group in groups if group]

    def _draw_from(self, n_atoms: int) -> list[np.ndarray]:
        y, x = self.choices.n_groups, self.choices.group_size
        if self.choices.replacement:
            return list(self.rng.integers(0, n_atoms, size=(y, x)))
        drawn = self.rng.permutation(n_atoms)[: y * x]
        return [g for g in np.array_split(drawn, min(y, len(drawn))) if len(g)]

    def _update(self, m: measurements.Measurement, n_frames: int):
        H, error = m.H_qw, m.error_q
        if self.choices.batch_sum and n_frames > 1:
            H, error = n_frames * H, np.sqrt(n_frames) * error
        return self.device.take_in(self.filter, self.potential, H, error, m.noise_q)

    def state(self) -> dict:
        return self.filter.state(copy=False)

    def restore(self, state: dict) -> None:
        self.filter = self.device.restored(state)
        self.potential.weights = self.filter.weights


class AdamTrainer:
    """The baseline behind the same interface: one Adam step per sample."""

    lam = NAN

    def __init__(self, potential: Potential, settings: Settings, n_steps: int):
        o = settings.optimizer
        self.potential = potential
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
        self.adam.update(gradient, self.schedule.learning_rate(step))
        self.potential.weights = self.adam.weights
        return {"loss": loss}

    def state(self) -> dict:
        return self.adam.state()

    def restore(self, state: dict) -> None:
        self.adam.restore(state)
        self.potential.weights = self.adam.weights


class Run:
    """A training run: its data, its model, its optimizer, and where it stands.

    Made by `train`; a host that wants its own loop uses ``step`` and ``checkpoint`` itself.
    """

    def __init__(self, settings: Settings, output, restart=None, init_model=None, engine=None, device=None):
        t = settings.training
        self.device = open_device(device or t.device)
        self.settings, self.output = settings, Path(output)
        for name in (t.save_ckpt, t.model_file, t.disp_file):
            make_folder((self.output / name).parent)
        saved = load_checkpoint(restart) if restart is not None else None
        self.seed = _seed(settings, saved)
        self.rng = np.random.default_rng(self.seed)
        self.data, self.validation = datasets(settings, self.seed)
        if saved is not None:
            self.potential = saved["potential"].with_engine(engine, self.device.device)
        elif init_model is not None:
            self.potential = Potential.load(init_model, engine, self.device.device)
        else:
            self.potential = _new_potential(settings, self.data, self.seed, engine, self.device.device)
        _check_types(self.data, self.potential)
        self.frames = self.device.frames(self.data, self.potential)
        batch = 1 if t.batch_size is None and settings.optimizer.is_kalman else None
        batch = t.frames_per_batch(self.data.natoms(0)) if batch is None else batch
        self.feed = Feed(len(self.data), batch, self.rng)
        per_epoch = self.feed.steps_per_epoch
        epochs = t.n_epochs if t.n_epochs is not None else 1.0
        self.n_steps = t.n_steps if t.n_steps is not None else max(1, round(epochs * per_epoch))
        self.trainer: KalmanTrainer | AdamTrainer
        if settings.optimizer.is_kalman:
            self.trainer = KalmanTrainer(self.potential, resolve(settings.optimizer), self.rng, self.device)
        else:
            self.trainer = AdamTrainer(self.potential, settings, self.n_steps)
        self.history = History()
        self.step_number, self.seconds = 0, 0.0
        if saved is not None:
            self._restore(saved)

    def step(self) -> tuple[measurements.Sample, Metrics | None, dict]:
        """Learn the next batch; returns it, its errors beforehand on display steps, diagnostics."""
        began = time.perf_counter()
        items = [self.frames[k] for k in self.feed.next()]
        frames, pairs = [f for f, _ in items], [p for _, p in items]
        before = evaluate(self.potential, frames, pairs) if self._is(self.display_freq) else None
        sample = measurements.make_sample(self.potential, frames, pairs)
        try:
            diagnostics = self.trainer.step(sample)
        except FilterError as error:
            raise FilterError(f"{frames[0].source}: {error}") from error
        self.step_number += 1
        self.seconds += time.perf_counter() - began
        return sample, before, diagnostics

    @property
    def display_freq(self) -> int:
        return self.settings.training.disp_freq

    def _is(self, freq: int) -> bool:
        """Whether the step about to be made, or just made, is one of every ``freq``."""
        return freq > 0 and (self.step_number + 1) % freq == 0

    def validate(self, everything: bool = False) -> Metrics | None:
        """Errors on validation frames: all of them, or an evenly spaced part for the curve."""
        if self.validation is None:
            return None
        n = len(self.validation)
        t = self.settings.training
        part = max(VALIDATION_FRAMES, t.validation_batch * (t.validation_batch_size or 1))
        chosen = range(n) if everything or n <= part else np.linspace(0, n - 1, part).astype(int)
        return evaluate(self.potential, (self.validation[int(k)] for k in chosen))

    def record(self, event, before=None, valid=None, diagnostics=None) -> Record:
        pick = lambda m, name: getattr(m, name) if m is not None else NAN
        return Record(
            step=self.step_number,
            epoch=self.feed.epoch + self.feed.position / self.feed.n_frames,
            n_steps=self.n_steps,
            updates=self.trainer.updates,
            seconds=self.seconds,
            rmse_e=pick(before, "energy_rmse"),
            rmse_f=pick(before, "force_rmse"),
            rmse_v=pick(before, "virial_rmse"),
            valid_e=pick(valid, "energy_rmse"),
            valid_f=pick(valid, "force_rmse"),
            valid_v=pick(valid, "virial_rmse"),
            lam=self.trainer.lam,
            lr=getattr(self.trainer, "learning_rate", NAN),
            diagnostics=diagnostics or {},
            event=event,
        )

    def checkpoint(self) -> Path:
        """Write checkpoint, model and learning curve; returns the checkpoint's path."""
        t = self.settings.training
        path = self.output / t.save_ckpt
        path = path.with_name(path.name + ".h5") if path.suffix not in (".h5", ".hdf5") else path
        save_checkpoint(
            path,
            potential=self.potential,
            source={**self.settings.source, "seed_used": self.seed},
            rng=self.rng,
            states={
                "optimizer": self.trainer.state(),
                "feed": self.feed.state(),
                "history": {"rows": self.history.array},
            },
            step=self.step_number,
            seconds=self.seconds,
        )
        self.potential.info["model_def_script"] = self.settings.source.get("model", {})
        self.potential.save(self.output / t.model_file)
        self.history.write(self.output / t.disp_file)
        return path

    def _restore(self, saved: dict) -> None:
        if saved["source"].get("model") != self.settings.source.get("model"):
            raise InputError(
                "the input's section model differs from the checkpoint's; expected the same model "
                "for a restart (to start anew from these weights use --init-model)"
            )
        self.trainer.restore(saved["optimizer"])
        self.feed.restore(saved["feed"])
        self.rng.bit_generator.state = saved["generator"]
        self.history = History(saved["history"]["rows"])
        self.step_number, self.seconds = saved["step"], saved["seconds"]


def train(
    settings, *, output=".", restart=None, init_model=None, stop: Callable[[], bool] | None = None,
    device=None,
) -> Iterator[Record]:  # fmt: skip
    """Train a potential; the caller owns the loop.

    Parameters
    ----------
    settings : Settings, a path to INPUT.json, or its dictionary
    output : folder for the model, the checkpoint and the learning curve
    restart : checkpoint to go on from, bit for bit
    init_model : model file whose weights to start from
    stop : called after each step; when it returns True the run is saved and ends
    device : "cpu" or "cuda", in place of the input's training/device

    Yields
    ------
    Record
        After every step; its ``event`` is "step", "display", "checkpoint", "end" or "stopped".

    Raises
    ------
    InputError, FileError
        For input that cannot be used, before anything is written.
    FilterError
        If an update would spoil the state; the frame is named, the last checkpoint is intact.
    """
    if not isinstance(settings, Settings):
        settings = read_input(settings)
    run = Run(settings, output, restart, init_model, device=device)
    while run.step_number < run.n_steps:
        displays = run._is(run.display_freq)
        saves = run._is(settings.training.save_freq)
        _, before, diagnostics = run.step()
        record = run.record("step", before, diagnostics=diagnostics)
        if displays:
            record = run.record("display", before, run.validate(), diagnostics)
            run.history.add(record)
        if stop is not None and stop():
            run.checkpoint()
            yield record._replace(event="stopped")
            return
        if saves and run.step_number < run.n_steps:
            run.checkpoint()
            record = record._replace(event="display+checkpoint" if displays else "checkpoint")
        yield record
    final = run.record("end", valid=run.validate(everything=True))
    run.history.add(final)
    run.checkpoint()
    yield final


def _seed(settings: Settings, saved: dict | None) -> int:
    """The input's seed, or the one a restarted run began with, or one drawn now (and recorded)."""
    if saved is not None and "seed_used" in saved["source"]:
        return int(saved["source"]["seed_used"])
    if settings.training.seed is not None:
        return settings.training.seed
    return int(np.random.SeedSequence().generate_state(1)[0])


def datasets(settings: Settings, seed: int):
    """Training and validation data sets (None if there is none).

    Without validation data, ``validation_fraction`` of the frames are set aside: the last ones of a
    shuffle drawn from ``seed``.
    """
    rng = np.random.default_rng([seed, 1])
    t = settings.training
    data = Dataset(t.systems, settings.model.type_map)
    if not len(data):
        raise InputError(f"training systems {list(t.systems)} hold no frames")
    if t.validation_systems:
        return data, Dataset(t.validation_systems, data.type_map)
    if t.validation_fraction:
        order = rng.permutation(len(data))
        cut = len(data) - max(1, round(t.validation_fraction * len(data)))
        return data.subset(np.sort(order[:cut])), data.subset(np.sort(order[cut:]))
    return data, None


def _new_potential(settings: Settings, data, seed: int, engine, device) -> Potential:
    m = settings.model
    seeds = [seed, m.descriptor_seed or 0, m.fitting_seed or 0]
    return Potential.create(
        m.type_map or data.type_map,
        rcut=m.rcut,
        rcut_smth=m.rcut_smth,
        sel=m.sel,
        frames=data,
        rng=np.random.default_rng(seeds),
        atom_ener=m.atom_ener,
        engine=engine,
        device=device,
        **m.choices(),
    )


def _check_types(data, potential: Potential) -> None:
    unknown = [t for t in data.type_map if t not in potential.type_map]
    if unknown:
        raise InputError(
            f"the data hold the types {', '.join(unknown)}; the model knows "
            f"{', '.join(potential.type_map)}"
        )
