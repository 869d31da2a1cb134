"""What the judges need of each kind of potential: random forms, statistics and weights.

The tests of derivatives, of invariances and of engines loop over `kalmandp.registry.KINDS` and look here: a
kind without an entry fails them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import hdnnp_cases
import nep_support
import numpy as np

from kalmandp.potentials.activations import NAMES
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.initial import initial_weights
from kalmandp.potentials.hdnnp.form import SCALINGS
from kalmandp.potentials.hdnnp.symmetry_functions import SymmetryFunction

#: Scalings of symmetry functions that leave them of the order of one.
SCALED = [name for name in SCALINGS if name not in ("none", "center")]
SMOOTH = [name for name in NAMES if name not in ("relu", "relu6")]


class Fixture(NamedTuple):
    """How the judges draw a potential of a kind.

    form : ``form(rng, n_types, **choices)``, anything that the kind allows, smooth, and small
    statistics : ``statistics(rng, form, wide)``, by name; wide: also values that data seldom give
    weights : ``weights(rng, form)`` (N,), with which no sum is much larger than another
    """

    form: Callable
    statistics: Callable
    weights: Callable


def random_architecture(rng, n_types=2, **choices) -> Architecture:
    widths = [(3, 6, 12), (5, 5, 5), (4, 7), (2, 4, 4)]
    fittings = [(6, 6), (5, 10), (7,), ()]
    embedding = widths[rng.integers(len(widths))]
    drawn = dict(
        rcut=float(rng.uniform(2.5, 5.5)),
        rcut_smth=float(rng.uniform(0.3, 2.0)),
        sel=tuple(rng.integers(150, 200, n_types)),
        embedding=embedding,
        axis_neuron=int(rng.integers(1, embedding[-1] + 1)),
        fitting=fittings[rng.integers(len(fittings))],
        type_one_side=bool(rng.integers(2)),
        embedding_resnet_dt=bool(rng.integers(2)),
        fitting_resnet_dt=bool(rng.integers(2)),
        embedding_activation=SMOOTH[rng.integers(len(SMOOTH))],
        fitting_activation=SMOOTH[rng.integers(len(SMOOTH))],
        exclude_types=((0, n_types - 1),) if rng.integers(4) == 0 else (),
    )
    return Architecture(tuple("ABCD"[:n_types]), **{**drawn, **choices})


def random_davg_dstd(rng, form, wide=False) -> dict:
    """Wide: a mean of the angular rows as well."""
    davg = np.zeros((form.n_types, 4))
    davg[:, 0] = rng.uniform(-0.2, 0.2, form.n_types)
    if wide:
        davg[:, 1:] = rng.uniform(-0.1, 0.1, (form.n_types, 3))
    dstd = rng.uniform(0.3, 1.0, (form.n_types, 4))
    dstd[:, 1:] = dstd[:, 1:2]
    return {"davg": davg, "dstd": dstd}


SE_E2_A = Fixture(
    random_architecture, random_davg_dstd, lambda rng, form: initial_weights(form.layout(), rng)
)
NEP = Fixture(
    nep_support.random_form,
    lambda rng, form, wide=False: {"q_scaler": rng.uniform(0.2 if wide else 0.5, 1.5, form.size)},
    lambda rng, form: 0.7 * rng.normal(size=form.layout().size),
)


def random_hdnnp(rng, n_types=2, **choices):
    """Neither activations that grow without bound nor all neighbours at the ends of polynomials.

    Sums would be of very different sizes; so one wide Gaussian for each neighbour is always there. The last
    layer does not saturate, and the others are seldom far out since q is scaled: 1 − tanh² of a large number
    has few digits, and every derivative would be a multiple of it. (`test_hdnnp_derivatives` has the rest.)
    """
    tame = [a for a in hdnnp_cases.SMOOTH if a not in ("harmonic", "exponential")]
    hidden = [(4, 3), (5,), (3, 4, 3), ()][rng.integers(4)]
    activations = (*(str(rng.choice(tame)) for _ in hidden), str(rng.choice(hdnnp_cases.OUTPUTS)))
    drawn = {"hidden": hidden, "activations": activations, "scaling": str(rng.choice(SCALED))}
    form = hdnnp_cases.random_form(rng, n_types, **{**drawn, **choices})
    wide = [SymmetryFunction(2, (name,), 6.0, eta=0.1) for name in form.type_map]
    return replace(form, functions=tuple((*rows, *wide) for rows in form.functions), cutoff_kind=1)


def random_ranges(rng, form, wide=False) -> dict:
    """Of symmetry functions, about those of a frame."""
    frame = hdnnp_cases.random_frame(rng, form, 8)
    return hdnnp_cases.random_case(rng, form, [frame]).statistics


HDNNP = Fixture(random_hdnnp, random_ranges, lambda rng, form: 0.3 * rng.normal(size=form.layout().size))

FIXTURES = {"se_e2_a": SE_E2_A, "nep": NEP, "hdnnp": HDNNP}
