"""Atoms and their pairs, and what is made of them alone, whatever the potential.

A potential of this package is a function of the pair vectors r_p = r_j − r_i of each centre. With
f_p = ∂E/∂r_p the forces and the virial are sums over pairs::

    F_i = −∂E/∂r_i = Σ_{p: centre i} f_p − Σ_{p: neighbour i} f_p,      W = −∂E/∂ε,  W_dc = −Σ_p f_pd r_pc

and they are also rates of the energy: move each pair vector by v_p, then Ė = Σ_p f_p·v_p, so that ::

    c·F = Σ_i c_i·F_i       = Ė  with  v_p = c_i − c_j          (i, j centre and neighbour of p)
    C:W = Σ_dc C_dc W_dc    = Ė  with  v_p = −C r_p
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace, segment_sum
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import Pairs, neighbour_pairs


class Geometry(NamedTuple):
    """Atoms of one frame, or of several side by side, and all pairs within a cut-off.

    types_i : (i,) atom types;  frame_i : (i,) which frame an atom belongs to;  n_frames
    i_p, j_p : (p,) centre and neighbour of each pair, sorted by centre; both directions of every pair
    r_pc : (p, 3) r_j − r_i, Å
    """

    types_i: Any
    frame_i: Any
    n_frames: int
    i_p: Any
    j_p: Any
    r_pc: Any

    @property
    def n_atoms(self) -> int:
        """Atoms of all frames together."""
        return len(self.types_i)


def gather(
    frames, type_map, cutoff: float, pairs=None, check: Callable[[Frame, Pairs], None] | None = None
) -> Geometry:
    """The geometry of a `Frame` or of a list of frames side by side.

    Parameters
    ----------
    frames : Frame or list of Frame, whose type maps are ``type_map`` or map into it
    type_map : names of the potential's types
    cutoff : Å
    pairs : list of `Pairs`, one per frame, if they are known
    check : called for every frame with its pairs; raises if the potential cannot take them

    Raises
    ------
    InputError
        For overlapping atoms and unknown species.
    """
    frames = [frames] if isinstance(frames, Frame) else list(frames)
    frames = [f.with_type_map(type_map) for f in frames]
    if pairs is None:
        pairs = [neighbour_pairs(f, cutoff) for f in frames]
    if check is not None:
        for frame, p in zip(frames, pairs, strict=True):
            check(frame, p)
    sizes = np.array([len(f) for f in frames], dtype=np.int64)
    first = np.cumsum(sizes) - sizes
    join = lambda parts, empty: np.concatenate(parts) if parts else empty
    none = np.zeros(0, np.int64)
    return Geometry(
        join([f.types.astype(np.int64) for f in frames], none),
        np.repeat(np.arange(len(frames)), sizes),
        len(frames),
        join([p.i_p + o for p, o in zip(pairs, first, strict=True)], none),
        join([p.j_p + o for p, o in zip(pairs, first, strict=True)], none),
        join([p.r_pc for p in pairs], np.zeros((0, 3))),
    )


def atoms_by_type(geometry: Geometry, n_types: int) -> tuple:
    """For each type the numbers of its atoms."""
    xp = namespace(geometry.r_pc)
    return tuple(xp.nonzero(geometry.types_i == t)[0] for t in range(n_types))


def forces_from_pairs(geometry: Geometry, f_pc):
    """F_i = Σ_{p: centre i} f_p − Σ_{p: neighbour i} f_p, shape (n_atoms, 3), eV/Å.

    Deep Potential, step 5: F_i = −∂E/∂r_i. An atom is in r_p = r_j − r_i as the centre, ∂r_p/∂r_i = −1, and
    as the neighbour of others, ∂r_p/∂r_j = +1; the minus of the force turns both signs.
    """
    g = geometry
    return segment_sum(f_pc, g.i_p, g.n_atoms) - segment_sum(f_pc, g.j_p, g.n_atoms)


def virial_from_pairs(geometry: Geometry, f_pc):
    """W_dc = −Σ_p f_pd r_pc for each frame, shape (n_frames, 3, 3), eV.

    Not in the paper: W = −∂E/∂ε for a strain that takes every r_p to (1 + ε) r_p, so ∂r_pd/∂ε_dc = r_pc.
    """
    g = geometry
    return -segment_sum(f_pc[:, :, None] * g.r_pc[:, None, :], g.frame_i[g.i_p], g.n_frames)


def force_direction(geometry: Geometry, c_ic):
    """v_p = c_i − c_j, the motion of pair vectors for which Ė = c·F."""
    xp = namespace(c_ic)
    return xp.take(c_ic, geometry.i_p, axis=0) - xp.take(c_ic, geometry.j_p, axis=0)


def virial_direction(geometry: Geometry, C_fdc):
    """v_p = −C r_p, the motion of pair vectors for which Ė = C:W (C per frame, (f, 3, 3))."""
    g, xp = geometry, namespace(geometry.r_pc)
    return -xp.einsum("pdc,pc->pd", C_fdc[g.frame_i[g.i_p]], g.r_pc)
