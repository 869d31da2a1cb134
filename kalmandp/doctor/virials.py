"""Virials against what they should be: the sign and the unit that explain a slope."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.doctor.findings import Finding
from kalmandp.doctor.surrogate import Fit, fit_forces
from kalmandp.doctor.survey import Survey
from kalmandp.doctor.units import GPA, HARTREE, KBAR, KCAL, RYDBERG, slope

#: Widening of the bounds: the surrogate's virial was off by up to 1.6 on sets that are right.
TOLERANCE = 0.4
#: RMS force error over RMS force beyond which the surrogate is not asked.
POOR = 0.6

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




def check_virials(s: Survey, rng: np.random.Generator) -> Iterator[Finding]:
    """Virials against those of a surrogate that has seen nothing but forces.

    Only the deviatoric parts are compared: the isotropic one is a pressure, on which forces at one
    volume have little to say.
    """
    if sum(f.virial is not None and f.forces is not None for f in s.frames) < 5:
        return
    fit = fit_forces(s, rng)
    if fit is None or fit.residual > POOR:
        return
    predicted, label, volume, n_atoms = _deviators(s, fit)
    found = slope(predicted, label, 1.0 / n_atoms)
    if not found.is_known or found.agrees_with(1.0, TOLERANCE):
        return
    causes, measured = virial_causes(predicted, label, 1.0 / n_atoms, volume, n_atoms, TOLERANCE)
    yield s.finding(
        "error", "virial",
        f"the virials are {measured:.3g} × those of a potential fitted to the forces (expected 1; its forces "
        f"are off by {100 * fit.residual:.0f} %), correlation {abs(found.correlation):.3f}",
        advice_for(causes),
    )  # fmt: skip


def _deviators(s: Survey, fit: Fit):
    """Off-diagonal and traceless diagonal parts, predicted and labelled, with volumes and atoms."""
    rows: list[tuple] = []
    upper = np.triu_indices(3)
    for f, columns in zip(fit.members, fit.columns, strict=True):
        frame = s.frames[f]
        if frame.virial is not None:
            pair = []
            for W in (columns.W_cdk @ fit.coefficients, frame.virial):
                W = 0.5 * (W + W.T)
                pair.append((W - np.eye(3) * np.trace(W) / 3)[upper])
            rows += [(p, l, frame.volume, len(frame)) for p, l in zip(*pair, strict=True)]
    return np.array(rows, dtype=float).reshape(-1, 4).T
