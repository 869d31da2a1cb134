"""What the tests of every kind share."""

from __future__ import annotations

import shutil

import numpy as np
from small_models import tree_of

from kalmandp.cli import main
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run


def fails(capsys, *words) -> str:
    """What a command says that must fail."""
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def copy(trained, place):
    """The model under its own name in another folder."""
    new = place / trained.model.name
    (shutil.copytree if trained.model.is_dir() else shutil.copy)(trained.model, new)
    return new


def errors_by_hand(potential, frames) -> dict:
    """RMSE per atom of energy and virial, and of forces."""
    results = [potential.evaluate(f) for f in frames]
    square = lambda x: np.sqrt(np.mean(np.square(x)))
    pairs = list(zip(results, frames, strict=True))
    return {
        "energy": square([(r.energy - f.energy) / len(f) for r, f in pairs]),
        "force": square([r.forces - f.forces for r, f in pairs]),
        "virial": square([(r.virial - f.virial) / len(f) for r, f in pairs]),
    }


def a_run(trained, folder, steps=None, optimizer=None, **more) -> Run:
    """A run, after some steps (by default all)."""
    r = Run(read_input(tree_of(trained.kind, trained.place, optimizer, **more)), folder)
    for _ in range(r.n_steps if steps is None else steps):
        r.step()
    return r
