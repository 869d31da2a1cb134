"""Rows of H of all force components of a frame at once, beside single passes; one thread.

    python examples/benchmarks/rows.py [--atoms 192] [--rounds 7] [--models dp nep hdnnp] [--small]

∂F_jc/∂w of all 3n components of a frame of water by `engine.rows`, beside 3n calls of
`engine.weight_gradient`: along the same components, of which some evenly spaced ones are made ("one
component": atoms that do not feel it are passed over), and along a direction that moves all atoms ("all
atoms": the pass of a mean of all forces). Processor time, all in turns, medians over the rounds. What an
environment keeps from one pass to the next (of an HDNNP: ∂G/∂r) is there.
"""

from __future__ import annotations

import argparse
from itertools import count

import numpy as np
from support import water
from support.turns import timed, with_threads

from kalmandp import Potential
from kalmandp.geometry.pairs import force_direction
from kalmandp.potentials.atomic import Numbers

#: Single passes are along so many components, evenly spaced.
SOME = 12


def potential(kind: str, frame) -> Potential:
    """The paper's network, or the default form of the other kinds, with random weights."""
    if kind == "dp":
        return water.potential(frame)
    return Potential.create(water.TYPE_MAP, kind=kind, frames=[frame], rng=np.random.default_rng(1))


def measured(kind: str, frame, rounds: int) -> dict[str, float]:
    """Seconds of all rows, and of single passes."""
    p = potential(kind, frame)
    engine, par, env = p.engine, p.parameters, p.environment([frame])
    _, forward = engine.energies(par, env)
    n, none = len(frame), np.zeros(0, dtype=int)
    k = np.stack([np.repeat(np.arange(n), 3), np.tile(np.arange(3), n)], axis=1)
    numbers = Numbers(none, k, none, np.zeros((0, 3), dtype=int))
    along = []
    for one in np.linspace(0, 3 * n - 1, SOME).astype(int):
        c_ic = np.zeros((n, 3))
        c_ic.flat[one] = 1.0
        along.append(force_direction(env.geometry, c_ic))
    whole = force_direction(env.geometry, np.random.default_rng(2).normal(size=(n, 3)))
    E_bar_i, turn = np.zeros(n), count()
    single = lambda v_pc: engine.weight_gradient(par, env, forward, E_bar_i, v_pc)
    runs = {
        "rows": lambda: engine.rows(par, env, forward, numbers),
        "one component": lambda: single(along[next(turn) % SOME]),
        "all atoms": lambda: single(whole),
    }
    return {"N": p.layout.size, **timed(runs, 1, rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=192, choices=sorted(water.CELLS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=["dp", "nep", "hdnnp"], choices=["dp", "nep", "hdnnp"])
    parser.add_argument("--small", action="store_true", help="24 atoms: seconds, not minutes")
    options = parser.parse_args()
    with_threads(1)
    frame = water.labelled(water.water(24 if options.small else options.atoms))
    rows = 3 * len(frame)
    print(f"{rows} rows of {len(frame)} atoms of water, one thread\n")
    print("| model | N | a row of all, ms | a single pass, ms: one component | all atoms | rows / passes | |")
    print("|---|---|---|---|---|---|---|")
    for kind in options.models:
        s = measured(kind, frame, options.rounds)
        row, one, whole = s["rows"] / rows, s["one component"], s["all atoms"]
        print(
            f"| {kind} | {s['N']:,} | {1e3 * row:.3f} | {1e3 * one:.3f} | {1e3 * whole:.3f} "
            f"| {row / one:.3f} | {row / whole:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
