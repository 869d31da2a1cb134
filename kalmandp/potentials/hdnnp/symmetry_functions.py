"""Symmetry functions of Behler and Parrinello: what atom i sees, in numbers that rotation leaves alone.

::

    type 2   G = Σ_j R(r_ij)                                             j of element e1
    type 3   G = Σ_{j<k} A(cos θ_ijk) R(r_ij) R(r_ik) R(r_jk)            {j, k} of elements {e1, e2}
    type 9   G = Σ_{j<k} A(cos θ_ijk) R(r_ij) R(r_ik)
             R(r) = exp(−η (r − r_s)²) f_c(r)
             A(cos θ) = 2^(1−ζ) (1 + λ cos θ)^ζ, 0 where 1 + λ cos θ ≤ 0

    types 20, 21, 22: the same three sums with compact windows ("core" curves of `cutoffs`)
             R(r) = C(r; r_l, r_c),                 A(cos θ) = C(θ; left, right)

Triples are written in the three distances a = r_ij, b = r_ik, c = r_jk, and r_jk = r_ik − r_ij, so that G is
a function of the centre's own pair vectors::

    cos θ = (a² + b² − c²)/(2ab),    ∂cos/∂a = 1/b − cos/a,   ∂cos/∂b = 1/a − cos/b,   ∂cos/∂c = −c/(ab)

The functions of an atom stand in n2p2's order, `sort_key`. n2p2 leaves triples with |cos θ| = 1 exactly out
of types 21 and 22, so that G would jump where atoms come into line; here they count with their limit.

Sources: Behler, J. Chem. Phys. 134, 074106 (2011); Bircher, Singraber, Dellago, Mach. Learn.: Sci. Technol.
2, 035026 (2021); n2p2's documentation of `symfunction_short`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from kalmandp.arrays import namespace
from kalmandp.errors import InputError, require
from kalmandp.potentials.hdnnp.cutoffs import CURVES, POLYNOMIALS, Cutoff, cutoff_function, window

#: Types that are sums over neighbours, sums over pairs of neighbours; those made of windows; with r_jk.
RADIAL, ANGULAR, COMPACT, CLOSED = (2, 20), (3, 9, 21, 22), (20, 21, 22), (3, 21)
KINDS = tuple(sorted(RADIAL + ANGULAR))
#: The names of a compact function's curve; with "a" behind, polynomials in the radial factors are asymmetric.
#: (n2p2 takes "ea" for "e": found with its values.)
SUBTYPES = (*POLYNOMIALS, "e")


class SymmetryFunction(NamedTuple):
    """One symmetry function of a centre; lengths in the unit of the form, angles in degrees.

    kind : 2, 3, 9, 20, 21, 22;  neighbours : names of e1, or of e1 and e2
    rc : cutoff;  eta, rs : of R, types 2, 3, 9;  zeta, lam : of A, types 3, 9
    rl, sub : inner end and curve of the window, types 20, 21, 22;  left, right : of A, types 21, 22
    """

    kind: int
    neighbours: tuple[str, ...]
    rc: float
    eta: float = 0.0
    rs: float = 0.0
    zeta: float = 1.0
    lam: float = 1.0
    rl: float = 0.0
    left: float = 0.0
    right: float = 180.0
    sub: str = "p2"


def checked_function(values, type_map) -> SymmetryFunction:
    """A `SymmetryFunction` from its fields, e1 and e2 in the order of the type map; or an InputError."""
    kind, neighbours, *rest = values
    require(kind in KINDS, "the type of a symmetry function", kind, f"one of {', '.join(map(str, KINDS))}")
    neighbours = (neighbours,) if isinstance(neighbours, str) else tuple(str(n) for n in neighbours)
    unknown = [n for n in neighbours if n not in type_map]
    require(not unknown, f"a neighbour of a function of type {kind}", unknown, f"of {list(type_map)}")
    wanted = 1 if kind in RADIAL else 2
    require(len(neighbours) == wanted, f"neighbours of type {kind}", neighbours, f"{wanted} element(s)")
    neighbours = tuple(sorted(neighbours, key=list(type_map).index))
    names = SymmetryFunction._fields[2:]
    numbers: dict[str, Any] = {
        k: str(x) if k == "sub" else float(x) for k, x in zip(names, rest, strict=False)
    }
    f = SymmetryFunction(int(kind), neighbours, **numbers)
    finite = all(math.isfinite(x) for x in f[2:-1])
    inside = (f.left >= 0 or f.left == -f.right) and (f.right <= 180 or f.left == 360 - f.right)
    begins = f.rl < f.rc and (f.rl >= 0 or f.rl == -f.rc)
    subtype = f.sub.removesuffix("a") in SUBTYPES
    checks = (
        (finite, "numbers", f[2:-1], "finite numbers"),
        (f.rc > 0, "rc", f.rc, "a length > 0"),
        (kind in COMPACT or f.eta >= 0, "eta", f.eta, "a number ≥ 0"),
        (kind not in (3, 9) or f.zeta >= 1, "zeta", f.zeta, "a number ≥ 1"),
        (kind not in (3, 9) or abs(f.lam) <= 1, "lambda", f.lam, "−1 to 1"),
        (kind not in COMPACT or begins, "rl", f.rl, "0 ≤ rl < rc, or −rc"),
        (kind not in COMPACT or subtype, "subtype", f.sub, f"one of {SUBTYPES} (+ a)"),
        (kind not in (21, 22) or (f.left < f.right and inside), "left, right", (f.left, f.right),
         "0 ≤ left < right ≤ 180, or a window centred at 0 or 180"),
    )  # fmt: skip
    for good, what, got, expected in checks:
        if not good:
            raise InputError(f"symmetry function {describe(f)}: {what} is {got}; expected {expected}")
    return f


def describe(f: SymmetryFunction) -> str:
    """What a message calls the function."""
    return f"type {f.kind} with {'-'.join(f.neighbours)}, rc {f.rc:g}"


def sort_key(f: SymmetryFunction, type_map):
    """n2p2's order of the functions of one centre: that of scaling.data and of the input neurons."""
    e = tuple(list(type_map).index(n) for n in f.neighbours)
    if f.kind == 2:
        return f.kind, (f.rc, f.eta, f.rs, *e)
    if f.kind in (3, 9):
        return f.kind, (f.rc, f.eta, f.rs, f.zeta, f.lam, *e)
    if f.kind == 20:
        return f.kind, (f.sub, *e, f.rc, f.rl)
    return f.kind, (f.sub, *e, f.rc, f.rl, f.left, f.right)


def curve_name(sub: str) -> str:
    """The curve of `cutoffs.curve` for a subtype: p1 … p4 or exp."""
    name = sub.removesuffix("a")
    return CURVES[4] if name == "e" else name


def radial_factor(f: SymmetryFunction, cutoff: Cutoff, r):
    """R(r) and dR/dr for distances in the form's unit."""
    xp = namespace(r)
    if f.kind in COMPACT:
        return window(curve_name(f.sub), r, f.rl, f.rc, f.sub[0] == "p" and f.sub.endswith("a"))
    # R = exp(−η (r − r_s)²) f_c,   R′ = exp(…) (f_c′ − 2η (r − r_s) f_c)
    fc, dfc = cutoff_function(cutoff, r, f.rc)
    gauss = xp.exp(-f.eta * (r - f.rs) * (r - f.rs))
    return gauss * fc, gauss * (dfc - 2.0 * f.eta * (r - f.rs) * fc)


def angular_factor(f: SymmetryFunction, cos):
    """A(cos θ) and dA/dcos θ."""
    xp = namespace(cos)
    if f.kind in COMPACT:
        # dA/dcos = −(dC/dθ)/sin θ. In line, sin θ = 0, cos θ is at an end and moves in second order only
        bent = abs(cos.real) < 1.0
        safe = xp.where(bent, cos, 0.0)
        sine = xp.sqrt((1.0 - safe) * (1.0 + safe))
        line = xp.where(cos.real < 0, math.pi, 0.0)
        theta = xp.where(bent, _arccos(safe, sine), line)
        value, slope = window(curve_name(f.sub), theta, math.radians(f.left), math.radians(f.right))
        value = xp.where(_at_middle(f, line) & ~bent, 1.0, value)
        return value, xp.where(bent, -slope / sine, 0.0)
    # A = 2^(1−ζ) u^ζ,  A′ = 2^(1−ζ) ζ λ u^(ζ−1),   u = 1 + λ cos θ
    u = 1.0 + f.lam * cos
    on = u.real > 0.0
    u = xp.where(on, u, 1.0)
    power = 2.0 ** (1.0 - f.zeta) * u ** (f.zeta - 1.0)
    return xp.where(on, power * u, 0.0), xp.where(on, f.zeta * f.lam * power, 0.0)


def _arccos(x, sine):
    """arccos x; of a complex x = u + iε with d arccos/dx = −1/sin θ, exact to first order in ε."""
    xp = namespace(x)
    theta = xp.arccos(x.real)
    return theta if x.dtype.kind != "c" else theta - 1j * x.imag / sine


def _at_middle(f: SymmetryFunction, line):
    """Whether atoms in line stand at the middle of the window, where A = 1."""
    return abs(line - math.radians(0.5 * (f.left + f.right))) < 1e-12


def angular_term(f: SymmetryFunction, cutoff: Cutoff, a, b, c):
    """A R(a) R(b) [R(c)] of triples, and its derivatives with respect to a, b and c.

    Parameters
    ----------
    a, b, c : (t,) r_ij, r_ik, r_jk

    Returns
    -------
    g, g_a, g_b, g_c : (t,)
    """
    cos = 0.5 * (a * a + b * b - c * c) / (a * b)
    A, dA = angular_factor(f, cos)
    Ra, dRa = radial_factor(f, cutoff, a)
    Rb, dRb = radial_factor(f, cutoff, b)
    Rc, dRc = radial_factor(f, cutoff, c) if f.kind in CLOSED else (1.0, 0.0)
    # ∂g/∂a = A′ ∂cos/∂a R R R + A R′ R R, and so on
    slope = dA * Ra * Rb * Rc
    return (
        A * Ra * Rb * Rc,
        slope * (1.0 / b - cos / a) + A * dRa * Rb * Rc,
        slope * (1.0 / a - cos / b) + A * Ra * dRb * Rc,
        -slope * c / (a * b) + A * Ra * Rb * dRc,
    )
