"""How far the queue is: a bar on a terminal, a line now and then elsewhere; with the time that is left."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from kalmandp.commands.wording import duration, plural

#: Seconds between lines where there is no terminal.
PATIENCE = 60.0
BAR = "{percentage:3.0f}% {bar:20} {elapsed}{postfix}"


@dataclass
class _Slot:
    """A run in hand: its job, its first step seen, and where it is."""

    job: Any
    first: int | None = None
    step: int = 0
    began: float = 0.0
    errors: str = ""


class Display:
    """Shows the progress of jobs, and estimates the time left from the speed of those that ran.

    The jobs' own expectation of seconds per step is corrected by what was seen: per system and kind of
    optimizer if one of these has run, else by the mean correction of all.
    """

    def __init__(self, jobs, processes: int, n_finished: int = 0, stream=None):
        self.stream = sys.stderr if stream is None else stream
        self.jobs, self.processes = list(jobs), max(1, min(processes, len(jobs)))
        self.waiting = {job.unit.key: job for job in jobs}
        self.slots: dict[int, _Slot] = {}
        self.seen: dict[tuple, tuple[float, float]] = {}
        self.n_done, self.n_finished, self.failed = 0, n_finished, 0
        self.spent, self.began, self.shown, self.bar = 0.0, time.monotonic(), 0.0, None
        if self.stream.isatty() and jobs:
            from tqdm import tqdm

            self.bar = tqdm(total=1.0, file=self.stream, dynamic_ncols=True, bar_format=BAR)

    def began_words(self) -> str:
        left = self.seconds_left()
        return f"{plural(len(self.jobs), 'run')} to do, {self.n_finished} done before; about {duration(left)}"

    def begin(self, number: int, job) -> None:
        self.waiting.pop(job.unit.key, None)
        self.slots[number] = _Slot(job)

    def told(self, number: int, event: dict) -> None:
        slot = self.slots.get(number)
        if slot is None:
            return
        if "step" in event:
            if slot.first is None:
                slot.first, slot.began = event["step"], time.monotonic()
            slot.step = event["step"]
            slot.job = slot.job.with_steps(event["steps"])
            self._learn(slot)
        else:
            E, F = (
                1e3 * (event[kind] if event[kind] is not None else float("nan"))
                for kind in ("energy", "force")
            )
            slot.errors = f"E {E:.3g} F {F:.3g}"
        self.tick()

    def ended(self, number: int, done: bool) -> None:
        slot = self.slots.pop(number)
        self.n_done += done
        self.failed += not done
        if done:
            self.say(
                f"{slot.job.unit.key}  {slot.errors}  ({self.n_done}/{len(self.jobs)}, {self.left_words()})"
            )

    def _learn(self, slot: _Slot) -> None:
        """Seconds seen and seconds expected for the steps of this kind of run."""
        steps = slot.step - (slot.first or 0)
        if steps > 0:
            key = self._kind(slot.job)
            self.seen[key] = (time.monotonic() - slot.began, steps * slot.job.seconds_per_step)

    @staticmethod
    def _kind(job) -> tuple:
        return job.unit.system, job.unit.network, job.unit.is_kalman

    def _factor(self, job) -> float:
        """How many times longer than expected such a job takes."""
        alike = [v for k, v in self.seen.items() if k == self._kind(job)]
        alike = alike or [v for k, v in self.seen.items() if k[2] == job.unit.is_kalman]
        alike = alike or list(self.seen.values())
        taken, expected = (sum(v[n] for v in alike) for n in (0, 1))
        return taken / expected if expected > 0 else 1.0

    def seconds_left(self) -> float:
        waiting = [job.steps * job.seconds_per_step * self._factor(job) for job in self.waiting.values()]
        running = [
            (slot.job.steps - slot.step) * slot.job.seconds_per_step * self._factor(slot.job)
            for slot in self.slots.values()
        ]
        return max([sum(waiting + running) / self.processes, *waiting, *running, 0.0])

    def left_words(self) -> str:
        return f"{duration(self.seconds_left())} left"

    def tick(self) -> None:
        now = time.monotonic()
        if now - self.shown < (0.5 if self.bar is not None else PATIENCE):
            return
        self.shown = now
        left, elapsed = self.seconds_left(), now - self.began
        running = "  ".join(
            f"{slot.job.unit.key} {slot.step}/{slot.job.steps} {slot.errors}".strip()
            for slot in self.slots.values()
        )
        words = f"{self.n_done}/{len(self.jobs)} runs, {duration(left)} left  {running}"
        if self.bar is not None:
            self.bar.n = elapsed / (elapsed + left) if elapsed + left > 0 else 0.0
            self.bar.set_postfix_str(words)
        elif elapsed > 1:
            print(f"{duration(elapsed)}: {words}", file=self.stream, flush=True)

    def say(self, words: str) -> None:
        if self.bar is not None:
            self.bar.write(words, file=self.stream)
        else:
            print(words, file=self.stream, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.n = 1.0 if not self.waiting and not self.slots else self.bar.n
            self.bar.close()
