"""Train inside a running code: one labelled frame at a time, with the host's arrays, loop and files.

    online = OnlineTrainer(potential, rng=rng, threads=1)
    for frame in the host's own loop:
        info = online.step(positions, types, cell=cell, energy=E, forces=F)
    online.save(file.create_group("force_field"))

Nothing here belongs to the process: no global, no signal handler, no random state but the generator
that is passed in, no thread but the ``threads`` that are asked for, no file but the host's own group. A
trainer is for one host thread at a time; several trainers live side by side.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.errors import FileError, FilterError, InputError, KalmanDPError, require
from kalmandp.frames.frame import Frame
from kalmandp.kalman.calibration import Calibration, widen
from kalmandp.kalman.filter import RLEKF, UpdateInfo
from kalmandp.potentials.potential import Potential, Result
from kalmandp.ranks.rows import written_by_first
from kalmandp.ranks.team import Alone, agree, require_alike, team_of
from kalmandp.training.config.inputs import read_optimizer
from kalmandp.training.config.presets import KalmanChoices, resolve
from kalmandp.training.config.settings import OptimizerSettings
from kalmandp.training.going_on import UNNAMED
from kalmandp.training.measurements.gate import Gate
from kalmandp.training.measurements.measurement import Measurement, make_sample
from kalmandp.training.measurements.shared import shared_sample
from kalmandp.training.placement.device import device_of
from kalmandp.training.state.online_storage import read_group, write_group
from kalmandp.training.trainers.averaging import averaged
from kalmandp.training.trainers.kalman import KalmanTrainer
from kalmandp.training.uncertainty import Uncertainty, calibrated, see, see_residuals, variances

#: Options that P and the average depend on; their defaults may differ in another version.
MADE_BY = ("block_size", "coupled", "adapt", "averaging", "n_groups", "group_size", "norm")


class Learnt(NamedTuple):
    """One Kalman update of a step: what was measured, |label − prediction| before it, and what it did.

    kind : "energy", "force", "paired", …;  error_q : (m,) in eV and eV/Å
    """

    kind: str
    error_q: np.ndarray
    info: UpdateInfo


class StepInfo(NamedTuple):
    """What `OnlineTrainer.step` did: its number, λ after it, and its Kalman updates in their order."""

    step: int
    lam: float
    learnt: tuple[Learnt, ...]


class OnlineTrainer:
    """RLEKF for a code that brings its own frames, loop, files and communicator.

    Parameters
    ----------
    potential : Potential
        Its weights are changed in place by every step. With an engine on a GPU P is there, too.
        One that is trained already wants ``trained_on``: the default prior is that of random weights, and
        the first steps would undo much of what it knows.
    rng : numpy.random.Generator
        Draws the atoms whose forces are measured.
    threads : int, optional
        Threads of one step at most, the calling one included. None leaves the number to what the
        calling thread has set with ``numba.set_num_threads``. The result has the same bits for any number.
        Two libraries keep threads of their own, which no argument reaches: BLAS, as many as
        ``OMP_NUM_THREADS`` said when NumPy was imported, and vesin's neighbour search one idle helper.
    trained_on : frames
        Some of the frames that the potential was trained on, with their labels: what they say of its weights
        is taken into P before the first step, and the weights are left alone (a Laplace approximation).
    comm : communicator of mpi4py's, optional
        Its ranks share one filter: P is shared out over them, as are the frames of a batch (or the rows of H
        of one frame). Each makes the same calls with the same frames and an equal ``rng``, and has the same
        weights, whose bits do not depend on the number of ranks. The communicator is duplicated and otherwise
        not touched; `close` frees the duplicates.
    **optimizer
        As in the section ``optimizer`` of an input file: ``type``, ``preset``, ``block_size``, ``p0``,
        ``lam``, ``nu``, ``sigma_e``, ``sigma_f``, ``measurement``, ``reduction``, ``candidates``,
        ``covariance_dtype``, ``gate``, …
        ``virial_offset=True`` has a constant between virials and energies estimated, for which volumes must
        vary (`training.measurements.virial_offset`).

    Attributes
    ----------
    potential : Potential, always with the weights of the last update
    filter : RLEKF; ``filter.weights`` (N,), ``filter.covariance.diagonal()`` (N,) and ``.dense(l)``; with
        ``virial_offset`` N is one more for each type
    gate : Gate or None; ``gate.left_out`` lists what it left out, by the number of the step
    steps : frames learnt so far
    calibration : Calibration, what `calibrate` has found; a part of what `save` writes

    Raises
    ------
    InputError
        For settings that are not known or cannot be used.

    Notes
    -----
    The same arithmetic as ``kalmandp train`` (`trainers.kalman.KalmanTrainer`), to the last bit.

    Examples
    --------
    Two argon-like atoms that a host code moves apart:

    >>> import numpy as np
    >>> from kalmandp import OnlineTrainer, Potential
    >>> rng = np.random.default_rng(0)
    >>> potential = Potential.create(["Ar"], rcut=5.0, sel=[4], rng=rng, embedding=(4, 8),
    ...                              axis_neuron=2, fitting=(6,), engine="numpy")
    >>> online = OnlineTrainer(potential, rng=rng, sigma_f=0.01, covariance="dense")
    >>> for r in np.linspace(3.4, 4.4, 30):
    ...     f = 0.1 * (r - 3.8)  # a spring, eV/Å
    ...     info = online.step([[0, 0, 0], [r, 0, 0]], [0, 0],
    ...                        energy=0.05 * (r - 3.8)**2, forces=[[f, 0, 0], [-f, 0, 0]])
    >>> info.step
    30
    """

    def __init__(
        self, potential: Potential, *, rng: np.random.Generator, threads: int | None = 1, trained_on=(),
        comm: Any = None, **optimizer,
    ):  # fmt: skip
        require(isinstance(rng, np.random.Generator), "rng", rng, "a numpy.random.Generator")
        whole = isinstance(threads, (int, np.integer)) and not isinstance(threads, bool) and threads >= 1
        require(threads is None or whole, "threads", threads, "an integer ≥ 1, or None")
        self.settings = read_optimizer(optimizer, potential.form.kind)
        self.threads = threads
        choices, trained_on = resolve(self.settings), list(trained_on)
        if trained_on and self.settings.get("p0") is None:
            choices = choices.of_trained()
        if self.settings.get("virial_offset") is None:  # it needs volumes that vary: not known yet
            choices = replace(choices, virial_offset=False)
        self.team = None if comm is None else team_of(comm)
        self.trainer = KalmanTrainer(potential, choices, rng, device_of(potential, self.team))
        self.steps = 0
        self.calibration = Calibration()
        with self._limited():
            self.trainer.learn_prior(make_sample(potential, [frame]) for frame in trained_on)

    @property
    def potential(self) -> Potential:
        """The potential, with the weights of the last update."""
        return self.trainer.potential

    @property
    def filter(self) -> RLEKF:
        """The filter: its ``weights``, ``lam``, ``updates`` and ``covariance``."""
        return self.trainer.filter

    @property
    def gate(self) -> Gate | None:
        """The gate, if ``gate=`` asked for one; it is at work after `gate.LATEST` steps."""
        return self.trainer.gate

    def frame(
        self, positions, types, *, cell=None, pbc=True, energy=None, forces=None, virial=None,
        atomic_energies=None, source=None,
    ) -> Frame:  # fmt: skip
        """A `Frame` from the host's arrays: no copy of those that are C-ordered float64 in NumPy.

        Parameters
        ----------
        positions : (n, 3) Å
        types : (n,) numbers into ``potential.type_map``, or (n,) names
        cell : (3, 3) Å, lattice vectors as rows; None for an open system
        pbc : one boolean, or one per lattice vector
        energy : eV;  forces : (n, 3) eV/Å;  virial : (3, 3) eV, W = −dE/dε = −(stress · volume)
        atomic_energies : (n,) eV
        source : name of the frame in messages of errors

        Raises
        ------
        InputError
            As `Frame`, and for an unknown name of a type.
        """
        def host(array) -> Any:
            return None if array is None else to_numpy(array)

        return Frame(
            host(positions),
            self._types(types),
            self.potential.type_map,
            cell=host(cell),
            pbc=tuple(np.broadcast_to(pbc, 3).tolist()),
            energy=host(energy),
            forces=host(forces),
            virial=host(virial),
            atomic_energies=host(atomic_energies),
            source=f"step {self.steps + 1}" if source is None else str(source),
        )

    def step(
        self, positions, types, *, cell=None, pbc=True, energy=None, forces=None, virial=None,
        atomic_energies=None, source=None,
    ) -> StepInfo:  # fmt: skip
        """Learn one labelled frame: of what the optimizer learns from, the labels that are given.

        Parameters
        ----------
        positions, types, cell, pbc, energy, forces, virial, atomic_energies, source : as in `frame`

        Returns
        -------
        StepInfo

        Raises
        ------
        InputError
            For arrays or labels that cannot be used, or no label to learn: nothing has changed then.
        FilterError
            If an update would spoil the state: that one, and those after it, were not made.
        """
        frame = self.frame(
            positions, types, cell=cell, pbc=pbc, energy=energy, forces=forces, virial=virial,
            atomic_energies=atomic_energies, source=source,
        )  # fmt: skip
        return self.learn(frame)

    def learn(self, frames, pairs=None) -> StepInfo:
        """Learn a `Frame`, or a list of them together as one batch, in the updates of Algorithm 2.

        Parameters
        ----------
        frames : Frame or list of Frame
        pairs : list of `Pairs`, one per frame, if the neighbours are known

        Returns
        -------
        StepInfo

        Raises
        ------
        InputError, FilterError
            As `step`.
        """
        frames = [frames] if isinstance(frames, Frame) else list(frames)
        learnt = []
        try:
            for m in self.measure(frames, pairs=pairs):
                learnt.append(Learnt(m.kind, m.error_q, self.update(m, len(frames))))
        except FilterError as error:
            raise FilterError(f"{frames[0].source}: {error}") from error
        self.steps += 1
        return StepInfo(self.steps, self.trainer.lam, tuple(learnt))

    def predict_with_uncertainty(self, frame: Frame) -> tuple[Result, Uncertainty]:
        """Predict a frame, with the standard deviation of its energy, each force and its virial.

        σ² = f² H P Hᵀ + r², at about the cost of measuring all forces once; nothing changes. Before the first
        `calibrate` f is 1 and r is 0.

        Parameters
        ----------
        frame : Frame, from `frame` for instance; labels are not needed

        Returns
        -------
        Result, Uncertainty
        """
        frame = frame.with_type_map(self.potential.type_map)
        with self._limited():
            result, found = variances(self.potential, self.filter, frame)
        return result, calibrated(found, self.calibration)

    def calibrate(
        self, frame: Frame | None = None, learnt: Sequence[Frame] = (), widen_to: float | None = None
    ) -> None:
        """Learn the factors f from a labelled frame *before* it is learnt, and r from some that are learnt.

        Parameters
        ----------
        frame : with labels, not yet learnt; None to leave f
        learnt : frames that `learn` was given, recent ones as a rule; none to leave r
        widen_to : P₀; P is made larger if the errors of the frame's forces say that it is too small
            (`kalman.calibration.widen`), but not beyond this. None leaves P
        """
        with self._limited():
            if learnt:
                see_residuals(self.calibration, self.potential, learnt)
            if frame is not None:
                frame = frame.with_type_map(self.potential.type_map)
                result, found = variances(self.potential, self.filter, frame)
                see(self.calibration, result, found, frame)
                if widen_to is not None and frame.forces is not None:
                    error_ic, noise = result.forces - frame.forces, self.trainer.choices.noise
                    R = noise.force(len(frame), self.trainer.n_blocks)
                    q = widen(self.filter, error_ic, found.forces, R, widen_to)
                    self.calibration.widened(q)

    def measure(self, frames, rng: np.random.Generator | None = None, pairs=None) -> Iterator[Measurement]:
        """The measurements of a frame (or batch), each predicted when it is asked for.

        For a host that does something between measuring and updating: sum over the ranks of its
        communicator, weigh, reject. ``for m in online.measure(frame): online.update(m)`` is `learn`.

        Parameters
        ----------
        frames : Frame or list of Frame
        rng : draws the atoms; by default the trainer's own. Ranks that measure different frames
            give each frame a generator of its own, and the trainers' stay alike.
        pairs : list of `Pairs`, one per frame, if the neighbours are known

        Yields
        ------
        Measurement
            H_qw (m, N), error_q (m,), noise_q (m,); see `measurement.combine` for several frames.
        """
        frames = [frames] if isinstance(frames, Frame) else list(frames)
        with self._limited():
            sample = self._sample(frames, pairs)
        pending = self.trainer.measure(sample, rng)
        while True:
            with self._limited():  # not held while the host has its turn
                m = next(pending, None)
            if m is None:
                return
            yield m

    def _sample(self, frames: list, pairs: list | None) -> Any:
        if self.team is None:
            return make_sample(self.potential, frames, pairs)
        if not self.steps:  # a host that has cut its atoms into domains would give each rank others
            require_alike(self.team, {"the first frame": b"".join(map(_bytes, frames[:1]))})
        failed, sample = None, None  # type: KalmanDPError | None, Any
        make = lambda frame: make_sample(self.potential, [frame])
        try:
            if self.trainer.shares_frames(len(frames)):
                sample = shared_sample(self.team, frames, make, lambda frame: frame)
            else:
                sample = make_sample(self.potential, frames, pairs)
        except KalmanDPError as error:
            failed = error
        agree(self.team, failed)
        return sample

    def update(self, measurement: Measurement, n_frames: int = 1) -> UpdateInfo:
        """One Kalman update; the potential has the new weights at once.

        Parameters
        ----------
        measurement : from `measure`, or `measurement.combine` of several
        n_frames : B, of how many frames it is the mean, for ``reduction`` "sum" and "deepmd"

        Returns
        -------
        UpdateInfo
            Its ``accepted`` is False if the gate left the measurement out.
        """
        with self._limited():
            info = self.trainer.update(measurement, n_frames) or self.trainer.synchronize()[-1]
        _, refusal = self.trainer.log[-1]
        if self.gate is not None and refusal is not None:
            self.gate.left_out.add(self.gate.steps + 1, 0, self.gate.steps, refusal)
        return info

    def averaged(self, frames=()) -> Potential:
        """The potential to use elsewhere: the Polyak average of recent weights
        (`training.trainers.averaging`).

        The last update's frame weighs too much in ``potential``; a mean over about the last tenth of the
        updates (``averaging=0.1``, the default) has smaller errors on others as a rule.

        Parameters
        ----------
        frames : iterable of Frame or ase.Atoms
            Some frames with energies, that the mean's energies are shifted to: without them they may be
            off by a constant per atom. Ranks that are to have the same potential give the same frames.

        Returns
        -------
        Potential
            A copy: later steps do not change it.
        """
        average = self.trainer.average
        weights = self.potential.weights if average is None else average.weights
        frames = [] if average is None else [(frame, None) for frame in frames]
        with self._limited():
            return averaged(self.potential, weights, frames, self.trainer.device.device)

    def save(self, group: Any) -> None:
        """Write everything that `restore` needs into an open HDF5 group of the host's.

        Parameters
        ----------
        group : h5py.Group, empty or written by an earlier `save`, which is then replaced. With a communicator
            all ranks call, and rank 0's group is written; the others may give None

        Raises
        ------
        InputError
            If the group holds something else.

        Notes
        -----
        P is written from where it lies, without a second copy in memory. A host that must survive a
        crash while writing keeps two groups, or two files, and writes them in turn: an unfinished one is
        refused by `restore`.
        """
        state = self.trainer.state()

        def write() -> None:
            write_group(
                group,
                potential=self.potential,
                optimizer=_stated(self.settings, self.trainer.choices),
                rng=self.trainer.rng,
                state=state,
                gate={} if self.gate is None else self.gate.state(),
                steps=self.steps,
                calibration=self.calibration.state(),
            )

        written_by_first(Alone() if self.team is None else self.team, state, write)

    def close(self) -> None:
        """Free the duplicates of the communicator, if there is one; all its ranks call this, last of all."""
        if self.team is not None:
            self.team.close()

    @classmethod
    def restore(
        cls, group: Any, *, threads: int | None = 1, engine: str | None = None, comm: Any = None,
        **optimizer: Any,
    ) -> OnlineTrainer:  # fmt: skip
        """The trainer that `save` has written: it goes on with the same bits.

        Parameters
        ----------
        group : h5py.Group
        threads : as for the class
        engine : of the potential; by default the one that `Potential` would choose
        comm : as for the class, of any number of ranks; each reads its own part of P
        optimizer : keys that a group of an older version does not state, e.g. ``n_groups=4, group_size=6,
            norm="l1", averaging=0``, those of 0.4.0

        Raises
        ------
        FileError
            If the group was not written by `save`, or not to its end.
        """
        saved = read_group(group, engine)
        made_by = {"preset": UNNAMED, **saved.optimizer, **optimizer}
        online = cls(saved.potential, rng=saved.rng, threads=threads, comm=comm, **made_by)
        try:
            online.trainer.restore(saved.state)
            if online.gate is not None:
                online.gate.restore(saved.gate)
        except (InputError, OSError, KeyError, TypeError, ValueError) as error:
            raise FileError(f"{group.file.filename}:{group.name}: {error}") from None
        online.steps = saved.steps
        online.calibration = Calibration.from_state(saved.calibration)
        return online

    def _types(self, types) -> np.ndarray:
        types = np.asarray(to_numpy(types))
        if types.dtype.kind not in "UO":
            return types
        number = {name: t for t, name in enumerate(self.potential.type_map)}
        unknown = sorted({str(name) for name in types} - set(number))
        known = list(self.potential.type_map)
        require(not unknown, "species", ", ".join(unknown), f"those of the potential, {known}")
        return np.array([number[str(name)] for name in types], dtype=np.int32)

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        """At most ``threads`` threads; the setting is the calling thread's own, and is put back."""
        if self.threads is None:
            yield
            return
        import numba

        before = numba.get_num_threads()
        most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        numba.set_num_threads(min(self.threads, most))
        try:
            yield
        finally:
            numba.set_num_threads(before)


def _stated(settings: OptimizerSettings, choices: KalmanChoices) -> dict[str, Any]:
    """The options that were stated, and those of `MADE_BY`, by which `restore` makes the trainer again."""
    asked = {"type": settings.type, "preset": settings.preset, **settings.stated}
    asked |= {name: getattr(choices, name) for name in MADE_BY}
    asked["virial_offset"] = choices.virial_offset
    return {**({"with_virial": "present"} if "virial" in choices.order else {}), **asked}


def _bytes(frame: Frame) -> bytes:
    """All that a frame holds, but for where it comes from."""
    values = [value for name, value in vars(frame).items() if name != "source"]
    return b"".join(v.tobytes() if isinstance(v, np.ndarray) else repr(v).encode() for v in values)
