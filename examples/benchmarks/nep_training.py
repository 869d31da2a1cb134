"""Whole trainings of a NEP, error against seconds: the filter, Adam and SNES on one model; a Deep Potential.

    python examples/benchmarks/nep_training.py [--train FRAMES] [--test FRAMES] [--seconds 60] [--small]
        [--budgets 10 30] [--candidates NEP/RLEKF NEP/Adam NEP/SNES DP/RLEKF] [--figure FILE.png]

Without --train the data are the silicon of ``data/``. Without --test the last fifth of a shuffle of the
training frames (seed 1) is the test. Seconds are of the processor, of one thread unless --threads says
otherwise, after two steps of a run of its own, which compile. A run is as long as its seconds allow at the
rate of those steps: Adam's learning rate falls over the whole of it, and the mean of the filter's weights is
over its last third. So each line of a table is the end of a run of its own (--budgets), and each curve one
run. The first steps find neighbours too, later passes do not: a run may end before its seconds. Test errors
are evaluated outside of the clock.

SNES takes ``--batch`` frames to a generation of 50 members, Adam and the filter one to a step. All begin with
the same weights.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from support.turns import with_threads

import kalmandp
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run

DATA = Path(__file__).resolve().parents[2] / "data"
#: Steps before the clock runs; those that tell how long one takes go on for so many seconds.
WARM_UP, PROBE = 2, 0.3
#: Points of a curve, evenly spaced in the logarithm of the seconds, and the earliest share of a run.
POINTS, EARLIEST = 12, 0.01

MODELS = {
    "NEP": {"type": "nep"},
    "NEP-large": {
        "type": "nep", "cutoff": [6, 5], "n_max": [7, 7], "basis_size": [11, 11], "l_max": [6, 1],
    },
    "DP": {
        "descriptor": {
            "type": "se_e2_a", "rcut": 6.0, "rcut_smth": 0.5, "neuron": [25, 25, 25], "axis_neuron": 16,
            "type_one_side": True,
        },
        "fitting_net": {"neuron": [50, 50, 50]},
    },
}  # fmt: skip
#: Candidates by default: one model, three optimizers, and another model.
CANDIDATES = ("NEP/RLEKF", "NEP/Adam", "NEP/SNES", "DP/RLEKF")


def settings(options, candidate: str, steps: int):
    """The input of a candidate, "model/optimizer"."""
    name, optimizer = candidate.split("/")
    size = {"batch_size": options.batch} if optimizer == "SNES" else {}
    choices = MODELS[name] | (options.model if name.startswith("NEP") else {})
    training = {
        "training_data": {"systems": [options.train], **size}, "numb_steps": steps, "seed": 1,
        "disp_freq": 10**9, "save_freq": 10**9,
    }  # fmt: skip
    tree = {"model": {**choices, "type_map": list(options.types)}, "training": training}
    return read_input({**tree, "optimizer": {"type": optimizer}})


def seconds_of_a_step(options, candidate: str, folder: str) -> float:
    run = Run(settings(options, candidate, 10**6), folder)
    for _ in range(WARM_UP):
        run.step()
    began, count, taken = time.process_time(), 0, 0.0
    while taken < PROBE:
        run.step()
        count, taken = count + 1, time.process_time() - began
    return taken / count


def trained(options, candidate: str, seconds: float, points: int, test) -> list[tuple]:
    """Seconds, test RMSE of energy (eV/atom) and force (eV/Å), their MAE, steps: at points of a run."""
    with tempfile.TemporaryDirectory() as folder:
        steps = max(2, int(seconds / seconds_of_a_step(options, candidate, folder)))
        run = Run(settings(options, candidate, steps), folder)
        at = {steps} if points == 1 else {*np.geomspace(max(1, EARLIEST * steps), steps, points).astype(int)}
        rows, used = [], 0.0
        while run.step_number < steps:
            began = time.process_time()
            run.step()
            used += time.process_time() - began
            if run.step_number in at:
                m = kalmandp.evaluate(run.result(), test)
                errors = m.energy_rmse, m.force_rmse, m.energy_mae, m.force_mae
                rows.append((used, *errors, run.step_number))
        return rows


def table(results: dict) -> str:
    lines = ["| | seconds | steps | E RMSE | E MAE | F RMSE | F MAE |", "|---|---|---|---|---|---|---|"]
    for (candidate, _), rows in results.items():
        s, e, f, e_mae, f_mae, steps = rows[-1]
        lines.append(
            f"| {candidate} | {s:.1f} | {steps} | {1e3 * e:.2f} | {1e3 * e_mae:.2f} | {1e3 * f:.1f} "
            f"| {1e3 * f_mae:.1f} |"
        )
    return "\n".join(lines)


def figure(results: dict, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(1, 2, figsize=(8.2, 3.4), constrained_layout=True)
    for candidate, rows in ((name, np.array(rows)) for (name, _), rows in results.items()):
        for axis, column in ((axes[0], 2), (axes[1], 1)):
            axis.loglog(rows[:, 0], 1e3 * rows[:, column], "o-", ms=3, label=candidate)
    axes[0].set(xlabel="seconds of the processor", ylabel="force RMSE, test frames (meV/Å)")
    axes[1].set(xlabel="seconds of the processor", ylabel="energy RMSE, test frames (meV/atom)")
    axes[0].legend(frameon=False)
    for axis in axes:
        axis.grid(alpha=0.25, which="both", lw=0.5)
    drawn.savefig(path, dpi=110)


def divided(options) -> list:
    """Test frames; without a file of them ``options.train`` becomes one of four fifths of its frames."""
    data = kalmandp.Dataset(options.train)
    options.types = data.type_map
    if options.test:
        test = kalmandp.Dataset(options.test)
        return list(test)
    order = np.random.default_rng(1).permutation(len(data))
    cut = len(data) - len(data) // 5
    options.train = str(Path(options.folder) / "train.h5")
    kalmandp.Dataset.write(options.train, [data[int(k)] for k in np.sort(order[:cut])])
    return [data[int(k)] for k in np.sort(order[cut:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", default=str(DATA / "si64_lda_train.h5"), help="file of frames")
    parser.add_argument("--test", help="file of frames")
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), metavar="MODEL/OPTIMIZER")
    parser.add_argument("--budgets", nargs="+", type=float, help="seconds; a run for each, and no curve")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=10, help="frames of a generation of SNES")
    parser.add_argument("--neuron", type=int, help="width of the NEP's hidden layer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figure")
    parser.add_argument("--small", action="store_true", help="some steps of each: seconds, not minutes")
    options = parser.parse_args()
    with_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.train == parser.get_default("train") and not options.test:
        options.test = str(DATA / "si64_lda_test.h5")
    options.model = {} if options.neuron is None else {"neuron": options.neuron}
    with tempfile.TemporaryDirectory() as folder:
        options.folder = folder
        test = divided(options)
        if options.small:
            options.seconds, test = 0.3, test[:2]
        results = {}
        for seconds in options.budgets or [options.seconds]:
            for candidate in options.candidates:
                with contextlib.redirect_stderr(io.StringIO()):
                    rows = trained(options, candidate, seconds, 1 if options.budgets else POINTS, test)
                results[candidate, seconds] = rows
                for s, e, f, *_, steps in rows:
                    print(f"{candidate:14}{s:8.1f} s{steps:7} steps", end="")
                    print(f"{1e3 * e:9.2f} meV/atom{1e3 * f:8.1f} meV/Å", flush=True)
    name = Path(options.train).name
    print(f"\n{name}, {len(test)} test frames, {options.threads} thread(s); meV/atom, meV/Å\n")
    print(table(results))
    if options.figure:
        figure(results, options.figure)


if __name__ == "__main__":
    main()
