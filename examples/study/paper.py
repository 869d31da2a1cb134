"""RLEKF's Table 1 as printed: the facts that the study's own numbers stand beside.

S. Hu, W. Zhang, Q. Sha, F. Pan, L.-W. Wang, W. Jia, G. Tan, T. Zhao, "RLEKF: An Optimizer for Deep
Potential with Ab Initio Accuracy", AAAI 2023. RMSE after 30 epochs, labels by PWmat (DFT).
"""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """An error of RLEKF and of Adam: meV/atom, or meV/Å."""

    rlekf: float
    adam: float


class Row(NamedTuple):
    """A line of Table 1; ``structure``, ``snapshots`` and the four columns of errors."""

    structure: str
    snapshots: int
    energy_train: Pair
    energy_test: Pair
    force_train: Pair
    force_test: Pair


def _row(structure, snapshots, *errors) -> Row:
    return Row(structure, snapshots, *(Pair(*pair) for pair in errors))


TABLE_1 = {
    "Cu": _row("FCC", 1646, (0.250, 0.451), (0.327, 0.442), (40.6, 39.7), (45.2, 44.4)),
    "Si": _row("DC", 3000, (0.148, 0.165), (0.186, 0.181), (22.3, 21.9), (24.1, 23.4)),
    "C": _row("graphene", 4000, (0.0856, 0.133), (0.267, 0.278), (24.2, 27.6), (34.7, 35.5)),
    "Ag": _row("FCC", 2015, (0.142, 0.159), (0.243, 0.265), (11.3, 11.0), (12.4, 12.5)),
    "Mg": _row("HCP", 4000, (0.111, 0.160), (0.169, 0.189), (13.0, 14.8), (16.1, 17.1)),
    "NaCl": _row("FCC", 3193, (0.0403, 0.0631), (0.0435, 0.0514), (6.06, 5.78), (6.69, 6.47)),
    "Li": _row("BCC, FCC, HCP", 2494, (0.0482, 0.126), (0.312, 0.332), (22.9, 14.0), (24.8, 26.4)),
    "Al": _row("FCC", 4000, (0.359, 0.534), (0.473, 1.24), (54.1, 56.3), (58.6, 55.8)),
    "MgAlCu": _row("alloy", 2530, (0.165, 0.227), (0.218, 0.233), (44.1, 37.6), (45.2, 42.6)),
    "H2O": _row("liquid", 4000, (0.297, 0.584), (0.545, 1.00), (60.8, 20.6), (68.1, 87.6)),
    "S": _row("S8", 7000, (0.210, 0.401), (0.628, 0.628), (51.5, 45.9), (60.4, 58.5)),
    "CuO": _row("FCC", 1000, (2.203, 2.47), (2.04, 3.78), (424, 414), (442, 438)),
    "CuC": _row("Cu+C, adsorbed", 2000, (0.458, 1.27), (1.07, 2.52), (176, 143), (190, 195)),
}

#: How often the paper's text says that RLEKF is the better of the two on test frames.
CLAIMED_ENERGY, CLAIMED_FORCE = 11, 7
#: The ratios its abstract gives for copper: epochs, wall-clock.
CLAIMED_CU = (11.67, 1.19)
#: In Fig. 4 this stands for "Adam does not reach the baseline".
NEVER = 1000
#: The baseline of Fig. 4: so many times the better RMSE of the two.
BASELINE = 1.2


def wins(column: str) -> int:
    """Systems on which RLEKF is strictly better in a column of `Row`."""
    return sum(getattr(row, column).rlekf < getattr(row, column).adam for row in TABLE_1.values())
