"""Which unit, or which sign, makes a slope: from a number to its likely causes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kalmandp.formats.units import BOHR, HARTREE, RYDBERG
from kalmandp.formats.units import KCAL_MOL as KCAL
from kalmandp.formats.units import KJ_MOL as KJ


class Cause(NamedTuple):
    """What an energy label and a force label are, over what they should be in eV and eV/Å."""

    energy: float
    forces: float

    @property
    def slope(self) -> float:
        """ΔE over the work of the forces, both as labelled."""
        return self.energy / self.forces


#: What makes ΔE = s ∫F·dr with s ≠ 1. One eV is 1/27.2 Hartree, so energies in Hartree are 1/27.2 of
#: what they should be.
ENERGY_FORCE = {
    "forces of the opposite sign (gradients instead of forces)": Cause(1.0, -1.0),
    "energies in Hartree": Cause(1 / HARTREE, 1.0),
    "energies in Rydberg": Cause(1 / RYDBERG, 1.0),
    "energies in kcal/mol": Cause(1 / KCAL, 1.0),
    "energies in kJ/mol": Cause(1 / KJ, 1.0),
    "energies in meV": Cause(1e3, 1.0),
    "lengths in bohr": Cause(1.0, 1 / BOHR),
    "forces in Hartree/bohr": Cause(1.0, BOHR / HARTREE),
    "forces in Rydberg/bohr": Cause(1.0, BOHR / RYDBERG),
    "forces in eV/bohr": Cause(1.0, BOHR),
    "energies in Hartree and forces in Hartree/bohr": Cause(1 / HARTREE, BOHR / HARTREE),
    "energies in Rydberg and forces in Rydberg/bohr": Cause(1 / RYDBERG, BOHR / RYDBERG),
    "forces in Hartree/Å": Cause(1.0, 1 / HARTREE),
    "forces in kcal/mol/Å": Cause(1.0, 1 / KCAL),
    "forces in kJ/mol/Å": Cause(1.0, 1 / KJ),
    "forces in kJ/mol/nm": Cause(1.0, 10 / KJ),
    "forces in meV/Å": Cause(1.0, 1e3),
    "forces in eV/nm": Cause(1.0, 10.0),
}
#: The same with the sign of the force turned.
ENERGY_FORCE |= {
    f"{name}, and of the opposite sign": Cause(cause.energy, -cause.forces)
    for name, cause in list(ENERGY_FORCE.items())
    if name.startswith("forces in")
}


#: Units of energies, with forces in the same per Å: what both are then over what they should be.
UNIFORM = {
    "energies in kcal/mol and forces in kcal/mol/Å": 1 / KCAL,
    "energies in kJ/mol and forces in kJ/mol/Å": 1 / KJ,
    "energies in meV and forces in meV/Å": 1e3,
}


class Slope(NamedTuple):
    """y = s·x with both uncertain: s lies between the regressions of y on x and of x on y.

    value : their geometric mean, with the sign; low, high : its bounds, |low| ≤ |high|
    correlation : of x and y about 0;  n : pairs of numbers
    """

    value: float
    low: float
    high: float
    correlation: float
    n: int

    @property
    def is_known(self) -> bool:
        """Whether the data fix the slope to a factor that tells units apart."""
        return self.n >= 5 and abs(self.correlation) > 0.6 and self.n * self.correlation**2 > 8

    def agrees_with(self, wanted: float, tolerance: float) -> bool:
        """Whether ``wanted`` is within the bounds, widened by a factor 1 ± tolerance."""
        if not np.isfinite(wanted) or wanted * self.value <= 0:
            return False
        low, high = abs(self.low) * (1 - tolerance), abs(self.high) / (1 - tolerance)
        return low <= abs(wanted) <= high


def slope(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Slope:
    """The slope through the origin; nothing is known if x or y vanish."""
    xx, yy, xy = (weight * x * x).sum(), (weight * y * y).sum(), (weight * x * y).sum()
    if not (xx > 0 and yy > 0 and np.isfinite(xx + yy)):
        return Slope(0.0, 0.0, 0.0, 0.0, len(x))
    c = xy / np.sqrt(xx * yy)
    return Slope(np.sign(xy) * np.sqrt(yy / xx), xy / xx, yy / xy if xy else 0.0, c, len(x))


def likely(found: Slope, causes: dict[str, Cause], tolerance: float = 0.12) -> list[str]:
    """Names of the causes that explain a slope, the nearest first."""
    fitting = {name: c.slope for name, c in causes.items() if found.agrees_with(c.slope, tolerance)}
    return sorted(fitting, key=lambda name: abs(np.log(fitting[name] / found.value)))
