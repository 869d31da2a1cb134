"""HDNNP: symmetry functions and where their time goes, one update by a force component, and E + F of water.

    python examples/benchmarks/hdnnp.py [--small] [--threads 1] [--rounds 9]

Water at 1 g/cm³ with random weights, for which all sums are as long as for trained ones. The nets have the
size of n2p2's water example: 27 functions of H and 30 of O, hidden layers 25-25, N = 2,827, cut-off 6.35 Å
(12 bohr); the functions are taken from the set that is made from the data. The Deep Potential is the RLEKF
paper's, the NEP GPUMD's default form. Candidates take turns; medians over the rounds; with one thread seconds
are those of the processor. Neighbours are searched once and are not in the times of E + F.
"""

from __future__ import annotations

import numpy as np
from support import water
from support.passes import numbers, predicted
from support.turns import options_of, timed

from kalmandp import Potential
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.kalman import RLEKF
from kalmandp.potentials.hdnnp.default_set import default_functions

CUTOFF = 6.35
#: Functions of H and O, and the hidden layers: N = 2,827.
FUNCTIONS, HIDDEN = (27, 30), (25, 25)


def functions(frame):
    """So many of the set made from the data: radial ones and angular ones by turns."""
    made = default_functions(("H", "O"), [frame], CUTOFF, CUTOFF, 8, 8)
    chosen = []
    for rows, n in zip(made, FUNCTIONS, strict=True):
        radial, angular = ([f for f in rows if (f.kind == 2) == one] for one in (True, False))
        some = np.linspace(0, len(angular) - 1, n - len(radial)).astype(int)
        chosen.append(radial + [angular[k] for k in some])
    return chosen


def hdnnp(frame) -> Potential:
    choices = {"functions": functions(frame), "hidden": HIDDEN, "activations": ("tanh", "tanh", "linear")}
    rng = np.random.default_rng(1)
    return Potential.create(("H", "O"), frames=[frame], rng=rng, kind="hdnnp", **choices)


def nep(frame) -> Potential:
    choices = {"radial_cutoff": 8.0, "angular_cutoff": 4.0, "rng": np.random.default_rng(1)}
    return Potential.create(water.TYPE_MAP, frames=[frame], kind="nep", **choices)


def in_order(potential, frame):
    """The frame with the potential's order of types, and its pairs."""
    frame = frame.with_type_map(potential.type_map)
    return frame, neighbour_pairs(frame, potential.form.cutoff)


def inference(n_atoms: int, potentials: dict, threads: int, rounds: int) -> None:
    frame = water.water(n_atoms)
    items = {name: in_order(p, frame) for name, p in potentials.items()}
    runs = {
        name: lambda p=p, item=items[name]: predicted(p.engine, p.parameters, p.statistics, *item)
        for name, p in potentials.items()
    }
    taken = timed(runs, threads, rounds)
    print(f"E + F of {n_atoms} atoms of water, {threads} thread(s), without the search for neighbours")
    for name, seconds in taken.items():
        text = f"{1e3 * seconds:10.2f} ms{1e6 * seconds / n_atoms:9.2f} µs/atom"
        print(f"  {name:16}{potentials[name].layout.size:8,} weights{text}")


def update(potential, n_atoms: int, threads: int, rounds: int) -> None:
    """One update by one force component, as n2p2 makes it, and its parts."""
    frame, pairs = in_order(potential, water.water(n_atoms))
    engine, par, N = potential.engine, potential.parameters, potential.layout.size
    env = engine.environment(potential.statistics, frame, [engine.functions([frame], [pairs])])
    _, forward = engine.energies(par, env)
    one = numbers(forces=[(n_atoms // 2, 1)])
    filter_ = RLEKF(np.array(potential.weights), [N], P0=0.01, covariance="tiled")
    H = np.ascontiguousarray(engine.rows(par, env, forward, one))
    runs = {
        "symmetry functions": lambda: engine.functions([frame], [pairs]),
        "nets and forces": lambda: engine.pair_gradient(par, env, engine.energies(par, env)[1]),
        "row ∂F/∂w": lambda: engine.rows(par, env, forward, one),
        "filter": lambda: filter_.update(H, np.array([1e-3]), 1.0),
    }
    taken = timed(runs, threads, rounds)
    print(f"One update by a force component: {n_atoms} atoms, N = {N:,}, {threads} thread(s)")
    for name, seconds in taken.items():
        print(f"  {name:20}{1e3 * seconds:9.2f} ms")
    whole = sum(taken.values())
    kept = whole - taken["symmetry functions"]
    print(f"  {'together':20}{1e3 * whole:9.2f} ms; {1e3 * kept:.2f} ms where symmetry functions are kept")


def symmetry_functions(n_cells, threads: int, rounds: int, potential) -> None:
    """G and ∂G/∂r of a frame, by the kinds of functions."""
    frame = water.molecules(n_cells)
    frame, pairs = in_order(potential, frame)
    form = potential.form
    of_kind = lambda kind: [[f for f in rows if f.kind == kind] for rows in form.functions]
    chosen = {
        "all": form.functions,
        "type 2 alone": of_kind(2),
        "type 9 alone": of_kind(9),
        "one of type 9": [rows[:1] for rows in of_kind(9)],
        "as type 3": [[f._replace(kind=3) for f in rows] for rows in of_kind(9)],
    }
    runs = {
        "neighbours": lambda: neighbour_pairs(frame, form.cutoff),
        "all, G alone": lambda: potential.engine.environment(potential.statistics, frame, [pairs]),
    }
    for name, rows in chosen.items():
        p = Potential.create(
            form.type_map, frames=[frame], rng=np.random.default_rng(1), kind="hdnnp",
            functions=rows, hidden=HIDDEN, activations=form.activations,
        )  # fmt: skip
        runs[name] = lambda p=p: p.engine.functions([frame], [pairs])
    taken = timed(runs, threads, rounds)
    print(f"Symmetry functions with ∂G/∂r of {len(frame)} atoms, {len(pairs.i_p)} pairs, {threads} thread(s)")
    for name, seconds in taken.items():
        print(f"  {name:16}{seconds:9.4f} s{100 * seconds / taken['all']:8.0f} %")


def main() -> None:
    options = options_of(__doc__, "24 atoms: seconds, not minutes")
    frame = water.water(192)
    potentials = {"HDNNP": hdnnp(frame), "Deep Potential": water.potential(frame), "NEP": nep(frame)}
    update(potentials["HDNNP"], 24 if options.small else 192, options.threads, options.rounds)
    cells = (2, 2, 2) if options.small else (8, 9, 5)
    symmetry_functions(cells, options.threads, options.rounds, potentials["HDNNP"])
    for n in [24] if options.small else [192, 6144]:
        inference(n, potentials, options.threads, options.rounds)


if __name__ == "__main__":
    main()
