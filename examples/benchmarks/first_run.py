"""What a training run costs besides its arithmetic: import, first step cold and warm, peak memory.

    python examples/benchmarks/first_run.py [--small] [--rounds 3] [--json FILE]

Each run is a process of its own that trains the RLEKF paper's network on 192 atoms of water. "Cold" has
nothing compiled, and compiles one kernel after the other (`kalmandp train` has two processes do it);
"warm" finds what an earlier run compiled. Peak memory (all that the process holds, checkpoint written) is
set against what must be there: half of N·N_b numbers of P, and the data, which are the frames and their
pairs. What Python, NumPy, Numba and HDF5 take before the run is stated apart.
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
from support import water
from support.turns import machine, write_json

import kalmandp
from kalmandp.kalman import Part, covariance_memory, partition

FRAMES = 4
#: What a process prints and the tables shows.
SHOWN = ("whole process", "import", "set-up", "first step", "second step", "later step", "checkpoint")


def train(path: str, steps: int) -> None:
    """One run in this process; prints what it took as JSON."""
    began = time.perf_counter()
    import resource

    from numba.core import event

    from kalmandp.training.config.inputs import read_input
    from kalmandp.training.loop import Run

    compiled = Compiled()
    event.Listener.register(Compiled)  # Numba asks for the class; what it calls is `notify`
    event.register("numba:compile", compiled)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    marks = [("import", time.perf_counter() - began)]
    before = peak()

    def mark(name: str, what) -> None:
        start = time.perf_counter()
        what()
        marks.append((name, time.perf_counter() - start))

    runs: list[Run] = []
    mark("set-up", lambda: runs.append(Run(read_input(path), Path(path).parent / "out")))
    (run,) = runs
    mark("first step", run.step)
    mark("second step", run.step)
    seconds = []
    for _ in range(steps - 2):
        start = time.perf_counter()
        run.step()
        seconds.append(time.perf_counter() - start)
    marks.append(("later step", float(np.median(seconds))))
    stepped = peak()
    mark("checkpoint", run.checkpoint)
    memory = {"before": before, "steps": stepped, "checkpoint": peak(), "data": run.frames.used}
    print(json.dumps({"seconds": dict(marks), "memory": memory, "compiled": compiled.seconds}))


class Compiled:
    """Listens to Numba: seconds that each kernel took to compile, with all its parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._starts: list[float] = []

    def notify(self, event) -> None:
        if event.is_start:
            self._starts.append(time.perf_counter())
            return
        start = self._starts.pop()
        if not self._starts:
            name = event.data["dispatcher"].py_func.__name__
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def write_input(folder: Path, small: bool) -> Path:
    """Data and settings of the run."""
    n_atoms, block_size = (24, 512) if small else (192, 5120)
    frames = [water.labelled(water.water(n_atoms, seed)) for seed in range(FRAMES)]
    kalmandp.Dataset.write(folder / "water.h5", frames)
    network = water.NETWORK
    tree = {
        "model": {
            "type_map": list(water.TYPE_MAP),
            "descriptor": {
                "type": "se_e2_a", "sel": list(water.SEL), "rcut": water.RCUT, "rcut_smth": water.RCUT_SMTH,
                "neuron": list(network["embedding"]), "axis_neuron": network["axis_neuron"],
                "type_one_side": True,
            },
            "fitting_net": {"neuron": list(network["fitting"]), "resnet_dt": False},
        },
        "optimizer": {"type": "RLEKF", "block_size": block_size},
        "training": {
            "training_data": {"systems": [str(folder / "water.h5")]}, "numb_steps": 100, "seed": 1,
            "disp_freq": 1000, "save_freq": 1000,
        },
    }  # fmt: skip
    path = folder / "input.json"
    path.write_text(json.dumps(tree))
    return path


def measure(path: Path, cache: Path | None, steps: int) -> dict:
    """One run in a process of its own; ``cache`` is where its compiled code is, None for the usual place."""
    own = {} if cache is None else {"NUMBA_CACHE_DIR": str(cache)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--run", str(path), "--steps", str(steps)], check=True, text=True,
        stdout=subprocess.PIPE, env=os.environ | own,
    )  # fmt: skip
    record = json.loads(done.stdout.splitlines()[-1])
    record["seconds"]["whole process"] = time.perf_counter() - start
    return record


def import_time() -> float:
    """Seconds of ``import kalmandp`` in a fresh Python, without the time Python itself takes to start."""
    code = "import time; t = time.perf_counter(); import kalmandp; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], check=True, text=True, stdout=subprocess.PIPE)
    return float(done.stdout)


def needed(block_size: int, data: int) -> dict[str, int]:
    """Bytes that must be there: N weights' P as halves, and the data."""
    layout = water.potential(water.labelled(water.water(24))).layout
    blocks = partition([Part(t.name, t.size, t.layer) for t in layout.tensors], "RLEKF", block_size)
    return {"P": covariance_memory(blocks).halves, "data": data}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="24 atoms, blocks of 512, and no cold run")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=8, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return train(options.run, options.steps)

    print(f"import kalmandp: {1e3 * np.median([import_time() for _ in range(options.rounds)]):.1f} ms")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_input(folder, options.small)
        runs = {}
        cache = folder / "cache"
        if options.small:
            measure(path, None, options.steps)
            runs["warm"] = [measure(path, None, options.steps) for _ in range(options.rounds)]
        else:
            runs["cold"] = [measure(path, cache, options.steps)]
            runs["warm"] = [measure(path, cache, options.steps) for _ in range(options.rounds)]
    print(f"{'seconds (medians)':20}" + "".join(f"{what:>15}" for what in SHOWN))
    for kind, records in runs.items():
        values = [np.median([r["seconds"][what] for r in records]) for what in SHOWN]
        print(f"{kind:20}" + "".join(f"{value:15.3f}" for value in values))

    for record in runs.get("cold", ()):
        for kernel, value in sorted(record["compiled"].items(), key=lambda item: -item[1]):
            print(f"  compiled {kernel:20} {value:8.2f} s")

    memory = runs["warm"][-1]["memory"]
    must = needed(512 if options.small else 5120, memory["data"])
    MB = 1e-6
    print(f"memory: P as halves {MB * must['P']:.0f} MB, data {MB * must['data']:.0f} MB, ", end="")
    print(f"Python and packages {MB * memory['before']:.0f} MB")
    for when in ("steps", "checkpoint"):
        peak = memory[when]
        ratio, apart = peak / sum(must.values()), (peak - memory["before"]) / sum(must.values())
        print(f"peak after {when:10} {MB * peak:7.0f} MB = {ratio:.3f} (P + data)", end="")
        print(f"; {apart:.3f} without the packages")
    if options.json:
        write_json(options.json, {"machine": machine(), "runs": runs, "needed": must})


if __name__ == "__main__":
    main()
