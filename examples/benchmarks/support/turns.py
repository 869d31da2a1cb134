"""Candidates that take turns on the clock, so that other work on the machine falls on all of them alike."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from kalmandp.files import replacing

#: A turn lasts about this long, s: what is faster is repeated within its turn.
TURN = 0.1
#: Runs before the first turn: they compile, fill memory and tell how long one takes.
WARM_UP = 2
#: Between two turns, s: the threads of BLAS look for work for a while, on processors that the next one needs.
REST = 0.15

#: ``clock(count)`` does something ``count`` times and returns the seconds that this took.
Clock = Callable[[int], float]
K = TypeVar("K")  # what a candidate is called


def clock(run: Callable[[], object], threads: int | None = None) -> Clock:
    """A clock for something that runs in this process; of the processor if it has one thread."""
    now = time.process_time if threads == 1 else time.perf_counter

    def seconds(count: int) -> float:
        start = now()
        for _ in range(count):
            run()
        return now() - start

    return seconds


def take_turns(clocks: Mapping[K, Clock], rounds: int) -> dict[K, list[float]]:
    """Seconds for one run of every candidate, in every round."""
    count = {}
    for name, seconds in clocks.items():
        shortest = min(seconds(1) for _ in range(WARM_UP))
        count[name] = max(1, math.ceil(TURN / max(shortest, 1e-6)))
    taken: dict[K, list[float]] = {name: [] for name in clocks}
    for _ in range(rounds):
        for name, seconds in clocks.items():
            time.sleep(REST)
            if count[name] > 1:
                seconds(1)  # what the one before left in the caches is not this one's to pay for
            taken[name].append(seconds(count[name]) / count[name])
    return taken


def medians(taken: Mapping[K, list[float]]) -> dict[K, float]:
    """Median over the rounds of each candidate, s."""
    return {name: float(np.median(values)) for name, values in taken.items()}


def timed(runs: Mapping[K, Callable[[], object]], threads: int, rounds: int) -> dict[K, float]:
    """Median seconds of things that run in this process and take turns."""
    return medians(take_turns({name: clock(run, threads) for name, run in runs.items()}, rounds))


def options_of(module: str | None, small: str, more: Mapping[str, int] | None = None) -> argparse.Namespace:
    """--small, --threads, --rounds and further numbers of a script, which begins anew with so many threads.

    ``module`` is its docstring, ``small`` what --small does.
    """
    parser = argparse.ArgumentParser(description=(module or "").split("\n", 1)[0])
    parser.add_argument("--small", action="store_true", help=small)
    for name, value in {"threads": 1, "rounds": 9, **(more or {})}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    with_threads(options.threads)
    return options


def with_threads(threads: int | None) -> None:
    """Begin anew with this many threads for everything: BLAS and OpenMP read the number at their start."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    wanted = {name: str(threads) for name in names}
    if threads is not None and any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def machine() -> dict:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def write_json(path, record: dict) -> None:
    """Write a record; the file is there as a whole or as it was before."""
    with replacing(path) as beside:
        Path(beside).write_text(json.dumps(record, indent=1) + "\n")
