"""A training step on several ranks of MPI beside one process, and beside what `plan --ranks` expects.

    python examples/benchmarks/ranks.py [--small] [--rounds 5] [--ranks 2 4]

Of each case, in turns: a step in one process of one thread and of two, and on ranks of one thread each. P is
what the rank with most of it keeps, and its share of what one rank keeps. RSS is all that a rank has in use.
"processor" is the rank's time of a processor: what a step would take if each rank had one for itself, but for
its waiting. "expected" is the model of `kalmandp.training.placement.ranks_model`, its parts measured in one
thread by the same clock. Without MPI this says so, and is done.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from support.memory import resident_mib

from kalmandp.ranks.team import Alone, team_of
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run
from kalmandp.training.placement.plan import make_plan
from kalmandp.training.placement.ranks_model import Network

ROOT = Path(__file__).resolve().parents[2]
#: Bandwidth and latency within a machine that is busy, for what is expected: bytes per second, seconds.
WITHIN = (5e9, 5e-6)


def cases(small: bool) -> dict[str, dict]:
    """Inputs by name: a NEP whose rows of H are shared out, and a Deep Potential that learns batches."""
    found = {}
    for name, folder, batch in (("nep", "nep", 1), ("deep potential, batch of 4", "silicon", 4)):
        tree = json.loads((ROOT / "examples" / folder / "input.json").read_text())
        training = tree["training"]
        training["training_data"] = {"systems": [str(ROOT / "data/si64_lda_train.h5")], "batch_size": batch}
        del training["validation_data"], training["numb_epoch"]
        training |= {"numb_steps": 1000, "disp_freq": 10**6, "save_freq": 10**6}
        if small:
            tree["model"] |= {"n_max": [2, 2], "basis_size": [3, 3], "neuron": 5} if folder == "nep" else {}
            if folder == "silicon":
                tree["model"]["descriptor"] |= {"rcut": 4.0, "neuron": [4, 8], "axis_neuron": 2}
                tree["model"]["fitting_net"]["neuron"] = [8]
        found[name] = tree
    return found


def child(tree: dict, steps: int) -> None:
    """One run, on all ranks that there are: rank 0 prints seconds of its steps and bytes of each rank's P."""
    team = team_of()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(read_input(tree), folder, team=team)
        seconds, processor = [], []
        for _ in range(3 + steps):
            (team or Alone()).all(None)
            began, before = time.perf_counter(), time.process_time()
            run.step()
            seconds.append(time.perf_counter() - began)
            processor.append(time.process_time() - before)
        P = run.trainer.filter.covariance
        told = (team or Alone()).all((P.nbytes, float(np.median(processor[3:])), resident_mib()))
    if team is None or team.rank == 0:
        memory, used, resident = (list(x) for x in zip(*told, strict=True))
        found = {"memory": memory, "processor": max(used), "resident": resident}
        print(json.dumps({"seconds": float(np.median(seconds[3:])), **found}), flush=True)


def measured(tree: dict, ranks: int, threads: int, *options: str) -> dict:
    """`child` in a process of its own (ranks 0), or under mpiexec."""
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    env = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(names, str(threads))}
    words = [sys.executable, __file__, "--child", json.dumps(tree), *options]
    start = [mpiexec(), "-n", str(ranks)] if ranks else []
    done = subprocess.run([*start, *words], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def mpiexec() -> str:
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec") or ""


def expected(tree: dict, ranks: int) -> float:
    """Seconds by the model of `plan --ranks`, its parts measured in one thread by the processor's clock."""
    if ranks == 1:
        return float("nan")  # a plan for one has no such model
    plan = make_plan(read_input(tree), ranks=ranks, network=Network(*WITHIN), clock=time.process_time)
    assert plan.on_ranks is not None and plan.on_ranks.seconds is not None
    return plan.on_ranks.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny models: seconds, to see that it works")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of which a median is taken, in each round")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--expect", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child and args.expect:
        print(json.dumps([expected(json.loads(args.child), R) for R in args.ranks]))
        return
    if args.child:
        child(json.loads(args.child), args.steps)
        return
    if importlib.util.find_spec("mpi4py") is None or not mpiexec():
        print('no MPI, so nothing was measured; pip install "kalmandp[mpi]" brings one')
        return
    if args.small:
        args.rounds, args.steps, args.ranks = 1, 3, [1, 2]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name, tree in cases(args.small).items():
        candidates = [(0, 1), (0, 2), *((r, 1) for r in args.ranks)]
        seconds: dict = {c: [] for c in candidates}
        processor: dict = {c: [] for c in candidates}
        memory: dict = {}
        resident: dict = {}
        for _ in range(args.rounds):
            for c in candidates:
                found = measured(tree, *c, "--steps", str(args.steps))
                seconds[c].append(found["seconds"])
                processor[c].append(found["processor"])
                memory[c], resident[c] = found["memory"], max(found["resident"])
        numbers = [str(R) for R in args.ranks]
        model: Any = measured(tree, 0, 1, "--expect", "--ranks", *numbers)
        two = np.median(seconds[0, 2])
        whole = sum(memory[args.ranks[0], 1])
        print(f"\n{name}: a step, medians of {args.rounds} rounds of {args.steps} steps; {cores} processors")
        heads = ("ms", 8), ("processor ms", 14), ("/ two threads", 15), ("P, most", 10), ("of one rank", 13)
        heads += ("RSS", 10), ("expected ms", 13)
        print(" " * 34 + "".join(f"{head:>{width}}" for head, width in heads))
        for ranks, threads in candidates:
            ms = 1e3 * np.median(seconds[ranks, threads])
            what = f"{ranks} ranks of one thread" if ranks else f"one process, {threads} threads"
            if ranks == 1:
                whole = memory[1, 1][0]
            used = 1e3 * np.median(processor[ranks, threads])
            line = f"{what:34}{ms:>8.2f}{used:>14.2f}{ms / (1e3 * two):>15.2f}"
            if ranks:
                most = max(memory[ranks, threads])
                line += f"{most / 2**20:>6.1f} MiB{most / whole:>13.3f}{resident[ranks, threads]:>6.0f} MiB"
                line += f"{1e3 * model[args.ranks.index(ranks)]:>13.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
