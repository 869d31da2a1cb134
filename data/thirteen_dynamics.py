"""How the thirteen systems move and are labelled: GFN1-xTB by tblite, Langevin dynamics.

Lengths in Angstrom, energies in eV, times in fs, masses in u. See `make_thirteen.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

# ---------------------------------------------------------------- constants (CODATA 2018)
BOLTZMANN = 8.617333262e-5  # eV / K
HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Angstrom
EV_PER_U_A2_FS2 = 103.642697  # u (Angstrom / fs)^2 in eV

# ---------------------------------------------------------------- how it is computed
METHOD = "GFN1-xTB"
ELECTRONIC_TEMPERATURE = 3000.0  # K: Fermi smearing that lets metals converge
ACCURACY = 1.0  # tblite's default, 1e-6 Hartree in the energy


class Failed(RuntimeError):
    """A system whose labels cannot be vouched for."""


@dataclass(frozen=True)
class Label:
    """Energy (eV), forces (n, 3) (eV/Angstrom), virial (3, 3) = -dE/dstrain (eV)."""

    energy: float
    forces: np.ndarray
    virial: np.ndarray


class Xtb:
    """GFN1-xTB of one periodic system; each SCF cycle starts from the charges of the one before.

    The energy is the Mermin free energy E - TS of electrons at ELECTRONIC_TEMPERATURE, of which
    forces and virial are the derivatives.
    """

    def __init__(self, atoms, accuracy: float = ACCURACY):
        from tblite.interface import Calculator

        cell, pos = atoms.cell[:] / BOHR, atoms.positions / BOHR
        self._calculator = Calculator(METHOD, atoms.numbers, pos, 0, 0, cell, np.ones(3, bool))
        kelvin = BOLTZMANN / HARTREE
        settings = {
            "verbosity": 0,
            "temperature": ELECTRONIC_TEMPERATURE * kelvin,
            "accuracy": accuracy,
        }
        for name, value in settings.items():
            self._calculator.set(name, value)
        self._cell_cc = atoms.cell[:].copy()
        self._result = None

    def __call__(self, pos_ic: np.ndarray, cell_cc: np.ndarray | None = None) -> Label:
        """Label of these positions, in another cell if one is given.

        Raises
        ------
        Failed
            If the SCF cycle does not converge, from the charges before or from scratch.
        """
        cell_cc = self._cell_cc if cell_cc is None else cell_cc
        self._calculator.update(positions=pos_ic / BOHR, lattice=cell_cc / BOHR)
        try:
            self._result = self._calculator.singlepoint(self._result)
        except RuntimeError:
            try:
                self._result = self._calculator.singlepoint(None)
            except RuntimeError as error:
                raise Failed(f"tblite: {error}") from None
        label = Label(
            float(self._result["energy"]) * HARTREE,
            -np.array(self._result["gradient"]) * HARTREE / BOHR,
            -np.array(self._result["virial"]) * HARTREE,  # tblite's virial is dE/dstrain
        )
        if not all(np.isfinite(x).all() for x in (label.energy, label.forces, label.virial)):
            raise Failed("tblite returned a number that is not finite")
        return label


class Langevin:
    """BAOAB Langevin dynamics whose total momentum stays zero.

    B. Leimkuhler, C. Matthews, Appl. Math. Res. Express 2013, 34. Beside the state it keeps
    ``heat``, what the thermostat has given: E_pot + E_kin - heat is conserved, up to the error of
    the time step (J. D. Chodera's shadow work).
    """

    def __init__(self, label, pos_ic, mass_i, time_step, temperature, rng):
        self.label, self.rng, self.time_step = label, rng, time_step
        self.pos_ic = np.array(pos_ic)
        self.mass_i1 = mass_i[:, None] * EV_PER_U_A2_FS2  # eV fs^2 / Angstrom^2
        self.vel_ic = self._thermal(temperature)
        self.step, self.heat = 0, 0.0
        self.now = label(self.pos_ic)

    def _still(self, vel_ic: np.ndarray) -> np.ndarray:
        return vel_ic - (self.mass_i1 * vel_ic).sum(axis=0) / self.mass_i1.sum()

    def _thermal(self, temperature: float) -> np.ndarray:
        speed_i1 = np.sqrt(BOLTZMANN * temperature / self.mass_i1)
        return self._still(speed_i1 * self.rng.normal(size=self.pos_ic.shape))

    @property
    def kinetic(self) -> float:
        return float(0.5 * (self.mass_i1 * self.vel_ic**2).sum())

    @property
    def temperature(self) -> float:
        """2 E_kin / (3 n - 3) k_B: the centre of mass stands still."""
        return 2 * self.kinetic / ((self.pos_ic.size - 3) * BOLTZMANN)

    @property
    def conserved(self) -> float:
        return self.now.energy + self.kinetic - self.heat

    def advance(self, friction: float, temperature: float) -> None:
        """One step with a thermostat of that friction (1/fs) and temperature (K)."""
        h, decay = self.time_step, np.exp(-friction * self.time_step)
        self.vel_ic = self.vel_ic + 0.5 * h * self.now.forces / self.mass_i1
        self.pos_ic = self.pos_ic + 0.5 * h * self.vel_ic
        before = self.kinetic
        self.vel_ic = decay * self.vel_ic + np.sqrt(1 - decay**2) * self._thermal(temperature)
        self.heat += self.kinetic - before
        self.pos_ic = self.pos_ic + 0.5 * h * self.vel_ic
        self.now = self.label(self.pos_ic)
        self.vel_ic = self.vel_ic + 0.5 * h * self.now.forces / self.mass_i1
        self.step += 1

    def state(self) -> dict:
        """What `restore` needs; the forces are computed again."""
        generator = json.dumps(self.rng.bit_generator.state)
        return {"pos_ic": self.pos_ic, "vel_ic": self.vel_ic, "step": self.step,
                "heat": self.heat, "generator": generator}  # fmt: skip

    def restore(self, state) -> None:
        self.pos_ic, self.vel_ic = np.array(state["pos_ic"]), np.array(state["vel_ic"])
        self.step, self.heat = int(state["step"]), float(state["heat"])
        self.rng.bit_generator.state = json.loads(str(state["generator"]))
        self.now = self.label(self.pos_ic)
