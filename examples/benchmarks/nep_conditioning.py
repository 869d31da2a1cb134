"""P of a NEP, or a Deep Potential, over 100,000 updates: trace, eigenvalues, and the errors of the model.

    python examples/benchmarks/nep_conditioning.py [--updates 100000] [--small] [--model dp]
        [--data train.xyz [--forces 12] [-o FOLDER]]

Some combinations of weights change nothing: the scale of c against that of W0, for each radial function and
type. No measurement says anything of them, so along them a filter that forgets has P = P₀/Λ, with Λ = Π λ_i
over all updates. With the λ of the preset, which tends to 1, Λ has a limit above zero (`kalman/theorem.py:
remembered`), and P stays below P₀/Λ for ever. With a λ that stays below 1 it grows without bound, until P
has no more digits for what is known well: the second table.

By default rock salt of ``data/thirteen`` and a small NEP; with --data frames of yours and GPUMD's default
form. With --model dp a small Deep Potential with the default of its kind: two numbers an update, coupled
blocks of 128, of all of which the largest and smallest eigenvalue are printed. One thread. "max" and "min"
are the largest and smallest eigenvalue of P over P₀, "max/min" is the condition number of P; errors are
those of the test frames, with --data of the training frames, of the mean of the weights. With -o the run is
saved at each line and every minute, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from support.turns import with_threads

import kalmandp
from kalmandp.errors import FilterError
from kalmandp.kalman.theorem import remembered
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run

DATA = Path(__file__).resolve().parents[2] / "data" / "thirteen"
#: Seconds between two savings of a run with -o.
SAVE_EVERY = 60.0
#: Lines of a table for each factor of ten of updates.
PER_DECADE = 2
MODEL = {"type": "nep", "cutoff": [5, 4], "n_max": [3, 3], "basis_size": [4, 4], "l_max": [3, 1], "neuron": 6}
DEEP = {
    "descriptor": {
        "type": "se_e2_a", "sel": "auto:1.5", "rcut": 5.0, "rcut_smth": 0.5, "neuron": [8, 16],
        "axis_neuron": 4, "type_one_side": True,
    },
    "fitting_net": {"neuron": [16, 16]},
}  # fmt: skip


def run_of(options, folder, **optimizer) -> Run:
    """The run, from its beginning or as its checkpoint left it."""
    data, model = str(DATA / "NaCl_train.h5"), MODEL
    if options.data:
        data, model = options.data, {"type": "nep"}
    if options.model == "dp":
        model = DEEP
    training = {
        "training_data": {"systems": [data]}, "numb_steps": options.updates, "seed": 1, "disp_freq": 10**9,
        "save_freq": 10**9,
    }  # fmt: skip
    tree = {"model": {**model, "type_map": list(kalmandp.Dataset(data).type_map)}, "training": training}
    groups = {} if options.model == "dp" else {"group_size": options.forces // 3}
    section = {"type": "RLEKF", "with_virial": False, **groups, **optimizer}
    settings = read_input({**tree, "optimizer": section})
    saved = Path(folder) / settings.checkpoint_name
    return Run(settings, folder, restart=saved if saved.is_file() else None)


def follow(run: Run, updates: int, test, save: bool) -> None:
    c = run.trainer.choices
    n_blocks = len(run.trainer.filter.blocks)
    print(f"N = {run.potential.layout.size}, {n_blocks} blocks, λ₁ {c.lam:g}, ν {c.nu:g}, P₀ {c.p0:g}")
    head = f"{'updates':>9}{'tr P/tr P₀':>12}{'max':>10}{'1/Λ':>10}{'min':>10}{'max/min':>10}"
    print(f"{head}{'meV/atom':>10}{'meV/Å':>8}{'s':>8}")
    saved = time.monotonic()
    points = max(2, round(PER_DECADE * np.log10(updates)))
    for until in np.unique(np.geomspace(10, updates, points).round().astype(int)):
        if until < run.trainer.updates:
            continue
        try:
            while run.trainer.updates < until:
                run.step()
                if save and time.monotonic() - saved > SAVE_EVERY:
                    run.checkpoint()
                    saved = time.monotonic()
        except FilterError as error:
            print(f"  after {run.trainer.updates:,} updates: {str(error).rpartition(': ')[2]}")
            return
        if save:
            run.checkpoint()
        kalman = run.trainer.filter
        blocks = [kalman.covariance.dense(l) / c.p0 for l in range(len(kalman.blocks))]
        eigenvalues = np.sort(np.concatenate([np.linalg.eigvalsh(P) for P in blocks]))
        errors = kalmandp.evaluate(run.result(), test)
        print(
            f"{until:9,}{eigenvalues.mean():12.4f}{eigenvalues[-1]:10.3g}"
            f"{1 / remembered(int(until), c.lam, c.nu):10.3g}{eigenvalues[0]:10.1e}"
            f"{eigenvalues[-1] / eigenvalues[0]:10.1e}"
            f"{1e3 * errors.energy_rmse:10.3f}{1e3 * errors.force_rmse:8.2f}{run.seconds:8.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=100_000)
    parser.add_argument("--model", choices=("nep", "dp"), default="nep")
    parser.add_argument("--data", help="file of frames, in place of rock salt")
    parser.add_argument("--forces", type=int, default=24, help="force components of an update (24)")
    parser.add_argument("-o", "--output", help="folder to save the run in, and to go on from")
    parser.add_argument("--small", action="store_true", help="some updates: seconds, not minutes")
    options = parser.parse_args()
    with_threads(1)
    if options.small:
        options.updates = 100
    test = list(kalmandp.Dataset(options.data or DATA / "NaCl_test.h5"))
    with tempfile.TemporaryDirectory() as folder:
        run = run_of(options, options.output or folder)
        follow(run, options.updates, test, bool(options.output))
        print("\nλ that stays where it is")
        follow(run_of(options, folder, lam=0.99, nu=1.0), min(options.updates, 3000), test, False)


if __name__ == "__main__":
    main()
