"""Units of HDNNP files, which do not name them, and n2p2's normalised units.

Inside n2p2 an energy is E′ = (E − n mean_energy − Σ atom_energy) conv_energy, a length r′ = r conv_length,
and a force F′ = F conv_energy/conv_length; E, r, F in the units of the files.
"""

from __future__ import annotations

import numpy as np

from kalmandp.constants import BOHR, HARTREE
from kalmandp.errors import require
from kalmandp.potentials.hdnnp.form import HDNNPForm

#: Å and eV per unit of the files: RuNNer's habit, and LAMMPS's name for Å and eV.
UNITS = {"atomic": (BOHR, HARTREE), "metal": (1.0, 1.0)}


def unit_sizes(units: str) -> tuple[float, float]:
    """Å per unit of length and eV per unit of energy."""
    require(units in UNITS, "units", repr(units), " or ".join(UNITS) + " (bohr and hartree, or Å and eV)")
    return UNITS[units]


def units_name(form: HDNNPForm) -> str:
    """Which of `UNITS` a form has, or its two numbers."""
    sizes = (form.length_unit, form.energy_unit)
    return next((name for name, s in UNITS.items() if s == sizes), f"{sizes[0]:g} Å, {sizes[1]:g} eV")


def bias_of(form: HDNNPForm, atom_energy_t) -> np.ndarray:
    """bias_t (eV) = energy_unit (mean_energy + atom_energy_t)."""
    return form.energy_unit * (form.mean_energy + np.asarray(atom_energy_t, dtype=float))


def atom_energies_of(form: HDNNPForm, bias_t) -> np.ndarray:
    """n2p2's atom_energy of each element, in the unit of the files, from bias_t (eV)."""
    return np.asarray(bias_t, dtype=float) / form.energy_unit - form.mean_energy


def energy_factor(form: HDNNPForm) -> float:
    """E′/E_eV, a normalised energy per eV (without means and atom energies)."""
    return form.conv_energy / form.energy_unit


def net_units(form: HDNNPForm) -> tuple[float, float]:
    """Normalised units of energy per eV, and of force per eV/Å."""
    return energy_factor(form), force_factor(form)


def force_factor(form: HDNNPForm) -> float:
    """F′/F, a normalised force per eV/Å."""
    return energy_factor(form) * form.length_unit / form.conv_length
