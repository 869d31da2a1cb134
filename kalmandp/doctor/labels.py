"""Labels: missing, constant, forces that do not add up to zero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.doctor.findings import Finding, some_of
from kalmandp.doctor.judge import Judge
from kalmandp.doctor.pair_basis import CUTOFF, distances
from kalmandp.doctor.survey import Survey
from kalmandp.geometry.neighbours import neighbour_pairs

#: Force noise per component (eV/Å) that a net force indicates: from which it is a warning, and an error.
DRIFT, BROKEN = 0.03, 0.3
#: The same over the RMS force, below which it does no harm.
SHARE = 0.05
#: `_asymmetry` that rounded coordinates of a perfect crystal do not reach.
STILL = 0.003


#: RMS error of the surrogate on a frame's forces, over the usual one: forces that are not these atoms'.
SURPRISE = 3.0


def check_labels(s: Survey, judge: Judge) -> Iterator[Finding]:
    yield from _missing(s)
    yield from _constant(s)
    yield from _net_force(s, judge)


def _missing(s: Survey) -> Iterator[Finding]:
    for label, severity in (("energy", "warning"), ("forces", "warning"), ("virial", "note")):
        without = np.array([getattr(f, label) is None for f in s.frames], dtype=bool)
        if without.all() and label == "energy" and len(s):
            yield s.finding(
                "error", "labels", "no frame has an energy", "Nothing can be trained without energies"
            )
        elif without.all() and label == "forces" and len(s):
            yield s.finding("warning", "labels", "no frame has forces", "Compute forces: they teach the most")
        elif without.any() and not without.all():
            yield s.finding(
                severity, "labels",
                some_of(int(without.sum()), len(s), "has", "have") + f" no {label}; the others have",
                "Compute them; without, these frames teach less", np.flatnonzero(without),
            )  # fmt: skip


def _constant(s: Survey) -> Iterator[Finding]:
    """Labels that are the same in frames that differ."""
    for members in s.groups.values():
        energy = s.energy_f[members]
        differ = np.ptp(s.fingerprint_fk[members], axis=0).max(initial=0.0) > 1e-4
        if len(members) > 2 and differ and np.isfinite(energy).all() and np.ptp(energy) == 0.0:
            pushed = [
                f
                for f in members
                if s.frames[f].forces is not None and np.abs(s.frames[f].forces).max() > DRIFT
            ]
            yield s.finding(
                "error" if len(pushed) > 1 else "warning", "constant",
                f"{len(members)} frames that differ have the same energy {energy[0]:.6g} eV",
                "The energy was not read from each step: convert the data anew", members,
            )  # fmt: skip
    still = [f for f, frame in enumerate(s.frames) if frame.forces is not None and not frame.forces.any()]
    unread = [f for f in still if len(s.frames[f]) > 1 and _asymmetry(s.frames[f]) > STILL]
    if unread:
        # energies that differ between them say that there are forces
        energies = s.energy_f[unread]
        others = len(still) < 0.9 * sum(frame.forces is not None for frame in s.frames)
        differ = others or (np.isfinite(energies).all() and len(unread) > 1 and np.ptp(energies) > 0.0)
        yield s.finding(
            "error" if differ else "warning", "constant",
            f"all forces of {'a frame' if len(unread) == 1 else f'{len(unread):,} frames'} are exactly zero, "
            "where no symmetry asks for it",
            "The forces were not read: convert the data anew", unread,
        )  # fmt: skip


def _asymmetry(frame) -> float:
    """The largest |Σ_j (1 − u)² r_ij| / r_c: zero for atoms on which symmetry allows no force."""
    pairs = neighbour_pairs(frame, CUTOFF)
    weight_p = (1 - distances(pairs) / CUTOFF) ** 2
    sum_ic = np.zeros((len(frame), 3))
    np.add.at(sum_ic, pairs.i_p, weight_p[:, None] * pairs.r_pc / CUTOFF)
    return float(np.abs(sum_ic).max())


def _net_force(s: Survey, judge: Judge) -> Iterator[Finding]:
    """|Σ_i F_i| must be 0. Independent errors σ of the components make it σ√(3N).

    It is an error if a potential fitted to all forces, too, is much worse than usual for those of the frame.
    """
    known = {f: frame.forces for f, frame in enumerate(s.frames) if frame.forces is not None}
    if not known:
        return
    having = list(known)
    sums = np.array([F_ic.sum(0) for F_ic in known.values()])
    rms_f = np.array([np.sqrt((F_ic * F_ic).mean()) for F_ic in known.values()])
    sigma_f = np.sqrt((sums * sums).sum(1) / (3.0 * s.n_atoms_f[having]))
    usual = np.median(rms_f)
    broken = sigma_f > max(BROKEN * usual, DRIFT)
    rows = np.flatnonzero(broken)
    surprise = np.array([judge.surprise(having[k]) for k in rows.tolist()])
    sure = np.zeros_like(broken)
    sure[rows] = (surprise > SURPRISE) | judge.asks_too_much
    belong = "Forces and atoms do not belong together (order, missing atoms, a wrong column)"
    drifting = ~broken & (sigma_f > np.maximum(DRIFT, SHARE * usual))
    for severity, bad, advice in (
        ("error", broken & sure, belong),
        ("warning", broken & ~sure, f"{belong}, or atoms are held fixed, or a field acts on them"),
        ("warning", drifting, "Converge the calculations better, or subtract the mean force"),
    ):
        if bad.any():
            worst = int(np.where(bad, sigma_f, 0.0).argmax())
            net = np.sqrt((sums[worst] ** 2).sum())
            yield s.finding(
                severity, "net-force",
                f"the forces of frame {s.numbers_f[having[worst]]} add up to {net:.3g} eV/Å (expected 0), "
                f"as errors of {sigma_f[worst]:.2g} eV/Å in each do (RMS force {usual:.2g})",
                advice, np.array(having)[bad],
            )  # fmt: skip
