"""What stands beside our own files after ``kalmandp train input.nn``: those of n2p2's ``nnp-train``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kalmandp.bridges.n2p2.outputs import add_to_learning_curve, errors_of, write_points

#: Training frames whose errors a line of the learning curve shows, evenly chosen.
LOOKED_AT = 200


def at_checkpoint(run) -> None:
    """Nothing: a line of learning-curve.out is of an epoch."""


def at_epoch(run) -> None:
    """A line of learning-curve.out: of the first weights (epoch 0), and of each epoch when it ends."""
    n, result = len(run.data), run.result()
    some = (run.data[int(k)] for k in np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(int)))
    test = [float("nan")] * 6 if run.validation is None else errors_of(result, run.validation)
    epoch = int(run.feed.progress)
    path = run.output / "learning-curve.out"
    add_to_learning_curve(path, epoch, errors_of(result, some), test, run.potential.form)


def at_end(run) -> None:
    """trainpoints, trainforces, and those of the test structures."""
    result = run.result()
    write_points(run.output, result, run.data, "train")
    if run.validation is not None:
        write_points(run.output, result, run.validation, "test")


def predict(potential, data, output) -> None:
    """The points and forces of all structures."""
    write_points(Path(output), potential, data, "train")
