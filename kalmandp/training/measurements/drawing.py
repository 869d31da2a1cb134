"""Which forces a step measures: y groups of x atoms (or single components) of each frame, drawn at random.

With x "all" every atom is in one of the groups.

A *target* is the number of an atom in the sample, or 3·atom + axis of a single component. A group is drawn
as (t, k) targets: k places, t of them to try for each (`measurements.candidates`); −1 where there is none.
"""

from __future__ import annotations

import numpy as np

from kalmandp.training.config.presets import KalmanChoices
from kalmandp.training.measurements.measurement import Sample


def draw_groups(choices: KalmanChoices, sample: Sample, rng: np.random.Generator) -> list[np.ndarray]:
    """y groups of targets (t, k) of a sample, frame after frame.

    Without replacement a small frame gives fewer or smaller groups. DeePMD-kit's batch takes the same
    atoms of all its frames, which have the same size.
    """
    per_atom = 3 if choices.components else 1
    size_f, first_f = per_atom * np.diff(sample.first_f), per_atom * sample.first_f[:-1]
    t = min(choices.trials, int(size_f.max()))
    if choices.same_atoms:
        shared = _draw(choices, t, int(size_f.min()), rng)
        return [np.concatenate([_shifted(group, o) for o in first_f], axis=1) for group in shared]
    drawn = [_draw(choices, t, int(n), rng) for n in size_f]
    groups = [
        [_shifted(d[g], o) for o, d in zip(first_f, drawn, strict=True) if g < len(d)]
        for g in range(choices.n_groups)
    ]
    return [np.concatenate(group, axis=1) for group in groups if group]


def as_group(choices: KalmanChoices, targets: np.ndarray) -> np.ndarray:
    """Targets (k,) as `measurement.force_signed` takes them: atoms (k,), or atoms and axes (2, k)."""
    return np.stack(np.divmod(targets, 3)) if choices.components else targets


def _draw(choices: KalmanChoices, t: int, n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Groups (t, k) of the n targets of one frame."""
    y = choices.n_groups
    x = -(-n // y) if choices.group_size == "all" else int(choices.group_size)
    if choices.replacement:
        return list(rng.integers(0, n, size=(t, y, x)).transpose(1, 0, 2))
    drawn = rng.permutation(n)[: t * y * x]
    places = min(y * x, n)
    targets = np.full(t * places, -1)
    targets[: len(drawn)] = drawn
    parts = np.array_split(targets.reshape(t, places), min(y, places), axis=1)
    return [group for group in parts if group.shape[1]]


def _shifted(targets: np.ndarray, first: int) -> np.ndarray:
    return np.where(targets < 0, targets, targets + first)
