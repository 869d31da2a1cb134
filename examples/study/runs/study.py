"""What a study is asked to do, and its folder: the units of a part, the queue over them, their results."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from io import StringIO
from itertools import pairwise
from math import inf
from pathlib import Path

from kalmandp import Dataset
from kalmandp.ranks.team import Alone, Team

from .display import Display
from .optimizers import Optimizer, optimizer
from .pool import Job, Outcome, work_off
from .results import Result, is_finished, read_result, write_json
from .systems import System
from .unit import PAPER_NETWORK, Model, Network, Unit

#: A first guess of the seconds of a step, corrected while the queue runs: per weight of the model for the
#: filter, and per atom for either.
FILTER_SECONDS, ADAM_SECONDS, ATOM_SECONDS = 8e-6, 5e-8, 1e-4
#: The same for the weights of a type where nobody counts them.
WEIGHTS = 2000
#: Of a run of so many seconds: what it takes in all, over them.
OVERHEAD = 1.4


@dataclass
class Study:
    """Options of the command, and the folder that everything is written to.

    Attributes
    ----------
    folder : runs/, tables/, figures/ and manifest.json are below it
    systems : those with data;  missing : names of those without
    optimizers : names, see `optimizers`
    epochs, frames : length of the runs; ``frames`` takes precedence
    seeds : how many;  processes, threads : of the queue
    smoke : everything in a few seconds, to see that it works
    seconds : of one processor, for the runs of the second study; None for its own
    stated : "systems" and "optimizers", if they were asked for; a part may have others by default
    models : of the second study, those asked for; none for all
    """

    folder: Path
    systems: list[System]
    missing: list[str] = field(default_factory=list)
    optimizers: tuple[str, ...] = ("default", "paper", "adam")
    epochs: float = 30.0
    frames: int | None = None
    seeds: int = 1
    processes: int = 2
    threads: int = 1
    smoke: bool = False
    seconds: float | None = None
    stated: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def network(self) -> Network:
        """The paper's network; a small one with ``--smoke``."""
        return Network((4, 8), 2, (8, 8), 4.0) if self.smoke else PAPER_NETWORK

    @property
    def labels(self) -> list[str]:
        """Names of the optimizers, without the keys that some are given with."""
        return [optimizer(name).name for name in self.optimizers]

    @property
    def length(self) -> str:
        """Of the runs, in words."""
        if self.smoke:
            return "12 frames of a smoke test"
        return f"{self.frames} frames" if self.frames else f"{self.epochs:g} epochs"

    def system(self, *preferred: str) -> System | None:
        """The first preferred system that has data, else the first of all; None if there is none."""
        by_name = {system.name: system for system in self.systems}
        return next((by_name[n] for n in preferred if n in by_name), next(iter(self.systems), None))

    def unit(self, system: System, which: str | Optimizer, seed: int = 1, **changes) -> Unit:
        """A run of this study's length; ``changes`` are fields of `Unit`."""
        o = optimizer(which) if isinstance(which, str) else which
        length: dict = {"epochs": o.epochs or self.epochs, "frames": None}
        if self.frames is not None:
            length = {"epochs": None, "frames": self.frames}
        if changes.get("seconds") is not None:
            length = {"epochs": None, "frames": None}
        if self.smoke:
            changes = {name: value for name, value in changes.items() if name != "seconds"}
            length = {"epochs": None, "frames": min(length["frames"] or 12, 12)}
            length["frames"] += int(o.epochs or 0) // 30  # a longer schedule is another run
        fields = {"network": self.network, **length, **changes}
        return Unit(system.name, str(system.train), str(system.test), o.name, o.sections, seed=seed, **fields)

    def folder_of(self, unit: Unit) -> Path:
        return self.folder / "runs" / unit.key

    def result(self, unit: Unit) -> Result | None:
        """The result of a run, None if it is not finished, or was made with other settings or data."""
        folder = self.folder_of(unit)
        return read_result(folder) if is_finished(unit, folder) else None

    def run(self, units: list[Unit], display=None, team: Team | None = None) -> Outcome:
        """Carry out what is not finished of these; the manifest lists all.

        Each rank of ``team`` carries out every R-th; the outcome is that of all, on every rank. The first
        says how far its own are.
        """
        unique = list({unit.key: unit for unit in units}.values())
        team = Alone() if team is None else team
        jobs = None
        if team.rank == 0:
            jobs = [self._job(unit) for unit in unique if not is_finished(unit, self.folder_of(unit))]
            self._write_manifest(unique)
        every = team.of_first(jobs)
        jobs, outcome = every[team.rank :: team.size], Outcome([], {}, False)
        if jobs:
            stream = None if team.rank == 0 else StringIO()
            display = display or Display(jobs, self.processes, len(unique) - len(every), stream)
            display.say(display.began_words())
            where = self.folder if team.size == 1 else self.folder / f"rank {team.rank}"
            outcome = work_off(jobs, where, self.processes, self.threads, display)
        team.all_agree(inf)  # ranks that are done sleep
        told = team.all(outcome)
        failed = {key: words for one in told for key, words in one.failed.items()}
        return Outcome([key for one in told for key in one.done], failed, any(one.stopped for one in told))

    def _job(self, unit: Unit) -> Job:
        if unit.seconds is not None:  # and about as much again for the trial and the looks at the test frames
            return Job(unit, self.folder_of(unit), 1, OVERHEAD * unit.seconds)
        with Dataset(unit.train) as data:
            n_frames, n_atoms, n_types = len(data), data.natoms(0), len(data.type_map)
        steps = unit.frames if unit.frames is not None else max(1, round(unit.epochs * n_frames))
        weights = n_types * _weights(unit.network)
        per_weight = FILTER_SECONDS if unit.is_kalman else ADAM_SECONDS
        seconds = per_weight * weights + ATOM_SECONDS * n_atoms * (4 if unit.is_kalman else 1)
        return Job(unit, self.folder_of(unit), steps, seconds)

    def _write_manifest(self, units: list[Unit]) -> None:
        """All runs this folder was ever asked for, by their keys."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "manifest.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        known |= {unit.key: str(self.folder_of(unit).relative_to(self.folder)) for unit in units}
        write_json(path, known)

    def table(self, name: str, text: str) -> Path:
        """Write and print a table."""
        return self._text("tables", f"{name}.md", text)

    def figure(self, name: str) -> Path:
        folder = self.folder / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.png"

    def _text(self, kind: str, name: str, text: str) -> Path:
        from kalmandp.files import replacing

        path = self.folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            Path(beside).write_text(text.rstrip() + "\n", encoding="utf-8")
        print(f"\n{text.rstrip()}\n\n(written to {path})")
        return path


def _weights(form: Network | Model) -> int:
    """Weights for a type, roughly."""
    if isinstance(form, Model):
        return WEIGHTS
    nets = ((1, *form.embedding), (form.embedding[-1] * form.axis_neuron, *form.fitting))
    return sum(a * b for widths in nets for a, b in pairwise(widths))
