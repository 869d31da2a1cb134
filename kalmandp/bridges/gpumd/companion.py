"""What stands beside our own files after ``kalmandp train nep.in``: those of GPUMD's ``nep``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kalmandp.bridges.gpumd.outputs import write_loss, write_predictions


def at_checkpoint(run) -> None:
    """loss.out, as far as the run is."""
    w = run.potential.weights
    write_loss(run.output / "loss.out", run.history, (np.abs(w).mean(), np.sqrt((w * w).mean())))


def at_epoch(run) -> None:
    """Nothing: loss.out has a line wherever the learning curve has one."""


def at_end(run) -> None:
    """loss.out, and predictions for the training and the test frames."""
    at_checkpoint(run)
    result = run.result()
    write_predictions(run.output, result, run.data, "train")
    if run.validation is not None:
        write_predictions(run.output, result, run.validation, "test")


def predict(potential, data, output) -> None:
    """What GPUMD does with ``prediction 1``: the predictions for train.xyz, and nothing else."""
    write_predictions(Path(output), potential, data, "train")
