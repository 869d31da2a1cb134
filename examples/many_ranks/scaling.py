"""What many ranks would do: bytes, messages and seconds of a step for large models, from parts measured here.

    python examples/many_ranks/scaling.py [--numbers 200] [--bandwidth 25] [--latency 2] [--small]

The parts are those of a step of examples/nep on one core: the rows of H per number and weight, an update of P
per operation, and the prediction per weight. The model is `kalmandp.training.placement.ranks_model`; P is in
blocks of 10,240 weights, as the paper has it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from kalmandp.commands.wording import duration, size
from kalmandp.frames.dataset import Dataset
from kalmandp.kalman import Blocks
from kalmandp.training.config.inputs import read_input
from kalmandp.training.config.presets import resolve
from kalmandp.training.measurements.shared import ROWS
from kalmandp.training.placement.plan import step_and_rates
from kalmandp.training.placement.ranks_model import Network, Step, on_ranks
from kalmandp.training.starting import new_potential

ROOT = Path(__file__).resolve().parents[2]
BLOCK = 10_240
WEIGHTS = (10**5, 10**6, 10**7)
RANKS = (1, 4, 16, 64, 256, 1024)
WIDTHS = (11, 7, 11, 11, 11, 10, 13, 9, 7)


def measured():
    """Seconds of the parts on this machine."""
    settings = read_input(ROOT / "examples" / "nep" / "input.json")
    with Dataset(settings.training.systems) as data:
        potential = new_potential(settings.model, data[:20], np.random.default_rng(0), None, "cpu")
        return step_and_rates(potential, resolve(settings.optimizer), [data[0]], clock=time.process_time)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numbers", type=int, default=200, help="m, of one update [200]")
    parser.add_argument("--bandwidth", type=float, default=25.0, help="GB/s that a rank receives [25]")
    parser.add_argument("--latency", type=float, default=2.0, help="µs of a message [2]")
    parser.add_argument("--small", action="store_true", help="the smallest of the models only")
    args = parser.parse_args()
    m, network = args.numbers, Network(1e9 * args.bandwidth, 1e-6 * args.latency)
    _, rates = measured()
    print(
        f"measured on one core: {1e9 * rates.row:.3g} ns for a number of H, "
        f"{2e-9 / rates.operation:.3g} GFlop/s of an update; "
        f"on every rank {1e9 * rates.predicted:.3g} ns a weight and {1e3 * rates.ready:.2g} ms"
    )
    step = Step(m, 1, -(-m // ROWS), m)
    print(f"a step: one update by {m} numbers, made in {step.pieces} pieces\n")
    heads = ("N", "ranks", "P", "H and K", "received", "messages", "step", "network", "gain")
    print("".join(f"{head:>{width}}" for head, width in zip(heads, WIDTHS, strict=True)))
    for N in WEIGHTS[:1] if args.small else WEIGHTS:
        blocks = Blocks((*[BLOCK] * (N // BLOCK), *([N % BLOCK] if N % BLOCK else [])))
        parts, one = rates.parts(blocks, step), None
        for R in RANKS:
            found = on_ranks(blocks, R, step, parts, network)
            one = one or found.seconds
            row = (
                f"{N:,}", f"{R:,}", size(found.memory), size(found.rows_memory), size(found.received),
                f"{found.messages:,}", duration(found.seconds), f"{found.travelling / found.seconds:.1%}",
                f"{one / found.seconds:.1f}",
            )  # fmt: skip
            print("".join(f"{x:>{width}}" for x, width in zip(row, WIDTHS, strict=True)), flush=True)


if __name__ == "__main__":
    main()
