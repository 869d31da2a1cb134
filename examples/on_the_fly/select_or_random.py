"""How many labels a test error takes: frames chosen by P, by a committee, and at random.

    python examples/on_the_fly/select_or_random.py Si Cu         (of data/thirteen; --smoke: in seconds)
    python examples/on_the_fly/select_or_random.py HfO2=TRAIN.h5,TEST.h5                    (any others)

The pool is a system's training frames. Each way begins with the same two frames, drawn at random,
and adds frames until the pool is empty; after each addition a NEP is trained anew on what is labelled, always
with the same number of updates. Test frames are only for the table.

    P           greedy, each choice updating P (`training.choosing`, what `kalmandp select --data` does)
    committee   frames with the largest deviation of a force among 4 models (DP-GEN), the largest first
    random      drawn

The error to reach is a multiple of that with the whole pool labelled. Labels between two sizes are
interpolated in the logarithm of the error; the first crossing counts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import kalmandp
from kalmandp.training.choosing import choose, laplace
from kalmandp.training.report.model_deviation import model_deviation

DATA = Path(__file__).resolve().parents[2] / "data" / "thirteen"
FORM = {
    "radial_cutoff": 6.0, "angular_cutoff": 5.0, "n_max": (4, 4), "basis_size": (6, 6), "l_max": (4,),
    "neuron": 10,
}  # fmt: skip
SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 16)
WAYS = ("P", "committee", "random")
MULTIPLES = (2.0, 1.5, 1.25, 1.1)
COMMITTEE = 4
#: Models of a system by the numbers of their frames and the seed.
MODELS: dict = {}


def train(pool, known, seed: int, updates: int):
    """A NEP with random weights, taught with ``updates`` updates of one frame of those known each."""
    frames = [pool[k] for k in sorted(known)]
    rng = np.random.default_rng(seed)
    potential = kalmandp.Potential.create(frames[0].type_map, kind="nep", frames=frames, rng=rng, **FORM)
    online = kalmandp.OnlineTrainer(potential, rng=rng, preset="matrix")
    order: list[int] = []
    for _ in range(updates):
        order = order or rng.permutation(len(frames)).tolist()
        online.learn(frames[order.pop()])
    return online.averaged(frames)


def force_rmse(potential, frames) -> float:
    """eV/Å."""
    return float(np.sqrt(np.mean([np.mean((potential.evaluate(f).forces - f.forces) ** 2) for f in frames])))


def add(way: str, pool, known: list[int], more: int, model, rng, updates: int) -> list[int]:
    """Numbers of the frames to label next."""
    rest = [k for k in range(len(pool)) if k not in known]
    if way == "random":
        return rng.permutation(rest)[:more].tolist()
    if way == "P":
        kalman = laplace(model, [pool[k] for k in known])
        return [rest[c.frame] for c in choose(model, kalman, [pool[k] for k in rest], more)]
    models = [model, *(train(pool, known, int(rng.integers(1 << 30)), updates) for _ in range(COMMITTEE - 1))]
    deviation = [model_deviation(models, pool[k]).force_i.max() for k in rest]
    return [rest[k] for k in np.argsort(deviation)[::-1][:more]]


def curve(way: str, pool, test, seed: int, sizes, updates: int) -> list[float]:
    """Test errors (eV/Å) with so many labels."""
    rng = np.random.default_rng([seed, 1])
    known = rng.permutation(len(pool))[: sizes[0]].tolist()

    def trained(known):
        key = (frozenset(known), seed)  # the first and the last are the same for all ways
        if key not in MODELS:
            MODELS[key] = train(pool, known, seed, updates)
        return MODELS[key]

    model = trained(known)
    errors = [force_rmse(model, test)]
    for size in sizes[1:]:
        if size == len(pool):  # nothing is left to choose
            known = list(range(size))
        else:
            known += add(way, pool, known, size - len(known), model, rng, updates)
        model = trained(known)
        errors.append(force_rmse(model, test))
    return errors


def labels_to(goal: float, sizes, errors) -> float:
    """The first number of labels at which the curve is at or below ``goal``; ∞ if it never is."""
    for k, error in enumerate(errors):
        if error <= goal:
            if k == 0:
                return float(sizes[0])
            share = np.log(errors[k - 1] / goal) / np.log(errors[k - 1] / error)
            return float(sizes[k - 1] + share * (sizes[k] - sizes[k - 1]))
    return np.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = "of data/thirteen [Si Cu], or NAME=TRAIN,TEST"
    parser.add_argument("systems", nargs="*", default=["Si", "Cu"], help=known)
    parser.add_argument("--seeds", type=int, default=3, help="[3]")
    parser.add_argument("--updates", type=int, default=200, help="of each training [200]")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument(
        "--judge", choices=("test", "held"), default="test",
        help="held: judge by a tenth of the training frames instead, to try settings",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE", help="curves as JSON, to go on from if it is there")
    parser.add_argument("--smoke", action="store_true", help="8 frames, few updates: does it work?")
    args = parser.parse_args()
    path = None if args.output is None else Path(args.output)
    done = json.loads(path.read_text()) if path is not None and path.exists() else {}
    for name in args.systems:
        name, _, paths = name.partition("=")
        own = paths.split(",") if paths else [DATA / f"{name}_{part}.h5" for part in ("train", "test")]
        pool, test = (list(kalmandp.Dataset(path)) for path in own)
        if args.judge == "held":
            test, pool = pool[::10], [f for k, f in enumerate(pool) if k % 10]
        seeds, updates = args.seeds, args.updates
        MODELS.clear()
        if args.smoke:
            pool, test, seeds, updates = pool[:8], test[:2], 1, 4
        sizes = [n for n in SIZES if n < len(pool)] + [len(pool)]
        for seed in range(seeds):
            for way in args.ways:
                if (key := f"{name} {way} {seed} {updates} {args.judge}") not in done:
                    done[key] = curve(way, pool, test, seed, sizes, updates)
                    if path is not None:
                        path.write_text(json.dumps(done) + "\n")
        found = {
            way: np.array([done[f"{name} {way} {seed} {updates} {args.judge}"] for seed in range(seeds)])
            for way in args.ways
        }  # fmt: skip
        table(name, sizes, found)


def table(name: str, sizes, found: dict[str, np.ndarray]) -> None:
    """Mean test errors by the number of labels, and the labels that an error takes."""
    print(f"{name}: force RMSE (meV/Å), mean of {len(next(iter(found.values())))} seeds")
    print(f"{'labels':>12}", *(f"{n:>7}" for n in sizes))
    for way, errors in found.items():
        print(f"{way:>12}", *(f"{1e3 * e:>7.1f}" for e in errors.mean(axis=0)), flush=True)
    whole = float(np.mean([errors[:, -1].mean() for errors in found.values()]))
    print(f"{'to reach':>12}", *(f"{way:>11}" for way in found), "    P/random  P/committee")
    for multiple in MULTIPLES:
        n = {way: labels_to(multiple * whole, sizes, errors.mean(axis=0)) for way, errors in found.items()}
        ratio = lambda way, n=n: f"{n['P'] / n[way]:>11.2f}" if {"P", way} <= set(n) else f"{'':>11}"
        print(
            f"{1e3 * multiple * whole:>12.1f}", *(f"{k:>11.1f}" for k in n.values()),
            f" {ratio('random')}  {ratio('committee')}", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
