"""What an atom sees: the normalised rows R̃ of its neighbours, and how they move with r.

    R_p = w(r) · (1/r, x/r², y/r², z/r²)           (x, y, z) = r_j − r_i
    R̃_p = (R_p − davg[t_i]) / dstd[t_i]

Nothing here depends on the weights: it is computed once for a frame.

Padding slots. DeePMD-kit fills each atom's list up to sel with rows R = 0, so R̃ = −davg/dstd there, and
these rows enter the descriptor. They are all alike for a given (centre type, neighbour type), so one
"virtual row" v stands for them, counted n_iv = sel − (number of neighbours) times.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry.cutoff import switch
from kalmandp.geometry.neighbours import Pairs
from kalmandp.geometry.pairs import Geometry, atoms_by_type, gather
from kalmandp.potentials.deep_potential.architecture import Architecture


class Environment(NamedTuple):
    """One frame, or several side by side, as the potential sees them.

    geometry : atoms and pairs, those of excluded types left out
    Rt_pk : (p, 4) R̃;   dRt_pkc : (p, 4, 3) ∂R̃_k/∂r_c, 1/Å
    Rt_vk : (v, 4) R̃ of the virtual rows, v = neighbour type + n_types · centre type
    count_iv : (i, v) how many padding slots of kind v atom i has
    rows_e : for each embedding net, the pairs it serves;  virtual_e : its virtual rows
    atoms_t : for each type, the atoms of that type
    """

    geometry: Geometry
    Rt_pk: Any
    dRt_pkc: Any
    Rt_vk: Any
    count_iv: Any
    rows_e: tuple
    virtual_e: tuple
    atoms_t: tuple


def raw_environment(r_pc, rcut_smth: float, rcut: float):
    """R and its derivative for pair vectors r_pc (p, 3), before normalisation.

    Deep Potential, step 1: the rows s(r) (1, r/|r|) with s(r) = w(r)/r. With the unit vector n = r/|r|
    and ∂r/∂r_c = n_c, ∂n_d/∂r_c = (δ_dc − n_d n_c)/r, the chain rule gives::

        R_0 = s,        ∂R_0/∂r_c = s′ n_c,       s′ = w′/r − w/r²
        R_d = s n_d,    ∂R_d/∂r_c = s′ n_d n_c + s (δ_dc − n_d n_c)/r

    Parameters
    ----------
    r_pc : (p, 3) pair vectors r_j − r_i, Å
    rcut_smth, rcut : r_s and r_c, Å

    Returns
    -------
    R_pk : (p, 4) (1/Å);  dR_pkc : (p, 4, 3) ∂R_k/∂r_c (1/Å²)
    """
    xp = namespace(r_pc)
    r_p = xp.sqrt((r_pc * r_pc).sum(-1))
    w_p, dw_p = switch(r_p, rcut_smth, rcut)
    n_pc = r_pc / r_p[:, None]
    # radial row:  s = w/r,  ds/dr = w′/r − w/r²
    s_p = w_p / r_p
    ds_p = (dw_p - s_p) / r_p
    # angular rows:  R_d = s n_d;   ∂R_d/∂r_c = ds n_d n_c + s (δ_dc − n_d n_c)/r
    eye_dc = xp.eye(3)
    nn_pdc = n_pc[:, :, None] * n_pc[:, None, :]
    R_pk = xp.concatenate([s_p[:, None], s_p[:, None] * n_pc], axis=1)
    dR_p0c = ds_p[:, None] * n_pc
    dR_pdc = ds_p[:, None, None] * nn_pdc + (s_p / r_p)[:, None, None] * (eye_dc - nn_pdc)
    return R_pk, xp.concatenate([dR_p0c[:, None, :], dR_pdc], axis=1)


class PairKinds(NamedTuple):
    """Kinds v = neighbour type + n_types · centre type of pairs, real and virtual (NumPy arrays)."""

    centre_v: np.ndarray
    neighbour_v: np.ndarray
    excluded_v: np.ndarray
    net_v: np.ndarray


def pair_kinds(architecture: Architecture) -> PairKinds:
    """Types, exclusion and embedding net of each kind of pair."""
    a = architecture
    centre_v, neighbour_v = np.divmod(np.arange(a.n_types**2), a.n_types)
    pairs = zip(centre_v, neighbour_v, strict=True)
    excluded_v = np.array([a.is_excluded(c, n) for c, n in pairs], dtype=bool)
    return PairKinds(centre_v, neighbour_v, excluded_v, a.embedding_index(centre_v, neighbour_v))


def virtual_rows(architecture: Architecture, davg, dstd):
    """R̃_vk = −davg/dstd of a padding slot, by kind."""
    xp = namespace(davg)
    return (-davg / dstd)[xp.asarray(pair_kinds(architecture).centre_v)]


def padding_counts(architecture: Architecture, types_i, i_p, v_p):
    """n_iv = sel − (neighbours of kind v) for kinds whose centre is atom i's type, else 0."""
    xp = namespace(i_p)
    kinds = pair_kinds(architecture)
    n_v = len(kinds.net_v)
    sel_v = np.asarray(architecture.sel, dtype=float)[kinds.neighbour_v] * ~kinds.excluded_v
    seen_iv = xp.bincount(i_p * n_v + v_p, minlength=len(types_i) * n_v).reshape(-1, n_v)
    belongs_iv = types_i[:, None] == xp.asarray(kinds.centre_v)[None, :]
    return xp.where(belongs_iv, xp.asarray(sel_v) - seen_iv, 0.0)


def build_environment(architecture: Architecture, davg, dstd, geometry: Geometry) -> Environment:
    """Environment of atoms from their pairs.

    Pairs of excluded types are left out: DeePMD-kit zeroes their R̃, so they add nothing.

    Parameters
    ----------
    architecture : Architecture
    davg, dstd : (n_types, 4) statistics
    geometry : atoms and all pairs within r_c, of NumPy or CuPy
    """
    a, xp = architecture, namespace(geometry.r_pc)
    kinds = pair_kinds(a)
    types_i, i_p, j_p, r_pc = geometry.types_i, geometry.i_p, geometry.j_p, geometry.r_pc
    v_p = types_i[i_p] * a.n_types + types_i[j_p]
    keep = ~xp.asarray(kinds.excluded_v)[v_p]
    i_p, j_p, r_pc, v_p = i_p[keep], j_p[keep], r_pc[keep], v_p[keep]

    R_pk, dR_pkc = raw_environment(r_pc, a.rcut_smth, a.rcut)
    davg, dstd = xp.asarray(davg), xp.asarray(dstd)
    t_p = types_i[i_p]
    Rt_pk = (R_pk - davg[t_p]) / dstd[t_p]
    dRt_pkc = dR_pkc / dstd[t_p][:, :, None]

    net_p = xp.asarray(kinds.net_v)[v_p]
    return Environment(
        geometry=geometry._replace(i_p=i_p, j_p=j_p, r_pc=r_pc),
        Rt_pk=Rt_pk,
        dRt_pkc=dRt_pkc,
        Rt_vk=virtual_rows(a, davg, dstd),
        count_iv=padding_counts(a, types_i, i_p, v_p),
        rows_e=tuple(xp.nonzero(net_p == e)[0] for e in range(a.n_embeddings)),
        virtual_e=tuple(xp.asarray(np.nonzero(kinds.net_v == e)[0]) for e in range(a.n_embeddings)),
        atoms_t=atoms_by_type(geometry, a.n_types),
    )


def check_sel(architecture: Architecture, frame: Frame, pairs: Pairs) -> None:
    """Raise if an atom has more neighbours of a type than ``sel`` allows; none is ever dropped."""
    nt = architecture.n_types
    flat = pairs.i_p.astype(np.int64) * nt + frame.types[pairs.j_p]
    count_it = np.bincount(flat, minlength=len(frame) * nt).reshape(-1, nt)
    sel_t = np.asarray(architecture.sel)
    if len(frame) and (count_it > sel_t).any():
        i, t = np.argwhere(count_it > sel_t)[0]
        raise InputError(
            f"{frame.source}: atom {i} has {count_it[i, t]} neighbours of type "
            f"{architecture.type_map[t]} within {architecture.rcut} Å; sel allows "
            f"{architecture.sel[t]}. Give a larger sel for the model, or sel \"auto\", which counts in all "
            "of up to 2,048 frames; a trained model goes on with --init-model, which widens it"
        )


def gathered(architecture: Architecture, frames, pairs=None) -> Geometry:
    """`geometry.pairs.gather` for this form, ``sel`` checked."""
    a = architecture
    return gather(frames, a.type_map, a.rcut, pairs, partial(check_sel, a))
