"""How time grows: with atoms, pairs, the number of weights N, the size of blocks N_b, and threads.

    python examples/benchmarks/growth.py [--small] [--rounds 7] [--json FILE]

Each scan changes one thing. By the algorithm energy and forces, and an Adam step, are linear in atoms, and in
pairs where these outweigh the fitting net; an update is O(N·N_b). The exponent is the slope of log t against
log x by least squares.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numba
import numpy as np
from support import stages, water
from support.bars import OURS
from support.turns import Clock, machine, medians, take_turns, write_json

from kalmandp import RLEKF
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.kalman import Blocks
from kalmandp.kalman.coupled import WINDOW

CYCLE = WINDOW  # columns that the tiled covariance gathers before it folds them in
#: Atoms; cut-offs in Å for the pairs; N at the block size N_B; block sizes at the number of weights N.
FULL = {"atoms": (192, 648, 1536), "rcut": (3.5, 4.5, 6.0, 7.5), "N": (8, 16, 32), "N_b": (1, 2, 4)}
SMALL = {"atoms": (24, 192), "rcut": (4.0, 6.0), "N": (1, 2), "N_b": (1, 2)}
FULL_UNITS, SMALL_UNITS = (2048, 32768, 1024), (256, 2048, 256)

#: (scan, x) -> clock
Scans = dict[tuple[str, float], Clock]


def atoms_scan(sizes) -> Scans:
    """Energy, forces and virial with the list kept, and an Adam step, by atoms."""
    clocks: Scans = {}
    p = water.potential(water.labelled(water.water(192)))
    for n in sizes:
        frame = water.labelled(water.water(n))
        _, kept = stages.inference(p, frame).items()
        clocks["inference / atoms", n] = kept[1]
        clocks["Adam step / atoms", n] = stages.adam(p, frame)
    return clocks


def pairs_scan(cutoffs) -> Scans:
    """The same frame with more and more neighbours."""
    clocks: Scans = {}
    frame = water.labelled(water.water(192))
    for rcut in cutoffs:
        p = water.potential(frame, rcut=rcut, sel=(100, 200))
        pairs = len(neighbour_pairs(frame, rcut).i_p)
        _, kept = stages.inference(p, frame).items()
        clocks["inference / pairs", pairs] = kept[1]
        clocks["Adam step / pairs", pairs] = stages.adam(p, frame)
    return clocks


def update_scan(name: str, sizes: list[tuple[int, int]], x: Callable[[int, int], int]) -> Scans:
    """Updates of one number: N weights in equal blocks of N_b."""
    clocks: Scans = {}
    for N, N_b in sizes:
        kalman = RLEKF(np.zeros(N), Blocks((N_b,) * (N // N_b)), covariance="tiled")
        (update,) = stages.updates(kalman, (1,), OURS, np.random.default_rng(1), CYCLE).values()
        clocks[f"update / {name}", x(N, N_b)] = update
    return clocks


def threads_scan(n_atoms: int, block_size: int) -> Scans:
    """A frame in the paper's sequence, an Adam step and inference by 1, 2, 4, … threads."""
    most = numba.get_num_threads()
    frame = water.labelled(water.water(n_atoms))
    p = water.potential(frame)
    listed = stages.INFERENCE.format(n_atoms) + stages.KEPT
    runs = {
        "frame, signed / threads": stages.frames(p, frame, block_size)[stages.SIGNED, OURS],
        "Adam step / threads": stages.adam(p, frame),
        "inference / threads": stages.inference(p, frame)[listed, OURS],
    }

    def limited(seconds: Clock, threads: int) -> Clock:
        def run(count: int) -> float:
            numba.set_num_threads(threads)
            try:
                return seconds(count)
            finally:
                numba.set_num_threads(most)

        return run

    numbers = [2**k for k in range(most.bit_length()) if 2**k <= most]
    return {(name, t): limited(seconds, t) for name, seconds in runs.items() for t in numbers}


def exponent(points: dict[float, float]) -> float:
    """Slope of log t against log x by least squares."""
    if len(points) < 2:
        return float("nan")
    return float(np.polyfit(np.log(list(points)), np.log(list(points.values())), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="two small sizes of each: seconds, not minutes")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()

    sizes, units = (SMALL, SMALL_UNITS) if options.small else (FULL, FULL_UNITS)
    N_b, N, least = units
    by_N = [(k * N_b, N_b) for k in sizes["N"]]
    by_N_b = [(N, k * least) for k in sizes["N_b"]]
    clocks = atoms_scan(sizes["atoms"]) | pairs_scan(sizes["rcut"])
    clocks |= update_scan(f"N at N_b = {N_b}", by_N, lambda N, N_b: N)
    clocks |= update_scan(f"N_b at N = {N}", by_N_b, lambda N, N_b: N_b)
    clocks |= threads_scan(24 if options.small else 192, 512 if options.small else 5120)
    taken = take_turns(clocks, options.rounds)

    times = medians(taken)
    slopes = {}
    for scan in dict.fromkeys(name for name, _ in times):
        points = {x: seconds for (name, x), seconds in times.items() if name == scan}
        slopes[scan] = exponent(points)
        listed = "  ".join(f"{x:,}: {1e3 * seconds:.3f}" for x, seconds in points.items())
        print(f"{scan:28} exponent {slopes[scan]:5.2f}   ms by size  {listed}")
    if options.json:
        seconds = [{"scan": name, "x": x, "seconds": values} for (name, x), values in taken.items()]
        record = {"machine": machine(), "threads": numba.get_num_threads()}
        write_json(options.json, {**record, "exponents": slopes, "scans": seconds})


if __name__ == "__main__":
    main()
