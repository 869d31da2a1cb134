"""Time of one Kalman update against one read of the whole covariance by BLAS, measured in the same run.

    python examples/benchmarks/covariance.py [--small] [--rounds 7] [--json FILE]

The weights are those of the RLEKF paper's network for two species (N = 53,102) in blocks of at most 5120.
All candidates take turns; the figures are medians over the rounds, so that other work on the machine
falls on all of them alike. A round of a filter is one whole cycle of its covariance, folding included.
The limit for one update is one read of half of P: 0.5 reads of P in float64, 0.25 in float32, if all
reads are equally fast. That read is measured too, as plain sums.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from kalmandp.kalman import RLEKF, Blocks, Part, covariance_memory, partition
from kalmandp.kalman.coupled import WINDOW

CYCLE = WINDOW  # columns that the tiled covariance gathers before it folds them in


def paper_network(n_types: int = 2) -> list[Part]:
    """Parameter arrays of embedding [25, 25, 25] and fitting [50, 50, 50] nets, M‹ = 16."""
    embedding = [25, 25, 625, 25, 625, 25]
    fitting = [20000, 50, 2500, 50, 2500, 50, 50, 1]
    return [
        Part(f"{net}[{t}]/{i}", size, f"{net}[{t}]/{i // 2}")
        for net, sizes in (("embedding", embedding), ("fitting", fitting))
        for t in range(n_types)
        for i, size in enumerate(sizes)
    ]


def candidates(blocks: Blocks, rng: np.random.Generator) -> dict:
    """Name -> (function that runs one round, number of updates in it, right-hand sides)."""
    N = blocks.n_weights
    dense = RLEKF(np.zeros(N), blocks, covariance="dense")
    squares = dense.covariance._P

    def updates(kalman: RLEKF, m: int, count: int):
        H_qw = rng.normal(size=(m, N)) / np.sqrt(N)
        error_q = rng.normal(size=m)

        def run() -> None:
            for _ in range(count):
                kalman.update(H_qw, error_q, 1.0)

        return run, count, m

    def read(m: int):
        X = [rng.normal(size=(n, m)).squeeze() for n in blocks.sizes]
        return lambda: [P @ x for P, x in zip(squares, X, strict=True)], 1, m

    def tiled(dtype: str) -> RLEKF:
        return RLEKF(np.zeros(N), blocks, covariance="tiled", dtype=dtype)

    def read_halves(kalman: RLEKF):
        halves = np.array_split(kalman.covariance._tiles.reshape(-1), numba.get_num_threads())
        pool = ThreadPoolExecutor(len(halves))
        return lambda: list(pool.map(np.sum, halves)), 1, 1

    float64, float32 = tiled("float64"), tiled("float32")
    return {
        "read of P (gemv)": read(1),
        "read of half of P (sums)": read_halves(float64),
        "read of half of P, float32": read_halves(float32),
        "dense update, m=1": updates(dense, 1, 1),
        "tiled update, m=1": updates(float64, 1, CYCLE),
        "tiled update, m=1, float32": updates(float32, 1, CYCLE),
        "tiled update, m=5": updates(float64, 5, -(-CYCLE // 5)),
        "tiled update, m=5, float32": updates(float32, 5, -(-CYCLE // 5)),
        "P times 72 columns (gemm)": read(72),
        "tiled update, m=72": updates(float64, 72, 1),
        "tiled update, m=72, float32": updates(float32, 72, 1),
    }


def measure(todo: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds per update of every candidate in every round; the first round, a warm-up, is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(rounds + 1):
        for name, (run, count, _) in todo.items():
            start = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - start) / count)
    return {name: values[1:] for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="blocks of at most 512: seconds, not minutes")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()

    blocks = partition(paper_network(), "RLEKF-code", 512 if arguments.small else 5120)
    memory = covariance_memory(blocks)
    print(f"N = {blocks.n_weights:,}, L = {len(blocks)}, {numba.get_num_threads()} threads, ", end="")
    print(f"P {memory.squares / 1e9:.2f} GB as squares, {memory.halves / 1e9:.2f} GB as halves")
    seconds = measure(candidates(blocks, np.random.default_rng(1)), arguments.rounds)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    read = medians["read of P (gemv)"]
    print(f"{'':30}{'median ms':>10}{'least ms':>10}{'/ read of P':>13}")
    for name, values in seconds.items():
        ms = 1e3 * np.array([medians[name], min(values)])
        print(f"{name:30}{ms[0]:10.2f}{ms[1]:10.2f}{medians[name] / read:13.2f}")
    if arguments.json:
        record = {
            "N": blocks.n_weights,
            "blocks": blocks.sizes,
            "threads": numba.get_num_threads(),
            "machine": platform.processor() or platform.machine(),
            "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
            "seconds": seconds,
        }
        with open(arguments.json, "w") as file:
            json.dump(record, file, indent=1)


if __name__ == "__main__":
    main()
