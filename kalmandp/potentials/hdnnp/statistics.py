"""The numbers of scaling.data: what each symmetry function is like in the data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kalmandp.geometry.pairs import gather
from kalmandp.potentials.hdnnp.environment import symmetry_functions
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.registry import make_engine


class Statistics(NamedTuple):
    """by_name : min, max, mean, sigma, (n_types, d) each;  closest : of all pairs, Å, ∞ without one."""

    by_name: dict[str, np.ndarray]
    closest: float


def function_statistics(form: HDNNPForm, frames, pairs=None, engine: str = "numba") -> Statistics:
    """min, max, mean and sigma of each symmetry function over all atoms of its element.

    sigma is the standard deviation of a sample, √(Σ(G − mean)²/(n − 1)), as nnp-scaling writes it; 0 for
    fewer than two atoms. An element without an atom has zeros.

    Parameters
    ----------
    form : HDNNPForm
    frames : iterable of Frame, gone through once
    pairs : iterable of Pairs, if the neighbours are known
    engine : "numba", or "numpy" for the reference, which takes some hundred times as long
    """
    shape = form.statistics_shapes()["min"]
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    n_t, mean, square, closest = np.zeros(form.n_types), np.zeros(shape), np.zeros(shape), np.inf
    pairs = iter(pairs) if pairs is not None else None
    values = _values(form, engine)
    for frame in frames:
        geometry, G_id = values(frame, None if pairs is None else [next(pairs)])
        if len(geometry.r_pc):
            closest = min(closest, float(np.sqrt((geometry.r_pc**2).sum(-1).min())))
        for t in np.unique(geometry.types_i):
            G = G_id[geometry.types_i == t]
            low[t], high[t] = np.minimum(low[t], G.min(0)), np.maximum(high[t], G.max(0))
            # two samples put together: n = n₁ + n₂, δ = mean₂ − mean₁,
            # mean = mean₁ + δ n₂/n,   Σ(G − mean)² = Σ₁ + Σ₂ + δ² n₁n₂/n
            n, n_new, mean_new = n_t[t], len(G), G.mean(0)
            delta = mean_new - mean[t]
            mean[t] += delta * n_new / (n + n_new)
            square[t] += ((G - mean_new) ** 2).sum(0) + delta * delta * n * n_new / (n + n_new)
            n_t[t] += n_new
    seen = (n_t > 0)[:, None]
    sigma = np.sqrt(square / np.maximum(n_t - 1, 1)[:, None])
    by_name = {
        "min": np.where(seen, low, 0.0),
        "max": np.where(seen, high, 0.0),
        "mean": mean,
        "sigma": sigma,
    }
    return Statistics(by_name, closest)


def _values(form: HDNNPForm, engine: str):
    """A function of a frame and its pairs: its geometry and G."""
    if engine != "numpy":
        fused = make_engine(engine, form, form.layout())

        def of_engine(frame, pairs):
            made = fused.functions(frame, pairs, derivatives=False)
            return made.geometry, made.G_id

        return of_engine

    def reference(frame, pairs):
        geometry = gather(frame, form.type_map, form.cutoff, pairs)
        return geometry, symmetry_functions(form, geometry, derivatives=False)[0]

    return reference
