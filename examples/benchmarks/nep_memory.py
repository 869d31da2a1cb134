"""How much memory the training of a NEP takes: 1,000 frames of 250 atoms, a pass and a half over them.

    python examples/benchmarks/nep_memory.py [--frames 1000] [--cells 5] [--cutoff 8] [--limit GiB] [--small]

Lead telluride as in `nep.py`, every frame displaced anew, labels by a NEP of random weights; the model is
GPUMD's default, N = 3,033, the filter ours, virials too. The frames lie in train.xyz, as a user's do. The
training is a process of its own; what it took at most (its resident set, ru_maxrss) is printed. With
``--limit`` it may not have more addresses than that (RLIMIT_AS).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from nep import TYPES, crystal

import kalmandp
from kalmandp.formats.extxyz import write_extxyz


def labelled(count: int, cells: int, rng):
    """Frames with the energy, forces and virial of a NEP that nobody trained."""
    first = crystal(rng, (cells,) * 3)
    teacher = kalmandp.Potential.create(TYPES, kind="nep", frames=[first], rng=rng)
    for _ in range(count):
        frame = crystal(rng, (cells,) * 3)
        E, F, W, _ = teacher.evaluate(frame)
        yield kalmandp.Frame(
            frame.positions, frame.types, TYPES, cell=frame.cell, energy=E, forces=F, virial=W
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--cells", type=int, default=5, help="n: a frame has 2 n³ atoms")
    parser.add_argument("--cutoff", type=float, default=8.0, help="radial, Å")
    parser.add_argument("--passes", type=float, default=1.5)
    parser.add_argument("--limit", type=float, help="GiB of addresses that the training may have")
    parser.add_argument("--small", action="store_true", help="a few small frames")
    options = parser.parse_args()
    if options.small:
        options.frames, options.cells = 4, 3
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_extxyz(place / "train.xyz", labelled(options.frames, options.cells, np.random.default_rng(1)))
        tree = {
            "model": {"type": "nep", "type_map": list(TYPES), "cutoff": [options.cutoff, 4.0]},
            "optimizer": {"type": "RLEKF", "with_virial": True},
            "training": {
                "training_data": {"systems": ["train.xyz"]}, "numb_epoch": options.passes, "seed": 1,
            },
        }  # fmt: skip
        (place / "input.json").write_text(json.dumps(tree))
        limited = None
        if options.limit:
            most = int(options.limit * 2**30)
            limited = lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most))
        command = ["-m", "kalmandp", "train", str(place / "input.json"), "-o", folder]
        command += ["--quiet", "--skip-plots"]
        root = str(Path(kalmandp.__file__).resolve().parents[1])
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, *command], check=True, preexec_fn=limited, env={**os.environ, "PYTHONPATH": root}
        )
        taken = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (place / "train.xyz").stat().st_size
    print(
        f"{options.frames:,} frames of {2 * options.cells**3} atoms, {options.passes:g} passes, train.xyz of "
        f"{size / 1e6:.0f} MB: {taken:.0f} s, of the processor {used.ru_utime + used.ru_stime:.0f} s; "
        f"memory at most {used.ru_maxrss / 2**20:.2f} GiB"
    )


if __name__ == "__main__":
    main()
