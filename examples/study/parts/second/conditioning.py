"""Why a gradient stalls: the singular values of the Jacobian of what is measured.

H holds ∂h_q/∂w of energies and force components of some training frames, each row over the standard
deviation of its noise. A plain gradient sees H: its error falls along each singular vector at a rate of σ²,
so the weakest direction that matters takes (σ₁/σ_k)² times as many steps as the strongest. Adam divides by a
running mean of each weight's gradient: nearly H D^{-1/2}, D = diag HᵀH. A Kalman filter takes P, close to
(HᵀH + P₀⁻¹)⁻¹, instead: along what was measured all directions move alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from runs import Study
from runs.results import RESULT, read_json, write_json
from runs.unit import digest

from kalmandp import Dataset, Potential, read_input
from kalmandp.training.config.presets import PRESETS
from kalmandp.training.measurements.measurement import make_sample, matrix
from kalmandp.training.starting import new_potential

from .plan import forms, systems, unit

FILE = "conditioning.json"
#: Frames, and atoms of each whose forces are measured.
FRAMES, ATOMS = 16, 8
#: A condition number leaves out the weakest tenth of the directions, and those that nothing depends on.
KEPT = 0.9


def measure(study: Study) -> None:
    """Condition numbers of every model and system, at initial weights and at those of the filter's run."""
    path = study.folder / FILE
    known = read_json(path) or {}
    for system in systems(study):
        for model in forms(study):
            run = unit(study, system, model, "default")
            result = study.result(run)
            if result is None:
                continue
            settings = read_input(run.input())
            made = digest(result.folder / RESULT)
            if known.get(run.key, {}).get("made") == made:
                continue
            with Dataset(run.train) as data:
                m = settings.model
                start = new_potential(m, data, np.random.default_rng([run.seed, *m.seeds]), None, "cpu")
                trained = Potential.load(result.folder / settings.training.model_file)
                chosen = np.unique(np.linspace(0, len(data) - 1, FRAMES).astype(int))
                frames = [data[int(k)] for k in chosen]
                known[run.key] = {
                    "made": made, "weights": start.layout.size,
                    "start": numbers(start, frames), "end": numbers(trained, frames),
                }  # fmt: skip
            write_json(path, known)


def numbers(potential: Potential, frames) -> dict[str, Any]:
    """Condition numbers of H, and of H with its columns of one length."""
    H_qw = jacobian(potential, frames)
    column_w = np.sqrt(np.einsum("qw,qw->w", H_qw, H_qw))
    scaled_qw = H_qw / np.where(column_w > 0, column_w, 1.0)
    return {"rows": len(H_qw), "plain": condition(H_qw), "scaled": condition(scaled_qw)}


def jacobian(potential: Potential, frames) -> np.ndarray:
    """H (m, N) of energies and forces over the deviations of the preset "matrix"."""
    rng, noise, rows = np.random.default_rng(0), PRESETS["matrix"].noise, []
    for frame in frames:
        sample = make_sample(potential, [frame])
        n = sample.n_atoms
        atoms = rng.choice(n, min(ATOMS, n), replace=False)
        m = matrix(potential, sample, atoms, noise, 1, ("energy", "force"))
        rows.append(np.asarray(m.H_qw) / np.sqrt(m.noise_q)[:, None])
    return np.concatenate(rows)


def condition(H_qw: np.ndarray) -> float:
    """σ₁/σ_k with k at `KEPT` of the rank of H.

    Examples
    --------
    >>> condition(np.diag([8.0, 4.0, 2.0, 1.0, 0.0]))
    4.0
    """
    sigma_k = np.linalg.svd(H_qw, compute_uv=False)
    rank = int((sigma_k > max(H_qw.shape) * np.finfo(float).eps * sigma_k[0]).sum())
    return float(sigma_k[0] / sigma_k[int(KEPT * rank) - 1]) if rank > 1 else 1.0
