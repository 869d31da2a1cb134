"""One version's process of `versions.py`: does on command what every version since 0.6.0 can do.

Reads lines ``what count`` and answers each with the seconds that it took.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from kalmandp import RLEKF, OnlineTrainer
from kalmandp.kalman import Part, partition
from support import water


def main() -> None:
    small = "--small" in sys.argv
    frame = water.labelled(water.water(24 if small else 192))
    p = water.potential(frame)
    trainer = OnlineTrainer(p, rng=np.random.default_rng(1), covariance="tiled")
    rng = np.random.default_rng(2)

    parts = [Part(t.name, t.size, t.layer) for t in p.layout.tensors]
    blocks = partition(parts, "RLEKF", 512 if small else 5120)
    kalman = RLEKF(np.zeros(blocks.n_weights), blocks, covariance="tiled")
    H_qw, error_q = rng.normal(size=(2, blocks.n_weights)) / np.sqrt(blocks.n_weights), rng.normal(size=2)

    done = {
        "frame": lambda: trainer.learn([frame]),
        "update": lambda: kalman.update(H_qw, error_q, 1.0),
        "inference": lambda: p.evaluate(frame),
    }
    for line in sys.stdin:
        what, count = line.split()
        # P folds in its columns once in 64: whole cycles, or rounds would not be alike
        often = int(count) if what == "inference" else 32 * max(1, round(int(count) / 32))
        start = time.perf_counter()
        for _ in range(often):
            done[what]()
        print((time.perf_counter() - start) * int(count) / often, flush=True)


if __name__ == "__main__":
    main()
