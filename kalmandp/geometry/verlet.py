"""A neighbour list that is reused while no pair outside of it can have come within the cut-off.

Verlet's list (L. Verlet, Phys. Rev. 159, 98 (1967)) holds the pairs within rcut + skin. Let the cell have
gone from h₀ to h = h₀F (lattice vectors as rows) and the atoms from x₀ᵢ to xᵢ = x₀ᵢF + t + uᵢ, with one
translation t for all of them. A pair that is not in the list was longer than rcut + skin, and now has

    |r| = |r₀F + uⱼ − uᵢ| ≥ σ_min(F) (rcut + skin) − 2 maxᵢ |uᵢ|

σ_min being the smallest singular value. As long as the right side is at least rcut, the list is complete:
for a fixed cell until an atom has moved by skin/2 against the others, and for a cell that breathes, with its
atoms, until the strain has used up the skin.
"""

from __future__ import annotations

import numpy as np

from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import Pairs, Search, check_overlap, checked_cutoff
from kalmandp.registry import PAIR_FILTERS, find


class VerletList:
    """Pairs within ``rcut`` of frames that follow each other: a trajectory, a relaxation.

    Parameters
    ----------
    rcut : Å
    skin : Å; the list is searched to rcut + skin. A larger one is searched less often and costs more
        distances in between. With 0 a list is only reused for the same positions
    engine : "numba" or "numpy", which computes the distances

    Attributes
    ----------
    searches : how many times the neighbours have been searched
    calls : how many times `pairs` has been called

    Examples
    --------
    >>> import kalmandp
    >>> verlet = VerletList(5.0, skin=1.0)
    >>> for frame in kalmandp.Dataset("data/si64_lda_test.h5")[:3]:
    ...     pairs = verlet.pairs(frame)
    >>> verlet.calls
    3
    """

    def __init__(self, rcut: float, skin: float = 1.0, engine: str = "numba"):
        self.rcut = checked_cutoff(rcut)
        try:
            self.skin = float(skin)
        except (TypeError, ValueError):
            self.skin = np.nan
        if not 0.0 <= self.skin < np.inf:
            raise InputError(f"skin is {skin!r}; expected a number of Å, 0 or more")
        self._search = Search(self.rcut + self.skin)
        self._within = find(PAIR_FILTERS, engine, "engine")
        self._start: Frame | None = None
        self._candidates: Pairs | None = None
        self.searches = self.calls = 0

    def pairs(self, frame: Frame) -> Pairs:
        """What `neighbour_pairs` gives for ``frame`` and ``rcut``: the same pairs in the same order.

        A pair whose length equals rcut to the last digits may be in one list and not in the other; it
        adds nothing, for the switch is zero there.

        Raises
        ------
        InputError
            As `neighbour_pairs`: for overlapping atoms, and for cells that make no sense.
        """
        self.calls += 1
        if self._start is None or not still_complete(self._start, frame, self.rcut, self.skin):
            self._start = None  # should the search fail
            self._candidates = self._search.pairs(frame)
            self._start = frame
            self.searches += 1
        assert self._candidates is not None
        cell = np.zeros((3, 3)) if frame.cell is None else frame.cell
        pairs = self._within(frame.positions, cell, self._candidates, self.rcut)
        check_overlap(frame, pairs)
        return pairs


def still_complete(start: Frame, now: Frame, rcut: float, skin: float) -> bool:
    """Whether no pair longer than rcut + skin in ``start`` can be shorter than rcut in ``now``."""
    if start.pbc != now.pbc or not np.array_equal(start.types, now.types):
        return False
    u_ic, smallest = now.positions - start.positions, 1.0
    if start.cell is not None and now.cell is not None and (start.cell != now.cell).any():
        # F = h₀⁻¹h;  u_i = x_i − x₀_i F
        F = np.linalg.solve(start.cell, now.cell)
        u_ic = now.positions - start.positions @ F
        smallest = np.linalg.svd(F, compute_uv=False)[-1]
    if not len(u_ic):
        return True
    u_ic = u_ic - u_ic.mean(axis=0)
    farthest = np.sqrt((u_ic * u_ic).sum(axis=1).max())
    return bool(smallest * (rcut + skin) - 2.0 * farthest >= rcut)


def pairs_within(positions: np.ndarray, cell: np.ndarray, candidates: Pairs, rcut: float) -> Pairs:
    """Those of the ``candidates`` that are within ``rcut`` now, in their order.

    r_p = x_j + s_p·h − x_i for each of them, and r_p² ≤ rcut².
    """
    i_p, j_p, shift_pd, _ = candidates
    r_pc = positions[j_p] - positions[i_p] + shift_pd @ cell
    near = (r_pc * r_pc).sum(axis=1) <= rcut * rcut
    return Pairs(i_p[near], j_p[near], shift_pd[near], r_pc[near])
