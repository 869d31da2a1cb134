"""What an atom sees, before any weight: Chebyshev functions, directions, and their sums over neighbours.

    f_c(r) = ½ (1 + cos πr/r_c) for r < r_c, else 0             r_c of a pair: the mean of its types' numbers
    x = 2 (r/r_c − 1)² − 1;    f_k(r) = ½ (T_k(x) + 1) f_c(r)   k = 0 … K

    φ_itk = Σ_{p: centre i, neighbour of type t} f_k(r_p)                   the radial moments
    S_itkm = Σ_{p: centre i, neighbour of type t} f_k(r_p) b_m(r̂_p)         the angular moments

q depends on the frame through φ and S alone: see `descriptor`. Index letters besides those of `arrays`:
k Chebyshev function, n radial function, m component of s, t type of the neighbour, a pair within the angular
cut-off.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace, segment_sum
from kalmandp.geometry.pairs import Geometry, atoms_by_type
from kalmandp.potentials.nep.form import NEPForm
from kalmandp.potentials.nep.invariants import directions
from kalmandp.potentials.nep.zbl import pair_table, repulsion


class Environment(NamedTuple):
    """One frame, or several side by side, as a NEP sees them.

    geometry : `Geometry`;  atoms_t : for each type the numbers of its atoms
    q_scaler : (d,)
    n_pc : (p, 3) unit vectors r̂
    df_pk : (p, k) f′ of the radial part
    pairs_a : (a,) numbers of the pairs within the angular cut-off
    f_ak, df_ak : (a, k) f and f′ of the angular part
    b_am : (a, m) b(r̂);  db_amc : (a, m, 3) ∂b/∂r_c, 1/Å
    phi_itk : (i, t, k);  S_itkm : (i, t, k, m) the moments
    fixed : E_i (i,) and f_pc (p, 3) of the repulsion of nuclei, or None
    """

    geometry: Geometry
    atoms_t: tuple
    q_scaler: Any
    n_pc: Any
    df_pk: Any
    pairs_a: Any
    f_ak: Any
    df_ak: Any
    b_am: Any
    db_amc: Any
    phi_itk: Any
    S_itkm: Any
    fixed: tuple | None


def pair_cutoffs(cutoff_t) -> np.ndarray:
    """(T, T) r_c of each pair of types, ½ (r_c[t] + r_c[u])."""
    cutoff_t = np.asarray(cutoff_t)
    return 0.5 * (cutoff_t[:, None] + cutoff_t[None, :])


def chebyshev(r_p, cutoff_p, size: int):
    """f_k(r) and f_k′(r), k < ``size``, shapes (p, size)."""
    xp = namespace(r_p)
    inside = r_p.real < cutoff_p
    angle = np.pi * r_p / cutoff_p
    fc = xp.where(inside, 0.5 * (1.0 + xp.cos(angle)), 0.0)
    dfc = xp.where(inside, -0.5 * np.pi / cutoff_p * xp.sin(angle), 0.0)
    y = r_p / cutoff_p - 1.0
    x, dx = 2.0 * y * y - 1.0, 4.0 * y / cutoff_p
    # T_(k+1) = 2x T_k − T_(k−1), with T_0 = 1, T_1 = x; the same for dT/dx
    T, dT = [xp.ones_like(x), x], [xp.zeros_like(x), xp.ones_like(x)]
    for k in range(1, size - 1):
        T.append(2.0 * x * T[k] - T[k - 1])
        dT.append(2.0 * T[k] + 2.0 * x * dT[k] - dT[k - 1])
    T_pk, dT_pk = xp.stack(T[:size], axis=-1), xp.stack(dT[:size], axis=-1)
    # f_k = ½ (T_k + 1) f_c;   f_k′ = ½ (T_k′ x′ f_c + (T_k + 1) f_c′)
    f_pk = 0.5 * (T_pk + 1.0) * fc[:, None]
    df_pk = 0.5 * (dT_pk * (dx * fc)[:, None] + (T_pk + 1.0) * dfc[:, None])
    return f_pk, df_pk


def by_type(values_p, geometry: Geometry, i_p, j_p, n_types: int):
    """Sum over the pairs of each centre and neighbour type: (p, …) to (i, t, …)."""
    slot_p = i_p * n_types + geometry.types_i[j_p]
    total = segment_sum(values_p, slot_p, geometry.n_atoms * n_types)
    return total.reshape(geometry.n_atoms, n_types, *values_p.shape[1:])


def build_environment(form: NEPForm, q_scaler, geometry: Geometry) -> Environment:
    """The environment of a form; see `Environment` for the arrays."""
    g, T, xp = geometry, form.n_types, namespace(geometry.r_pc)
    r_p = xp.sqrt((g.r_pc * g.r_pc).sum(-1))
    n_pc = g.r_pc / r_p[:, None]
    t_p, u_p = g.types_i[g.i_p], g.types_i[g.j_p]

    radial_p = xp.asarray(pair_cutoffs(form.radial_cutoff))[t_p, u_p]
    f_pk, df_pk = chebyshev(r_p, radial_p, form.basis_size[0] + 1)
    phi_itk = by_type(f_pk, g, g.i_p, g.j_p, T)

    angular_p = xp.asarray(pair_cutoffs(form.angular_cutoff))[t_p, u_p]
    pairs_a = xp.nonzero(r_p.real < angular_p)[0]
    r_a, n_ac, i_a, j_a = r_p[pairs_a], n_pc[pairs_a], g.i_p[pairs_a], g.j_p[pairs_a]
    f_ak, df_ak = chebyshev(r_a, angular_p[pairs_a], form.basis_size[1] + 1)
    b_am, db_dn_amc = directions(form.l_max[0], n_ac)
    # ∂b/∂r = ∂b/∂r̂ (1 − r̂ r̂ᵀ)/r
    along_am = (db_dn_amc * n_ac[:, None, :]).sum(-1)
    db_amc = (db_dn_amc - along_am[:, :, None] * n_ac[:, None, :]) / r_a[:, None, None]
    S_itkm = by_type(f_ak[:, :, None] * b_am[:, None, :], g, i_a, j_a, T)

    fixed = None
    if form.zbl is not None:
        E_i, f_ac = repulsion(pair_table(form.zbl, form.type_map), g.types_i, i_a, j_a, r_a, n_ac)
        f_pc = xp.zeros_like(n_pc)
        f_pc[pairs_a] = f_ac
        fixed = (E_i, f_pc)
    return Environment(
        geometry=g,
        atoms_t=atoms_by_type(g, T),
        q_scaler=xp.asarray(q_scaler),
        n_pc=n_pc,
        df_pk=df_pk,
        pairs_a=pairs_a,
        f_ak=f_ak,
        df_ak=df_ak,
        b_am=b_am,
        db_amc=db_amc,
        phi_itk=phi_itk,
        S_itkm=S_itkm,
        fixed=fixed,
    )
