"""Calls somebody else's calculator, and checks its results.

A call has failed if it raises any error (a program that crashed, an SCF cycle that did not converge, a
`subprocess.TimeoutExpired`), or if a number of it is not finite. It is repeated ``retries`` times, after
``reference.reset()`` where there is one, so that it does not begin from a damaged state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kalmandp.errors import InputError, KalmanDPError
from kalmandp.frames.frame import Frame, full_stress

MEV = 1e-3


class ReferenceFailure(KalmanDPError, RuntimeError):
    """The reference gave no usable result, however often it was asked."""


class Reference:
    """A labeller of frames.

    Parameters
    ----------
    calculator : an ASE calculator
    stress : whether periodic frames get a virial
    retries : how often a call that failed is repeated

    Raises
    ------
    InputError
        For a calculator without forces, or without stress where that is wanted.
    """

    def __init__(self, calculator: Any, *, stress: bool, retries: int):
        self.calculator, self.stress, self.retries = calculator, stress, retries
        offered = getattr(calculator, "implemented_properties", None)
        self.name = type(calculator).__name__
        if offered is None:
            raise InputError(f"reference is a {self.name}; expected an ASE calculator")
        for needed in ["energy", "forces", *(["stress"] if stress else [])]:
            if needed not in offered:
                hint = ", or stress=False for cells that do not change" if needed == "stress" else ""
                raise InputError(
                    f"the reference {self.name} has {', '.join(offered)}; expected {needed} too{hint}"
                )

    def label(self, atoms: Any, frame: Frame) -> tuple[Frame, int]:
        """The frame with its labels, and how many calls failed before.

        Parameters
        ----------
        atoms : ase.Atoms without a calculator, the same configuration as ``frame``

        Raises
        ------
        ReferenceFailure
            If all calls failed; with the last error.
        """
        why = ""
        for attempt in range(self.retries + 1):
            if attempt and callable(reset := getattr(self.calculator, "reset", None)):
                reset()
            try:
                return self._call(atoms, frame), attempt
            except (KeyboardInterrupt, SystemExit):
                raise
            except Exception as error:  # other programs raise errors of any class
                why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        times = f"{self.retries + 1} time{'s' * (self.retries > 0)}"
        raise ReferenceFailure(f"the reference {self.name} failed {times} ({why})")

    def _call(self, atoms: Any, frame: Frame) -> Frame:
        atoms = atoms.copy()
        atoms.calc = self.calculator
        forces = np.array(atoms.get_forces(apply_constraint=False), dtype=float)
        # of electrons that are smeared, forces belong to the free energy
        energy = float(atoms.get_potential_energy(force_consistent=_has_free_energy(self.calculator)))
        virial = None
        if self.stress and any(frame.pbc):
            virial = -frame.volume * full_stress(atoms.get_stress(apply_constraint=False), frame.source)
        return replace(frame, energy=energy, forces=forces, virial=virial)

    def check_drift(self, atoms: Any, frame: Frame, most: float) -> float:
        """Label a frame again; the largest difference of a force, eV/Å.

        Raises
        ------
        InputError
            If it is above ``most`` (eV/Å): the reference is no longer what it was.
        """
        again, _ = self.label(atoms, frame)
        assert frame.forces is not None and again.forces is not None
        off = float(np.abs(again.forces - frame.forces).max(initial=0.0))
        if off > most:
            raise InputError(
                f"the reference {self.name} drifts: its forces on {frame.source} differ by {off / MEV:.3g} "
                f"meV/Å from what it said before; expected at most {most / MEV:.3g} meV/Å (are its settings "
                "the same?)"
            )
        return off


def _has_free_energy(calculator: Any) -> bool:
    return "free_energy" in getattr(calculator, "implemented_properties", ())
