"""A new Deep Potential: its form, its statistics from data, its first weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kalmandp.errors import InputError
from kalmandp.geometry.neighbours import auto_sel
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.initial import checked, initial_weights, span_of
from kalmandp.potentials.deep_potential.statistics import look_at, statistics_of
from kalmandp.potentials.protocol import New


def new(type_map, frames, rng, *, sel="auto", set_davg_zero=False, initial="spread", **choices) -> New:
    """A form for these types, statistics of these frames, and random weights.

    Parameters
    ----------
    type_map : names of the types
    frames : iterable of Frame that can be gone through more than once
    rng : numpy Generator for the weights
    sel : numbers per type, "auto" (1.1 × the largest count in ``frames``) or "auto:1.2"
    set_davg_zero : leave the mean of R̃ at zero, so that padding slots contribute G(0)ᵀ·0 = 0
    initial : how the embedding's first layer is drawn, "spread" or "deepmd" (`initial`)
    choices : further fields of `Architecture`
    """
    counted = isinstance(sel, str)
    if counted and not len(frames):
        raise InputError(f"sel is {sel!r} but there are no frames to count neighbours in")
    form = Architecture(type_map, sel=auto_sel([1] * len(type_map), sel) if counted else sel, **choices)
    found = look_at(form, frames)
    if counted:
        form = replace(form, sel=auto_sel(found.most_t, sel))
    seen = statistics_of(form, found)
    if set_davg_zero:
        seen = seen._replace(davg_tk=np.zeros_like(seen.davg_tk))
    info = {"min_nbor_dist": seen.closest} if np.isfinite(seen.closest) else {}
    span = span_of(form, seen) if checked(initial) == "spread" else None
    weights = initial_weights(form.layout(), rng, span)
    return New(form, weights, {"davg": seen.davg_tk, "dstd": seen.dstd_tk}, info)
