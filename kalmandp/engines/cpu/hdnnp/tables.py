"""The symmetry functions of a form as arrays of numbers, grouped by what they share.

Letters: t type of the centre, s of a neighbour; c = t·T + s a class of pairs; a = (t·T + s1)·T + s2 with
s1 ≤ s2 a class of triples. A class of pairs sees n functions, "local" numbers m: its radial functions first,
then for each type of the other neighbour a block of angular ones. Functions of a class of triples have the
same order in the blocks of both neighbours.

Radial factors R(r) that several functions share (of other λ and ζ, or of radial and angular functions) are
"groups" g of the centre's type: computed once for each pair. Angular factors A(cos θ) that several functions
share are computed once for each triple.

Functions of type 9 with a whole ζ up to `HIGHEST` can be had without triples, from moments (`moments`). They
stand last in their class. A class of pairs has a "slot" k for each group whose moments it needs, and of each
the degree up to which.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from kalmandp.potentials.hdnnp.cutoffs import CURVES, POLYNOMIALS, TANH3_AT_0, Cutoff
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.hdnnp.symmetry_functions import CLOSED, COMPACT, RADIAL, SymmetryFunction, curve_name

#: Codes of the curves of `cutoffs.curve`.
CURVE_CODES = {"hard": 0, "cos": 1, "tanh3": 2, "exp": 3, "p1": 4, "p2": 5, "p3": 6, "p4": 7}
#: Columns of ``radial`` and ``angles``, at first those of a curve SCALE core(|x − MIDDLE|/HALF), 0 from END
#: on; before the middle it is the same (MIRRORED) or 1. ``radial``: FALL the number of the curve, shared by
#: functions of one cutoff, then the Gaussian. ``angles``: a window (1) or (1 + λ cos θ)^ζ (0); WHOLE is ζ
#: if it is whole, else 0.
CURVE, MIDDLE, HALF, END, MIRRORED, ASYMMETRIC, SCALE = range(7)
FALL, ETA, RS = 7, 8, 9
IS_WINDOW, LAM, ZETA, FACTOR, WHOLE = 7, 8, 9, 10, 11
#: ζ of the functions that moments give, at most: (1 − cos θ)^ζ is a sum that cancels, the more the larger ζ.
HIGHEST = 4
#: Columns of ``monomial``: the monomial x^a y^b z^c is that of number PARENT times coordinate AXIS; UP the
#: numbers of those with x, y, z more; POWER a, b, c; MANY (a + b + c)!/(a! b! c!).
PARENT, AXIS, UP, POWER, MANY = 0, 1, 2, 5, 8


class SymmetryTables(NamedTuple):
    """See the module.

    n_types : T;  length_unit : Å
    coefficients : (4, 10) of the polynomial curves p1 to p4
    radial : (t, g, 10);  uses_cg : whether a class of pairs needs a group;  n_groups_t
    angular_rc_t : the largest r_c of angular functions
    n_c, d_cm : how many functions a class of pairs sees, and which;  n_radial_c, g_cm : its radial ones
    n_a, d_am, k_am, h_am : functions of a class of triples: d, number of its A, number of its R
    base_a : (a, 2) where they begin among the local functions of both neighbours
    n_angles_a, angles : (a, k, 12);  n_factors_a, g_ah, closed_ah : groups that the triples take, with r_jk?
        n_a, n_angles_a, n_factors_a : (a, 2) of the functions that need triples, of all
    n_slots_c, g_ck, degree_ck : moments that a class of pairs needs
    slot_am : (a, m, 2) of both neighbours;  degree_am : ζ, 0 without moments
    series_am : (a, m, HIGHEST + 1) A as a polynomial of cos θ;  self_am : A(1)
    monomial : (n, 9) see above
    count : how many monomials there are up to a degree, at −1 none
    longest : the largest r_c of all;  later : eight zeros and eight ones
    """

    n_types: int
    length_unit: float
    coefficients: Any
    radial: Any
    uses_cg: Any
    n_groups_t: Any
    angular_rc_t: Any
    n_c: Any
    d_cm: Any
    n_radial_c: Any
    g_cm: Any
    n_a: Any
    d_am: Any
    k_am: Any
    h_am: Any
    base_a: Any
    n_angles_a: Any
    angles: Any
    n_factors_a: Any
    g_ah: Any
    closed_ah: Any
    n_slots_c: Any
    g_ck: Any
    degree_ck: Any
    slot_am: Any
    degree_am: Any
    series_am: Any
    self_am: Any
    monomial: Any
    count: Any
    longest: float
    later: Any


def _window(f: SymmetryFunction, low: float, high: float, asymmetric: bool = False) -> tuple:
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    return float(CURVE_CODES[curve_name(f.sub)]), middle, half, high, 1.0, float(asymmetric), 1.0


def _fall(f: SymmetryFunction, cutoff: Cutoff) -> tuple:
    """The curve of a radial factor: a window, or the cutoff function."""
    if f.kind in COMPACT:
        return _window(f, f.rl, f.rc, f.sub[0] == "p" and f.sub.endswith("a"))
    inner, scale = cutoff.alpha * f.rc, TANH3_AT_0 if cutoff.kind == 3 else 1.0
    return float(CURVE_CODES[CURVES[cutoff.kind]]), inner, f.rc - inner, f.rc, 0.0, 0.0, scale


def _gaussian(f: SymmetryFunction) -> tuple:
    return (0.0, 0.0) if f.kind in COMPACT else (f.eta, f.rs)


def _angle_row(f: SymmetryFunction) -> tuple:
    if f.kind in COMPACT:
        return *_window(f, float(np.radians(f.left)), float(np.radians(f.right))), 1.0, 0.0, 0.0, 0.0, 0.0
    whole = f.zeta if f.zeta == int(f.zeta) else 0.0
    return *[0.0] * 7, 0.0, f.lam, f.zeta, 2.0 ** (1.0 - f.zeta), whole


def _degree(f: SymmetryFunction) -> int:
    """ζ of a function that moments can give, else 0."""
    return int(f.zeta) if f.kind not in (*COMPACT, *CLOSED) and f.zeta in range(1, HIGHEST + 1) else 0


def _series(f: SymmetryFunction) -> list[float]:
    """Coefficients of A(cos θ) = 2^(1−ζ) Σ_l (ζ over l) λ^l cos^l θ; zeros for a function without moments."""
    n = _degree(f)
    return [2.0 ** (1 - n) * math.comb(n, l) * f.lam**l if 0 < n >= l else 0.0 for l in range(HIGHEST + 1)]


def monomials(degree: int) -> np.ndarray:
    """The monomials x^a y^b z^c up to a degree, by degree, as rows of ``SymmetryTables.monomial``."""
    powers = [
        (a, b, n - a - b) for n in range(degree + 1) for a in range(n, -1, -1) for b in range(n - a, -1, -1)
    ]
    number = {p: k for k, p in enumerate(powers)}
    raised = lambda p, axis, by: tuple(x + by * (c == axis) for c, x in enumerate(p))
    rows = []
    for p in powers:
        axis = next((c for c in range(3) if p[c]), 0)
        many = math.factorial(sum(p)) // math.prod(math.factorial(x) for x in p)
        up = (number.get(raised(p, c, 1), 0) for c in range(3))
        rows.append((number.get(raised(p, axis, -1), 0), axis, *up, *p, many))
    return np.array(rows)


def _number(rows: list, row) -> int:
    """The place of ``row`` among ``rows``, where it is put if it is new."""
    if row not in rows:
        rows.append(row)
    return rows.index(row)


def _padded(lists, dtype=np.int64, width: tuple[int, ...] = ()) -> np.ndarray:
    """Lists of different lengths as rows of one array, at least one column; an item has the shape width."""
    rows = np.zeros((len(lists), max([len(x) for x in lists] + [1]), *width), dtype)
    for row, items in zip(rows, lists, strict=True):
        for n, item in enumerate(items):
            row[n] = item
    return rows


def symmetry_tables(form: HDNNPForm) -> SymmetryTables:
    """The tables of a form."""
    T = form.n_types
    types = range(T)
    radial: list[list] = [[] for _ in types]
    falls: list = []
    d_c: list[list] = [[] for _ in range(T * T)]
    g_c: list[list] = [[] for _ in range(T * T)]
    triples: dict[int, list] = {a: [] for a in range(T**3)}
    for t in types:
        for d, f in enumerate(form.functions[t]):
            fall = _fall(f, form.cutoff_function)
            g = _number(radial[t], (*fall, float(_number(falls, fall)), *_gaussian(f)))
            s = [form.type_map.index(name) for name in f.neighbours]
            if f.kind in RADIAL:
                d_c[t * T + s[0]].append(d)
                g_c[t * T + s[0]].append(g)
            else:
                triples[(t * T + s[0]) * T + s[1]].append((d, f, g))
    uses = [set(g) for g in g_c]
    n_radial_c = np.array([len(g) for g in g_c])
    base_a = np.zeros((T**3, 2), np.int64)
    slots: list[list] = [[] for _ in range(T * T)]
    angles, factors, k_a, h_a, rows_a, slots_a, counts = [], [], [], [], [], [], []
    for a, rows in triples.items():
        t, s1, s2 = a // T**2, a // T % T, a % T
        rows.sort(key=lambda row: _degree(row[1]) > 0)
        n_first = sum(_degree(f) == 0 for _, f, _ in rows)
        angle_rows, factor_rows = [], []
        k_a.append([_number(angle_rows, _angle_row(f)) for _, f, _ in rows])
        h_a.append([_number(factor_rows, (g, f.kind in CLOSED)) for _, f, g in rows])
        counts.append([[max(x[:n], default=-1) + 1 for n in (n_first, None)] for x in (k_a[-1], h_a[-1])])
        counts[-1].append([n_first, len(rows)])
        rows_a.append([d for d, _, _ in rows])
        angles.append(angle_rows)
        factors.append(factor_rows)
        both = (t * T + s1, t * T + s2)
        slots_a.append([tuple(_number(slots[c], g) if _degree(f) else 0 for c in both) for _, f, g in rows])
        for column, s in enumerate({s1: 0, s2: 0}):
            c = t * T + s
            base_a[a, column:] = len(d_c[c])
            d_c[c] += rows_a[-1]
            uses[c] |= {g for _, _, g in rows}
    degree_ck = _padded([[0] * len(x) for x in slots])
    for a, rows in triples.items():
        for (_, f, _), both in zip(rows, slots_a[a], strict=True):
            for s, k in zip((a // T % T, a % T), both, strict=True):
                place = a // T**2 * T + s, k
                degree_ck[place] = max(degree_ck[place], _degree(f))
    of_functions = lambda value: [[value(f) for _, f, _ in rows] for rows in triples.values()]
    n_g = max(len(rows) for rows in radial)
    angular_rc = [max((f.rc for f in rows if f.kind not in RADIAL), default=0.0) for rows in form.functions]
    coefficients = np.zeros((4, 10))
    for k, values in enumerate(POLYNOMIALS.values()):
        coefficients[k, : len(values)] = values
    return SymmetryTables(
        T, form.length_unit, coefficients, _padded(radial, float, (10,)),
        np.array([[g in used for g in range(n_g)] for used in uses]),
        np.array([len(rows) for rows in radial]), np.array(angular_rc),
        np.array([len(d) for d in d_c]), _padded(d_c), n_radial_c, _padded(g_c),
        np.array([x[2] for x in counts]), _padded(rows_a), _padded(k_a), _padded(h_a), base_a,
        np.array([x[0] for x in counts]), _padded(angles, float, (12,)),
        np.array([x[1] for x in counts]), _padded([[g for g, _ in x] for x in factors]),
        _padded([[closed for _, closed in x] for x in factors], bool),
        np.array([len(x) for x in slots]), _padded(slots), degree_ck, _padded(slots_a, np.int64, (2,)),
        _padded(of_functions(_degree)), _padded(of_functions(_series), float, (HIGHEST + 1,)),
        _padded(of_functions(lambda f: sum(_series(f))), float), monomials(HIGHEST),
        np.array([math.comb(l + 3, 3) for l in range(HIGHEST + 1)] + [0]),
        max((f.rc for rows in form.functions for f in rows), default=1.0), np.repeat([0.0, 1.0], 8),
    )  # fmt: skip
