"""How a training begins on many frames, and whether its memory stays: 100,000 frames of thirteen materials.

    python examples/benchmarks/large_data.py [--small] [--frames 100000] [--folder large] [--ranks 2]

The frames are those of data/thirteen, again and again with a little noise on the positions; the labels stay,
so that nothing is learnt here. Seconds are from the start of the program; frames per second are of the steps
after the first; memory is what a process has in use (RSS), of which a GiB at most are frames that it keeps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import kalmandp
from kalmandp.ranks.team import Alone, team_of
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "data" / "thirteen").glob("*_train.h5"))
NOISE = 0.01
MODEL = {
    "descriptor": {
        "type": "se_e2_a", "rcut": 5.0, "sel": "auto", "neuron": [8, 16], "axis_neuron": 4,
        "type_one_side": True,
    },
    "fitting_net": {"neuron": [24, 24]},
}  # fmt: skip


def make(folder: Path, n_frames: int) -> None:
    """A file for each material, with its share of the frames."""
    rng = np.random.default_rng(0)
    for k, source in enumerate(SOURCES):
        share = n_frames * (k + 1) // len(SOURCES) - n_frames * k // len(SOURCES)
        with kalmandp.Dataset(source) as data:
            frames = list(data)
        kalmandp.Dataset.write(folder / source.name, _noisy(frames, share, rng))


def _noisy(frames: list, n: int, rng: np.random.Generator):
    for frame in itertools.islice(itertools.cycle(frames), n):
        yield replace(frame, positions=frame.positions + rng.normal(0.0, NOISE, frame.positions.shape))


def resident() -> float:
    """GiB that this process has in use; not a number where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def child(folder: Path, steps: int, batch: int, began: float) -> None:
    """One run on all ranks that there are; rank 0 prints what it saw, a line of JSON."""
    tree = {
        "model": MODEL,
        "optimizer": {"type": "RLEKF"},
        "training": {
            "training_data": {"systems": [str(p) for p in sorted(folder.glob("*.h5"))], "batch_size": batch},
            "numb_steps": 10**6, "disp_freq": 10**6, "save_freq": 10**6, "seed": 1,
        },
    }  # fmt: skip
    team = team_of()
    with tempfile.TemporaryDirectory() as output:
        run = Run(read_input(tree), output, team=team)
        ready = time.time() - began
        run.step()
        told = {"ready": ready, "first": time.time() - began, "frames": len(run.data)}
        memory, rates = [resident()], []
        for _ in range(3):
            start = time.perf_counter()
            for _ in range(steps):
                run.step()
            rates.append(batch * steps / (time.perf_counter() - start))
            memory.append(resident())
    every = (team or Alone()).all(memory)
    if team is None or team.rank == 0:
        print(json.dumps({**told, "memory": every, "rates": rates}))


def measured(folder: Path, steps: int, ranks: int, batch: int) -> dict:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, __file__, "--child", "--folder", str(folder), "--steps", str(steps)]
    words += ["--batch", str(batch), "--began", str(time.time())]
    if ranks > 1:
        env |= dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        beside = Path(sys.executable).with_name("mpiexec")
        mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec"
        words = [mpiexec, "-n", str(ranks), *words]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="3,000 frames, few steps: seconds")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--folder", help="keep the frames here, or take those that are here")
    parser.add_argument("--steps", type=int, default=500, help="between two looks at the memory")
    parser.add_argument("--ranks", type=int, default=1, help="of MPI, one thread each; 1 is without MPI")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(Path(args.folder), args.steps, args.batch, args.began)
        return
    if args.small:
        args.frames, args.steps = 3000, 5
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.folder or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not list(folder.glob("*.h5")):
            began = time.perf_counter()
            make(folder, args.frames)
            print(f"{args.frames:,} frames made in {time.perf_counter() - began:.0f} s")
        told = measured(folder, args.steps, args.ranks, args.batch)
    print(
        f"{told['frames']:,} frames, {len(told['memory'])} rank(s): ready after {told['ready']:.1f} s, "
        f"first step done after {told['first']:.1f} s"
    )
    print("frames per second: " + ", ".join(f"{x:.0f}" for x in told["rates"]))
    for rank, memory in enumerate(told["memory"]):
        print(f"rank {rank}, GiB in use every {args.steps} steps: " + ", ".join(f"{x:.3f}" for x in memory))


if __name__ == "__main__":
    main()
