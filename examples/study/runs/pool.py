"""The queue: runs in worker processes, one display of how far all of them are, Ctrl-C at any time."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from .display import Display
from .results import unit_tree
from .unit import Unit

STUDY = Path(__file__).resolve().parents[1]
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: How the names begin of what launchers of MPI tell the processes that they start.
LAUNCHER = ("PMI", "OMPI_", "HYDRA_", "MPI_LOCAL")
#: Seconds that workers have to finish a step and save, once asked to stop.
PATIENCE = 300.0


class Job(NamedTuple):
    """A run of the queue, its folder, and the seconds a step of it is expected to take."""

    unit: Unit
    folder: Path
    steps: int
    seconds_per_step: float

    def with_steps(self, steps: int) -> Job:
        """The job with the steps that it was found to have; a run of so many seconds lasts no longer."""
        if self.unit.seconds is None or steps == self.steps:
            return self._replace(steps=steps)
        return self._replace(steps=steps, seconds_per_step=self.steps * self.seconds_per_step / steps)


class Outcome(NamedTuple):
    """What became of a queue: keys of runs that are done, and of those that failed with what was wrong."""

    done: list[str]
    failed: dict[str, str]
    stopped: bool


class _Worker:
    """A worker process and the run it has in hand."""

    def __init__(self, number: int, threads: int, log: Path, events: queue.Queue):
        self.number, self.events, self.job = number, events, None
        path = os.pathsep.join([str(STUDY), str(STUDY.parents[1]), *(p for p in sys.path[1:] if p)])
        # a worker is no rank, whoever started the queue
        own = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER)}
        env = {**own, **dict.fromkeys(THREADS, str(threads)), "PYTHONPATH": path}
        with open(log, "ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runs.worker"], env=env, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=stderr, text=True, encoding="utf-8",
                start_new_session=True,
            )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.events.put((self, json.loads(line)))
        self.events.put((self, {"end": "gone"}))

    def begin(self, job: Job) -> None:
        self.job = job
        order = {"folder": str(job.folder), "unit": unit_tree(job.unit)}
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it is gone; the listener says so

    def ask_to_stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.close()

    def close(self) -> None:
        try:
            self.process.stdin.close()
        except OSError:
            pass


def work_off(jobs: list[Job], folder: Path, processes: int, threads: int, display: Display) -> Outcome:
    """Carry out jobs in this order, ``processes`` at a time with ``threads`` each.

    An error of one is kept and the others go on. Ctrl-C (or SIGTERM) lets each process finish its step and
    save; a second one ends at once what is still running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    events: queue.Queue = queue.Queue()
    log = folder / "workers.log"
    waiting = list(jobs)
    outcome = Outcome([], {}, False)
    start = lambda n: _Worker(n, threads, log, events)
    workers: list[_Worker] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        workers = [start(n) for n in range(min(processes, len(jobs)))]
        for worker in workers:
            worker.begin(waiting.pop(0))
            display.begin(worker.number, worker.job)
        while any(worker.job for worker in workers):
            try:
                worker, event = events.get(timeout=0.5)
            except queue.Empty:
                display.tick()
                continue
            if "end" not in event:
                display.told(worker.number, event)
                continue
            if worker.job is not None:
                _ended(worker.job, event, worker, outcome, display, log)
            worker.job = None
            if event["end"] == "gone" and waiting:
                workers[worker.number] = worker = start(worker.number)
            if waiting:
                worker.begin(waiting.pop(0))
                display.begin(worker.number, worker.job)
    except KeyboardInterrupt:
        outcome = outcome._replace(stopped=True)
        display.say("stopping: each run finishes its step and is saved; once more to end at once")
        _stop(workers)
    finally:
        signal.signal(signal.SIGTERM, before)
        for worker in workers:
            worker.close()
        display.close()
    return outcome


def _ended(job: Job, event: dict, worker: _Worker, outcome: Outcome, display: Display, log: Path) -> None:
    """Note how a run ended."""
    key = job.unit.key
    if event["end"] == "done":
        outcome.done.append(key)
    else:
        words = event.get("words") or f"its process ended ({_code(worker)}); see {log}"
        outcome.failed[key] = words
        display.say(f"{key} failed: {words}")
    display.ended(worker.number, done=event["end"] == "done")


def _code(worker: _Worker) -> str:
    """How a process that is gone ended: −9 is a kill, by a user or for want of memory."""
    try:
        return f"code {worker.process.wait(10)}"
    except subprocess.TimeoutExpired:
        return "its output closed"


def _stop(workers: list[_Worker]) -> None:
    """Ask all to stop, wait till they have saved; end them at a second Ctrl-C or when patience ends."""
    for worker in workers:
        worker.ask_to_stop()
    until = time.monotonic() + PATIENCE
    try:
        for worker in workers:
            worker.process.wait(max(0.1, until - time.monotonic()))
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        for worker in workers:
            worker.process.kill()
