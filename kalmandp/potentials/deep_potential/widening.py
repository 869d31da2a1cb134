r"""A Deep Potential that allows an atom more neighbours: what its weights become where sel grows.

sel has no weights, but it enters T twice: Σsel divides it, and each padding slot adds a row R̃ = −davg/dstd
(`environment`). With S = Σsel before and S' after, Δ_v more slots of kind v, and old and new q = D::

    T' = (S/S') (T + C),        C_mk = (1/S) Σ_v Δ_v G_vm R̃_vk,        D' = T' T'‹ᵀ

C is 0 where davg is (``set_davg_zero``): then D' = (S/S')² D, and W ← (S'/S)² W of the fitting net's first
layer gives the same potential. Elsewhere no weights do so exactly. Then W and b of that layer are those which
give what they gave, by least squares over the atoms of given frames and near the scaled W_0 = (S'/S)² W::

    min Σ_i |D'_i W' + b' − D_i W − b|² + κ |W' − W_0|²

D of an atom that has more neighbours than the old sel is what the formula says: fewer than no padding slots.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from kalmandp.errors import InputError
from kalmandp.geometry.neighbours import neighbour_statistics
from kalmandp.geometry.pairs import gather
from kalmandp.potentials import network
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.descriptor import DeepPotential
from kalmandp.potentials.deep_potential.neighbours import auto_sel
from kalmandp.potentials.protocol import Parameters

#: Atoms that the first layer is fitted to, about; every fifth frame judges.
ATOMS = 4000
#: κ over the mean square of a column of D'; the one that does best on the frames that judge is taken.
RIDGES = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)


class Widened(NamedTuple):
    """form, weights : of the potential with the larger sel;  said : what became of it, in words"""

    form: Architecture
    weights: np.ndarray
    said: str


class _Atoms(NamedTuple):
    """Atoms side by side: their types, the frames they are in, D with the old and with the new sel."""

    types_i: np.ndarray
    frame_i: np.ndarray
    old_ia: np.ndarray
    new_ia: np.ndarray


def widened(form: Architecture, weights, statistics: dict, frames, choices) -> Widened | None:
    """The same potential with as large a ``sel`` as frames need; None if its own is enough.

    Parameters
    ----------
    form, weights, statistics : of the potential
    frames : data set of Frame, gone through once or twice
    choices : what an input says of a model; of it ``sel``, numbers per type, or "auto" (where it says
        nothing), which counts the frames' neighbours. No number becomes smaller than it was

    Raises
    ------
    InputError
        If the fitting net's first layer adds D to what it gives (its width is that of D, or twice that), so
        that no weights can take up S/S'.
    """
    wanted = choices.get("sel", "auto")
    if isinstance(wanted, str):
        most = _most_neighbours(frames, form)
        grown = auto_sel(most, wanted)
        sel = [max(n, g) if m > n else n for n, m, g in zip(form.sel, most, grown, strict=True)]
    else:
        sel = [max(n, w) for n, w in zip(form.sel, wanted, strict=True)]
    if tuple(sel) == form.sel:
        return None
    changed = replace(form, sel=tuple(sel))
    layout = form.layout()
    first = layout.nets[layout.fitting_nets[0]][0]
    if first.skip != "none":
        raise InputError(
            f"the first layer of the fitting net is {first.n_out} wide beside {first.n_in} numbers of the "
            f"descriptor, so sel cannot become {list(changed.sel)} without other energies; expected frames "
            f"whose atoms have no more neighbours than sel {list(form.sel)} allows, or a new model"
        )
    weights = np.array(weights, dtype=np.float64)
    scale = (changed.n_neighbours / form.n_neighbours) ** 2
    exact = not np.any(statistics["davg"])
    atoms = None if exact else _atoms(form, changed, weights, statistics, frames)
    change = []
    for t, net in enumerate(layout.fitting_nets):
        W, b = layout.layers(weights, net)[0][:2]
        if atoms is None or not (atoms.types_i == t).any():
            W *= scale
            continue
        before = network.forward(layout.layers(weights, net), atoms.old_ia[atoms.types_i == t])[0]
        judged = _fit(W, b, scale, *(part[atoms.types_i == t] for part in atoms[1:]))
        after = network.forward(layout.layers(weights, net), atoms.new_ia[atoms.types_i == t])[0]
        change.append((after - before)[judged].ravel())
    said = f"sel becomes {list(changed.sel)} (it was {list(form.sel)}); "
    if exact:
        return Widened(changed, weights, said + "energies and forces stay the same")
    errors = np.concatenate(change)
    said += (
        f"energies of atoms change by {1e3 * np.sqrt((errors**2).mean()):.2g} meV (RMS), because davg of the "
        "model is not 0 and empty places count"
    )
    return Widened(changed, weights, said)


def _most_neighbours(frames, form: Architecture) -> np.ndarray:
    """The most neighbours of each type, (n_types,). Frames that cannot be used are named in their turn."""
    most_t = np.zeros(len(form.type_map), dtype=np.int64)
    for k in range(len(frames)):
        with contextlib.suppress(InputError):
            most_t = np.maximum(most_t, neighbour_statistics([frames[k]], form.rcut, form.type_map).most_t)
    return most_t


def _atoms(form: Architecture, changed: Architecture, weights, statistics: dict, frames) -> _Atoms:
    """D with both numbers of slots for the atoms of some frames, evenly chosen."""
    per_frame = max(1, len(frames[0]))
    count = min(len(frames), max(2, ATOMS // per_frame))
    chosen = [frames[int(k)] for k in np.unique(np.linspace(0, len(frames) - 1, count).astype(int))]
    geometry = gather(chosen, form.type_map, form.rcut)
    layout = form.layout()

    def descriptors(one: Architecture) -> Any:
        descriptor = DeepPotential(one)
        environment = descriptor.environment(statistics, geometry)
        return descriptor.forward(Parameters(descriptor, layout, weights, None), environment)[0]

    frame_i = np.repeat(np.arange(len(chosen)), [len(f) for f in chosen])
    return _Atoms(np.asarray(geometry.types_i), frame_i, descriptors(form), descriptors(changed))


def _fit(W, b, scale: float, frame_i, old_ia, new_ia) -> np.ndarray:
    """Change W (D, h) and b (h,), views of the weights, by least squares; which atoms have judged."""
    judged = frame_i % 5 == 4 if frame_i.max() >= 4 else np.zeros(len(frame_i), bool)
    W0 = scale * W
    left_ih = old_ia @ W + b - new_ia @ W0
    mean_a, mean_h = new_ia[~judged].mean(0), left_ih[~judged].mean(0)
    x_ia, y_ih = new_ia - mean_a, left_ih - mean_h
    normal = x_ia[~judged].T @ x_ia[~judged]
    right = x_ia[~judged].T @ y_ih[~judged]
    size = max(np.trace(normal) / len(normal), 1e-300)
    fits = [np.linalg.solve(normal + ridge * size * np.eye(len(normal)), right) for ridge in RIDGES]
    at = judged if judged.any() else ~judged
    best = min(fits, key=lambda fit: float(((x_ia @ fit - y_ih)[at] ** 2).sum()))
    W[...] = W0 + best
    b[...] = mean_h - mean_a @ best
    return at
