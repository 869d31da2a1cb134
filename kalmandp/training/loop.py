"""Algorithm 2: frame after frame, an energy update and then force updates, until the data are learnt.

    for record in train(settings):
        ...                                   # the caller owns the loop

One step takes one batch (a frame, as a rule) through: neighbours → environment → prediction → measurement
(H, error, noise) → Kalman update → weights.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.errors import FileError, FilterError, InputError
from kalmandp.files import make_folder, one_run_in
from kalmandp.potentials.potential import Potential
from kalmandp.ranks.team import Alone, Team, agree, require_alike, team_of
from kalmandp.registry import load
from kalmandp.training.config.inputs import read_input
from kalmandp.training.config.settings import Settings
from kalmandp.training.data.choose import feed_of
from kalmandp.training.data.splitting import datasets
from kalmandp.training.going_on import as_begun, is_left_by, restore, take_up
from kalmandp.training.measurements import measurement
from kalmandp.training.measurements.gate import LEFT_OUT_FILE
from kalmandp.training.measurements.labels import check_labels
from kalmandp.training.measurements.shared import shared_sample
from kalmandp.training.members import Members, model_path
from kalmandp.training.placement.device import open_device
from kalmandp.training.report.diagnostics import Diagnostics
from kalmandp.training.report.history import History, Record
from kalmandp.training.report.metrics import Metrics, evaluate, summarize
from kalmandp.training.report.shared import compare_over
from kalmandp.training.saving import TOGETHER, rescue, save
from kalmandp.training.starting import new_potential, started_from
from kalmandp.training.state.checkpoint import open_checkpoint
from kalmandp.training.trainers.averaging import SHIFT_FRAMES, averaged
from kalmandp.training.trainers.choose import make_trainer
from kalmandp.training.trainers.uninterrupted import uninterrupted

NAN = float("nan")
#: Training frames, evenly chosen, that the prior of a trained model is made from.
PRIOR_FRAMES = 100
#: Validation frames, at most, that a line of the learning curve is of: evenly spaced ones of a larger set.
VALIDATION_FRAMES = 128


class Run:
    """A training run: its data, its model, its optimizer, and where it stands.

    Made by `train`; a host that wants its own loop uses ``step`` and ``checkpoint`` itself.
    """

    def __init__(
        self, settings: Settings, output, restart=None, init_model=None, engine=None, finetune=None,
        device=None, team: Team | None = None,
    ):  # fmt: skip
        t = settings.training
        self.team: Team = Alone() if team is None else team
        self.device = open_device(device or t.device, team)
        self.settings, self.output = settings, Path(output)
        self.folder = str(settings.folder.resolve())  # paths in the input are relative to it
        for name in (t.save_ckpt, t.model_file, t.disp_file):
            make_folder((self.output / name).parent)
        if restart is None and finetune is None and init_model is None:
            init_model = settings.start or None
        with contextlib.ExitStack() as stack:  # P is read from the open file
            saved = stack.enter_context(open_checkpoint(restart)) if restart is not None else None
            earlier = None
            if saved is None and settings.start_state and init_model == settings.start:
                earlier = stack.enter_context(open_checkpoint(settings.start_state))
            self._make(saved, init_model, finetune, engine, earlier)
            taken_up = self._goes_on and earlier is not None and take_up(self, earlier)
            if self._goes_on and not taken_up:  # the model as it was written, then
                self._make(None, init_model, finetune, engine)
            if saved is None and self._trained(init_model, finetune) and not taken_up:
                self._learn_prior()
            if saved is not None:
                try:
                    restore(self, saved)
                except InputError as error:
                    raise FileError(f"{restart}: does not fit this run: {error}") from error
                except Exception as error:  # a state of another shape, or of no sense
                    raise FileError(f"{restart}: does not fit this run, or is damaged ({error})") from error
        parts = {
            "the input": settings.source,
            "the number of training frames": len(self.data),
            "the step that the run goes on from": self.step_number,
            "the model that the run begins with": to_numpy(self.potential.weights).tobytes(),
        }
        require_alike(self.team, parts)

    def _make(self, saved: dict | None, init_model, finetune, engine, earlier: dict | None = None) -> None:
        """Data, potential and optimizer, as the input says."""
        self.settings = as_begun(self.settings, saved)
        settings, t = self.settings, self.settings.training
        self.seed = self.team.of_first(_seed(settings, saved))
        self.rng = np.random.default_rng(self.seed)
        self._goes_on = False
        self.data, self.validation = datasets(settings, self.seed)
        check_labels(self.data, settings)
        if saved is not None:
            self.potential = self._placed(saved["potential"], engine)
        elif init_model is not None or finetune is not None:
            potential = started_from(init_model, finetune, settings, self.data)
            if earlier is not None and is_left_by(potential, earlier, settings.start_state):
                self._goes_on = True
                earlier["potential"].info |= {"started from": potential.info["started from"]}
                potential = earlier["potential"]
            self.potential = self._placed(potential, engine)
        else:
            self.potential = _new_potential(settings, self.data, self.seed, engine, self.device.device)
        _check_types(self.data, self.potential)
        self.potential.info["model_def_script"] = settings.source.get("model", {})
        self.feed = feed_of(settings, self.data, self.rng)
        per_epoch = self.feed.steps_per_epoch
        epochs = t.n_epochs if t.n_epochs is not None else 1.0
        self.n_steps = t.n_steps if t.n_steps is not None else max(1, round(epochs * per_epoch))
        self.trainer = make_trainer(
            settings, self.potential, self.rng, self.device, n_steps=self.n_steps,
            steps_per_epoch=per_epoch, guard=uninterrupted, trained=self._trained(init_model, finetune),
            data=self.data,
        )  # fmt: skip
        begun = init_model is not None or finetune is not None
        self.members = Members(self, per_epoch, begun) if t.committee > 1 else None
        self.frames = self.device.frames(self.data, self.potential)  # in the room that P has left
        self.history, self.diagnostics = History(), Diagnostics()
        self.step_number, self.seconds = 0, 0.0
        #: what `result` gives until the next step, and the other members' models
        self._finished: Potential | None = None
        self._finished_members: dict[int, Potential] = {}

    def _trained(self, init_model, finetune) -> bool:
        """Whether the run begins with a model, and the input does not state a prior for its weights."""
        return (init_model is not None or finetune is not None) and self.settings.optimizer.get("p0") is None

    def _learn_prior(self) -> None:
        """A model's weights are not random: its P₀ is that of a filter which has seen some of the data."""
        n = len(self.data)
        some = np.unique(np.linspace(0, n - 1, min(n, PRIOR_FRAMES)).astype(int))
        self.trainer.learn_prior(
            measurement.make_sample(self.potential, *self._frames(np.array([k]))) for k in some
        )

    def _placed(self, potential: Potential, engine) -> Potential:
        """A potential that was read, where the run computes."""
        if engine is None and self.device.device == "cpu":
            return potential
        return potential.with_engine(engine, self.device.device)

    def step(self) -> tuple[measurement.Sample, Metrics | None, dict]:
        """Learn the next batch; returns it, its errors before the updates (on display steps), diagnostics."""
        began = time.perf_counter()
        self._finished, self._finished_members = None, {}
        self._feed_before = self.feed.state()
        numbers, sample = self._agreed_batch()
        self._read_ahead(len(numbers))
        frames, before = sample.frames, None
        if self._is(self.display_freq):
            before = evaluate(self.potential, *self._frames(numbers))
        if self.trainer.gate is not None:
            self.trainer.gate.at_work = self.feed.epoch > 0
        try:
            diagnostics = self.trainer.step(sample)
            if self.members is not None:
                self.members.step(*self._frames(numbers), self.step_number, self.feed.epoch > 0)
        except FilterError as error:
            raise FilterError(f"{', '.join(f.source for f in frames)}: {error}") from error
        except MemoryError as error:
            raise MemoryError(f"{', '.join(f.source for f in frames)}: {error}") from error
        displays = self._is(self.display_freq)
        self.step_number += 1
        self._note(numbers, displays)
        self.seconds += time.perf_counter() - began
        return sample, before, diagnostics

    def _agreed_batch(self) -> tuple[np.ndarray, measurement.Sample]:
        """The next batch; what only one rank of several cannot read or use is an error of all."""
        if self.team.size == 1:
            return self._next_batch()
        failed, found = None, None
        try:
            found = self._next_batch()
        except Exception as error:  # whatever it is, the others must not wait for this rank
            failed = error
        agree(self.team, failed)
        assert found is not None
        return found

    def _next_batch(self) -> tuple[np.ndarray, measurement.Sample]:
        """The next batch of the feed; with candidates, the first above the error threshold, else the worst
        tried.

        A batch that is passed over counts as used in this epoch. At most as many are tried as an epoch has.
        """
        most, chosen = -np.inf, None
        for _ in range(min(self.trainer.frame_trials, self.feed.steps_per_epoch)):
            numbers = self.trainer.choose(self.feed, self.frames)
            sample = self._sample(numbers)
            surplus = self.trainer.surplus(sample)
            if np.isnan(surplus):
                names = ", ".join(frame.source for frame in sample.frames)
                raise FilterError(f"{names}: the energy that the model gives is not a number")
            if chosen is None or surplus > most:
                most, chosen = surplus, (numbers, sample)
            if surplus > 1.0:
                break
        return chosen  # type: ignore[return-value]  # an epoch has a batch at least

    def _sample(self, numbers: np.ndarray) -> Any:
        """The batch, made ready to be measured; if ranks share it, each makes only its own frames ready."""
        if not self.trainer.shares_frames(len(numbers)):
            return measurement.make_sample(self.potential, *self._frames(numbers))
        make = lambda k: measurement.make_sample(self.potential, *self._frames(np.array([k])))
        return shared_sample(self.team, numbers, make, lambda k: self.data.outline(int(k)))

    def _read_ahead(self, n: int) -> None:
        """Begin to read the frames of the next batch, of n, that this rank will measure."""
        coming = self.feed.coming(n)
        if self.trainer.shares_frames(len(coming)):
            coming = coming[self.team.rank :: self.team.size]
        self.frames.ahead(coming)

    def _frames(self, numbers: np.ndarray) -> tuple[list, list]:
        """Frames by their numbers, and their pairs."""
        items = [self.frames[k] for k in numbers]
        return [f for f, _ in items], [p for _, p in items]

    def _note(self, numbers: np.ndarray, displays: bool) -> None:
        """Keep what the updates of a step did, and which frames the gate left out."""
        for did, refusal in self.trainer.log:
            self.diagnostics.add(did, self.step_number, int(numbers[0]))
            if refusal is not None and self.trainer.gate is not None:
                for k in numbers:
                    self.trainer.gate.left_out.add(self.step_number, self.feed.epoch, k, refusal)
        if displays and (trace_l := self.trainer.traces()) is not None:
            self.diagnostics.add_traces(self.trainer.updates, trace_l)

    @property
    def display_freq(self) -> int:
        return self.settings.training.disp_freq

    def _is(self, freq: int) -> bool:
        """Whether the step about to be made, or just made, is one of every ``freq``."""
        return freq > 0 and (self.step_number + 1) % freq == 0

    def result(self) -> Potential:
        """The model that is saved now: with averaged weights (`averaging`), or as it is."""
        if self._finished is None:
            found = self._result_of(self.trainer)
            if found is self.potential:
                return found
            self._finished = found
        return self._finished

    def _result_of(self, trainer) -> Potential:
        average = trainer.average
        if average is None:
            return trainer.potential
        known = np.setdiff1d(np.arange(len(self.data)), self.data.lacking("energy"))
        n = len(known)
        some = known[np.unique(np.linspace(0, n - 1, min(n, SHIFT_FRAMES)).astype(int))]
        frames = (self.frames[int(k)] for k in some)
        return averaged(trainer.potential, average.weights, frames, self.device.device)

    def finish(self) -> None:
        """At the end: the trainer finishes `result` (last layer); optimizer and checkpoint stay."""
        finished = self.trainer.finished(self.result(), self.data, self.validation)
        self._finished = None if finished is self.potential else finished
        for k, trainer in self.members.trainers.items() if self.members is not None else ():
            model = trainer.finished(self._result_of(trainer), self.data, self.validation)
            self._finished_members[k] = model

    def validate(self, everything: bool = False) -> Metrics | None:
        """Errors of `result` on all validation frames; for the curve on evenly spaced ones of a large set."""
        if self.validation is None:
            return None
        n = len(self.validation)
        t = self.settings.training
        part = max(VALIDATION_FRAMES, t.validation_batch * (t.validation_batch_size or 1))
        chosen = range(n) if everything or n <= part else np.linspace(0, n - 1, part).astype(int)
        if self.team.size > 1:
            some = self.validation.subset(np.asarray(chosen))
            return summarize(compare_over(self.team, self.result(), some))
        return evaluate(self.result(), (self.validation[int(k)] for k in chosen))

    def record(self, event, before=None, valid=None, diagnostics=None) -> Record:
        pick = lambda m, name: getattr(m, name) if m is not None else NAN
        return Record(
            step=self.step_number,
            epoch=self.feed.progress,
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
            lr=self.trainer.learning_rate,
            diagnostics=diagnostics or {},
            event=event,
            valid_frames=valid.n_frames if valid is not None else 0,
        )

    def checkpoint(self) -> Path:
        """Write checkpoint, model and learning curve; returns the checkpoint's path."""
        t = self.settings.training
        path = self.checkpoint_path
        save(self, path, self.feed.state(), self.result)
        if self.team.rank:
            return path
        self.result().save(self.output / t.model_file)
        for k, trainer in self.members.trainers.items() if self.members is not None else ():
            model = self._finished_members.get(k) or self._result_of(trainer)
            model.save(model_path(self.output / t.model_file, k))
        self.history.write(self.output / t.disp_file)
        if self.trainer.gate is not None:
            self.trainer.gate.left_out.write(self.output / LEFT_OUT_FILE, self.data.source)
        if self.settings.companion:
            load(self.settings.companion).at_checkpoint(self)
        return path

    @property
    def checkpoint_path(self) -> Path:
        return self.output / self.settings.checkpoint_name

    def rescue(self) -> str:
        """After an update that failed: save the filter as it was before (`training.saving.rescue`)."""
        return rescue(self, self._feed_before)


def train(
    settings, *, output=".", restart=None, init_model=None, finetune=None,
    stop: Callable[[], bool] | None = None, exclusive: bool = True, device=None,
    ready: Callable[[], None] | None = None, comm=None,
) -> Iterator[Record]:  # fmt: skip
    """Train a potential: Algorithm 2, l. 1 to 6; the caller owns the loop.

    Parameters
    ----------
    settings : Settings, a path to INPUT.json, or its dictionary
    output : folder for the model, the checkpoint and the learning curve
    restart : checkpoint to go on from, bit for bit
    init_model : model file to go on from: its weights, statistics and bias (`training.starting`)
    finetune : the same, its energy bias fitted to the training data first
    stop : called after each step; when it returns True the run is saved and ends
    exclusive : hold ``output`` for this run alone (`files.one_run_in`); False if the caller does
    device : "cpu" or "cuda", in place of the input's training/device
    ready : called once, when everything has been read and before the first step
    comm : communicator of mpi4py's whose ranks train together; by default the launcher's, if there is one

    Yields
    ------
    Record
        After every step; its ``event`` is "step", "display", "checkpoint", "end" or "stopped".

    Raises
    ------
    InputError, FileError
        For input that cannot be used, a P that does not fit into the free memory, or a folder that
        another run is using, before anything is written.
    FilterError
        If an update would spoil the state. The frame is named; the last checkpoint is intact; the state
        before that update is saved beside it.

    Notes
    -----
    Ctrl-C during an update is raised after it, so that a `Run` never holds half an update.

    An error on one rank only leaves the others waiting: ``kalmandp train`` then ends them all, and so does
    ``mpiexec -n R python -m mpi4py script.py`` with a script of your own.

    Examples
    --------
    >>> settings = {
    ...     "model": {"type_map": ["Si"],
    ...               "descriptor": {"type": "se_e2_a", "rcut": 4.0, "neuron": [4, 8], "axis_neuron": 2},
    ...               "fitting_net": {"neuron": [8]}},
    ...     "optimizer": {"type": "RLEKF"},
    ...     "training": {"training_data": {"systems": "data/si64_lda_test.h5"}, "numb_steps": 3, "seed": 1},
    ... }
    >>> for record in train(settings, output="run"):
    ...     print(record.step, record.event, record.updates)
    1 step 2
    2 step 4
    3 step 6
    3 end 6
    """
    if not isinstance(settings, Settings):
        settings = read_input(settings)
    team = team_of(comm)
    exclusive = exclusive and (team is None or team.rank == 0)
    with one_run_in(output) if exclusive else contextlib.nullcontext():
        run = Run(settings, output, restart, init_model, finetune=finetune, device=device, team=team)
        if ready is not None:
            ready()
        yield from _records(run, stop)


def _records(run: Run, stop: Callable[[], bool] | None) -> Iterator[Record]:
    """The steps of a run, saved where its input says."""
    companion = load(run.settings.companion) if run.settings.companion and not run.team.rank else None
    if companion is not None and run.feed.progress == 0:  # epoch 0 ends before the first step
        companion.at_epoch(run)
    while run.step_number < run.n_steps:
        displays = run._is(run.display_freq)
        saves = run._is(run.settings.training.save_freq)
        epoch = int(run.feed.progress)
        try:
            _, before, diagnostics = run.step()
        except FilterError as error:
            raise FilterError(f"{error}; {run.rescue()}") from error
        except (InputError, FileError) as error:  # a frame that cannot be used, or no longer be read
            if not run.trainer.updates:
                raise
            raise type(error)(f"{error}; {run.rescue()}") from error
        if companion is not None and int(run.feed.progress) > epoch:
            companion.at_epoch(run)
        record = run.record("step", before, diagnostics=diagnostics)
        if displays:
            record = run.record("display", before, _validated(run), diagnostics)
            run.history.add(record)
        if stop is not None and any(run.team.all(bool(stop()))):
            run.checkpoint()
            yield record._replace(event="stopped")
            return
        if saves and run.step_number < run.n_steps:
            run.checkpoint()
            record = record._replace(event="display+checkpoint" if displays else "checkpoint")
        yield record
    run.finish()
    final = run.record("end", valid=_validated(run, everything=True))
    run.history.add(final)
    run.checkpoint()
    if run.settings.companion and not run.team.rank:
        load(run.settings.companion).at_end(run)
    yield final


def _validated(run: Run, everything: bool = False) -> Metrics | None:
    """`Run.validate`; if a validation frame cannot be used, the run is saved before the error is raised."""
    try:
        return run.validate(everything)
    except (InputError, FileError) as error:
        together = run.team.all_agree(TOGETHER)
        what = f"the run is saved in {run.checkpoint()}" if together else "the last checkpoint stands"
        raise type(error)(f"{error}; {what}") from error


def _seed(settings: Settings, saved: dict | None) -> int:
    """The input's seed, or the one a restarted run began with, or one drawn now (and recorded)."""
    if saved is not None and "seed_used" in saved["source"]:
        return int(saved["source"]["seed_used"])
    if settings.training.seed is not None:
        return settings.training.seed
    return int(np.random.SeedSequence().generate_state(1)[0])


def _new_potential(settings: Settings, data, seed: int, engine, device) -> Potential:
    m = settings.model
    if unseen := set(m.type_map or ()) - set(data.species):
        names = ", ".join(sorted(unseen))
        warnings.warn(f"no training frame holds {names}; the model will know nothing of it", stacklevel=2)
    return new_potential(m, data, np.random.default_rng([seed, *m.seeds]), engine, device)


def _check_types(data, potential: Potential) -> None:
    unknown = [t for t in data.type_map if t not in potential.type_map]
    if unknown:
        raise InputError(
            f"the data hold the types {', '.join(unknown)}; the model knows "
            f"{', '.join(potential.type_map)}"
        )
