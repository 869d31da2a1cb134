"""Where a model errs: errors by element, by configuration, and frame by frame."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.report.page import place

#: Training frames looked at, evenly spaced.
TRAINING_FRAMES = 128


class Row(NamedTuple):
    """Errors of one group: counts of frames and atoms; RMSE of energies (eV/atom) and forces (eV/Å), and
    the RMS of the labels' forces; NaN where there is no label."""

    name: str
    n_frames: int
    n_atoms: int
    energy: float
    force: float
    rms_force: float


class Frames(NamedTuple):
    """Every frame: where it lies, its error of the energy per atom (eV), its RMSE of forces (eV/Å) and the
    RMS of its labels' forces."""

    sources: list[str]
    energy_f: np.ndarray
    force_f: np.ndarray
    rms_f: np.ndarray


class Errors(NamedTuple):
    """Of one data set: `report.metrics.Comparison`, its summary, and three ways to look at it."""

    comparison: Any
    metrics: Any
    elements: list[Row]
    systems: list[Row]
    frames: Frames


def errors_of(potential, data) -> Errors:
    """Predict all frames of a `Dataset` once."""
    from kalmandp.training.report.metrics import compare, summarize

    types_f: list[np.ndarray] = []

    def frames():
        for frame in data:
            types_f.append(np.asarray(frame.with_type_map(potential.type_map).types))
            yield frame

    comparison = compare(potential, frames())
    systems = [
        _row(f"{info.formula}, {place(address)}", comparison, numbers)
        for info, (address, numbers) in zip(data.systems, data.by_system().items(), strict=True)
    ]
    elements = _elements(potential.type_map, comparison, types_f)
    return Errors(comparison, summarize(comparison), elements, systems, _frames(comparison, data))


def some_of(data, n: int = TRAINING_FRAMES):
    """Evenly spaced frames of a data set, or all of a small one."""
    chosen = np.unique(np.linspace(0, len(data) - 1, min(n, len(data))).astype(int))
    return data.subset(chosen)


def _row(name: str, c, numbers) -> Row:
    energy = [(c.energy[f][1] - c.energy[f][0]) / c.n_atoms[f] for f in numbers if c.energy[f] is not None]
    forces = [c.forces[f] for f in numbers if c.forces[f] is not None]
    atoms = int(sum(c.n_atoms[f] for f in numbers))
    return Row(name, len(numbers), atoms, _rms(energy), *_force(forces))


def _elements(type_map, c, types_f) -> list[Row]:
    """Forces on the atoms of each element, in the frames that have forces."""
    rows = []
    for t, name in enumerate(type_map):
        of = [(f, types == t) for f, types in enumerate(types_f) if (types == t).any()]
        forces = [c.forces[f][its] for f, its in of if c.forces[f] is not None]
        atoms = int(sum(its.sum() for _, its in of))
        rows.append(Row(name, len(of), atoms, float("nan"), *_force(forces)))
    return rows


def _frames(c, data) -> Frames:
    nan = float("nan")
    energy = [nan if e is None else (e[1] - e[0]) / n for e, n in zip(c.energy, c.n_atoms, strict=True)]
    force = [(nan, nan) if f is None else _force([f]) for f in c.forces]
    force_fk = np.array(force).reshape(-1, 2)
    return Frames([data.source(k) for k in range(len(data))], np.array(energy), *force_fk.T)


def _force(parts) -> tuple[float, float]:
    """RMSE of the components of forces (…, 3, 2), and the RMS of the labels."""
    return _rms([(f[..., 1] - f[..., 0]).ravel() for f in parts]), _rms([f[..., 0].ravel() for f in parts])


def _rms(parts) -> float:
    values = np.concatenate([np.atleast_1d(p) for p in parts]) if parts else np.zeros(0)
    return float(np.sqrt(np.mean(values * values))) if len(values) else float("nan")
