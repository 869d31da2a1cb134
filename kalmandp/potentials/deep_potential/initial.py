"""The weights that training begins with.

Most are drawn as DeePMD-kit draws them: W ~ N(0, 1/(n_in + n_out)), b ~ N(0, 1), idt ~ N(0.1, 0.001²).

The first layer of an embedding net, tanh(g W_n + b_n), is what tells one distance from another: one number
goes in, g = R̃_0, and unit n has its slope near g_n = −b_n/W_n. With W ~ N(0, 1/26) and b ~ N(0, 1) a unit is
some five standard deviations of g wide and may lie anywhere: over the distances of one bond all units are
nearly straight lines. Along such a bond the nets give a constant force, and the force error stays at the RMS
force until the weights have grown: for hundreds of frames of water, and longer the narrower the bond is in g.
So the units are spread over the range of g in the data::

    W_n ~ N(0, σ²),      b_n = −W_n g_n,      g_n ~ U(g_far, g_near),      σ = min(1, n/(2 (g_near − g_far)))

each about one standard deviation of g wide and in a place of its own between g_far, that of a padding slot
(or of a neighbour at r_c), and g_near, that of the closest pair in the data; wider where n units would leave
gaps (at least twice the distance between two of them). Spreading units over their input is Nguyen and
Widrow's rule (IJCNN 1990); theirs are narrower.
"""

from __future__ import annotations

import numpy as np

from kalmandp.errors import require
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.environment import raw_environment
from kalmandp.potentials.deep_potential.statistics import STD_FLOOR, Statistics
from kalmandp.potentials.layout import WeightLayout

#: How the embedding's first layer is drawn.
INITIAL = ("spread", "deepmd")


def initial_weights(
    layout: WeightLayout, rng: np.random.Generator, span: tuple[float, float] | None = None
) -> np.ndarray:
    """Draw the weights of a new model: first layers of the embedding as above, all else as DeePMD-kit does.

    Parameters
    ----------
    layout : WeightLayout
    rng : the generator to draw from
    span : (g_far, g_near) with g_far < g_near, without unit (R̃ is normalised), over which the first units of
        the embedding are spread; None to draw them, too, as DeePMD-kit does

    Returns
    -------
    w : (N,) float64, in the order of ``layout``
    """
    w = np.empty(layout.size)
    for tensor in layout.tensors:
        piece = w[tensor.start : tensor.stop]
        if tensor.kind == "W":
            piece[:] = rng.normal(0.0, 1.0 / np.sqrt(sum(tensor.shape)), tensor.size)
        elif tensor.kind == "b":
            piece[:] = rng.normal(0.0, 1.0, tensor.size)
        else:
            piece[:] = rng.normal(0.1, 0.001, tensor.size)
    if span is not None:
        for e in range(sum(net.startswith("embedding.") for net in layout.nets)):
            first, (far, near) = layout.layers(w, f"embedding.{e}")[0], span
            n = len(first.b)
            # W_n ~ N(0, σ²),  b_n = −W_n g_n,  g_n ~ U(g_far, g_near)
            sigma = min(1.0, 0.5 * n / (near - far))
            first.W[...] = rng.normal(0.0, sigma, first.W.shape)
            first.b[...] = -first.W[0] * rng.uniform(far, near, n)
    return w


def span_of(architecture: Architecture, statistics: Statistics) -> tuple[float, float] | None:
    """(g_far, g_near): g = (R_0 − davg)/dstd of a padding slot and of the closest pair, over all centre
    types.

    A type whose atoms have next to no neighbours (isolated atoms, for their energy) says nothing of what the
    others see, and is passed over. None where the statistics have seen no pair within r_c.
    """
    seen_t = statistics.dstd_tk[:, 0] > STD_FLOOR
    if not np.isfinite(statistics.closest) or not seen_t.any():
        return None
    closest_pc = np.array([[statistics.closest, 0.0, 0.0]])
    R_pk, _ = raw_environment(closest_pc, architecture.rcut_smth, architecture.rcut)
    davg_t, dstd_t = statistics.davg_tk[seen_t, 0], statistics.dstd_tk[seen_t, 0]
    far, near = (-davg_t / dstd_t).min(), ((R_pk[0, 0] - davg_t) / dstd_t).max()
    return (float(far), float(near)) if near > far else None


def checked(initial: str) -> str:
    """``initial`` if it is one of `INITIAL`; an InputError that names them if not."""
    require(initial in INITIAL, "initial", initial, " or ".join(INITIAL))
    return initial
