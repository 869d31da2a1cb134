"""A set of symmetry functions made from the data: no list by hand.

For each neighbour, radial functions (type 2) of two kinds: centred at the atom, with widths between the
closest distance d and the cutoff, and shifted ones, whose centres are spread evenly between d and the cutoff.
For each pair of neighbours, angular functions (type 9): λ = 1 and −1 with several ζ, first with a wide
Gaussian about the atom, then in shells at distances from d on. (1 + x)^ζ and (1 − x)^ζ with ζ = 1, 4, 16 are
six functions of x = cos θ that none of the others contains.

The number of functions of an element is held below a bound: the cost of a frame and the size of P
depend on it.
"""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import numpy as np

from kalmandp.errors import InputError, require
from kalmandp.frames.elements import NUMBER
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.potentials.hdnnp.symmetry_functions import SymmetryFunction

#: Functions of an element at most, unless every pair of neighbours needs one.
MOST = 40
#: λ and ζ of the angular functions, in the order in which they are taken.
ANGLES = ((1.0, 1.0), (-1.0, 1.0), (1.0, 4.0), (-1.0, 4.0), (1.0, 16.0), (-1.0, 16.0), (-1.0, 2.0))
#: Shells of angular functions at most.
SHELLS = 4
#: Radial functions for one neighbour at most.
RADIAL_MOST = 12


def numbers_of_functions(n_types: int, most: int = MOST) -> tuple[int, int]:
    """How many radial functions for each neighbour, and angular ones for each pair of neighbours.

    Examples
    --------
    >>> [numbers_of_functions(n) for n in (1, 2, 3, 4)]
    [(12, 28), (8, 8), (5, 4), (5, 2)]
    """
    n_pairs = n_types * (n_types + 1) // 2
    # a third for the radial ones, the rest for angles, what remains for radial ones again
    n_angular = min(len(ANGLES) * SHELLS, max(1, int(most * 0.7) // n_pairs))
    if n_angular > 2:
        n_angular -= n_angular % 2
    return max(2, min(RADIAL_MOST, (most - n_angular * n_pairs) // n_types)), n_angular


def closest_distances(frames, type_map, cutoff: float) -> dict[tuple[str, str], float]:
    """The shortest distance (Å) between atoms of each pair of elements; ∞ for those that never meet.

    Parameters
    ----------
    frames : iterable of Frame
    type_map : names of the elements
    cutoff : Å
    """
    closest = {pair: np.inf for pair in product(type_map, repeat=2)}
    for frame in frames:
        frame = frame.with_type_map(type_map)
        pairs = neighbour_pairs(frame, cutoff)
        r_p = np.sqrt((pairs.r_pc * pairs.r_pc).sum(-1))
        kind_p = frame.types[pairs.i_p] * len(type_map) + frame.types[pairs.j_p]
        for k in np.unique(kind_p):
            pair = type_map[k // len(type_map)], type_map[k % len(type_map)]
            closest[pair] = min(closest[pair], float(r_p[kind_p == k].min()))
    return closest


def radial_set(neighbour: str, closest: float, cutoff: float, n: int) -> list[SymmetryFunction]:
    """n functions of type 2: a third centred, the others shifted.

    centred   η = 1/(2w²), the widths w in equal ratios between d/2 and r_c/2
    shifted   r_s evenly from d to r_c − Δ, η = 1/(2Δ²) with Δ the distance of two centres
    """
    n_centred = max(1, n // 3)
    n_shifted = n - n_centred
    widths = np.geomspace(0.5 * cutoff, 0.5 * closest, n_centred) if n_centred > 1 else [0.5 * cutoff]
    rows = [SymmetryFunction(2, (neighbour,), cutoff, eta=_round(0.5 / w**2), rs=0.0) for w in widths]
    step = (cutoff - closest) / max(n_shifted, 1)
    for k in range(n_shifted):
        rs = closest + step * k
        rows.append(SymmetryFunction(2, (neighbour,), cutoff, eta=_round(0.5 / step**2), rs=_round(rs)))
    return rows


def angular_set(neighbours: tuple[str, str], closest: float, cutoff: float, n: int) -> list[SymmetryFunction]:
    """n functions of type 9: for each of up to `SHELLS` shells the first of `ANGLES`.

    The first is the wide one, r_s = 0 with the width r_c/2; the others have r_s evenly from d to the cutoff.
    """
    n_shells = min(SHELLS, max(1, n // 4))
    n_angles = -(-n // n_shells)
    shells = [(0.0, 0.5 / (0.5 * cutoff) ** 2)]
    step = (cutoff - closest) / n_shells
    shells += [(closest + step * k, 0.5 / step**2) for k in range(n_shells - 1)]
    rows = [
        SymmetryFunction(9, neighbours, cutoff, eta=_round(eta), rs=_round(rs), lam=lam, zeta=zeta)
        for (lam, zeta), (rs, eta) in product(ANGLES[:n_angles], shells)
    ]
    return rows[:n]


def _round(x: float) -> float:
    """Five digits: a number that one can read in input.nn."""
    return float(f"{x:.4e}")


def default_functions(
    type_map, frames, cutoff: float = 6.0, angular_cutoff: float | None = None, n_radial: int | None = None,
    n_angular: int | None = None, most: int = MOST,
) -> list[list[SymmetryFunction]]:  # fmt: skip
    """For each element of ``type_map`` a list of symmetry functions in Å.

    Parameters
    ----------
    type_map : names of the elements
    frames : list of Frame, from which the closest distances are taken
    cutoff : of the radial functions, Å;  angular_cutoff : of the angular ones, by default the same but ≤ 5 Å
    n_radial, n_angular : for each neighbour and for each pair of neighbours; by default so many that there
        are at most ``most`` (`numbers_of_functions`)

    Raises
    ------
    InputError
        Without frames or pairs, or if atoms are no closer than the cutoff.
    """
    type_map = sorted(type_map, key=NUMBER.__getitem__)
    angular = min(cutoff, 5.0) if angular_cutoff is None else float(angular_cutoff)
    require(0 < angular <= cutoff, "angular_cutoff", angular, f"more than 0, at most cutoff, {cutoff}")
    closest = closest_distances(frames, type_map, cutoff)
    if not np.isfinite(min(closest.values())):
        raise InputError(f"no two atoms are within {cutoff:g} Å; expected frames with neighbours")
    radial, angles = numbers_of_functions(len(type_map), most)
    radial = radial if n_radial is None else n_radial
    angles = angles if n_angular is None else n_angular
    functions = []
    for centre in type_map:
        rows = []
        met = [s for s in type_map if closest[centre, s] < cutoff]
        for s in met:
            rows += radial_set(s, closest[centre, s], cutoff, radial)
        for one, other in combinations_with_replacement([s for s in met if closest[centre, s] < angular], 2):
            d = min(closest[centre, one], closest[centre, other])
            rows += angular_set((one, other), d, angular, angles)
        if not rows:
            raise InputError(f"{centre} has no neighbour within {cutoff:g} Å; expected frames where it has")
        functions.append(rows)
    return functions
