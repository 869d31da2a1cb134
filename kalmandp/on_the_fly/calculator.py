"""`OnTheFly`: an ASE calculator that learns while it is used.

At a step where it checks, the variance of a force component of atom i is

    σ_i² = f² (H P Hᵀ)_i + r²          the mean over the atom's three components

(`kalman.calibration` for f and r; r is what no label can remove). With the share of components that are
expected to be off by more than the tolerance t,

    S(σ) = mean over i of erfc(t/(√2 σ_i))

the reference is called if a label may lower that share by 5 %, or if P does not know an atom at all:

    S(σ) − S(r) > 0.05     or     f √(H P Hᵀ)_i > 2 t  for an atom

or if the last call is ``audit`` steps ago: frames that P has chosen do not tell whether P is right. Where its
forces were off by more than the tolerance allows, it is sooner (`Record.steps_to_audit`).
A model that can be exact (r = 0) is so kept within the tolerance in 95 % of its components. One that cannot
is not taught the same again and again; the log and a warning say so. H P Hᵀ of all atoms is taken from draws
from P (`training.screening`). The step then has the reference's own energy, forces and stress.
After a call the next check is one step later, then 2, 4, … steps, up to ``every``.
"""

from __future__ import annotations

import os
import time
import warnings
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from kalmandp.errors import FilterError, InputError, MissingPackage, require
from kalmandp.files.replacing import make_folder
from kalmandp.frames.frame import Frame
from kalmandp.geometry.verlet import VerletList
from kalmandp.on_the_fly import storage
from kalmandp.on_the_fly.labels import Labels, same_atoms
from kalmandp.on_the_fly.learner import Learner, new_potential, optimizer
from kalmandp.on_the_fly.records import Record, Records
from kalmandp.on_the_fly.reference import MEV, Reference, ReferenceFailure
from kalmandp.potentials.potential import Potential
from kalmandp.training.online import OnlineTrainer

try:
    from ase.calculators import calculator as ase_calculator

    from kalmandp.bridges.ase import frame_of, stress_of
except ImportError:
    raise MissingPackage("ase", "ase", "learning on the fly") from None

#: A reference has drifted if it differs from its earlier labels by more than this many times their noise.
DRIFT = 10.0
#: Failed calls one after the other, each with its retries, after which the run stops.
FAILURES = 5


class OnTheFly(ase_calculator.Calculator):
    """A potential that asks a reference where it is not sure, and learns the answer.

    Parameters
    ----------
    reference : ASE calculator with energy, forces and stress: DFT, tight binding, …
    folder : where everything is kept: ``labels.h5``, ``on_the_fly.out``, the state. A run that is there is
        continued
    tolerance : meV/Å, the error that 95 % of the force components are to stay below
    relative : the same as a share of the RMS force of the step, or of the frames learned last if that is
        more. With both, the larger counts; without both, 0.15
    every : most steps between two checks
    audit : most steps between two calls; None for any number. Fewer where the last call found errors beyond
        the tolerance, but never fewer than ``every``
    calls : most calls of the reference; after them the model goes on alone, and says so. None for no limit
    start : Potential or path of a model file to begin with; by default a small NEP with random weights
    species : names of the elements to come; by default those of the first atoms
    stress : whether the reference's stress is learned, and one is offered; False for a cell that is fixed and
        a reference without stress
    noise : meV/Å, the error that the reference's own forces have (SCF threshold, …)
    retries : how often a call that failed is repeated (`on_the_fly.reference`). If all fail the model goes on
        with its own forces and checks again at the next step; after 5 such steps in a row, or if there is no
        model yet, the error is raised. Nothing that was learned is lost then
    seed : of the weights and of what is drawn
    threads : as for `OnlineTrainer`
    model : settings of a new potential: ``kind`` and what it takes, e.g. ``{"neuron": 30}``
    optimizer : settings of the filter, as for `OnlineTrainer`
    parameters : of ASE's Calculator

    Attributes
    ----------
    potential : Potential, as it is now; None before the first step
    labels : sequence of the labelled frames
    steps : configurations computed so far;  reference_calls : calls of this process
    last : dict of the last check: share S(σ) and floor S(r); sigma, f √(H P Hᵀ) of the atom with the largest,
        and limit, meV/Å; called (bool)

    Raises
    ------
    InputError
        For settings that cannot be used; for a reference without forces or stress, or that drifts; for a
        species that is not among those planned; for a tolerance below the noise.

    Notes
    -----
    ``results["forces_std"]`` (n, 3) and ``results["energy_std"]`` are there at steps with a call; asked for
    by ``calc.get_property("forces_std", atoms)`` they are computed at any.

    A process that is killed loses no label. After `resume` a run that was killed goes on from the last
    `save` with the same bits: labels that are known are not computed again. (As far as the reference itself
    has the same bits for the same atoms: one that begins from the last step's density does not.)

    Examples
    --------
    >>> import tempfile
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> atoms = bulk("Cu", cubic=True)
    >>> atoms.rattle(0.1, seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     atoms.calc = OnTheFly(EMT(), folder=folder, model={"neuron": 4})
    ...     forces = atoms.get_forces()
    ...     len(atoms.calc.labels)
    1
    """

    name = "kalmandp-on-the-fly"
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self, reference, *, folder="on_the_fly", tolerance: float | None = None,
        relative: float | None = None, every: int = 10, audit: int | None = 100,
        calls: int | None = None, start=None, species=None, stress: bool = True, noise: float = 1.0,
        retries: int = 1, seed: int = 0, threads: int | None = 1, model=None, optimizer=None, **parameters,
    ):  # fmt: skip
        if tolerance is None and relative is None:
            relative = 0.15
        for what, value in (("tolerance", tolerance), ("relative", relative), ("noise", noise)):
            good = value is None or (np.isscalar(value) and 0 < value < np.inf)  # type: ignore[operator]
            require(good, what, repr(value), "a number > 0")
        if tolerance is not None and tolerance < noise:
            raise InputError(
                f"tolerance is {tolerance:g} meV/Å, below the noise of the labels, {noise:g} meV/Å; expected "
                "more than that noise (or a smaller noise, if the labels are better)"
            )
        whole_numbers = {"every": (every, 1), "retries": (retries, 0), "seed": (seed, 0)}
        whole_numbers |= {} if audit is None else {"audit": (audit, 1)}
        for what, (whole, least) in whole_numbers.items():
            good = isinstance(whole, (int, np.integer)) and not isinstance(whole, bool) and whole >= least
            require(good, what, repr(whole), f"an integer ≥ {least}")
        require(calls is None or calls > 0, "calls", calls, "a number > 0, or None")
        self.reference = Reference(reference, stress=stress, retries=int(retries))
        make_folder(folder)
        self.folder = Path(folder)
        self.tolerance, self.relative, self.noise = tolerance, relative, noise
        self.every, self.audit = int(every), audit
        self.calls, self.seed, self.threads, self.start = calls, int(seed), threads, start
        self.species = None if species is None else tuple(species)
        self.model, self.optimizer = dict(model or {}), dict(optimizer or {})
        self.labels, self.records = Labels(self.folder), Records(self.folder)
        self.learner: Learner | None = None
        self.last: dict[str, Any] = {}
        self.steps = self.reference_calls = 0
        self._next, self._gap = 0, 1  # the step of the next check, and the steps after it
        self._failures, self._seconds, self._alone = 0, 0.0, False
        self._known = len(self.labels)  # at the start of this process
        self._replay = False  # whether the labels in the folder are answers to come
        self._told = False  # that the model cannot do better
        self._checked = False  # whether the reference still says what it said
        self._verlet: VerletList | None = None
        self.implemented_properties = [
            "energy", "free_energy", "forces", "energies", *(["stress"] if stress else []), "forces_std",
            "energy_std",
        ]  # fmt: skip
        super().__init__(**parameters)

    @property
    def potential(self) -> Potential | None:
        """The potential as it is now, its weights those of the last label learned."""
        return None if self.learner is None else self.learner.potential

    def todict(self, skip_default=True) -> dict:
        """What ASE's databases keep of a calculator.

        Parameters
        ----------
        skip_default : ASE's; it has no effect here
        """
        return {"folder": str(self.folder), "labels": len(self.labels)}

    # --- one step ---------------------------------------------------------------------------------

    def calculate(self, atoms=None, properties=("energy",), system_changes=ase_calculator.all_changes):
        """One step: predict, and where it is not sure ask the reference and learn.

        Parameters
        ----------
        atoms, properties, system_changes : as ASE's calculators take them
        """
        super().calculate(atoms, properties, system_changes)
        began = time.perf_counter()
        if self.learner is None and not self._replay:
            self._open()
        frame = self._frame()
        if self.learner is None and self._begin(frame):
            return
        assert self.learner is not None
        if not system_changes and self.results:
            self._put_std(frame)
            return
        if self.steps >= self._next and not self._alone:
            self._check(frame)
        else:
            self._put(self.learner.evaluate(frame, self._pairs(frame)))
        self.steps += 1
        self._seconds += time.perf_counter() - began

    def _frame(self) -> Frame:
        symbols = self.atoms.get_chemical_symbols()
        if self.species is None:
            self.species = tuple(dict.fromkeys(symbols))
        unknown = sorted(set(symbols) - set(self.species))
        if unknown:
            raise InputError(
                f"the atoms have {', '.join(unknown)}, which is not among the species planned, "
                f"{', '.join(self.species)}; expected species=[…] with all that will come"
            )
        return frame_of(self.atoms, self.species)

    def _pairs(self, frame: Frame):
        assert self.learner is not None
        if self._verlet is None:
            self._verlet = VerletList(self.learner.potential.form.cutoff)
        return self._verlet.pairs(frame)

    def _check(self, frame: Frame) -> None:
        learner = self.learner
        assert learner is not None
        found = learner.check(frame, self._pairs(frame), self.steps, self.limit)
        last = self.records.rows[-1]
        due = self.audit is not None and self.steps - last.step >= last.steps_to_audit(self.audit, self.every)
        call = found.wanted or due or len(learner.frames) < 2
        limit = self.limit(found.result.forces)
        self.last = {
            "share": found.share, "floor": found.floor, "sigma": found.largest / MEV, "limit": limit / MEV,
            "called": False,
        }  # fmt: skip
        self._gap = min(2 * self._gap, self.every)
        labelled = self._label(frame) if call else None
        if labelled is None:
            self._next = self.steps + (1 if call else self._gap)
            self._put(found.result)
            return
        self._gap, self._next = 1, self.steps + 1
        result, std = learner.predict(frame)
        self._learn(labelled, result, std, limit)
        self._put_label(labelled, std)

    def limit(self, forces=None) -> float:
        """The tolerance now: the error of a force component that is accepted, eV/Å.

        Parameters
        ----------
        forces : those of the step, (n, 3) in eV/Å, if they are known
        """
        absolute = 0.0 if self.tolerance is None else self.tolerance * MEV
        if self.relative is None or self.learner is None:
            return max(absolute, self.noise * MEV)
        now = 0.0 if forces is None else _rms(forces)
        return max(absolute, self.relative * max(self.learner.rms_force(), now), self.noise * MEV)

    # --- labels -----------------------------------------------------------------------------------

    def _label(self, frame: Frame) -> Frame | None:
        """The frame with labels: known from a run that was killed, or from the reference; None without."""
        assert self.learner is not None
        n = len(self.learner.frames)
        if n < len(self.labels):
            if same_atoms(self.labels[n], frame):
                return self.labels[n]
            self._learn_rest()  # the run has gone another way: what is known is learned all the same
        if self.calls is not None and len(self.labels) >= self.calls:
            self._alone = True
            warnings.warn(
                f"OnTheFly: all {self.calls} calls of the reference are made; the model goes on alone from "
                f"step {self.steps}", stacklevel=4,
            )  # fmt: skip
            return None
        return self._ask(frame)

    def _ask(self, frame: Frame) -> Frame | None:
        if self._known and not self._checked:
            old = self.labels[self._known - 1]
            self.reference.check_drift(_atoms(old), old, DRIFT * self.noise * MEV)
            self.reference_calls += 1
        self._checked = True
        began = time.perf_counter()
        self.reference_calls += 1
        try:
            labelled, _ = self.reference.label(_atoms(frame), frame)
        except ReferenceFailure as error:
            self._failures += 1
            if self.learner is None or self._failures >= FAILURES:
                raise
            warnings.warn(f"OnTheFly: step {self.steps}: {error}; the model goes on by itself", stacklevel=5)
            return None
        self._failures, self._reference_seconds = 0, time.perf_counter() - began
        return self.labels.add(labelled)

    _reference_seconds = 0.0

    def _learn(self, labelled: Frame, result, std, limit: float) -> None:
        """Learn a frame, write down what happened, and keep the state."""
        learner = self.learner
        assert learner is not None and labelled.forces is not None
        began = time.perf_counter()
        error = np.abs(result.forces - labelled.forces)
        before, largest = _rms(error), float(np.sqrt((error**2).mean(axis=1)).max(initial=0.0))
        try:
            learner.learn(labelled)
        except FilterError as problem:
            learner.frames.append(labelled)
            warnings.warn(f"OnTheFly: {labelled.source} was learned only in part: {problem}", stacklevel=4)
        learning = time.perf_counter() - began
        calibration = learner.online.calibration
        floor = calibration.floor("force")
        sigma = 0.0 if std is None else float(std.force_i.max(initial=0.0))
        within = 0.0 if std is None else float((error < std.forces).mean())
        self.last |= {"called": True}
        self.records.add(Record(
            len(learner.frames) - 1, self.steps, limit / MEV, sigma / MEV, before / MEV, largest / MEV,
            learner.error(labelled) / MEV, calibration.factor("force"), floor / MEV, within,
            self._reference_seconds, learning, self._seconds,
        ))  # fmt: skip
        self._reference_seconds = self._seconds = 0.0
        if floor > 0.8 * limit and len(learner.frames) > 20 and not self._told:
            self._told = True
            warnings.warn(
                f"OnTheFly: the model leaves errors of {floor / MEV:.3g} meV/Å on what it has learned; the "
                f"tolerance is {limit / MEV:.3g} meV/Å: expected a larger tolerance, a larger model, or a "
                "reference whose forces come from near atoms (a larger cell, more k-points)",
                stacklevel=4,
            )
        storage.save(self, storage.STATE)

    def _learn_rest(self) -> None:
        """Learn the labels that are on the disk and not in the model."""
        assert self.learner is not None
        for labelled in self.labels[len(self.learner.frames) :]:
            result, std = self.learner.predict(labelled)
            self._learn(labelled, result, std, self.limit())

    # --- begin, go on, end ------------------------------------------------------------------------

    def _open(self, file: str = storage.STATE) -> dict | None:
        """Go on from what the folder has, if it has anything."""
        if os.path.exists(self.folder / file):
            dynamics = storage.restore(self, file)
        else:
            return None
        if file == storage.STATE:
            self._learn_rest()
        return dynamics

    def _begin(self, frame: Frame) -> bool:
        """Make the potential, from the first label there is; whether it was that of ``frame``."""
        known = self.labels[0] if self.labels else self._ask(frame)
        assert known is not None  # or an error was raised
        self._make(known.with_type_map(self.species))
        if same_atoms(known, frame):
            self._put_label(known, None)
            self.steps = self._next = 1
            return True
        self._learn_rest()
        return False

    def _make(self, labelled: Frame) -> None:
        trained = self.start is not None
        if trained:
            given = self.start if isinstance(self.start, Potential) else Potential.load(self.start)
            potential = given.replace()
            missing = [name for name in self.species or () if name not in potential.type_map]
            require(not missing, "the species of the model", list(potential.type_map), f"{missing} too")
            self.species = potential.type_map
            labelled = labelled.with_type_map(self.species)
        else:
            potential = new_potential(labelled, self.seed, self.model)
        rng = np.random.default_rng([self.seed, 2])
        online = OnlineTrainer(
            potential, rng=rng, threads=self.threads, **optimizer(trained, self.optimizer)
        )  # fmt: skip
        self.learner = Learner(online, self.seed)
        result = self.learner.potential.evaluate(labelled)
        self._learn(labelled, result, None, self.limit())

    def save(self, atoms, rng=None, **more) -> None:
        """Keep the simulation as it is now, with the model: `resume` goes on from here with the same bits.

        Parameters
        ----------
        atoms : the atoms that are simulated, computed at these positions
        rng : the thermostat's generator: numpy RandomState or Generator
        more : numbers and arrays of the caller's, e.g. ``step=120``
        """
        storage.save(self, storage.DYNAMICS, storage.dynamics_of(atoms, rng, more, self))
        self.labels.gather()

    def resume(self, atoms, rng=None) -> dict | None:
        """Put atoms and generator back to the last `save`; None if there is none (they are left alone then).

        Parameters
        ----------
        atoms : gets positions, momenta and cell
        rng : gets the state that was saved

        Returns
        -------
        dict of what else was given to `save`; None
        """
        self._replay = True  # labels that are later than the state are answers
        dynamics = self._open(storage.DYNAMICS)
        if dynamics is None:
            return None
        return storage.put_back(self, dynamics, atoms, rng)

    def picture(self, path):
        """Draw the log: calls, σ against true errors, and where the seconds went (matplotlib).

        Parameters
        ----------
        path : .png, .svg or .pdf
        """
        from kalmandp.on_the_fly.picture import on_the_fly

        return on_the_fly(self.records.path, path)

    # --- results ----------------------------------------------------------------------------------

    def _put(self, result, std=None) -> None:
        self.results = {
            "energy": result.energy, "free_energy": result.energy, "forces": result.forces,
            "energies": result.atomic_energies,
        }  # fmt: skip
        self._put_stress(result.virial, std)

    def _put_label(self, labelled: Frame, std) -> None:
        self.results = {
            "energy": labelled.energy, "free_energy": labelled.energy, "forces": np.array(labelled.forces)
        }  # fmt: skip
        self._put_stress(labelled.virial, std)

    def _put_stress(self, virial, std) -> None:
        if self.reference.stress and virial is not None:
            stress = stress_of(self.atoms, virial)
            self.results |= {} if stress is None else {"stress": stress}
        if std is not None:
            self.results |= {"forces_std": std.forces, "energy_std": std.energy}

    def _put_std(self, frame: Frame) -> None:
        """Asked for an uncertainty at a step without a check: no step, nothing else changes."""
        assert self.learner is not None
        _, std = self.learner.predict(frame)
        self.results |= {"forces_std": std.forces, "energy_std": std.energy}


def _rms(x: np.ndarray) -> float:
    return sqrt(float((x * x).mean())) if x.size else 0.0


def _atoms(frame: Frame):
    from ase import Atoms

    return Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=frame.pbc)
