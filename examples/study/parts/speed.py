"""Seconds per step of every optimizer on every system, in one process, in short windows that take turns.

Runs share the machine; what else ran is in their own seconds. Here the optimizers take turns, so that other
work falls on all alike, and the median of the windows counts. Fig. 4's wall-clock is made from it.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from runs import Study, System, Unit, markdown, optimizer
from runs.one import open_run
from runs.results import read_json, write_json

from kalmandp.errors import KalmanDPError

#: Windows of each optimizer, and how long one should be, seconds.
WINDOWS, LENGTH = 7, 0.5
#: Steps before the first window: they compile, find neighbours and fill memory.
WARM_UP = 3


def units(study: Study) -> list[Unit]:
    """None: nothing is trained here."""
    return []


def measure(study: Study) -> None:
    """Measure what speed.json does not have yet; it is written after each system."""
    path = study.folder / "speed.json"
    known = read_json(path) or {}
    names = {optimizer(name).base: name for name in reversed(study.optimizers)}
    for system in study.systems:
        done = known.get(system.name, {})
        if all(name in done for name in names):
            continue
        known[system.name] = done | _turns(study, system, names)
        write_json(path, known)
        took = ", ".join(f"{name} {1e3 * of['seconds']:.4g} ms" for name, of in known[system.name].items())
        print(f"speed of {system.name}: {took}", flush=True)


def _turns(study: Study, system: System, names: dict[str, str]) -> dict[str, dict]:
    """Median seconds per step of the optimizers on one system; one that fails is told and left out.

    ``names`` : of the optimizers as they were asked for, by their names without epochs and keys
    """
    length, windows = (0.02, 2) if study.smoke else (LENGTH, WINDOWS)
    taken: dict[str, list[float]] = {name: [] for name in names}
    runs, counts = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(windows + 1):
            for name in list(taken):
                try:
                    if turn == 0:
                        unit = study.unit(system, names[name], frames=10**9, epochs=None)
                        runs[name] = open_run(unit, Path(folder) / name)
                        counts[name] = _count(runs[name], length)
                    else:
                        taken[name].append(_clock(runs[name], counts[name]))
                except KalmanDPError as error:
                    print(f"speed of {system.name}, {name}: {error}", flush=True)
                    del taken[name]
    return {
        name: {
            "seconds": float(np.median(seconds)), "windows": seconds, "steps": counts[name],
            "updates_per_step": runs[name].trainer.updates / runs[name].step_number,
            "threads": int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1)),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        }
        for name, seconds in taken.items()
    }  # fmt: skip


def _count(run, length: float) -> int:
    """Steps that fill a window, after some to warm up."""
    _clock(run, WARM_UP)
    return max(1, round(length / _clock(run, WARM_UP)))


def _clock(run, steps: int) -> float:
    """Seconds per step of so many."""
    began = time.perf_counter()
    for _ in range(steps):
        run.step()
    return (time.perf_counter() - began) / steps


def seconds_per_step(study: Study, system: str, name: str) -> float | None:
    """As measured; None if it was not."""
    of = (read_json(study.folder / "speed.json") or {}).get(system, {}).get(optimizer(name).base)
    return None if of is None else of["seconds"]


def report(study: Study) -> None:
    """Write tables/speed.md."""
    known = read_json(study.folder / "speed.json") or {}
    names = list(dict.fromkeys(optimizer(name).base for name in study.optimizers))
    rows = []
    for system in study.systems:
        of = known.get(system.name)
        if of is not None:
            rows.append(
                [system.name] + [markdown.number(1e3 * of[n]["seconds"]) if n in of else "–" for n in names]
            )
    missing = [system.name for system in study.systems if system.name not in known]
    text = "# Milliseconds per step (one frame), one process, median of windows that take turns\n\n"
    text += markdown.table(["system", *names], rows) if rows else "Nothing measured yet."
    study.table("speed", text + (f"\n\nNot measured: {', '.join(missing)}." if missing and rows else ""))
