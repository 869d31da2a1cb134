"""Virials against what they should be: the sign and the unit that explain a slope."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.doctor.findings import Finding
from kalmandp.doctor.judge import Judge
from kalmandp.doctor.survey import Survey
from kalmandp.doctor.units import Slope, slope
from kalmandp.formats.units import GIGAPASCAL as GPA
from kalmandp.formats.units import HARTREE, RYDBERG
from kalmandp.formats.units import KCAL_MOL as KCAL
from kalmandp.formats.units import KILOBAR as KBAR

#: Widening of the bounds of a slope that ought to be 1: of steps, and of the surrogate, whose virials were
#: off by up to 3.2 on sets that are right.
STEPS, FITTED = 0.4, 0.72
#: The same where the surrogate fits so well that its virials are known to a few per cent.
PRECISELY = 0.25

#: What a label may be instead of W = −∂E/∂ε in eV -> label/W, from the volume V (Å³) and the atoms n.
#: The stress σ = −W/V is positive under tension (ASE); VASP prints −σ in kB.
LABELS = {
    "virials of the opposite sign": lambda V, n: -1.0 + 0.0 * V,
    "stresses in eV/Å³ (W = −σV)": lambda V, n: -1.0 / V,
    "pressure tensors in kB (W = PV)": lambda V, n: 1.0 / (KBAR * V),
    "stresses in kB (W = −σV)": lambda V, n: -1.0 / (KBAR * V),
    "pressure tensors in GPa (W = PV)": lambda V, n: 1.0 / (GPA * V),
    "stresses in GPa (W = −σV)": lambda V, n: -1.0 / (GPA * V),
    "virials per atom": lambda V, n: 1.0 / n,
    "virials in Hartree": lambda V, n: 1 / HARTREE + 0.0 * V,
    "virials in Rydberg": lambda V, n: 1 / RYDBERG + 0.0 * V,
    "virials in kcal/mol": lambda V, n: 1 / KCAL + 0.0 * V,
}


def virial_causes(true, label, weight, volume, n_atoms, tolerance: float) -> tuple[list[str], float]:
    """What explains labels that are not the virial: causes, the nearest first, and their slope.

    Parameters
    ----------
    true, label : (s,) numbers that should be equal
    weight, volume, n_atoms : (s,)

    Returns
    -------
    Names of `LABELS`, empty if none fits, and the slope of ``label`` against ``true``
    """
    measured = slope(true, label, weight).value
    volume = np.where(volume > 0, volume, np.nan)  # an open system has none: no stress explains its virial
    distance = {}
    for name, factor in LABELS.items():
        expected = factor(volume, n_atoms) * true
        scale = np.sqrt((weight * expected**2).sum() / max((weight * true**2).sum(), 1e-300))
        found = slope(expected, label, weight / max(scale, 1e-300) ** 2)
        if found.is_known and found.agrees_with(1.0, tolerance):
            distance[name] = abs(np.log(found.value))
    return sorted(distance, key=lambda name: distance[name]), measured


def advice_for(causes: list[str]) -> str:
    if not causes:
        return "Find out what the labels are; they must be W = −dE/dε in eV"
    others = f"; or they are {' or '.join(causes[1:3])}" if causes[1:] else ""
    return f"These are {causes[0]}{others}: turn them into W = −dE/dε in eV"


def judge_virials(
    s: Survey, judge: Judge, steps: Slope, steps_causes: tuple[list[str], float], seen_by_steps: str
) -> Iterator[Finding]:
    """Virials that are not W = −∂E/∂ε: an error if steps and surrogate say so, a warning if one does alone.

    Parameters
    ----------
    steps : work of the virials against what energies and forces leave of it, from steps between frames
    steps_causes, seen_by_steps : what explains that slope, and the sentence about it
    """
    fitted, tolerance = judge.virials, PRECISELY if judge.knows_virials else FITTED
    by_steps = steps.is_known and not steps.agrees_with(1.0, STEPS)
    by_fit = fitted.is_known and not fitted.agrees_with(1.0, tolerance)
    if not by_steps and not by_fit:
        return
    fit_right = fitted.is_known and not by_fit
    steps_right = steps.is_known and not by_steps
    causes, seen = steps_causes[0], seen_by_steps
    severity = "warning"
    if by_steps and by_fit:
        severity = "error" if steps.value * fitted.value > 0 else "warning"
    elif by_steps and fit_right:
        # the surrogate is good to a factor of three: a larger one cannot be both
        if steps.value > 0 and 1 / 3 < steps.value < 3:
            return
    elif by_fit:
        if steps_right and not judge.knows_virials:
            return
        d, fit = judge.deviators, judge.fit
        assert d is not None and fit is not None
        causes, measured = virial_causes(d.true, d.label, 1.0 / d.n_atoms**2, d.volume, d.n_atoms, tolerance)
        seen = (
            f"the virials vary by {measured:.3g} × what a potential fitted to the forces says (expected 1; "
            f"its forces are off by {100 * fit.residual:.0f} %), correlation {abs(fitted.correlation):.3f}"
        )
    yield s.finding(severity, "virial", seen, advice_for(causes))
