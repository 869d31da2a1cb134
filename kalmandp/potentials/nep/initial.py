"""A new NEP: its form, its first weights, and q_scaler from data.

The scale of c and that of W0 can be traded for each other, and q_scaler takes its part in it too. So that one
variance P₀ suits every weight of the filter, the first weights make all numbers on the way about 1:

    c     rows over (k, t) orthonormal, of random direction
    q     scaled to a standard deviation of 1 among the atoms of a type (`scaling` "std"), with these c
    W0    N(0, 1/dim);  b ~ N(0, 1), less what brings the mean of q̂ to zero for the net of each type
    w1    N(0, 1/neuron)

GPUMD's own q_scaler, 1/(max − min) of each q over the data, is `scaling` "minmax".
"""

from __future__ import annotations

import numpy as np

from kalmandp.errors import require
from kalmandp.geometry.pairs import gather
from kalmandp.potentials.nep.descriptor import NEPDescriptor
from kalmandp.potentials.nep.form import NEPForm
from kalmandp.potentials.protocol import New, Parameters

#: How q_scaler is chosen.
SCALINGS = ("std", "minmax")
#: How the rows of c are drawn: orthonormal, or each number in −½ … ½.
ROWS = ("orthonormal", "uniform")
#: q is looked at in frames evenly spaced over the data: so many frames, or atoms, at most.
SAMPLE_FRAMES, SAMPLE_ATOMS = 60, 6000
#: A form that begins with nothing: 898 weights for one element. Ten labelled frames of 32 atoms have as many
#: numbers. (A third of them fit silicon's crystal to 2 % of its forces: examples/on_the_fly/README.md.)
FIRST = {
    "radial_cutoff": 6.0, "angular_cutoff": 5.0, "n_max": (6, 5), "basis_size": (8, 8), "l_max": (4, 1),
    "neuron": 20,
}  # fmt: skip
#: A q that hardly changes in the sample is not scaled up further than to this share of its size.
SMALLEST_SPREAD = 1e-3


def new(type_map, frames, rng, *, scaling="std", rows="orthonormal", **choices) -> New:
    """A form for these types, q_scaler of these frames, and random weights.

    Parameters
    ----------
    type_map : names of the types
    frames : list of Frame, or a Dataset; without any frames q_scaler is 1
    rng : numpy Generator for the weights
    scaling : "std" or "minmax", see above
    rows : how c is drawn, "orthonormal" or "uniform" (−½ … ½)
    choices : further fields of `NEPForm`

    Returns
    -------
    New
        ``info["most neighbours"]``: the largest counts of radial and angular neighbours in the sample.
    """
    require(scaling in SCALINGS, "scaling", repr(scaling), f"one of {', '.join(SCALINGS)}")
    require(rows in ROWS, "rows", repr(rows), f"one of {', '.join(ROWS)}")
    form = NEPForm(tuple(type_map), **choices)
    weights = _draw(form, rng, rows)
    q_id, types_i, counts = _sample(form, weights, frames)
    if not len(q_id):
        return New(form, weights, {"q_scaler": np.ones(form.size)}, {})
    # one net for all types (NEP3) sees all atoms alike
    groups = [np.arange(len(q_id))] if form.version == 3 else [types_i == t for t in range(form.n_types)]
    q_scaler = _scale(q_id, [q_id[g] for g in groups if len(q_id[g])], scaling)
    layout = form.layout()
    for t, group in enumerate(groups):
        if len(q_id[group]):
            hidden = layout.fitting(weights, t)[0]
            # W0 (q̂ − mean) + b
            hidden.b[...] -= (q_id[group].mean(axis=0) * q_scaler) @ hidden.W
    return New(form, weights, {"q_scaler": q_scaler}, {"most neighbours": counts})


def _draw(form: NEPForm, rng, rows: str) -> np.ndarray:
    layout = form.layout()
    w = np.zeros(layout.size)
    for t in range(form.n_types):
        for name in ("c_radial", "c_angular"):
            c_nkt = layout.view(w, f"{name}.{t}")
            shape = (len(c_nkt), c_nkt[0].size)
            c = rng.uniform(-0.5, 0.5, shape) if rows == "uniform" else _orthonormal(rng, *shape)
            c_nkt[...] = c.reshape(c_nkt.shape)
    for net in dict.fromkeys(layout.fitting_nets):
        hidden, last = layout.layers(w, net)
        hidden.W[...] = rng.normal(size=hidden.W.shape) / np.sqrt(form.size)
        hidden.b[...] = rng.normal(size=hidden.b.shape)
        last.W[...] = rng.normal(size=last.W.shape) / np.sqrt(form.neuron)
    return w


def _orthonormal(rng, n_rows: int, n_columns: int) -> np.ndarray:
    """Rows of length 1 that are orthogonal as far as there are dimensions for it."""
    blocks = []
    for first in range(0, n_rows, n_columns):
        Q, R = np.linalg.qr(rng.normal(size=(n_columns, min(n_columns, n_rows - first))))
        blocks.append((Q * np.sign(np.diag(R))).T)  # without the sign Q would not be of random direction
    return np.concatenate(blocks)


def _sample(form: NEPForm, weights, frames):
    """q (i, d) before scaling and types of a sample of the frames' atoms; the largest neighbour counts."""
    descriptor, count = NEPDescriptor(form), len(frames)
    par = Parameters(descriptor, form.layout(), weights, np.zeros(form.n_types))
    chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLE_FRAMES)).round().astype(int))
    q, types, n_atoms, most = [np.zeros((0, form.size))], [np.zeros(0, int)], 0, np.zeros((2, 0), int)
    # the sparser half first, so that a sample cut short still reaches over all of the data
    for k in (*chosen[::4], *chosen[2::4], *chosen[1::2]):
        if n_atoms >= SAMPLE_ATOMS:
            break
        geometry = gather(frames[int(k)], form.type_map, form.cutoff)
        env = descriptor.environment({"q_scaler": np.ones(form.size)}, geometry)
        q.append(descriptor.forward(par, env)[0])
        types.append(geometry.types_i)
        seen = [np.bincount(i, minlength=1).max() for i in (geometry.i_p, geometry.i_p[env.pairs_a])]
        most = np.concatenate([most, np.array(seen)[:, None]], axis=1)
        n_atoms += geometry.n_atoms
    return np.concatenate(q), np.concatenate(types), most.max(axis=1, initial=0).tolist()


def _scale(q_id, groups, scaling: str) -> np.ndarray:
    """q_scaler from all q, and from those of the atoms that share a net."""
    size = np.sqrt((q_id * q_id).mean(axis=0))
    if scaling == "minmax":
        spread = np.ptp(q_id, axis=0)
    else:
        variances = [len(q) * q.var(axis=0) for q in groups]
        spread = np.sqrt(sum(variances) / len(q_id))
    spread = np.maximum(spread, SMALLEST_SPREAD * size)
    return 1.0 / np.where(spread > 0, spread, 1.0)  # a q that is zero in every atom stays as it is
