"""Rate of one Kalman update by m numbers at once against that of a BLAS product, in the same run.

    python examples/benchmarks/matrix_update.py [--small] [--rounds 7] [--dtype float32]

An update of weights in blocks of n_l costs, with half of each symmetric result computed, ::

    Σ_l 2 n_l² m   P Hᵀ        Σ_l n_l² m   P − GᵀG        2 N m²   H P Hᵀ and C⁻¹K        m³/3   S = CCᵀ

operations. The BLAS product is NumPy's A @ B of 2048 × 2048 matrices, float64. All candidates take turns;
the figures are medians over the rounds. Give OPENBLAS_NUM_THREADS and NUMBA_NUM_THREADS the same number.
OpenBLAS chooses its kernels by the machine unless OPENBLAS_CORETYPE or OPENBLAS_L2_SIZE say otherwise: the
first line tells.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import numba
import numpy as np
from support.turns import clock, take_turns

from kalmandp.kalman import RLEKF, Blocks, prediction_variance

#: Weights of the dense cases (NEP potentials), and blocks of a Deep Potential's 26,551.
DENSE = (1400, 3000, 7000)
DEEP = (1350, 5120, 5120, 5120, 4691, 5100, 50)
NUMBERS = (64, 128, 256, 400)
#: Side of the matrices of the BLAS product.
SIDE = 2048


def operations(blocks: Blocks, m: int) -> float:
    """Multiplications and additions of an update by m numbers."""
    squares = sum(n * n for n in blocks.sizes)
    return 3.0 * squares * m + 2.0 * blocks.n_weights * m * m + m**3 / 3


def updates(kalman: RLEKF, m: int, rng: np.random.Generator):
    """A function that makes one update by m numbers."""
    H_qw = rng.normal(size=(m, kalman.blocks.n_weights)) / np.sqrt(kalman.blocks.n_weights)
    error_q = rng.normal(size=m)
    return lambda: kalman.update(H_qw, error_q, 1.0)


def variances(kalman: RLEKF, m: int, rng: np.random.Generator):
    """A function that asks for the variances of m predictions."""
    H_qw = rng.normal(size=(m, kalman.blocks.n_weights)) / np.sqrt(kalman.blocks.n_weights)
    return lambda: prediction_variance(kalman, H_qw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="at most 1,400 weights: seconds, not minutes")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--covariance", default="tiled")
    arguments = parser.parse_args()

    cases = [(n,) for n in DENSE] + [DEEP]
    if arguments.small:
        cases = [(500,), (1400,)]
    told = [f"{name}={os.environ.get(name, '-')}" for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")]
    print(
        f"{numba.get_num_threads()} threads, {', '.join(told)}, P {arguments.dtype}, {arguments.covariance}"
    )
    print(f"{'N':>8}{'blocks':>8}{'m':>6}{'ms':>10}{'GFlop/s':>10}{'/ gemm':>8}{'variances: / gemm':>20}")
    rng = np.random.default_rng(1)
    A, B = rng.normal(size=(2, SIDE, SIDE))
    for sizes in cases:
        blocks = Blocks(sizes)
        kalman = RLEKF(
            np.zeros(blocks.n_weights), blocks, covariance=arguments.covariance, dtype=arguments.dtype
        )
        clocks: dict[Any, Any] = {"gemm": clock(lambda: A @ B)}
        for m in NUMBERS:
            clocks[m] = clock(updates(kalman, m, rng))
            clocks[-m] = clock(variances(kalman, m, rng))
        taken = take_turns(clocks, arguments.rounds)
        seconds = {name: float(np.median(values)) for name, values in taken.items()}
        gemm = 2.0 * SIDE**3 / seconds["gemm"]
        squares = sum(n * n for n in sizes)
        for m in NUMBERS:
            rate = operations(blocks, m) / seconds[m]
            project = (2.0 * squares * m + blocks.n_weights * m * m) / seconds[-m]
            print(
                f"{blocks.n_weights:8,}{len(blocks):8}{m:6}{1e3 * seconds[m]:10.2f}{rate / 1e9:10.1f}"
                f"{rate / gemm:8.2f}{project / gemm:20.2f}"
            )
        print(f"{'gemm':>22}{1e3 * seconds['gemm']:10.2f}{gemm / 1e9:10.1f}", flush=True)
        del kalman


if __name__ == "__main__":
    main()
