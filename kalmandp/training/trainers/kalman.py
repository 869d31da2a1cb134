"""Turn samples into Kalman updates, in the order and manner of a preset."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import FilterError, InputError, KalmanDPError
from kalmandp.kalman.blocks import partition
from kalmandp.kalman.filter import UpdateInfo
from kalmandp.potentials.potential import Potential
from kalmandp.training.config.presets import REDUCTIONS, KalmanChoices, check_weighting
from kalmandp.training.last_layer import LAST_LAYER, Solved, are_enough, solve_last_layer
from kalmandp.training.measurements import measurement
from kalmandp.training.measurements.candidates import Candidates
from kalmandp.training.measurements.drawing import as_group, draw_groups
from kalmandp.training.measurements.gate import Gate, Refusal
from kalmandp.training.measurements.labels import taught
from kalmandp.training.measurements.shared import SharedSample, measured_together, shared_rows
from kalmandp.training.measurements.virial_offset import Disagreement, VirialOffset, fitted, volumes_tell
from kalmandp.training.noise.estimates import NoiseEstimates
from kalmandp.training.noise.variances import AdaptiveNoise, PhysicalNoise
from kalmandp.training.placement.device import Cpu, Gpu
from kalmandp.training.placement.memory import parts_of
from kalmandp.training.report.diagnostics import Update, innovations
from kalmandp.training.state.checkpoint import Stored
from kalmandp.training.trainers.averaging import WeightAverage
from kalmandp.training.trainers.protocol import Guard, Trainer


class KalmanTrainer(Trainer):
    """Turns a sample into Kalman updates, in the order and manner that `KalmanChoices` states.

    Parameters
    ----------
    potential : its weights follow the filter's
    choices : of a preset and an input's optimizer
    rng : draws the atoms
    device : where P is and updates are made, by default the processor
    guard : called for a context that each update is made in; by default nothing is around it
    per_epoch : updates of an epoch, for noise that is annealed by epochs

    Raises
    ------
    InputError
        If the noise is annealed by epochs and ``per_epoch`` is not given.
    """

    def __init__(
        self, potential: Potential, choices: KalmanChoices, rng: np.random.Generator,
        device: Cpu | Gpu | None = None, guard: Guard = contextlib.nullcontext,
        per_epoch: float | None = None,
    ):  # fmt: skip
        self.potential, self.choices, self.rng, self.guard = potential, choices, rng, guard
        self.device = Cpu() if device is None else device
        self.gate = None if choices.gate is None else Gate(choices.gate)
        self.adaptive = AdaptiveNoise(choices.adapt, choices.tied) if choices.adapt else None
        #: σ of each kind of label by the innovations; None where the rule is not in physical units
        self.estimates = NoiseEstimates(choices.noise) if isinstance(choices.noise, PhysicalNoise) else None
        self.candidates = None if choices.candidates is None else Candidates(choices.candidates)
        self.per_epoch = per_epoch
        check_weighting(choices)
        choices.weighting.check_types(potential.type_map)
        selection = choices.candidates
        self.frame_trials = selection.trials if selection is not None and selection.energy else 1
        if choices.annealing is not None and per_epoch is None:
            raise InputError(
                'the preset "n2p2" anneals its noise by epochs, and frames that come one by one have none; '
                'expected another preset, e.g. "n2p2-fading", its filter with fading memory'
            )
        #: since the last `step` (or `measure`) began: what each update did, why it was left out if it was
        self.log: list[tuple[Update, Refusal | None]] = []
        #: kind_q, the rule's noise_q and the R_q that was used, of asynchronous updates
        self._enqueued: list[tuple[tuple[str, ...], np.ndarray, np.ndarray]] = []
        #: by the count of updates before each of them, what the average was then
        self._averages: dict[int, Any] = {}
        blocks = partition(parts_of(potential.layout), choices.partition, choices.block_size)
        #: the constant between virial labels and energies (`virial_offset`); None to learn labels as they are
        self.offset = None
        if choices.virial_offset and "virial" in choices.order:
            self.offset = VirialOffset(len(potential.type_map))
            blocks = blocks.extended(self.offset.n_types)
        self.filter = self.device.filter(
            potential, blocks, choices, None if self.offset is None else self.offset.prior
        )
        #: what the solve of the last layer found, at the end
        self.solved: Solved | None = None
        #: the Polyak average of the weights (`averaging`); None to save those of the last update
        self.average = WeightAverage(self.weights, choices.averaging) if choices.averaging else None

    @property
    def updates(self) -> int:
        return self.filter.updates

    @property
    def lam(self) -> float:
        return float(self.filter.lam)

    @property
    def weights(self) -> Any:
        """The model's weights, (N,), where the filter has them; a view."""
        return self.filter.weights[: self.potential.layout.size]

    @property
    def offset_t(self) -> Any:
        """o_t of `virial_offset`, where the filter has it; a view."""
        return self.filter.weights[self.potential.layout.size :]

    @property
    def disagreement(self) -> Disagreement | None:
        """The constant between virial labels and energies, where it was measured."""
        return None if self.offset is None else self.offset.disagreement(self.offset_t)

    def step(self, sample: measurement.Sample) -> dict:
        """All updates of one sample; returns the diagnostics of each kind of measurement."""
        done = [(m.kind, self.update(m, len(sample.frames))) for m in self.measure(sample)]
        later = iter(self.synchronize())
        return {kind: next(later) if info is None else info for kind, info in done}

    def learn_prior(self, samples: Iterable[measurement.Sample]) -> None:
        """Take frames that the weights were trained on into P, and leave the weights alone.

        For weights that are no longer random: P₀ is what it would be had the filter seen these frames
        (`RLEKF.learning_prior`), R is that of the errors which the model makes on them. Without it the first
        updates of a trained model undo much of what it knows.

        Parameters
        ----------
        samples : frames, one or more to an update
        """
        off_f: list[float] = []
        counts_ft: list[np.ndarray] = []
        with self.filter.learning_prior():
            for sample in samples:
                for m in self.measure(sample):
                    noise_q = m.noise_q
                    if self.adaptive is not None:
                        noise_q = self.adaptive.noise(m.kind_q, noise_q, m.error_q)
                        self.adaptive.see(m.kind_q, m.noise_q, m.error_q, np.zeros(len(noise_q)))
                    noise_q = m.weighted(noise_q)
                    nothing = namespace(m.error_q).zeros_like(m.error_q)
                    with self.guard():
                        self.device.take_in(self.filter, self.potential, m.H_qw, nothing, noise_q)
                if self.offset is not None and all(frame.virial is not None for frame in sample.frames):
                    W_fcc = measurement.predict(self.potential, sample).W_fcc
                    error_fcc = to_numpy(measurement.errors(self.potential, sample, "virial", W_fcc))
                    off_f += np.trace(error_fcc, axis1=1, axis2=2).tolist()
                    counts_ft += list(self.offset.counts(sample))
            self.device.synchronize(self.filter)
        if off_f:  # the model does not contain the offset: it is fitted to the virial errors that remain
            o_t = fitted(np.array(off_f) / 3.0, np.array(counts_ft))
            self.offset_t[...] = namespace(self.filter.weights).asarray(o_t)
        self.log = []

    def finished(self, potential: Potential, frames, held) -> Potential:
        """At the end of a run: the model with its last layer solved for (`training.last_layer`).

        It warns of labels that contradict the forces (`training.noise.estimates`).
        """
        for found in [] if self.estimates is None else self.estimates.contradictions():
            warnings.warn(str(found), stacklevel=2)
        c = self.choices
        if not c.last_layer or (c.last_layer == "auto" and not are_enough(frames, potential.layout)):
            return potential
        only_here = "virial" in c.solved_kinds and "virial" not in c.order
        offset = self.offset is not None or (only_here and c.virial_offset and volumes_tell(frames))
        try:
            self.solved = solve_last_layer(
                potential, frames, held, kinds=c.solved_kinds, p0=c.p0, virial_offset=offset,
                weighting=c.weighting, device=self.device.device,
            )  # fmt: skip
        except (KalmanDPError, MemoryError) as error:  # it must not cost the run
            warnings.warn(f"the last layer stays as it was trained: {error}", stacklevel=2)
            return potential
        if self.solved.accepted:
            self.solved.potential.info[LAST_LAYER] = f"solved for {', '.join(self.solved.kinds)}"
        return self.solved.potential

    def measure(self, sample: measurement.Sample, rng=None) -> Iterator[measurement.Measurement]:
        """What Algorithm 2, l. 2 to 5, measures on a sample, one after another; each is for one `update`.

        A measurement is predicted when it is asked for, with the weights that the updates before it
        have left. Atoms are drawn from ``rng``, or the trainer's own generator.

        A kind whose label a frame lacks is left out of its step; of a batch, a kind is measured if all of
        its frames have the label (`labels.taught`). Atoms are drawn only if something of theirs is measured.

        Raises
        ------
        InputError
            If the sample has no label to learn: nothing has changed then.

        Notes
        -----
        With an offset of virials H has a column more for each type.
        """
        if self.offset is None:
            yield from self._measured(sample, rng)
            return
        for m in self._measured(sample, rng):
            if "virial" in m.kind_q:
                self.offset.see(sample)
            yield self.offset.extended(m, sample)

    def _measured(self, sample: measurement.Sample, rng) -> Iterator[measurement.Measurement]:
        kinds = taught(sample.frames, self.choices.order)
        self.log, self._enqueued, self._averages = [], [], {}
        if self.gate is not None:
            self.gate.begin_step()
        if self.adaptive is not None:
            self.adaptive.begin_step()
        rng = self.rng if rng is None else rng
        choices = self.choices
        if isinstance(sample, SharedSample):
            yield from self._by_frames(sample, kinds, rng)
            return
        if choices.measurement == "signed":
            yield from self._signed(sample, kinds, rng)
            return
        groups = self._groups(sample, kinds, rng)
        if choices.measurement == "paired":
            # a force update alone would change the energy: a block-diagonal P does not contain that the
            # blocks' shares of the energy must add up. Measured together with the force, the energy fixes it
            for pair in [[group] for group in groups] or [[]]:  # without forces the other numbers, once
                yield self._joint(sample, kinds, pair)._replace(kind="paired")
        elif choices.measurement == "matrix":
            now = self._predicted(sample)
            chosen = [self._chosen(group, sample, kinds, now) for group in groups]
            atoms = np.concatenate([np.zeros(0, dtype=int), *chosen])
            yield measurement.matrix(
                self.potential, sample, atoms, choices.noise, self.n_blocks, kinds, now, choices.weighting,
                self._rows,
            )
        else:
            yield self._joint(sample, kinds, groups)

    def _predicted(self, sample) -> measurement.Prediction:
        """What labels are expected to be."""
        now = measurement.predict(self.potential, sample)
        return now if self.offset is None else self.offset.expected(now, sample, self.offset_t)

    @property
    def _rows(self):
        """What makes the rows of H in place of the engine: the ranks together; None without ranks."""
        team = self.device.team
        if team is None:
            return None
        return partial(shared_rows, team, self.device.exchange, self.potential.engine)

    def shares_frames(self, n_frames: int) -> bool:
        """Whether the frames of a batch are measured one by one, each on a rank."""
        alone = self.candidates is not None or self.offset is not None or self.choices.measurement == "matrix"
        return self.device.team is not None and n_frames > 1 and not alone

    def _by_frames(self, sample: SharedSample, kinds, rng) -> Iterator[measurement.Measurement]:
        """The measurements of each frame by itself, each the mean over the frames (`combine`)."""
        c, team = self.choices, self.device.team
        if team is None:
            raise InputError("a batch shared by ranks was given; expected a trainer of these ranks")
        stubs = [measurement.Sample([f], None, np.array([0, len(f)])) for f in sample.frames]
        some = stubs[:1] if c.same_atoms else stubs
        drawn = [self._groups(stub, kinds, rng) for stub in some]
        groups_f = drawn * len(stubs) if c.same_atoms else drawn
        n_groups = max(map(len, groups_f))

        def together(chosen, what: str | None = None) -> measurement.Measurement:
            def measure(f: int, part: measurement.Sample) -> measurement.Measurement | None:
                groups = [groups_f[f][g] for g in chosen if g < len(groups_f[f])]
                if chosen and not groups:
                    return None
                p, noise, L = self.potential, c.noise, self.n_blocks
                if what is None:
                    return self._joint(part, kinds, groups)
                if what == "force":
                    atoms = as_group(c, groups[0][0])
                    return measurement.force_signed(p, part, atoms, noise, L, norm_name=c.norm)
                return measurement.SIGNED[what](p, part, noise, L, norm_name=c.norm)

            xp = namespace(self.potential.parameters.weights)
            return measured_together(team, sample, measure, self.device.exchange, xp)

        if c.measurement == "paired":
            for g in range(max(1, n_groups)):
                yield together([g] if n_groups else [])._replace(kind="paired")
        elif c.measurement == "signed":
            for kind in kinds:
                for chosen in [[g] for g in range(n_groups)] if kind == "force" else [[]]:
                    yield together(chosen, kind)
        else:
            yield together(list(range(n_groups)))

    def _joint(self, sample, kinds, groups) -> measurement.Measurement:
        c, now = self.choices, self._predicted(sample)
        chosen = [self._chosen(group, sample, kinds, now) for group in groups]
        return measurement.joint(self.potential, sample, chosen, c.noise, self.n_blocks, kinds, now, c.norm)

    def _groups(self, sample, kinds, rng) -> list[np.ndarray]:
        """Drawn atoms, whose forces are measured, and in a matrix their energies; none without the label."""
        of_atoms = {"force", "atomic_energy"} if self.choices.measurement == "matrix" else {"force"}
        return draw_groups(self.choices, sample, rng) if of_atoms & set(kinds) else []

    @property
    def n_blocks(self) -> int:
        return len(self.filter.blocks)

    def _signed(self, sample, kinds, rng) -> Iterator[measurement.Measurement]:
        """The paper's sequence: each measurement is predicted with the weights of the last update."""
        p, noise, L, norm = self.potential, self.choices.noise, self.n_blocks, self.choices.norm
        for kind in kinds:
            if kind == "force":
                for group in draw_groups(self.choices, sample, rng):
                    now = measurement.predict(p, sample)
                    yield measurement.force_signed(
                        p, sample, self._chosen(group, sample, kinds, now), noise, L, now, norm
                    )
            else:
                shifted = self._predicted(sample) if kind == "virial" else None
                yield measurement.SIGNED[kind](p, sample, noise, L, shifted, norm)

    def _chosen(self, group: np.ndarray, sample, kinds, now: measurement.Prediction) -> np.ndarray:
        """The forces that a drawn group (t, k) measures: the first of its targets, or the candidates."""
        if self.choices.trials == 1 or self.candidates is None or "force" not in kinds:
            return as_group(self.choices, group[0])
        error_ic = to_numpy(measurement.errors(self.potential, sample, "forces", now.F_ic))
        self.candidates.see("force", error_ic)
        size = np.abs(error_ic).ravel() if self.choices.components else np.sqrt((error_ic**2).mean(1))
        chosen = self.candidates.choose(np.where(group < 0, -1.0, size[group]))
        return as_group(self.choices, group[chosen, np.arange(group.shape[1])])

    def surplus(self, sample: measurement.Sample) -> float:
        """|ΔE|/N of a batch in units of its threshold (`measurements.candidates`); ∞ where E is not known."""
        if self.candidates is None or not self.candidates.selection.energy:
            return np.inf
        if "energy" not in taught(sample.frames, self.choices.order):
            return np.inf
        now = measurement.predict(self.potential, sample, forces=False)
        error_f = to_numpy(measurement.errors(self.potential, sample, "energy", now.E_f))
        error_f = error_f / np.diff(sample.first_f)
        self.candidates.see("energy", error_f)
        threshold = self.candidates.selection.energy * self.candidates.rmse("energy")
        return float(np.sqrt(np.mean(error_f**2)) / threshold) if threshold else np.inf

    def update(self, m: measurement.Measurement, n_frames: int = 1):
        """One Kalman update with a measurement that is a mean over ``n_frames`` frames."""
        a, b = (float(n_frames) ** power for power in REDUCTIONS[self.choices.reduction])
        H, error = (m.H_qw, m.error_q) if n_frames == 1 else (a * m.H_qw, b * m.error_q)
        noise_q, scaled_q = m.noise_q, b * b * m.noise_q  # of the mean's error, and of the error as it is
        if self.adaptive is not None:
            noise_q = self.adaptive.noise(m.kind_q, noise_q, m.error_q)
        noise_q = m.weighted(noise_q)
        if (annealing := self.choices.annealing) is not None and self.per_epoch is not None:
            noise_q = annealing.measurement(self.updates, self.per_epoch) * noise_q
            self.filter.process_noise = annealing.process(self.updates, self.per_epoch)
        gate, refusal = self.gate, None

        def accept(error_q, S_qq) -> bool:
            nonlocal refusal
            refusal = None if gate is None else gate.judge(innovations(m.kind_q, error_q, S_qq))
            return refusal is None

        with self.guard():  # no interrupt between the filter's change and that of potential and noise
            asked = None if gate is None else accept
            before = self.updates
            info = self.device.take_in(self.filter, self.potential, H, error, noise_q, asked)
            if self.average is not None and (info is None or info.accepted):
                if info is None:
                    self._averages[before] = self.average.mark()
                self.average.add(self.weights)
            if info is None:
                self._enqueued.append((m.kind_q, scaled_q, noise_q))
            else:
                self._note(self.updates, m.kind_q, scaled_q, noise_q, to_numpy(error), info, refusal)
        return info

    def synchronize(self) -> list[UpdateInfo]:
        """Wait for the asynchronous updates since `measure` began; what each of them did."""
        asked, self._enqueued = self._enqueued, []
        averages, self._averages = self._averages, {}
        try:
            done = self.device.synchronize(self.filter) if asked else []
        except FilterError:
            if self.average is not None and self.updates in averages:
                self.average.put_back(averages[self.updates])
            raise
        first = self.updates - len(asked)
        for n, (what, (error_q, info)) in enumerate(zip(asked, done[-len(asked) :], strict=True), start=1):
            self._note(first + n, *what, error_q, info, None)
        return [info for _, info in done[len(done) - len(asked) :]]

    def _note(self, update, kind_q, noise_q, R_q, error_q, info: UpdateInfo, refusal: Refusal | None) -> None:
        if info.accepted:
            # S = λR + H P Hᵀ
            HPH_q = np.diagonal(info.innovation_variance) - info.lam * R_q
            for part in (self.adaptive, self.estimates):
                if part is not None:
                    part.see(kind_q, noise_q, error_q, HPH_q)
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
        for part in (self.adaptive, self.estimates, self.candidates, self.average, self.offset):
            state |= {} if part is None else part.state()
        return state

    def restore(self, state: dict) -> None:
        blocks = self.filter.blocks
        if "block_sizes" not in state or "eta" in state:
            raise InputError(
                "the input's optimizer is a Kalman filter of this package, the checkpoint's is not; expected "
                "the same"
            )
        if self.offset is not None and np.sum(state["block_sizes"]) == self.potential.layout.size:
            # written by an older version: it goes on without an offset
            blocks = self._without_offset("usual_virial" in state)
        if tuple(state["block_sizes"]) != blocks.sizes:
            largest = max(state["block_sizes"])
            raise InputError(
                "the input's optimizer cuts P into other blocks than the checkpoint has, whose largest is "
                f"{largest:,}; expected the same optimizer/block_size"
            )
        for part in (self.adaptive, self.estimates, self.candidates, self.offset):
            if part is not None:
                part.restore(state)
        asked = _form(self.filter)
        del self.filter  # or there would be two P in memory
        self.filter = self.device.restored(state)
        self.potential.weights = self.weights
        if self.average is not None:
            self.average.restore(state, self.weights)
        for name, value in _form(self.filter).items():
            if asked[name] != value:
                raise InputError(f"optimizer/{name} is {asked[name]}; expected {value}, as in the checkpoint")
        if asked["coupled"] and any(isinstance(value, Stored) and value.rounded for value in state.values()):
            # A − UᵀU loses all digits then: an energy update leaves 10⁻⁹ or less of that energy's variance
            P: Any = self.filter.covariance
            P.cut()

    def _without_offset(self, has_virials: bool):
        """Go on without an offset, and without virials that the run has not had; the blocks of P then."""
        self.offset = None
        c = self.choices
        if not has_virials and "virial" in c.optional:
            self.choices = replace(c, order=tuple(kind for kind in c.order if kind != "virial"))
        return partition(parts_of(self.potential.layout), c.partition, c.block_size)


def _form(kalman) -> dict:
    """The keys of the input that decide the form of P; a restart requires these to match."""
    P = kalman.covariance
    return {"covariance_dtype": P.dtype, "coupled": P.coupled}
