"""A new Deep Potential: its form, its statistics from data, its first weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kalmandp.errors import InputError
from kalmandp.geometry.neighbours import neighbour_statistics
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.initial import checked, initial_weights, span_of
from kalmandp.potentials.deep_potential.neighbours import auto_sel
from kalmandp.potentials.deep_potential.statistics import look_at, statistics_of
from kalmandp.potentials.protocol import New


def new(
    type_map, frames, rng, *, sel="auto", set_davg_zero=False, initial="spread", crowded=(), **choices
) -> New:  # fmt: skip
    """A form for these types, statistics of these frames, and random weights.

    Parameters
    ----------
    type_map : names of the types
    frames : iterable of Frame that can be gone through more than once
    rng : numpy Generator for the weights
    sel : numbers per type, "auto" (1.1 × the largest count in ``frames`` and ``crowded``) or "auto:1.2"
    crowded : further frames, for sel alone: those of a larger data set in which atoms lie closest
    set_davg_zero : leave the mean of R̃ at zero, so that padding slots contribute G(0)ᵀ·0 = 0
    initial : how the embedding's first layer is drawn, "spread" or "deepmd" (`initial`)
    choices : further fields of `Architecture`
    """
    counted = isinstance(sel, str)
    if counted and not len(frames):
        raise InputError(f"sel is {sel!r} but there are no frames to count neighbours in")
    first = tuple(auto_sel([1] * len(type_map), sel)) if counted else sel  # a wrong "auto…" ends here
    form = Architecture(type_map, sel=first, **choices)
    found = look_at(form, frames)
    if counted:
        most_t = found.most_t
        if len(crowded):
            most_t = np.maximum(most_t, neighbour_statistics(crowded, form.rcut, form.type_map).most_t)
        form = replace(form, sel=tuple(auto_sel(most_t, sel)))
    of_R = statistics_of(form, found)
    if set_davg_zero:
        of_R = of_R._replace(davg_tk=np.zeros_like(of_R.davg_tk))
    info = {"min_nbor_dist": of_R.closest} if np.isfinite(of_R.closest) else {}
    span = span_of(form, of_R) if checked(initial) == "spread" else None
    weights = initial_weights(form.layout(), rng, span)
    return New(form, weights, {"davg": of_R.davg_tk, "dstd": of_R.dstd_tk}, info)
