"""Seconds of a whole process until a model has come to a stated error on all of its training frames.

    python examples/benchmarks/to_an_error.py [--data train.xyz] [--energy 2] [--force 80]
        [--model input.json] [--threads 2] [--rounds 3] [--passes 40] [--small]

A fresh process imports the package, reads the frames, makes a model (a NEP of GPUMD's default form; --model
takes the sections model and optimizer of an input in its place), trains it and looks at its errors on all
training frames now and then: the root mean square of the forces, meV/Å, and of the energies when their mean
over the frames is taken out, meV/atom. It ends as soon as both are at or below what is stated. Its seconds
are those of a clock on the wall from before the process starts, so that start, import, reading, the loading
of compiled kernels, neighbours, training and every look are in them; "saved" is when the model file is
written. It looks when a look would take a fifth of the time since the last one, or less.

"Warm": a process before the first one compiles what is not compiled yet; its seconds do not count. The model
whose errors are told is the one that a run saves, with averaged weights. Without --data the frames are the
silicon of ``data/``. The exit status is 1 if a round does not come there within --passes over the frames.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from support.turns import machine, with_threads

DATA = Path(__file__).resolve().parents[2] / "data"
#: A look may take this share of the time since the last one. The first two are made at once: the first finds
#: neighbours, so that the second tells what others will take.
SHARE, AT_ONCE = 0.2, 2


def errors_of(run) -> tuple[float, float]:
    """RMSE of energies without their mean (eV/atom), and of forces (eV/Å), on all training frames."""
    from kalmandp.training.report.metrics import compare, summarize

    items = [run.frames[k] for k in range(len(run.data))]
    found = compare(run.result(), [frame for frame, _ in items], [pairs for _, pairs in items])
    return energy_spread(found), summarize(found).force_rmse


def energy_spread(found) -> float:
    """Standard deviation of the errors of the energies of a `Comparison`, eV/atom; NaN without energies."""
    of = zip(found.energy, found.n_atoms, strict=True)
    error_f = [(pair[1] - pair[0]) / n for pair, n in of if pair is not None]
    return float(np.std(error_f)) if error_f else float("nan")


def settings_of(options):
    """The input of the run: the sections of --model, or a NEP and the filter, on these frames."""
    from kalmandp.training.config.inputs import read_input

    given = {"model": {"type": "nep"}, "optimizer": {"type": "RLEKF"}}
    if options.model:
        given = json.loads(Path(options.model).read_text(encoding="utf-8"))
    training = {
        "training_data": {"systems": [str(Path(options.data).resolve())]}, "numb_epoch": options.passes,
        "seed": options.seed, "disp_freq": 10**9, "save_freq": 10**9,
    }  # fmt: skip
    kept = {name: given[name] for name in ("model", "optimizer", "loss", "learning_rate") if name in given}
    return read_input({**kept, "training": training})


def child(options) -> None:
    """One process: train until the errors are reached, then write what happened as one line of JSON."""
    from kalmandp.training.loop import Run

    with tempfile.TemporaryDirectory() as folder:
        run = Run(settings_of(options), folder)
        began, costs, reached, energy, force = time.perf_counter(), [], False, np.nan, np.nan
        steps = min(2, run.n_steps) if options.warm_up else run.n_steps
        while run.step_number < steps and not reached:
            run.step()
            now = time.perf_counter()
            due = len(costs) < AT_ONCE or SHARE * (now - began) >= min(costs)
            if due or run.step_number == steps:
                energy, force = errors_of(run)
                reached = 1e3 * energy <= options.energy and 1e3 * force <= options.force
                began = time.perf_counter()
                costs.append(began - now)
        seconds = time.time() - options.began
        run.result().save(Path(folder) / run.settings.training.model_file)
        told = {
            "reached": reached, "seconds": seconds, "saved": time.time() - options.began, "energy": energy,
            "force": force, "steps": run.step_number, "passes": run.feed.progress,
            "weights": run.potential.layout.size, "frames": len(run.data),
            "processor": time.process_time(),
        }  # fmt: skip
    print(json.dumps(told))


def a_process(*extra: str) -> dict:
    """What a fresh process of this script tells; its clock starts here."""
    began = f"{time.time():.6f}"
    command = [sys.executable, __file__, *sys.argv[1:], "--began", began, *extra]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(DATA / "si64_lda_train.h5"), help="file of training frames")
    parser.add_argument("--model", metavar="INPUT.json", help="its model and optimizer, in place of a NEP")
    parser.add_argument("--energy", type=float, default=2.0, help="RMSE without the mean, meV/atom (2)")
    parser.add_argument("--force", type=float, default=80.0, help="RMSE, meV/Å (80)")
    parser.add_argument("--passes", type=float, default=40.0, help="over the frames, at most (40)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="an easy target, one round: seconds")
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--warm-up", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.small:
        options.energy, options.force, options.rounds = 20.0, 400.0, 1
    with_threads(options.threads)
    if options.began is not None:
        child(options)
        return 0
    first = a_process("--warm-up")
    print(f"{Path(options.data).name}: {first['frames']} frames, N = {first['weights']:,}", end="; ")
    print(f"to {options.energy:g} meV/atom and {options.force:g} meV/Å, {options.threads} thread(s)")
    print(f"{'seconds':>9}{'saved':>8}{'processor':>11}{'passes':>8}{'steps':>7}{'meV/atom':>10}{'meV/Å':>8}")
    told = []
    for _ in range(options.rounds):
        t = a_process()
        told.append(t)
        print(
            f"{t['seconds']:9.2f}{t['saved']:8.2f}{t['processor']:11.2f}{t['passes']:8.2f}{t['steps']:7}",
            end="",
        )
        end = "" if t["reached"] else "  not reached"
        print(f"{1e3 * t['energy']:10.3f}{1e3 * t['force']:8.2f}{end}", flush=True)
    if (load := machine()["load"]) is not None:
        print(f"other programs and this one in the last five minutes: load {load[1]:.1f}")
    print(f"median {np.median([t['seconds'] for t in told]):.2f} s of the whole process")
    return 0 if all(t["reached"] for t in told) else 1


if __name__ == "__main__":
    sys.exit(main())
