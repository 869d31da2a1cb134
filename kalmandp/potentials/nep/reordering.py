"""A NEP with its types in another order, or with fewer of them."""

from __future__ import annotations

import numpy as np

from kalmandp.potentials.nep.files import NEPFile, cut_types
from kalmandp.potentials.nep.form import NEPForm


def reordered(form: NEPForm, weights, statistics: dict, old: list[int]):
    """Form, weights and statistics of the same potential, type n being what ``old[n]`` was."""
    names = tuple(form.type_map[o] for o in old)
    cut = cut_types(NEPFile(form, weights, statistics, np.zeros(form.n_types)), names)
    return cut.form, cut.weights, cut.statistics
