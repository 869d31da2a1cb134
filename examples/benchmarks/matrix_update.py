"""Rate of one Kalman update by m numbers at once against that of a BLAS product, in the same run.

    python examples/benchmarks/matrix_update.py [--threads 1] [--rounds 7] [--numbers 64 128 400] [--small]
        [--dtype float32] [--no-variances]

An update of weights in blocks of n_l costs, with half of each symmetric result computed, ::

    Σ_l 2 n_l² m   P Hᵀ        Σ_l n_l² m   P − GᵀG        2 N m²   H P Hᵀ and C⁻¹K        m³/3   S = CCᵀ

operations: P is symmetric, and the other half of P − GᵀG is not counted. The BLAS product is NumPy's A @ B of
2048 × 2048 matrices, float64, by 2·2048³. It takes its turn before each update, and the figures are medians
over the rounds: of one thread in seconds of the processor, of more by the clock. OpenBLAS chooses its kernels
by the machine unless OPENBLAS_CORETYPE or OPENBLAS_L2_SIZE say otherwise: the first line tells.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import numba
import numpy as np
from support.turns import clock, take_turns, with_threads

from kalmandp.kalman import RLEKF, Blocks, prediction_variance

#: Weights of the dense cases (NEP potentials), and blocks of a Deep Potential's 26,551.
DENSE = (1400, 3000, 7000)
DEEP = (1350, 5120, 5120, 5120, 4691, 5100, 50)
NUMBERS = (64, 128, 400)
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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--numbers", type=int, nargs="+", default=list(NUMBERS), help="m")
    parser.add_argument("--small", action="store_true", help="at most 1,400 weights: seconds, not minutes")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--covariance", default="tiled")
    parser.add_argument(
        "--no-variances", action="store_true", help="updates alone, without predicted variances"
    )
    arguments = parser.parse_args()
    with_threads(arguments.threads)

    cases = [(n,) for n in DENSE] + [DEEP]
    if arguments.small:
        cases = [(500,), (1400,)]
    told = [f"{name}={os.environ.get(name, '-')}" for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")]
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"{numba.get_num_threads()} threads, {', '.join(told)}, P {arguments.dtype}, {arguments.covariance}, "
        f"{load}\n"
    )
    print(
        "| N | blocks | m | ms | GFlop/s | gemm | / gemm | variances / gemm |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    rng = np.random.default_rng(1)
    A, B = rng.normal(size=(2, SIDE, SIDE))
    for sizes in cases:
        blocks = Blocks(sizes)
        kalman = RLEKF(
            np.zeros(blocks.n_weights), blocks, covariance=arguments.covariance, dtype=arguments.dtype
        )
        clocks: dict[Any, Any] = {}
        for m in arguments.numbers:
            clocks["gemm", m] = clock(lambda: A @ B, arguments.threads)
            clocks["update", m] = clock(updates(kalman, m, rng), arguments.threads)
            if not arguments.no_variances:
                clocks["variances", m] = clock(variances(kalman, m, rng), arguments.threads)
        taken = take_turns(clocks, arguments.rounds)
        gemm_s = np.median(np.concatenate([taken["gemm", m] for m in arguments.numbers]))
        gemm = 2.0 * SIDE**3 / float(gemm_s)
        squares = sum(n * n for n in sizes)
        for m in arguments.numbers:
            seconds = float(np.median(taken["update", m]))
            rate = operations(blocks, m) / seconds
            of_variances = "–"
            if not arguments.no_variances:
                project = 2.0 * squares * m + blocks.n_weights * m * m
                of_variances = f"{project / float(np.median(taken['variances', m])) / gemm:.2f}"
            print(
                f"| {blocks.n_weights:,} | {len(blocks)} | {m} | {1e3 * seconds:.1f} | {rate / 1e9:.1f} "
                f"| {gemm / 1e9:.1f} | {rate / gemm:.2f} | {of_variances} |",
                flush=True,
            )
        del kalman


if __name__ == "__main__":
    main()
