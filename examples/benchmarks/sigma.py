"""How well σ holds the errors of frames that nothing was learned from: shares within 1 σ and 2 σ.

    python examples/benchmarks/sigma.py [Si64 Cu H2O] [--kinds nep dp] [--judge held|test] [--json FILE]

A small model learns a part of a system's training frames (60 of Si64, data/si64_lda_train.h5; 24 of one of
data/thirteen); f and r come from 24 others (at most half of the rest), and the remaining ones judge, the mean
of ten ways to divide them. ``--judge test``: f and r from up to 24 of the rest, and the test frames judge.

Frames are divided at random, so those that judge lie between learned ones in a trajectory. ``--in-time``: the
first frames are learned, f and r come from those that follow, and the last ones judge: as in a simulation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from support.turns import machine, write_json

import kalmandp
from kalmandp.kalman.calibration import Calibration
from kalmandp.training.uncertainty import KINDS, errors_of, see, variances

DATA = Path(__file__).resolve().parents[2] / "data"
FORMS = {
    "nep": {"kind": "nep", "radial_cutoff": 5.0, "angular_cutoff": 4.0, "n_max": (4, 4), "basis_size": (6, 6),
            "l_max": (4,), "neuron": 10},
    "dp": {"kind": "se_e2_a", "rcut": 5.0, "embedding": (8, 16), "axis_neuron": 4, "fitting": (20, 20)},
}  # fmt: skip
OPTIMIZERS: dict[str, dict] = {"nep": {"preset": "matrix"}, "dp": {}}
CALIBRATE, DIVISIONS = 24, 10


def paths(name: str) -> tuple[Path, Path, int]:
    """Training frames, test frames, and how many are learned."""
    if name == "Si64":
        return DATA / "si64_lda_train.h5", DATA / "si64_lda_test.h5", 60
    return DATA / "thirteen" / f"{name}_train.h5", DATA / "thirteen" / f"{name}_test.h5", 24


def learned(name: str, kind: str, seed: int, in_time: bool):
    """A filter that has learned a part of the frames, and the rest of them."""
    frames, rng = list(kalmandp.Dataset(paths(name)[0])), np.random.default_rng(seed)
    n = min(paths(name)[2], len(frames) // 2)
    order = list(range(len(frames))) if in_time else rng.permutation(len(frames)).tolist()
    some = [frames[k] for k in order[:n]]
    potential = kalmandp.Potential.create(frames[0].type_map, frames=some, rng=rng, **FORMS[kind])
    online = kalmandp.OnlineTrainer(potential, rng=rng, **OPTIMIZERS[kind])
    for _ in range(max(1, 180 // n)):
        for k in rng.permutation(n):
            online.learn(some[k])
    rest = order[n:]
    return online, [frames[k] for k in (rest[-90:] if in_time else rest[:90])]


def shares(calibration: Calibration, judged) -> dict[str, np.ndarray]:
    """Shares within one σ and two by kind, of `judged` frames with what was predicted of them."""
    hits: dict[str, list] = {}
    for frame, (result, found) in judged:
        n = len(frame)
        of = {"energy": np.array([found.energy]) / n**2, "force": found.forces, "virial": found.virial / n**2}
        for kind, error in errors_of(result, frame).items():
            sigma = np.sqrt(calibration.variance(kind, of[kind]))
            within = np.stack([np.abs(error) < m * sigma for m in (1, 2)])
            hits.setdefault(kind, []).append(within.reshape(2, -1))
    return {kind: np.concatenate(h, axis=1).mean(axis=1) for kind, h in hits.items()}


def calibrated(seen) -> Calibration:
    calibration = Calibration(batches=None)
    for frame, (result, found) in seen:
        see(calibration, result, found, frame)
    return calibration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("systems", nargs="*", default=["Si64", "Cu", "H2O"])
    parser.add_argument("--kinds", nargs="+", default=["nep"], choices=sorted(FORMS))
    parser.add_argument("--judge", choices=("held", "test"), default="held")
    parser.add_argument("--in-time", action="store_true", help="later frames judge, not others at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="one division, few frames: does it work?")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    table = []
    print(f"{'':16}{'energy':>12}{'force':>12}{'virial':>12}    % within 1 σ and 2 σ (normal: 68, 95)")
    for name in args.systems:
        for kind in args.kinds:
            online, rest = learned(name, kind, args.seed, args.in_time)
            rest = rest[:8] if args.small else rest
            rng = np.random.default_rng([args.seed, 1])
            predict = lambda f, o=online: (f, variances(o.potential, o.filter, f))
            known, found = [predict(f) for f in rest], []
            if args.judge == "test":
                test = [predict(f) for f in kalmandp.Dataset(paths(name)[1])]
                found.append(
                    shares(calibrated(known[-CALIBRATE:] if args.in_time else known[:CALIBRATE]), test)
                )
            once = args.small or args.in_time
            for _ in range((1 if once else DIVISIONS) if args.judge == "held" else 0):
                order = np.arange(len(rest)) if args.in_time else rng.permutation(len(rest))
                n = min(CALIBRATE, len(rest) // 2)
                seen, judged = ([known[k] for k in part] for part in (order[:n], order[n:]))
                found.append(shares(calibrated(seen), judged))
            mean = {k: 100 * np.mean([f[k] for f in found], axis=0) for k in found[0]}
            cells = (f"{m[0]:>7.0f} {m[1]:>4.0f}" for m in (mean[k] for k in KINDS if k in mean))
            print(f"{name:>8} {kind:6}" + "".join(f"{c:>12}" for c in cells), flush=True)
            table.append([name, kind, {k: m.tolist() for k, m in mean.items()}])
    if args.json:
        write_json(args.json, {"machine": machine(), "judge": args.judge, "shares": table})


if __name__ == "__main__":
    main()
