"""Numbers that a rotation leaves as they are, from the moments s_lm of what an atom sees.

With the unit vector (x, y, z) from an atom to a neighbour ::

    b_l0 = Z_l0(z),    b_lm^re = Z_lm(z) Re (x + iy)^m,    b_lm^im = Z_lm(z) Im (x + iy)^m

and s_lm, a sum of b_lm over neighbours, the invariants are::

    3-body   q_l        = C_l0 s_l0² + 2 Σ_{m≥1} C_lm (s_re² + s_im²)
    4-body   q_l1l2l3   = Σ_{m1+m2+m3=0} (l1 l2 l3; m1 m2 m3) A_l1m1 A_l2m2 A_l3m3
    5-body   q_1111     = (7/15) q_1²

(l1 l2 l3; m1 m2 m3) is Wigner's 3j symbol; A_lm = (−1)^m √C_lm (s_re + i s_im) and A_l,−m = (−1)^m A_lm*.
Z_lm is the m-th derivative of Legendre's polynomial P_l, divided by the positive α_lm that leaves whole
coefficients without a common divisor, and C_lm = (2l+1)/4π · (l−m)!/(l+m)! · α_lm². So the constants of
GPUMD's tables are made here, from their definitions (Fan et al., J. Chem. Phys. 157, 114801 (2022)).

Components stand in the order of GPUMD: l = 1 … L, in each m = 0, then (re, im) for m = 1 … l. Index letters:
n radial function, m component (l, m) of s, λ (l in names) invariant.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace

#: The 4-body invariants: names, in the order of a descriptor; "1111" is the 5-body one.
BEYOND_THREE = ("222", "1111", "112", "123", "233", "134")
#: q_1111 / q_1².
FIVE_BODY = 7.0 / 15.0


@cache
def legendre(l: int) -> tuple[Fraction, ...]:
    """Coefficients of P_l, the lowest power first: l P_l = (2l−1) z P_(l−1) − (l−1) P_(l−2)."""
    if l < 2:
        return (Fraction(1),) if l == 0 else (Fraction(0), Fraction(1))
    out = [Fraction(0)] * (l + 1)
    for k, c in enumerate(legendre(l - 1)):
        out[k + 1] += Fraction(2 * l - 1, l) * c
    for k, c in enumerate(legendre(l - 2)):
        out[k] -= Fraction(l - 1, l) * c
    return tuple(out)


@cache
def polynomial(l: int, m: int) -> tuple[tuple[int, ...], Fraction]:
    """Z_lm as whole coefficients, the lowest power first, and α_lm: α_lm Z_lm = d^m P_l / dz^m.

    Examples
    --------
    >>> polynomial(4, 0)  # 35z⁴ − 30z² + 3
    ((3, 0, -30, 0, 35), Fraction(1, 8))
    """
    c = list(legendre(l))
    for _ in range(m):
        c = [k * c[k] for k in range(1, len(c))]
    denominator = math.lcm(*(x.denominator for x in c))
    whole = [int(x * denominator) for x in c]
    divisor = math.gcd(*whole)
    return tuple(x // divisor for x in whole), Fraction(divisor, denominator)


def norm(l: int, m: int) -> float:
    """C_lm = (2l+1)/4π · (l−m)!/(l+m)! · α_lm²."""
    alpha = polynomial(l, m)[1]
    exact = (2 * l + 1) * Fraction(math.factorial(l - m), math.factorial(l + m)) * alpha**2
    return float(exact) / (4.0 * math.pi)


def component(l: int, m: int, imaginary: bool = False) -> int:
    """Where (l, m) stands in s: l² − 1 for m = 0, then 2m − 1 (re) or 2m (im) further on."""
    return l * l - 1 + (0 if m == 0 else 2 * m if imaginary else 2 * m - 1)


def wigner_3j(l1: int, l2: int, l3: int, m1: int, m2: int, m3: int) -> float:
    """Wigner's 3j symbol by Racah's sum, exact but for the last square root.

    Examples
    --------
    >>> wigner_3j(1, 1, 2, 0, 0, 0) == (2 / 15) ** 0.5
    True
    """
    if m1 + m2 + m3 != 0 or not abs(l1 - l2) <= l3 <= l1 + l2 or abs(m1) > l1 or abs(m2) > l2 or abs(m3) > l3:
        return 0.0
    f = math.factorial
    total = Fraction(0)
    for k in range(max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2) + 1):
        below = f(k) * f(l1 + l2 - l3 - k) * f(l1 - m1 - k) * f(l2 + m2 - k)
        below *= f(l3 - l2 + m1 + k) * f(l3 - l1 - m2 + k)
        total += Fraction((-1) ** k, below)
    square = Fraction(f(l1 + l2 - l3) * f(l1 - l2 + l3) * f(-l1 + l2 + l3), f(l1 + l2 + l3 + 1))
    for l, m in ((l1, m1), (l2, m2), (l3, m3)):
        square *= f(l + m) * f(l - m)
    # one square root of an exact fraction
    value = math.sqrt(square * total**2)
    return math.copysign(value, (-1) ** (l1 - l2 - m3) * total) if total else 0.0


@cache
def monomials(l1: int, l2: int, l3: int) -> tuple[tuple[int, int, int, float], ...]:
    """(i, j, k, c) with q_l1l2l3 = Σ c s_i s_j s_k, i ≤ j ≤ k: the 4-body sum, multiplied out.

    Examples
    --------
    >>> [len(monomials(*ls)) for ls in ((2, 2, 2), (1, 1, 2), (1, 2, 3), (2, 3, 3), (1, 3, 4))]
    [8, 8, 21, 24, 31]
    """
    terms: dict[tuple[int, int, int], complex] = {}
    for m1, m2 in product(range(-l1, l1 + 1), range(-l2, l2 + 1)):
        coupling = wigner_3j(l1, l2, l3, m1, m2, -m1 - m2)
        if coupling == 0.0:
            continue
        factors = [_factor(l, m) for l, m in ((l1, m1), (l2, m2), (l3, -m1 - m2))]
        for (i, a), (j, b), (k, c) in product(*factors):
            key = (min(i, j, k), sorted((i, j, k))[1], max(i, j, k))
            terms[key] = terms.get(key, 0.0) + coupling * a * b * c
    return tuple((*key, c.real) for key, c in sorted(terms.items()) if abs(c) > 1e-12)


def _factor(l: int, m: int) -> list[tuple[int, complex]]:
    """A_lm as a sum of components of s: [(number, coefficient), …]."""
    root, size = math.sqrt(norm(l, abs(m))), abs(m)
    if m == 0:
        return [(component(l, 0), root)]
    # m > 0: (−1)^m √C (re + i im);   m < 0: (−1)^m A*, in which (−1)^m (−1)^m = 1
    sign, turn = ((-1) ** m, 1j) if m > 0 else (1, -1j)
    return [(component(l, size), sign * root), (component(l, size, True), sign * root * turn)]


class Cubic(NamedTuple):
    """One 4-body invariant Σ_z c_z s_i s_j s_k: ``index_zx`` (z, 3) and ``c_z``."""

    index_zx: np.ndarray
    c_z: np.ndarray


class Invariants:
    """Q(s) for one choice of L and of the invariants beyond three bodies, with derivatives.

    Q is a vector of ``size`` invariants λ for each radial function n; s has its components in the last axis.
    Letters as in `potentials.network`: dots are tangents, bars are adjoints.

    Parameters
    ----------
    l_max : (L, f222, f1111, f112, f123, f233, f134): the largest l, and whether an invariant is used

    Attributes
    ----------
    n_components : (L + 1)² − 1
    names : of the invariants: "1" … "L", then "222" …
    square_lm : (L, n_components) D with q_l = Σ_m D_lm s_m²
    cubic : λ -> `Cubic`;  five : the λ of q_1111, or None
    """

    def __init__(self, l_max: tuple[int, ...]) -> None:
        self.l_max = L = int(l_max[0])
        on = [name for name, flag in zip(BEYOND_THREE, l_max[1:], strict=False) if flag]
        self.names = (*(str(l) for l in range(1, L + 1)), *on)
        self.size = len(self.names)
        self.n_components = (L + 1) ** 2 - 1
        # q_l = C_l0 s_l0² + 2 Σ_{m≥1} C_lm (s_re² + s_im²)
        self.square_lm = np.zeros((L, self.n_components))
        for l in range(1, L + 1):
            self.square_lm[l - 1, component(l, 0)] = norm(l, 0)
            for m in range(1, l + 1):
                self.square_lm[l - 1, component(l, m)] = 2.0 * norm(l, m)
                self.square_lm[l - 1, component(l, m, True)] = 2.0 * norm(l, m)
        self.cubic: dict[int, Cubic] = {}
        self.five: int | None = None
        for number, name in enumerate(on, start=L):
            if name == "1111":
                self.five = number
                continue
            terms = monomials(*(int(l) for l in name))
            index = np.array([t[:3] for t in terms], dtype=np.int64)
            self.cubic[number] = Cubic(index, np.array([t[3] for t in terms]))

    def values(self, s_nm):
        """Q (…, n, λ) of s (…, n, m)."""
        xp = namespace(s_nm)
        q_nl = (s_nm * s_nm) @ xp.asarray(self.square_lm).T
        parts = [q_nl]
        for number in range(self.l_max, self.size):
            if number == self.five:
                # q_1111 = (7/15) q_1²
                parts.append(FIVE_BODY * q_nl[..., :1] ** 2)
            else:
                # q_l1l2l3 = Σ_z c_z s_i s_j s_k
                s_i, s_j, s_k, c_z = self._factors(number, s_nm)
                parts.append((s_i * s_j * s_k) @ c_z[:, None])
        return xp.concatenate(parts, axis=-1)

    def gradient(self, s_nm, Q_bar_nl):
        """s̄ = Σ_λ Q̄_λ ∂Q_λ/∂s (…, n, m): the adjoint of `values`."""
        xp = namespace(s_nm)
        square = xp.asarray(self.square_lm)
        Q_bar_three = Q_bar_nl[..., : self.l_max]
        if self.five is not None:
            # ∂q_1111 = (14/15) q_1 ∂q_1
            q_1 = (s_nm * s_nm) @ square[0]
            more = 2.0 * FIVE_BODY * q_1 * Q_bar_nl[..., self.five]
            Q_bar_three = _first_more(xp, Q_bar_three, more)
        # ∂q_l/∂s_m = 2 D_lm s_m
        s_bar = 2.0 * (Q_bar_three @ square) * s_nm
        for number in self.cubic:
            s_i, s_j, s_k, c_z = self._factors(number, s_nm)
            c_bar = c_z * Q_bar_nl[..., number, None]
            s_bar = s_bar + self._to_components(
                number, c_bar * s_j * s_k, c_bar * s_i * s_k, c_bar * s_i * s_j
            )
        return s_bar

    def tangent(self, s_nm, s_dot_nm):
        """Q̇ = Σ_m ∂Q/∂s_m ṡ_m (…, n, λ)."""
        xp = namespace(s_nm)
        square = xp.asarray(self.square_lm).T
        q_dot_nl = 2.0 * (s_nm * s_dot_nm) @ square
        parts = [q_dot_nl]
        for number in range(self.l_max, self.size):
            if number == self.five:
                q_1 = (s_nm * s_nm) @ square[:, :1]
                parts.append(2.0 * FIVE_BODY * q_1 * q_dot_nl[..., :1])
            else:
                s_i, s_j, s_k, c_z = self._factors(number, s_nm)
                d_i, d_j, d_k, _ = self._factors(number, s_dot_nm)
                parts.append((d_i * s_j * s_k + s_i * d_j * s_k + s_i * s_j * d_k) @ c_z[:, None])
        return xp.concatenate(parts, axis=-1)

    def gradient_tangent(self, s_nm, s_dot_nm, Q_bar_nl):
        """The second derivative along ṡ: Σ_λ Q̄_λ Σ_m' ∂²Q_λ/∂s_m∂s_m' ṡ_m' (…, n, m)."""
        xp = namespace(s_nm)
        square = xp.asarray(self.square_lm)
        Q_bar_three = Q_bar_nl[..., : self.l_max]
        s_bar = 0.0
        if self.five is not None:
            # q_1111 = (7/15) q_1²:  d(∂q_1111) = (14/15) (q̇_1 ∂q_1 + q_1 d(∂q_1))
            q_1, q_dot_1 = (s_nm * s_nm) @ square[0], 2.0 * (s_nm * s_dot_nm) @ square[0]
            bar = 2.0 * FIVE_BODY * Q_bar_nl[..., self.five]
            Q_bar_three = _first_more(xp, Q_bar_three, bar * q_1)
            s_bar = 2.0 * (bar * q_dot_1)[..., None] * square[0] * s_nm
        s_bar = s_bar + 2.0 * (Q_bar_three @ square) * s_dot_nm
        for number in self.cubic:
            s_i, s_j, s_k, c_z = self._factors(number, s_nm)
            d_i, d_j, d_k, _ = self._factors(number, s_dot_nm)
            c_bar = c_z * Q_bar_nl[..., number, None]
            s_bar = s_bar + self._to_components(
                number,
                c_bar * (d_j * s_k + s_j * d_k),
                c_bar * (d_i * s_k + s_i * d_k),
                c_bar * (d_i * s_j + s_i * d_j),
            )
        return s_bar

    def _factors(self, number: int, s_nm) -> tuple[Any, Any, Any, Any]:
        """s_i, s_j, s_k (…, n, z) and c_z of a 4-body invariant."""
        xp = namespace(s_nm)
        index_zx, c_z = self.cubic[number]
        return (*(s_nm[..., xp.asarray(index_zx[:, x])] for x in range(3)), xp.asarray(c_z))

    def _to_components(self, number: int, *bars):
        """Sum adjoints of s_i, s_j, s_k (…, n, z) into those of s (…, n, m)."""
        xp = namespace(*bars)
        index_zx, _ = self.cubic[number]
        out = 0.0
        for x, bar in enumerate(bars):
            one_hot_zm = np.eye(self.n_components)[index_zx[:, x]]
            out = out + bar @ xp.asarray(one_hot_zm)
        return out


def _first_more(xp, Q_bar_nl, more):
    """Q̄ with ``more`` added to that of q_1."""
    return xp.concatenate([Q_bar_nl[..., :1] + more[..., None], Q_bar_nl[..., 1:]], axis=-1)


def directions(L: int, u_pc):
    """b_lm (p, m) of vectors u, and ∂b_lm/∂u (p, m, 3), every component of u being free.

    Z_lm(z) and (x + iy)^m are polynomials, so this holds off the unit sphere too; what is needed on it is
    ∂b/∂u (1 − uuᵀ)/r, see `environment`.
    """
    xp = namespace(u_pc)
    x, y, z = u_pc[:, 0], u_pc[:, 1], u_pc[:, 2]
    none, one = xp.zeros_like(z), xp.ones_like(z)
    powers = [(one, none)]  # (x + iy)^m as (re, im)
    for _ in range(L):
        re, im = powers[-1]
        powers.append((x * re - y * im, x * im + y * re))
    b, db = [], []
    for l in range(1, L + 1):
        for m in range(l + 1):
            coefficients = polynomial(l, m)[0]
            Z, dZ = none, none
            for c in reversed(coefficients):
                dZ = dZ * z + Z
                Z = Z * z + c
            re, im = powers[m]
            # d(x + iy)^m = m (x + iy)^(m−1) (dx + i dy)
            low_re, low_im = (m * powers[m - 1][0], m * powers[m - 1][1]) if m else (none, none)
            b.append(Z * re)
            db.append(xp.stack([Z * low_re, -Z * low_im, dZ * re], axis=-1))
            if m:
                b.append(Z * im)
                db.append(xp.stack([Z * low_im, Z * low_re, dZ * im], axis=-1))
    return xp.stack(b, axis=-1), xp.stack(db, axis=1)
