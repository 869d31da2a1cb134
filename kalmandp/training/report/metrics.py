"""Errors of a potential on labelled frames: one function for the learning curve, `test` and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.potentials.batches import batches
from kalmandp.potentials.potential import Potential
from kalmandp.registry import load
from kalmandp.training.measurements.measurement import make_sample, predict

if TYPE_CHECKING:
    from kalmandp.ranks.team import Team


class Comparison(NamedTuple):
    """Labels beside predictions, frame by frame (None where a frame has no such label).

    n_atoms (f,); energy (f, 2) eV: label, prediction; forces: list of (n, 3, 2); virial: list of (3, 3, 2)
    """

    n_atoms: np.ndarray
    energy: list
    forces: list
    virial: list
    atomic_energies: list


class Metrics(NamedTuple):
    """Root mean square and mean absolute errors; NaN where no frame has the label.

    energy and virial in eV/atom, force in eV/Å, atomic_energy in eV; ``rms_force`` is the labels' own
    RMS, eV/Å; ``energies`` and the three like it say how many of ``n_frames`` have the label;
    ``virial_mean`` is the mean of prediction − label on the diagonal, eV/atom
    """

    energy_rmse: float
    energy_mae: float
    force_rmse: float
    force_mae: float
    virial_rmse: float
    virial_mae: float
    rms_force: float
    n_frames: int
    n_atoms: int
    atomic_energy_rmse: float = float("nan")
    atomic_energy_mae: float = float("nan")
    energies: int = 0
    forces: int = 0
    virials: int = 0
    atomic_energies: int = 0
    virial_mean: float = float("nan")

    @property
    def virial_rest(self) -> float:
        """RMSE of virials when that mean is taken out, eV/atom."""
        return float(np.sqrt(max(0.0, self.virial_rmse**2 - self.virial_mean**2 / 3.0)))


def compare(potential: Potential, frames, pairs=None) -> Comparison:
    """Predict each frame and put labels and predictions side by side.

    Parameters
    ----------
    potential : Potential
    frames : iterable of Frame or ase.Atoms
    pairs : iterable of Pairs, if the neighbours are known
    """
    out = Comparison(np.zeros(0, int), [], [], [], [])
    sizes: list[int] = []
    for batch, batch_pairs in batches(map(potential.as_frame, frames), pairs):
        sample = make_sample(potential, batch, batch_pairs)
        now = predict(potential, sample)
        E_f, E_i, F_ic, W_fcc = map(to_numpy, now[:4])
        for f, frame in enumerate(sample.frames):
            atoms = slice(sample.first_f[f], sample.first_f[f + 1])
            sizes.append(len(frame))
            out.energy.append(_beside(frame.energy, E_f[f]))
            out.forces.append(_beside(frame.forces, F_ic[atoms]))
            out.virial.append(_beside(frame.virial, W_fcc[f]))
            out.atomic_energies.append(_beside(frame.atomic_energies, E_i[atoms]))
    return out._replace(n_atoms=np.array(sizes, dtype=int))


def summarize(comparison: Comparison) -> Metrics:
    """RMSE and MAE of a comparison."""
    c = comparison
    energy = [(e[1] - e[0]) / n for e, n in zip(c.energy, c.n_atoms, strict=True) if e is not None]
    virial = [
        ((v[..., 1] - v[..., 0]) / n).ravel()
        for v, n in zip(c.virial, c.n_atoms, strict=True)
        if v is not None
    ]
    forces = [f for f in c.forces if f is not None]
    force = [(f[..., 1] - f[..., 0]).ravel() for f in forces]
    atomic = [e[..., 1] - e[..., 0] for e in c.atomic_energies if e is not None]
    rms, mae = _rms, _mae
    return Metrics(
        rms(energy), mae(energy), rms(force), mae(force), rms(virial), mae(virial),
        rms([f[..., 0].ravel() for f in forces]), len(c.n_atoms), int(c.n_atoms.sum()),
        rms(atomic), mae(atomic), len(energy), len(force), len(virial), len(atomic),
        float(np.mean([v.reshape(3, 3).trace() / 3.0 for v in virial])) if virial else float("nan"),
    )  # fmt: skip


def evaluate(potential: Potential, frames, pairs=None, team: Team | None = None) -> Metrics:
    """The errors of a potential on frames: `summarize` of `compare`.

    Parameters
    ----------
    potential : Potential
    frames : iterable of Frame or ase.Atoms with labels, e.g. a Dataset; or one of them
    pairs : iterable of Pairs, if the neighbours are known
    team : from `kalmandp.ranks.team.team_of` (of a communicator of mpi4py's): its ranks share the frames,
        which are then read by number; each makes this call, and has the result

    Returns
    -------
    Metrics

    Examples
    --------
    >>> from kalmandp import Dataset, Potential
    >>> data = Dataset("data/si64_lda_test.h5")[:2]
    >>> untrained = Potential.create(
    ...     ["Si"],
    ...     rcut=4.0,
    ...     frames=data,
    ...     rng=np.random.default_rng(1),
    ...     embedding=(4, 8),
    ...     axis_neuron=2,
    ...     fitting=(8,),
    ... )
    >>> errors = evaluate(untrained, data)
    >>> errors.n_frames, errors.n_atoms, bool(errors.force_rmse > 0.5 * errors.rms_force)
    (2, 128, True)
    """
    one = hasattr(frames, "positions")
    if team is not None:
        over = load("kalmandp.training.report.shared:compare_over")
        return summarize(over(team, potential, [frames] if one else frames))
    return summarize(compare(potential, [frames] if one else frames, pairs))


def _beside(label, prediction):
    """(…, 2): label and prediction; None without a label."""
    return None if label is None else np.stack([np.asarray(label), prediction], axis=-1)


def _join(parts) -> np.ndarray:
    return np.concatenate([np.atleast_1d(p) for p in parts]) if parts else np.zeros(0)


def _rms(parts) -> float:
    values = _join(parts)
    return float(np.sqrt(np.mean(values * values))) if len(values) else float("nan")


def _mae(parts) -> float:
    values = _join(parts)
    return float(np.mean(np.abs(values))) if len(values) else float("nan")
