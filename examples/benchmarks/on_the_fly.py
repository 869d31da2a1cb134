"""Learning on the fly: what a label costs, the first and the 2,000th, and a check beside a prediction.

    python examples/benchmarks/on_the_fly.py [--small] [--labels 2000] [--json FILE]

Copper, 4 atoms at random, reference ASE's EMT (its time is left out), a small NEP; every step is made a call.
A label is all that is done with it: the check before, the updates with the replay buffer, the files. Told are
seconds of the processor, so that other processes on the machine count little; OMP_NUM_THREADS=1 is best.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from support.turns import machine, write_json

import kalmandp
from kalmandp.geometry.verlet import VerletList
from kalmandp.on_the_fly.learner import Learner, new_potential, optimizer

ROOT = Path(__file__).resolve().parents[2]
MODEL = {
    "neuron": 8, "radial_cutoff": 4.0, "angular_cutoff": 3.5, "n_max": (2, 2), "basis_size": (3, 3),
    "l_max": (2,),
}  # fmt: skip
#: Labels of a group whose median is told. The first ones have nothing to replay, and compile.
GROUP, BEGIN = 40, 10


class Timed(EMT):
    """EMT and the processor's seconds of its last call."""

    def calculate(self, *args, **kwargs):
        began = time.process_time()
        super().calculate(*args, **kwargs)
        self.seconds = time.process_time() - began


def label_seconds(n_labels: int, folder) -> np.ndarray:
    """Seconds of each label, the reference's not among them."""
    atoms = bulk("Cu", cubic=True)
    start, rng = atoms.positions.copy(), np.random.default_rng(0)
    # each step has a σ above this tolerance
    exact = Timed()
    calc = kalmandp.OnTheFly(exact, folder=folder, tolerance=2e-6, noise=1e-6, model=MODEL)
    atoms.calc = calc
    warnings.simplefilter("ignore", UserWarning)  # no model is as good as this tolerance
    seconds = []
    for _ in range(n_labels):
        atoms.positions = start + rng.normal(0.0, 0.15, start.shape)
        began = time.process_time()
        atoms.get_forces()
        seconds.append(time.process_time() - began - exact.seconds)
    if len(calc.labels) != n_labels:
        raise RuntimeError(f"{len(calc.labels)} labels of {n_labels} steps; expected one of each")
    return np.array(seconds)


def check_seconds(n_frames: int = 6, repeats: int = 15) -> list[tuple[str, float]]:
    """Silicon, 64 atoms, the form that a run begins with: what a check does, and its seconds."""
    data = kalmandp.Dataset(ROOT / "data" / "si64_lda_train.h5")
    frame, rng = data[len(data) // 2], np.random.default_rng(0)
    online = kalmandp.OnlineTrainer(new_potential(data[0], 0, {}), rng=rng, threads=1, **optimizer(False, {}))
    learner = Learner(online, 0)
    for k in range(n_frames):
        learner.learn(data[k])
    verlet = VerletList(learner.potential.form.cutoff)
    done = {
        "prediction": lambda: learner.evaluate(frame, verlet.pairs(frame)),
        "check": lambda: learner.check(frame, verlet.pairs(frame), 0, lambda _: 1e9),
        "check that finds far atoms": lambda: learner.check(frame, verlet.pairs(frame), 0, lambda _: 0.0),
        "σ of all forces, energy, virial": lambda: learner.predict(frame),
    }
    found = []
    for what, do in done.items():
        do()
        seconds = []
        for _ in range(repeats):
            began = time.process_time()
            do()
            seconds.append(time.process_time() - began)
        found.append((what, float(np.median(seconds))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=2000, help="[2000]")
    parser.add_argument("--small", action="store_true", help="60 labels: does it work?")
    parser.add_argument("--json", metavar="FILE", help="write the seconds of all labels, too")
    args = parser.parse_args()
    checks = check_seconds()
    for what, second in checks:
        print(f"{what:<34} {1e3 * second:>7.2f} ms {second / checks[0][1]:>7.1f}")
    with tempfile.TemporaryDirectory() as folder:
        n_labels = 60 if args.small else args.labels
        seconds = label_seconds(n_labels, folder)
    first = float(np.median(seconds[BEGIN : BEGIN + GROUP]))
    print(f"{'labels':>14} {'median, ms':>11} {'mean, ms':>9} {'/ first':>8}")
    groups = max(1, (n_labels - BEGIN) // GROUP)
    for k in np.unique(np.linspace(0, groups - 1, 5).astype(int)).tolist():
        a = BEGIN + k * GROUP
        part = seconds[a : a + GROUP]
        median, mean = float(np.median(part)), float(part.mean())
        print(
            f"{a + 1:>6} … {a + len(part):>5} {1e3 * median:>11.1f} {1e3 * mean:>9.1f} {median / first:>8.2f}"
        )
    if args.json:
        write_json(args.json, {"machine": machine(), "checks": checks, "seconds": seconds.tolist()})


if __name__ == "__main__":
    main()
