"""Atomic numbers and covalent radii of the elements, for the repulsion of nuclei."""

from __future__ import annotations

from kalmandp.errors import InputError
from kalmandp.frames.elements import NUMBER

#: Covalent radii of H … Pu, Å: Pyykkö and Atsumi, Chem. Eur. J. 15, 186 (2009), those of metals made 10 %
#: smaller, as in DFT-D3 (Grimme et al., J. Chem. Phys. 132, 154104 (2010)).
RADII = (
    0.32, 0.46, 1.20, 0.94, 0.77, 0.75, 0.71, 0.63, 0.64, 0.67, 1.40, 1.25, 1.13, 1.04, 1.10, 1.02,
    0.99, 0.96, 1.76, 1.54, 1.33, 1.22, 1.21, 1.10, 1.07, 1.04, 1.00, 0.99, 1.01, 1.09, 1.12, 1.09,
    1.15, 1.10, 1.14, 1.17, 1.89, 1.67, 1.47, 1.39, 1.32, 1.24, 1.15, 1.13, 1.13, 1.08, 1.15, 1.23,
    1.28, 1.26, 1.26, 1.23, 1.32, 1.31, 2.09, 1.76, 1.62, 1.47, 1.58, 1.57, 1.56, 1.55, 1.51, 1.52,
    1.51, 1.50, 1.49, 1.49, 1.48, 1.53, 1.46, 1.37, 1.31, 1.23, 1.18, 1.16, 1.11, 1.12, 1.13, 1.32,
    1.30, 1.30, 1.36, 1.31, 1.38, 1.42, 2.01, 1.81, 1.67, 1.58, 1.52, 1.53, 1.54, 1.55,
)  # fmt: skip
#: DFT-D3 counts neighbours with radii that are longer by this factor; GPUMD's table has them.
LONGER = 4.0 / 3.0


def atomic_number(symbol: str) -> int:
    """Z of an element.

    Raises
    ------
    InputError
        For a name that is no element's.
    """
    if symbol not in NUMBER:
        raise InputError(f"type {symbol!r} has no atomic number; expected the symbol of an element")
    return NUMBER[symbol]


def covalent_radius(symbol: str) -> float:
    """The covalent radius that GPUMD's typewise cut-offs are made of, Å; it has six digits, as there."""
    number = atomic_number(symbol)
    if number > len(RADII):
        raise InputError(f"type {symbol!r} has no covalent radius; expected an element from H to Pu")
    return float(f"{LONGER * RADII[number - 1]:.6g}")
