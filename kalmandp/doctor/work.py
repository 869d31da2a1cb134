"""Energies against forces and virials: the work between frames that lie near each other.

From frame a to frame b, with displacements d at the mean cell and the strain ε between the cells::

    E_b − E_a = −½ (F_a + F_b)·d − ½ (W_a + W_b):ε + O(d³),        W = −∂E/∂ε

The trapezoidal rule is exact for harmonic motion; what it leaves out is a small part of its second
term, q = ½ |(F_a − F_b)·d| + ½ |(W_a − W_b):ε|. The slope of ΔE against the work is 1 if energies,
forces and virials have the same unit and the right sign, whatever the model: nothing is fitted but a slope.

One judge errs now and then: an error needs the second one of `judge` too, and what one of them says alone
is a warning, or nothing if the other knows better.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from kalmandp.doctor.findings import Finding
from kalmandp.doctor.judge import UNKNOWN, Judge
from kalmandp.doctor.nearby import SAME_CELL, Step, steps_to_nearest
from kalmandp.doctor.survey import Survey
from kalmandp.doctor.units import ENERGY_FORCE, UNIFORM, Cause, Slope, likely, slope
from kalmandp.doctor.virials import FITTED, judge_virials, virial_causes
from kalmandp.formats.units import GIGAPASCAL, HARTREE, RYDBERG

#: Share of q that the trapezoidal rule may err by, per Å of RMS displacement, and energy noise
#: (eV/atom): for the weights.
CURVED, NOISE = 1.0, 5e-4
#: Widening of the bounds of a slope that ought to be 1: between 1 and 1/0.529 there is room.
TOLERANCE = 0.25
#: eV/atom by which ΔE may differ from the work before a frame is suspected, beside a share of q: so many
#: times the usual one, and within bounds.
SUSPECT, UNUSUAL, LEAST_SHARE, MOST_SHARE = 3e-3, 8.0, 0.03, 0.5
#: Median of |ΔE − work|/q from which energies do not follow from forces; 0.02 is usual, 0.07 was seen.
CONTRADICTED = 0.2
#: Widening where the second judge is asked, and share by which both must agree on what is wrong.
SECOND, SAME_FAULT = 0.4, 0.6
#: Widening where a slope is to name one of the units that are far apart.
SAME_UNIT = 0.1
#: Share that the forces must have in the work of strained steps to be judged by them.
FORCES_TOO = 0.02
#: A constant between virials and energies, eV/atom: the least worth a word, and the same over its
#: standard error.
OFFSET, OFFSET_SURE = 0.02, 8.0
#: eV/atom of q by which atoms may move beside the strain of such a step.
MOVED = 0.01
#: Å, RMS: no motion at all.
STILL = 1e-4
#: Mean stiffness (eV/Å²) of any motion: diamond has 40.
STIFFEST = 60.0


class Work(NamedTuple):
    """The work of each step s between two frames, eV; arrays of one length.

    a_s, b_s : the frames;  n_atoms_s;  volume_s : their mean volume, Å³;  rms_s : of d, Å
    energy_s : E_b − E_a;  forces_s, virials_s : the two terms of the work
    forces_curve_s, virials_curve_s : the two terms of q
    stiffness_s : (F_a − F_b)·d/|d|², eV/Å²
    trace_s : tr ε;  strained_s, has_virial_s : whether the cells differ, whether both frames have a virial
    """

    a_s: np.ndarray
    b_s: np.ndarray
    n_atoms_s: np.ndarray
    volume_s: np.ndarray
    rms_s: np.ndarray
    energy_s: np.ndarray
    forces_s: np.ndarray
    virials_s: np.ndarray
    forces_curve_s: np.ndarray
    virials_curve_s: np.ndarray
    stiffness_s: np.ndarray
    trace_s: np.ndarray
    strained_s: np.ndarray
    has_virial_s: np.ndarray

    def weights(self, *curves_s: np.ndarray) -> np.ndarray:
        """1/variance of what the trapezoidal rule leaves out, for the terms with these q."""
        share_s = np.maximum(CURVED * self.rms_s, 0.02)
        return 1.0 / ((NOISE * self.n_atoms_s) ** 2 + (share_s * np.sum(curves_s, axis=0)) ** 2)


    def without(self, frames: Collection[int]) -> Work:
        """The steps that begin and end at other frames."""
        kept = ~(np.isin(self.a_s, list(frames)) | np.isin(self.b_s, list(frames)))
        return Work(*(column[kept] for column in self))


def work_between(s: Survey) -> Work:
    """The work of all steps between near frames that have energies and forces."""
    rows = [row for step in steps_to_nearest(s) if (row := _work_of(s, step)) is not None]
    types = [int, int] + 10 * [float] + 2 * [bool]
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    return Work(*(np.array(c, dtype=t) for c, t in zip(columns, types, strict=True)))


def _work_of(s: Survey, step: Step) -> tuple | None:
    """One row of `Work`; None if labels are missing or nothing has moved."""
    A, B = s.frames[step.a], s.frames[step.b]
    F_a, F_b, W_a, W_b = A.forces, B.forces, A.virial, B.virial
    strained = bool(np.abs(step.strain_cd).max() > SAME_CELL)
    if A.energy is None or B.energy is None or F_a is None or F_b is None:
        return None
    if step.rms < STILL and not strained:
        return None
    d, e = step.d_ic, 0.5 * (step.strain_cd + step.strain_cd.T)
    change = float(((F_a - F_b) * d).sum())
    virials = virials_curve = 0.0
    if W_a is not None and W_b is not None:
        virials, virials_curve = -0.5 * ((W_a + W_b) * e).sum(), 0.5 * ((W_a - W_b) * e).sum()
    return (
        step.a, step.b, len(A), 0.5 * (A.volume + B.volume), step.rms, B.energy - A.energy,
        -0.5 * ((F_a + F_b) * d).sum(), virials, 0.5 * abs(change), abs(virials_curve),
        change / max((d * d).sum(), STILL**2), float(np.trace(e)), strained,
        W_a is not None and W_b is not None,
    )  # fmt: skip


def check_work(s: Survey, w: Work, judge: Judge) -> Iterator[Finding]:
    """Units and signs of energies, forces and virials; frames whose labels contradict the others."""
    wrong, second = judge.wrong_energies, judge.energies
    w = w.without(wrong)
    forces = forces_slope(w)
    unrelated = _unrelated(s, w, forces, judge)
    if unrelated is not None:
        yield from unrelated
        return
    # the one that knows better tells the units apart better
    ruling = second if judge.is_precise else forces
    virials = virials_slope(w, ruling)
    severity = _fault(forces, second, judge.is_precise)
    if severity:
        better = second if abs(second.correlation) > abs(forces.correlation) else forces
        better = better if _wrong(better, 0.0) else forces
        if _energy_is_off(w, better, virials, in_another_unit=True):
            severity = "error"  # the virials are the second sign
        yield _wrong_slope(s, w, better, virials, severity)
    shown = [] if severity else list(_both_off(s, ruling, virials, judge))
    yield from shown
    if not severity and not shown and forces.is_known:
        yield from _stiffness(s, w)
    if not shown:
        shown = list(_virials(s, w, ruling, virials, judge, bool(severity)))
        yield from shown
    if not shown and (forces.is_known or wrong):
        offset = _offset(w, ruling, virials) if not severity and forces.is_known else None
        if offset is not None:
            yield _constant_between(s, w, *offset)
        factor = ruling.value if severity and _wrong(ruling, TOLERANCE) else 1.0
        trusted = virials if not severity else UNKNOWN
        constant = 0.0 if offset is None else offset[0]
        yield from _suspects(s, w, factor, trusted, constant, wrong, forces.is_known)


def _unrelated(s: Survey, w: Work, forces: Slope, judge: Judge) -> list[Finding] | None:
    """What is to be said where energies and forces have nothing to do with each other; None if they have."""
    neighbour, fit = judge.neighbours_forces, judge.fit
    if neighbour is not None and fit is not None:
        word, error = neighbour
        return [
            s.finding(
                "error", "energy-force",
                f"forces do not follow from positions: they are those of the frame {word} it. A potential "
                f"fitted to them errs by {100 * fit.residual:.0f} %, and by {100 * error:.2g} % if each "
                f"frame is given the forces of the frame {'after' if word == 'before' else 'before'} it",
                "Energies, forces and positions do not belong together: convert the data anew",
            )
        ]  # fmt: skip
    contradicted, second = _contradicted(w, forces), judge.energies
    if contradicted is not None and not (second.is_known and second.agrees_with(1.0, SECOND)):
        return [
            s.finding(
                "error" if judge.asks_too_much else "warning", "energy-force",
                f"energies do not follow from forces: over {contradicted} small steps between frames ΔE and "
                f"the work of the forces have the correlation {forces.correlation:.2f} (expected 1)",
                "Energies, forces and positions do not belong together: convert the data anew",
            )
        ]  # fmt: skip
    if judge.is_blind and not (forces.is_known and forces.agrees_with(1.0, TOLERANCE)):
        assert fit is not None
        return [
            s.finding(
                "warning", "energy-force",
                f"forces do not follow from positions: a potential fitted to them errs by "
                f"{100 * fit.residual:.0f} % of them on frames left out",
                "Energies, forces and positions do not belong together? Convert the data anew",
            )
        ]  # fmt: skip
    return None


def _wrong(found: Slope, tolerance: float) -> bool:
    return found.is_known and not found.agrees_with(1.0, tolerance)


def _fault(forces: Slope, second: Slope, precise: bool) -> str | None:
    """What both judges make of energies against forces: error, warning, or None.

    ``precise``: the surrogate fits so well that it knows better than the steps.
    """
    by_steps, by_fit = _wrong(forces, TOLERANCE), _wrong(second, TOLERANCE if precise else SECOND)
    if by_steps and by_fit:
        return "error" if second.agrees_with(forces.value, SAME_FAULT) else "warning"
    if precise:
        return "warning" if by_fit else None
    if by_steps:
        knows_better = second.is_known and abs(second.correlation) >= abs(forces.correlation)
        return None if knows_better else "warning"
    # a few unlike structures mislead the fit: alone it must be sure
    alone = by_fit and not forces.is_known and not (1 / 4 < second.value < 4)
    return "warning" if alone else None


def _both_off(s: Survey, ruling: Slope, virials: Slope, judge: Judge) -> Iterator[Finding]:
    """Energies and forces that agree with each other and are both, by one unit, more than the virials say."""
    fitted = judge.virials if judge.knows_virials else virials
    if not ruling.is_known or not ruling.agrees_with(1.0, TOLERANCE) or not fitted.is_known:
        return
    names = [name for name, unit in UNIFORM.items() if fitted.agrees_with(1.0 / unit, SAME_UNIT)]
    distance = lambda unit: abs(np.log(abs(fitted.value) * unit))
    if names and min(map(distance, (HARTREE, RYDBERG))) < distance(UNIFORM[names[0]]):
        return  # of the virials alone
    if names and (not virials.is_known or virials.agrees_with(fitted.value, SAME_FAULT)):
        yield s.finding(
            "warning", "energy-force",
            f"the virials are {fitted.value:.3g} × what energies and forces say (expected 1), correlation "
            f"{abs(fitted.correlation):.3f}",
            f"These look like {names[0]}, or the virials are in another unit. Labels must be in eV and eV/Å",
        )  # fmt: skip


def _virials(s: Survey, w: Work, forces: Slope, virials: Slope, judge: Judge, off: bool) -> Iterator[Finding]:
    """What is wrong with virials, unless the energies or the forces are."""
    if off:
        # right virials then seem wrong: by the unit of the energies, or by the sign of the forces
        if not _wrong(virials, TOLERANCE) or _energy_is_off(w, forces, virials):
            return
        if judge.virials.is_known and not _wrong(judge.virials, FITTED):
            return
    use, left_s, weight_s = _left_by_forces(w, forces)
    causes: tuple[list[str], float] = ([], virials.value)
    if _wrong(virials, 0.0):
        causes = virial_causes(
            left_s[use], w.virials_s[use], weight_s[use], w.volume_s[use], w.n_atoms_s[use], TOLERANCE
        )
    seen = (
        f"the work of the virials is {causes[1]:.3g} × what the energies say (expected 1), over {virials.n} "
        f"steps between frames of different cells, correlation {abs(virials.correlation):.3f}"
    )
    yield from judge_virials(s, judge, virials, causes, seen)


def _offset(w: Work, forces: Slope, virials: Slope) -> tuple[float, float] | None:
    """A constant c (eV/atom) in W_label = W + c n 1, with its standard error; None if there is none.

    Over a step  ΔE − work of the forces − work of the labels = c n tr ε.
    """
    use, left_s, _ = _left_by_forces(w, forces)
    # where atoms move too, the trapezoidal rule leaves out a term in |d|² tr ε
    use = use & (np.abs(w.trace_s) > 1e-3) & (w.forces_curve_s < MOVED * w.n_atoms_s)
    if use.sum() < 5:
        return None
    x, y = w.trace_s[use], (left_s - w.virials_s)[use] / w.n_atoms_s[use]
    q = (w.forces_curve_s + w.virials_curve_s)[use] / w.n_atoms_s[use]
    weight = 1.0 / (NOISE**2 + (CURVED * np.maximum(w.rms_s[use], 0.02) * q) ** 2)
    c = (weight * x * y).sum() / (weight * x * x).sum()
    for _ in range(10):  # single frames that are wrong count little
        scale = 1.4826 * np.median(np.abs(y - c * x)) + 1e-6
        robust = weight / (1.0 + ((y - c * x) / (3.0 * scale)) ** 2)
        c = (robust * x * y).sum() / (robust * x * x).sum()
    rest = y - c * x
    error = np.sqrt(
        (robust * rest**2).sum() / robust.sum() / (len(x) - 1) / ((robust * x * x).sum() / robust.sum())
    )
    explained = 1.0 - (robust * rest**2).sum() / (robust * y**2).sum()
    if abs(c) < max(OFFSET, OFFSET_SURE * error) or explained < 0.8:
        return None
    return float(c), float(error)


def _constant_between(s: Survey, w: Work, c: float, error: float) -> Finding:
    density = float(np.median(w.n_atoms_s / np.maximum(w.volume_s, 1e-9)))
    return s.finding(
        "warning", "virial-offset",
        f"virials and energies disagree by a constant {c:.2g} ± {error:.1g} eV/atom on the diagonal "
        f"({c * density / GIGAPASCAL:.2g} GPa)",
        "An incomplete basis (Pulay stress) does that: the virials are those of a fixed basis, the energies "
        "not. Raise the cut-off, correct the virials by the constant, or do not train on them",
    )  # fmt: skip


def forces_slope(w: Work) -> Slope:
    """ΔE against the work of the forces; 1 is right."""
    same = ~w.strained_s
    if same.sum() >= 5:
        return slope(w.forces_s[same], w.energy_s[same], w.weights(w.forces_curve_s)[same])
    # all cells differ: the work of the virial goes with it, whatever its sign, and has the unit of the
    # forces or that of the energies
    both = w.has_virial_s
    weight_s = w.weights(w.forces_curve_s, w.virials_curve_s)[both]
    forces_s, virials_s, energy_s = w.forces_s[both], w.virials_s[both], w.energy_s[both]
    if (weight_s * forces_s**2).sum() < FORCES_TOO * (weight_s * virials_s**2).sum():
        return slope(np.zeros(0), np.zeros(0), np.zeros(0))  # atoms do not move beside the strain
    slopes = [
        slope(*pair, weight_s)
        for W in (virials_s, -virials_s)
        for pair in ((forces_s, energy_s - W), (forces_s + W, energy_s))
    ]
    return max(slopes, key=lambda one: abs(one.correlation))


def virials_slope(w: Work, forces: Slope) -> Slope:
    """The work of the virial against what the forces leave of ΔE; 1 is right."""
    use, left_s, weight_s = _left_by_forces(w, forces)
    return slope(left_s[use], w.virials_s[use], weight_s[use])


def _left_by_forces(w: Work, forces: Slope):
    factor = 1.0 if not forces.is_known or forces.agrees_with(1.0, TOLERANCE) else forces.value
    left_s = w.energy_s - factor * w.forces_s
    return w.strained_s & w.has_virial_s, left_s, w.weights(abs(factor) * w.forces_curve_s, w.virials_curve_s)


def _contradicted(w: Work, forces: Slope) -> int | None:
    """Number of small steps whose ΔE the forces do not explain, if that is so for most."""
    same = ~w.strained_s
    if forces.is_known or same.sum() < 8 or abs(forces.correlation) > 0.5 or not w.energy_s[same].any():
        return None
    # liquids have few small steps; but where forces are right they err by a few per cent of q
    left = np.abs(w.energy_s - w.forces_s) / (w.forces_curve_s + SUSPECT * w.n_atoms_s)
    return int(same.sum()) if np.median(left[same]) > CONTRADICTED else None


def _causes(n_atoms: np.ndarray, forces: Slope) -> dict[str, Cause]:
    """What explains the slope of the energies, the nearest first; ``n_atoms`` of steps or of frames."""
    table = {**ENERGY_FORCE, "energies per atom": Cause(1.0 / float(np.median(n_atoms)), 1.0)}
    return {name: table[name] for name in likely(forces, table)}


def _energy_is_off(w: Work, forces: Slope, virials: Slope, in_another_unit: bool = False) -> bool:
    """Whether a wrong unit of the energies explains both slopes: right virials seem 1/unit too large.

    ``in_another_unit``: only energies that are not in eV count; else those beside wrong forces do, too.
    """
    if not virials.is_known or not forces.is_known or forces.agrees_with(1.0, TOLERANCE):
        return False
    units = {cause.energy for cause in _causes(w.n_atoms_s, forces).values()}
    if in_another_unit:
        units -= {1.0}
    return any(virials.agrees_with(1.0 / unit, TOLERANCE) for unit in units)


def _wrong_slope(s: Survey, w: Work, forces: Slope, virials: Slope, severity: str) -> Finding:
    # the second judge needs no step between near frames: there may be none
    causes = _causes(w.n_atoms_s if len(w.n_atoms_s) else s.n_atoms_f, forces)
    names = list(causes)
    if virials.is_known:  # right virials tell what the energies are
        agreeing = [n for n, c in causes.items() if virials.agrees_with(1.0 / c.energy, TOLERANCE)]
        names = agreeing or names
    seen = (
        f"ΔE = {forces.value:.3g} × the work of the forces (expected 1), over {forces.n} steps between "
        f"frames or differences to a fit, correlation {abs(forces.correlation):.3f}"
    )
    advice = "Labels must be in eV and eV/Å, F = −∂E/∂r"
    if names:
        others = f"; or {' or '.join(names[1:3])}" if names[1:] else ""
        advice = f"This looks like {names[0]}{others}. {advice}"
    return s.finding(severity, "energy-force", seen, advice)


def _stiffness(s: Survey, w: Work) -> Iterator[Finding]:
    moved = w.forces_curve_s > NOISE * w.n_atoms_s
    stiffness = float(np.median(w.stiffness_s[moved])) if moved.sum() >= 5 else 0.0
    if stiffness > STIFFEST:
        yield s.finding(
            "warning", "energy-force",
            f"forces change by {stiffness:.3g} eV/Å per Å, more than in diamond",
            "Are energies in kcal/mol or kJ/mol, and forces too? They must be in eV and eV/Å",
        )  # fmt: skip


def _suspects(
    s: Survey, w: Work, factor: float, virials: Slope, offset: float, wrong: dict[int, float], is_known: bool
) -> Iterator[Finding]:
    """Frames whose energy fits none of their neighbours', and those that a fit to all forces calls wrong."""
    judged = ~w.strained_s | (w.has_virial_s & virials.is_known)
    constant_s = offset * w.n_atoms_s * w.trace_s
    left = np.abs(w.energy_s - factor * (w.forces_s + w.virials_s) - constant_s)
    curve_s = abs(factor) * (w.forces_curve_s + w.virials_curve_s)
    # what the trapezoidal rule leaves out is of third order: q times the displacement
    usual = np.median((left / np.maximum(curve_s * w.rms_s, 1e-12))[judged]) if judged.any() else np.inf
    share_s = np.clip(UNUSUAL * usual * w.rms_s, LEAST_SHARE, MOST_SHARE)
    allowed = share_s * curve_s + abs(factor) * SUSPECT * w.n_atoms_s
    bad = judged & (left > allowed)
    suspects, worst = [], 0.0
    alive = judged.copy()
    at = lambda mask: np.bincount(np.r_[w.a_s[mask], w.b_s[mask]], minlength=len(s))
    while is_known and (bad & alive).any():
        n_bad, n_all = at(bad & alive), at(alive)
        f = int(np.lexsort((n_bad / np.maximum(n_all, 1), n_bad))[-1])
        if n_bad[f] < 2 or n_bad[f] <= 0.5 * n_all[f]:
            break
        touched = alive & ((w.a_s == f) | (w.b_s == f))
        suspects.append(f)
        worst = max(worst, float((left / w.n_atoms_s)[touched & bad].min()))
        alive &= ~touched
    if suspects or wrong:
        those = "frames near them" if suspects else "all frames"
        found = sorted({*suspects, *wrong})
        worst = max([worst, *wrong.values()])
        many = f"energies of {len(found)} frames are" if len(found) > 1 else "energy of a frame is"
        yield s.finding(
            "warning", "contradiction",
            f"the {many} off by up to {1e3 * worst:.3g} meV/atom from what the forces of {those} say",
            "Compute these frames again, converged better", found,
        )  # fmt: skip
