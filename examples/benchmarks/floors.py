"""How far a form of potential can go: least squares over all training frames at once, run to its end.

    python examples/benchmarks/floors.py --data TRAIN.h5 --test TEST.h5 [--seconds 120] [--iterations 60]
        [--embedding 8 16] [--axis 4] [--fitting 20 20] [--rcut 6] [--json FILE] [--picture FILE] [--small]
    python examples/benchmarks/floors.py --draw FILE.json … --picture FILE       (curves of several --json)

The default filter trains a Deep Potential first. Its weights are then improved by the method of Levenberg
and Marquardt on ::

    Φ(w) = Σ e_E²/(σ_E N)² + Σ e_F²/σ_F²              over all energies and force components

    (JᵀJ + μ (tr JᵀJ/N) 1) Δw = Jᵀe      J, e: rows and errors, each divided by its σ

with μ smaller after each step that makes Φ smaller, larger after one that does not. It needs all of JᵀJ, N²
numbers, hence a net that is smaller than the paper's. Where the curve has become level, what is left is not
the filter's fault: it is the form's, or the labels'. The test frames are looked at once, at the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from support.turns import machine, write_json

import kalmandp
from kalmandp.training.config.inputs import read_input
from kalmandp.training.last_layer import linear_numbers
from kalmandp.training.loop import Run
from kalmandp.training.noise.variances import PhysicalNoise

DATA = Path(__file__).resolve().parents[2] / "data"
#: Of Φ: eV per atom, eV/Å. Forces are what is asked about; energies keep their balance.
NOISE = PhysicalNoise(sigma_e=0.005, sigma_f=0.1, sigma_w=1.0)
#: μ to begin with, and what it is divided and multiplied by.
MU, EASIER, HARDER = 1e-4, 3.0, 4.0
#: Steps in a row that may fail.
PATIENCE = 12
#: Rows of J that are multiplied at once, about.
AT_ONCE = 1024


def trained(args: argparse.Namespace) -> kalmandp.Potential:
    """What the default filter has found after so many seconds."""
    with kalmandp.Dataset(args.data) as frames:
        types = list(frames.type_map)
    never = 10**9
    tree = {
        "model": {
            "type_map": types,
            "descriptor": {
                "type": "se_e2_a", "sel": "auto", "rcut": args.rcut, "rcut_smth": 0.5,
                "neuron": args.embedding, "axis_neuron": args.axis, "type_one_side": True,
            },
            "fitting_net": {"neuron": args.fitting},
        },
        "optimizer": {"type": "RLEKF"},
        "training": {
            "training_data": {"systems": [args.data]}, "numb_steps": never, "seed": args.seed,
            "disp_freq": never, "save_freq": never,
        },
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = Run(read_input(tree), folder)
        began = time.process_time()
        while time.process_time() - began < args.seconds:
            run.step()
        return run.potential


class Sums(NamedTuple):
    """Of some weights, over all frames: Φ, and the mean errors per atom and component."""

    phi: float
    energy: float
    force: float


def sums(potential: kalmandp.Potential, frames: list) -> Sums:
    """Φ and the errors."""
    phi, energy, force = 0.0, [], []
    for frame in frames:
        found = potential.evaluate(frame)
        e_E, e_F = frame.energy - found.energy, (frame.forces - found.forces).ravel()
        phi += e_E**2 / NOISE.energy(len(frame), 1) + float(e_F @ e_F) / NOISE.force(1, 1)
        energy.append(abs(e_E) / len(frame))
        force.append(np.abs(e_F))
    return Sums(float(phi), float(np.mean(energy)), float(np.concatenate(force).mean()))


def normal_equations(potential: kalmandp.Potential, frames: list) -> tuple[np.ndarray, np.ndarray]:
    """JᵀJ and Jᵀe over all frames, many rows at a time."""
    N = len(potential.weights)
    A, b = np.zeros((N, N)), np.zeros(N)
    rows: list[np.ndarray] = []
    for k, frame in enumerate(frames):
        for part in linear_numbers(potential, frame, np.arange(N), NOISE):
            weight_q = 1.0 / np.sqrt(part.noise_q)
            J = part.H_qv * weight_q[:, None]
            b += J.T @ (part.error_q * weight_q)
            rows.append(J)
        if sum(map(len, rows)) >= AT_ONCE or k == len(frames) - 1:
            J = np.concatenate(rows)
            A += J.T @ J
            rows = []
    return A, b


def descend(potential: kalmandp.Potential, frames: list, iterations: int, say) -> list[dict]:
    """Levenberg and Marquardt's method in place; a line for each step that was taken."""
    now, mu, curve, began = sums(potential, frames), MU, [], time.process_time()

    def tell() -> None:
        curve.append({
            "iteration": len(curve), "seconds": time.process_time() - began, "phi": now.phi,
            "energy MAE (meV/atom)": 1e3 * now.energy, "force MAE (meV/Å)": 1e3 * now.force, "mu": mu,
        })  # fmt: skip
        say(curve[-1])

    tell()
    for _ in range(iterations):
        (A, b), before = normal_equations(potential, frames), potential.weights.copy()
        diagonal = np.diagonal(A).copy()
        for _ in range(PATIENCE):
            np.fill_diagonal(A, diagonal + mu * diagonal.mean())
            potential.weights = before + np.linalg.solve(A, b)
            try:
                new = sums(potential, frames)
            except kalmandp.InputError:  # weights too large for the table of the embedding
                new = now
            if new.phi < now.phi:
                now, mu = new, mu / EASIER
                break
            mu *= HARDER
        else:
            potential.weights = before
            say("no step makes Φ smaller: this is its end")
            break
        tell()
    return curve


def picture(curves: dict[str, list[dict]], path: str) -> None:
    """Force and energy errors of the training frames against the steps, by the names of the data."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    for axes, key in ((left, "force MAE (meV/Å)"), (right, "energy MAE (meV/atom)")):
        for name, curve in curves.items():
            axes.plot([line["iteration"] for line in curve], [line[key] for line in curve], ".-", label=name)
        axes.set(xlabel="step of Levenberg and Marquardt", ylabel=f"training {key}", yscale="log")
        axes.grid(which="both", alpha=0.3)
    left.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(DATA / "si64_lda_train.h5"), help="training frames")
    parser.add_argument("--test", help="test frames, looked at once")
    parser.add_argument("--seconds", type=float, default=120.0, help="of the filter before [120]")
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--embedding", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--axis", type=int, default=4)
    parser.add_argument("--fitting", type=int, nargs="+", default=[20, 20])
    parser.add_argument("--rcut", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="few frames, a tiny net: does it work?")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--picture", metavar="FILE")
    parser.add_argument(
        "--draw", nargs="+", metavar="JSON", help="draw what --json has written, train nothing"
    )
    args = parser.parse_args()
    if args.draw:
        told = [json.loads(Path(path).read_text()) for path in args.draw]
        picture({one["data"].partition("_")[0]: one["curve"] for one in told}, args.picture or "floors.png")
        return
    if args.small:
        args.embedding, args.axis, args.fitting, args.rcut = [4, 8], 2, [8], 4.0
        args.seconds, args.iterations = 2.0, 2
    potential = trained(args)
    with kalmandp.Dataset(args.data) as data:
        frames = [data[k] for k in range(min(len(data), 6) if args.small else len(data))]
    print(f"{len(potential.weights):,} weights, {len(frames)} training frames", flush=True)
    print(f"{'step':>5}{'seconds':>9}{'Φ':>12}{'E MAE':>9}{'F MAE':>9}{'μ':>9}   meV/atom, meV/Å", flush=True)

    def say(line) -> None:
        if isinstance(line, dict):
            n, s, phi, E, F, mu = line.values()
            line = f"{n:>5}{s:>9.0f}{phi:>12.6g}{E:>9.3f}{F:>9.2f}{mu:>9.1g}"
        print(line, flush=True)

    curve = descend(potential, frames, args.iterations, say)
    found = {
        "machine": machine(),
        "weights": len(potential.weights),
        "data": Path(args.data).name,
        "curve": curve,
    }
    if args.test:
        with kalmandp.Dataset(args.test) as test:
            errors = kalmandp.evaluate(potential, test)
        found["test"] = {
            "energy MAE (meV/atom)": 1e3 * errors.energy_mae,
            "force MAE (meV/Å)": 1e3 * errors.force_mae,
        }
        print("test frames:", found["test"])
    if args.json:
        write_json(args.json, found)
    if args.picture:
        picture({Path(args.data).name.partition("_")[0]: curve}, args.picture)


if __name__ == "__main__":
    main()
