"""How a training begins on many frames, and whether its memory stays: 100,000 frames of thirteen materials.

    python examples/benchmarks/large_data.py [--small] [--frames 100000] [--folder F] [--ranks 2] [--keep 8]

The frames are those of data/thirteen, again and again with a little noise on the positions; the labels stay,
so that nothing is learnt here. Seconds are from the start of the program; frames per second are of the steps
after the first; memory is what a process has in use (RSS), of which a GiB at most, or ``--keep`` MiB, are
frames that it keeps: with few of them it is seen in a short time whether the rest stays.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from support.memory import resident_mib

import kalmandp
from kalmandp.ranks.team import Alone, team_of
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "data" / "thirteen").glob("*_train.h5"))
NOISE, LOOKS = 0.01, 6
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


def child(folder: Path, steps: int, batch: int, keep: int, began: float) -> None:
    """One run on all ranks that there are; rank 0 says what it sees."""
    tree = {
        "model": MODEL,
        "optimizer": {"type": "RLEKF"},
        "training": {
            "training_data": {"systems": [str(p) for p in sorted(folder.glob("*.h5"))], "batch_size": batch},
            "numb_steps": 10**6, "disp_freq": 10**6, "save_freq": 10**6, "seed": 1,
        },
    }  # fmt: skip
    ranks = team_of() or Alone()
    say = print if ranks.rank == 0 else lambda *words, **options: None
    with tempfile.TemporaryDirectory() as output:
        run = Run(read_input(tree), output, team=team_of())
        run.frames.budget = keep << 20
        say(f"{len(run.data):,} frames, {ranks.size} rank(s): ready after {_since(began)}", flush=True)
        run.step()
        say(f"first step done after {_since(began)}", flush=True)
        say(f"{'frames learnt':>15}{'frames/s':>10}   GiB in use on each rank", flush=True)
        for look in range(LOOKS):
            start = time.perf_counter()
            for _ in range(steps):
                run.step()
            rate = batch * steps / (time.perf_counter() - start)
            memory = ", ".join(f"{x:.3f}" for x in ranks.all(resident_mib() / 1024))
            say(f"{batch * (1 + (look + 1) * steps):>15,}{rate:>10.0f}   {memory}", flush=True)


def _since(began: float) -> str:
    return f"{time.time() - began:.1f} s, {time.process_time():.1f} s of them of the processor"


def start(folder: Path, steps: int, ranks: int, batch: int, keep: int) -> int:
    """`child` in a process of its own, or under mpiexec; what it says goes to the screen."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, __file__, "--child", "--folder", str(folder), "--steps", str(steps)]
    words += ["--batch", str(batch), "--keep", str(keep), "--began", str(time.time())]
    if ranks > 1:
        env |= dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        beside = Path(sys.executable).with_name("mpiexec")
        mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec"
        words = [mpiexec, "-n", str(ranks), *words]
    return subprocess.run(words, env=env, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="3,000 frames, few steps: seconds")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--folder", help="keep the frames here, or take those that are here")
    parser.add_argument("--steps", type=int, default=500, help="between two looks at the memory")
    parser.add_argument("--ranks", type=int, default=1, help="of MPI, one thread each; 1 is without MPI")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--keep", type=int, default=1024, help="MiB of frames that a rank keeps [1024]")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(Path(args.folder), args.steps, args.batch, args.keep, args.began)
        return 0
    if args.small:
        args.frames, args.steps = 3000, 5
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.folder or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not list(folder.glob("*.h5")):
            began = time.perf_counter()
            make(folder, args.frames)
            print(f"{args.frames:,} frames made in {time.perf_counter() - began:.0f} s", flush=True)
        return start(folder, args.steps, args.ranks, args.batch, args.keep)


if __name__ == "__main__":
    sys.exit(main())
