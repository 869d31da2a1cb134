"""Nuclei that come close: the screened Coulomb repulsion of Ziegler, Biersack and Littmark (ZBL).

    V(r) = K Z_i Z_j φ(r/a)/r · h(r),     E_i = ½ Σ_j V(r_ij),     f_p = ∂E_i/∂r_p = ½ V′(r) r̂

    1/a = 2.134563 (Z_i^0.23 + Z_j^0.23) 1/Å,   φ(x) = Σ_e a_e exp(−b_e x)
    h = 1 below r_in, ½ (1 + cos π(r − r_in)/(r_out − r_in)) up to r_out, then 0

It has no weights: it is a fixed part of E, F and W. Three kinds: *universal* (one r_in and r_out, the
universal a_e and b_e), *typewise* (r_in = 0, r_out = min(factor (R_i + R_j), r_out) from covalent radii R),
*flexible* (r_in, r_out, a_e, b_e for each pair of types). As in GPUMD only pairs within the angular cut-off
count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kalmandp.arrays import namespace, segment_sum
from kalmandp.errors import InputError
from kalmandp.potentials.nep.radii import atomic_number, covalent_radius

#: e²/4πε₀, eV Å, and the screening length, as GPUMD has them.
COULOMB = 14.399645
SCREENING, SCREENING_POWER = 2.134563, 0.23
#: The universal screening function: a_1, b_1, … a_4, b_4.
UNIVERSAL = (0.18175, 3.1998, 0.50986, 0.94229, 0.28022, 0.4029, 0.02817, 0.20162)


@dataclass(frozen=True)
class ZBL:
    """Settings of the repulsion.

    Attributes
    ----------
    inner, outer : r_in and r_out, Å; not used if ``pairs`` are given
    factor : multiplies R_i + R_j ("typewise"); None for one r_out
    pairs : "flexible": for each pair of types (0, 0), (0, 1) … (1, 1) … the ten numbers
        r_in, r_out, a_1, b_1, … a_4, b_4; None for the universal ones
    """

    inner: float = 0.0
    outer: float = 0.0
    factor: float | None = None
    pairs: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self):
        put = lambda name, value: object.__setattr__(self, name, value)
        put("inner", float(self.inner))
        put("outer", float(self.outer))
        if self.factor is not None:
            put("factor", float(self.factor))
        if self.pairs is not None:
            put("pairs", tuple(tuple(float(x) for x in pair) for pair in self.pairs))
            put("inner", 0.0)
            put("outer", 0.0)
            put("factor", None)
            for pair in self.pairs:
                good = len(pair) == 10 and np.isfinite(pair).all() and 0 <= pair[0] <= pair[1]
                if not good:
                    raise InputError(
                        f"a pair of the flexible ZBL is {pair}; expected ten numbers "
                        "r_in ≤ r_out, a_1, b_1 … a_4, b_4"
                    )
        elif not 0 <= self.inner < self.outer < np.inf:
            raise InputError(
                f"zbl has r_in {self.inner:g} and r_out {self.outer:g}; expected 0 ≤ r_in < r_out, in Å"
            )
        if self.factor is not None and not 0 < self.factor < np.inf:
            raise InputError(f"the typewise factor of zbl is {self.factor}; expected a positive number")


def pair_table(zbl: ZBL, type_map) -> np.ndarray:
    """(T, T, 12): K Z_i Z_j, 1/a, r_in, r_out, a_1, b_1, … a_4, b_4 of each pair of types."""
    T = len(type_map)
    Z = [atomic_number(name) for name in type_map]
    table = np.zeros((T, T, 12))
    pairs = iter(zbl.pairs or ())
    for t in range(T):
        for u in range(t, T):
            inner, outer, shape = zbl.inner, zbl.outer, tuple(UNIVERSAL)
            if zbl.pairs is not None:
                inner, outer, *rest = next(pairs)
                shape = tuple(rest)
            elif zbl.factor is not None:
                radii = covalent_radius(type_map[t]) + covalent_radius(type_map[u])
                inner, outer = 0.0, min(zbl.factor * radii, zbl.outer)
            inverse_a = SCREENING * (Z[t] ** SCREENING_POWER + Z[u] ** SCREENING_POWER)
            table[t, u] = table[u, t] = (COULOMB * Z[t] * Z[u], inverse_a, inner, outer, *shape)
    return table


def pair_energy(r_p, table_px):
    """V(r) and V′(r) of pairs; ``table_px`` (p, 12) are their rows of `pair_table`."""
    xp = namespace(r_p)
    charge, inverse_a, inner, outer = (table_px[:, n] for n in range(4))
    # φ and dφ/dr
    x = r_p * inverse_a
    phi, dphi = 0.0, 0.0
    for e in range(4):
        a, b = table_px[:, 4 + 2 * e], table_px[:, 5 + 2 * e]
        term = a * xp.exp(-b * x)
        phi, dphi = phi + term, dphi - b * inverse_a * term
    # h and h′
    width = xp.where(outer > inner, outer - inner, 1.0)
    angle = np.pi * (r_p - inner) / width
    between = (r_p.real >= inner) & (r_p.real < outer)
    h = xp.where(between, 0.5 * (1.0 + xp.cos(angle)), 1.0 * (r_p.real < inner))
    dh = xp.where(between, -0.5 * np.pi / width * xp.sin(angle), 0.0)
    # V = K Z Z φ/r · h
    V = charge * phi * h / r_p
    return V, charge * (dphi * h + phi * dh) / r_p - V / r_p


def repulsion(table, types_i, i_p, j_p, r_p, n_pc):
    """E_i (i,) and f_pc (p, 3) of pairs; ``table`` is that of `pair_table`, n_pc are unit vectors."""
    xp = namespace(r_p)
    V_p, dV_p = pair_energy(r_p, xp.asarray(table)[types_i[i_p], types_i[j_p]])
    return segment_sum(0.5 * V_p, i_p, len(types_i)), 0.5 * dV_p[:, None] * n_pc
