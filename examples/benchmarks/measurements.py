"""What a Deep Potential learns from a frame, at equal seconds: pairs of numbers, or a matrix.

    python examples/benchmarks/measurements.py [--data FRAMES] [--seconds 20] [--candidates default matrix]
        [--rcut 8] [--small]

A candidate (`CANDIDATES`) is a network and keys of the section optimizer. All see the same frames in the same
order. A tenth of the frames of FRAMES, by default the silicon of ``data/``, is held out and judged by; test
frames are not looked at. Seconds are those of the processor, of one thread unless --threads says otherwise,
after some steps of a run of its own, which compile; looks at the held-out frames do not count. Errors are
those of the model that would be saved, with averaged weights, after a quarter, a half and all of the seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

from support.turns import with_threads

import kalmandp
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run

DATA = Path(__file__).resolve().parents[2] / "data" / "si64_lda_train.h5"
WARM_UP = 3
NEVER = 10**9

#: Embedding, M‹ and fitting net: the paper's (26,651 weights for one type), and some whose P may be whole.
PAPER = ([25, 25, 25], 16, [50, 50, 50])
SMALL = ([10, 20], 8, [20, 20])
SMALLER = ([8, 16], 5, [24, 24])
MATRIX = {"preset": "matrix", "p0": 1.0, "group_size": 16}

#: By name: network, and keys of the optimizer. "matrix" is the best matrix form that was found for silicon.
CANDIDATES = {
    "default": (PAPER, {}),
    "default, whole P, N 3,900": (SMALL, {"block_size": 8192}),
    "joint, 4 groups": (PAPER, {"measurement": "joint", "n_groups": 4}),
    "joint, 8 groups": (PAPER, {"measurement": "joint", "n_groups": 8}),
    "joint, 16 groups, whole P, N 3,900": (
        SMALL,
        {**MATRIX, "measurement": "joint", "n_groups": 16, "group_size": "all"},
    ),
    "matrix": (SMALLER, MATRIX),
    "matrix, N 3,900": (SMALL, MATRIX),
}


def settings(options, candidate: str):
    """The input of a candidate."""
    (embedding, axis, fitting), optimizer = CANDIDATES[candidate]
    descriptor = {
        "type": "se_e2_a", "sel": "auto:1.5", "rcut": options.rcut, "rcut_smth": 0.5, "neuron": embedding,
        "axis_neuron": axis, "type_one_side": True,
    }  # fmt: skip
    return read_input({
        "model": {
            "type_map": list(options.types), "descriptor": descriptor, "fitting_net": {"neuron": fitting},
        },
        "optimizer": {"type": "RLEKF", **optimizer},
        "training": {
            "training_data": {"systems": [options.data]}, "validation_fraction": 0.1, "numb_steps": NEVER,
            "seed": options.seed, "disp_freq": NEVER, "save_freq": NEVER,
        },
    })  # fmt: skip


def trained(options, candidate: str):
    """(seconds, steps, N, errors on the held-out frames) at a quarter, a half and all of the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(settings(options, candidate), folder)
        for _ in range(WARM_UP):
            run.step()
        run = Run(settings(options, candidate), folder)
        used = 0.0
        for part in (0.25, 0.5, 1.0):
            while used < part * options.seconds:
                began = time.process_time()
                run.step()
                used += time.process_time() - began
            errors = kalmandp.evaluate(run.result(), run.validation)
            yield used, run.step_number, run.potential.layout.size, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(DATA), help="file of frames")
    parser.add_argument(
        "--candidates", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES), metavar="NAME"
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rcut", type=float, default=8.0, help="cut-off, Å")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="two candidates, a second each")
    options = parser.parse_args()
    with_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.small:
        options.seconds, options.rcut, options.candidates = 0.5, 4.0, ["default", "matrix"]
    with kalmandp.Dataset(options.data) as data:
        options.types = data.type_map
    print("| held-out frames | N | seconds | steps | meV/atom | meV/Å |\n|---|---|---|---|---|---|")
    for candidate in options.candidates:
        for used, steps, N, e in trained(options, candidate):
            print(
                f"| {candidate} | {N:,} | {used:.0f} | {steps:,} | {1e3 * e.energy_rmse:.2f} "
                f"| {1e3 * e.force_rmse:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
