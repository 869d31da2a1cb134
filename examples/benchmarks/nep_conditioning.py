"""P of a NEP over 100,000 updates: its trace, its eigenvalues, and the errors of the model.

    python examples/benchmarks/nep_conditioning.py [--updates 100000] [--small]

Some combinations of weights change nothing: the scale of c against that of W0, for each radial function and
type. No measurement says anything of them, so along them a filter that forgets has P = P₀/Λ, with Λ = Π λ_i
over all updates. With the λ of the preset, which tends to 1, Λ has a limit above zero (`kalman/theorem.py:
remembered`), and P stays below P₀/Λ for ever. With a λ that stays below 1 it grows without bound, until P
has no more digits for what is known well: the second table.

Rock salt of ``data/thirteen``, a small NEP, one thread. "max" and "min" are the largest and smallest
eigenvalue of P over P₀; errors are those of the test frames, of the mean of the weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from support.turns import with_threads

import kalmandp
from kalmandp.errors import FilterError
from kalmandp.kalman.theorem import remembered
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run

DATA = Path(__file__).resolve().parents[2] / "data" / "thirteen"
MODEL = {"type": "nep", "cutoff": [5, 4], "n_max": [3, 3], "basis_size": [4, 4], "l_max": [3, 1], "neuron": 6}


def run_of(updates: int, folder: str, **optimizer) -> Run:
    training = {
        "training_data": {"systems": [str(DATA / "NaCl_train.h5")]}, "numb_steps": updates, "seed": 1,
        "disp_freq": 10**9, "save_freq": 10**9,
    }  # fmt: skip
    tree = {"model": {**MODEL, "type_map": ["Na", "Cl"]}, "training": training}
    return Run(read_input({**tree, "optimizer": {"type": "RLEKF", "group_size": 8, **optimizer}}), folder)


def follow(run: Run, updates: int, test) -> None:
    c = run.trainer.choices
    print(f"N = {run.potential.layout.size}, λ₁ {c.lam:g}, ν {c.nu:g}, P₀ {c.p0:g}")
    print(f"{'updates':>9}{'tr P/tr P₀':>12}{'max':>10}{'1/Λ':>10}{'min':>10}{'meV/atom':>10}{'meV/Å':>8}")
    for until in np.unique(np.geomspace(10, updates, max(2, round(np.log10(updates)))).round().astype(int)):
        try:
            while run.step_number < until:
                run.step()
        except FilterError as error:
            print(f"  after {run.step_number:,} updates: {str(error).rpartition(': ')[2]}")
            return
        P = run.trainer.filter.covariance.dense(0) / c.p0
        eigenvalues = np.linalg.eigvalsh(P)
        errors = kalmandp.evaluate(run.result(), test)
        print(
            f"{until:9,}{np.trace(P) / len(P):12.4f}{eigenvalues[-1]:10.3g}"
            f"{1 / remembered(int(until), c.lam, c.nu):10.3g}{eigenvalues[0]:10.1e}"
            f"{1e3 * errors.energy_rmse:10.3f}{1e3 * errors.force_rmse:8.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=100_000)
    parser.add_argument("--small", action="store_true", help="some updates: seconds, not minutes")
    options = parser.parse_args()
    with_threads(1)
    updates = 100 if options.small else options.updates
    test = list(kalmandp.Dataset(DATA / "NaCl_test.h5"))
    with tempfile.TemporaryDirectory() as folder:
        follow(run_of(updates, folder), updates, test)
        print("\nλ that stays where it is")
        follow(run_of(updates, folder, lam=0.99, nu=1.0), min(updates, 3000), test)


if __name__ == "__main__":
    main()
