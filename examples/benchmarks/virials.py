"""Virials learnt or not, by the filter or at the end: errors after equal seconds of one processor.

    python examples/benchmarks/virials.py [--data FRAMES ...] [--kinds dp nep hdnnp] [--seconds 20] [--small]
        [--candidates without default with] [--rcut 6] [--seed 1]

The trainings take turns, a second each, so that other work on the machine falls on all alike. They see the
same frames in the same order. A tenth of the frames of FRAMES (HDF5), by default the silicon of ``data/``, is
held out and judged by; test frames are not looked at. Errors are those of the model that would be saved,
after its last layer was solved for, where a candidate does that: "default" has virials there alone. That
solve is in the seconds that are printed, and the held-out frames decide whether it is kept.
"offset" is the mean of prediction − label on the diagonal of the held-out virials, "W" their RMSE without it.
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
#: Seconds of the processor until it is the other training's turn.
TURN = 1.0
#: Keys of the section optimizer.
CANDIDATES = {
    "without": {"with_virial": False, "last_layer": False},
    "with": {"with_virial": "present", "last_layer": False},
    "with, last layer": {"with_virial": "present"},
    "with, no offset": {"with_virial": "present", "virial_offset": False},
    "sigma_w 0.02": {"with_virial": "present", "sigma_w": 0.02},
    "sigma_w 0.05": {"with_virial": "present", "sigma_w": 0.05},
    "default": {},
}


def settings(options, data: str, kind: str, candidate: str):
    """The input of a candidate: the default model of its kind."""
    with kalmandp.Dataset(data) as frames:
        types = list(frames.type_map)
    model = {"type": kind, "type_map": types}
    if kind == "dp":
        descriptor = {
            "type": "se_e2_a", "sel": "auto:1.5", "rcut": options.rcut, "rcut_smth": 0.5,
            "neuron": [25, 25, 25], "axis_neuron": 16, "type_one_side": True,
        }  # fmt: skip
        model = {"type_map": types, "descriptor": descriptor, "fitting_net": {"neuron": [50, 50, 50]}}
    return read_input({
        "model": model,
        "optimizer": {"type": "RLEKF", **CANDIDATES[candidate]},
        "training": {
            "training_data": {"systems": [data]}, "validation_fraction": 0.1, "numb_steps": NEVER,
            "seed": options.seed, "disp_freq": NEVER, "save_freq": NEVER,
        },
    })  # fmt: skip


def trained(options, data: str, kind: str, folder: str):
    """By candidate: the run, and the seconds of the processor that it has had."""
    inputs = {name: settings(options, data, kind, name) for name in options.candidates}
    for one in inputs.values():
        run = Run(one, folder)
        for _ in range(WARM_UP):
            run.step()
    runs = {name: Run(one, folder) for name, one in inputs.items()}
    used = dict.fromkeys(runs, 0.0)
    for until in range(1, round(options.seconds / TURN) + 1):
        for name, run in runs.items():
            while used[name] < until * TURN:
                began = time.process_time()
                run.step()
                used[name] += time.process_time() - began
    for name, run in runs.items():
        began = time.process_time()
        run.finish()
        used[name] += time.process_time() - began
    return runs, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=[str(DATA)], help="files of frames")
    parser.add_argument("--kinds", nargs="+", default=["dp", "nep", "hdnnp"], choices=["dp", "nep", "hdnnp"])
    parser.add_argument(
        "--candidates", nargs="+", default=["without", "default", "with"], choices=list(CANDIDATES)
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rcut", type=float, default=6.0, help="cut-off of the Deep Potential, Å")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="a second each of a Deep Potential")
    options = parser.parse_args()
    with_threads(1)
    warnings.simplefilter("ignore")
    if options.small:
        options.seconds, options.rcut, options.kinds = 1.0, 4.0, ["dp"]
    print("| held-out frames | virials | seconds | steps | E, meV/atom | F, meV/Å | W, meV/atom | offset |")
    print("|---|---|---|---|---|---|---|---|")
    for data in options.data:
        for kind in options.kinds:
            with tempfile.TemporaryDirectory() as folder:
                runs, used = trained(options, data, kind, folder)
                for name, run in runs.items():
                    e = kalmandp.evaluate(run.result(), run.validation)
                    print(
                        f"| {Path(data).stem}, {kind} | {name} | {used[name]:.0f} | {run.step_number:,} "
                        f"| {1e3 * e.energy_rmse:.2f} | {1e3 * e.force_rmse:.1f} | {1e3 * e.virial_rest:.1f} "
                        f"| {1e3 * e.virial_mean:+.1f} |",
                        flush=True,
                    )  # fmt: skip


if __name__ == "__main__":
    main()
