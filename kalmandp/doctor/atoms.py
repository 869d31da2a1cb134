"""Atoms: too close, too far, missing, alone, or of a kind that hardly occurs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.doctor.findings import Finding
from kalmandp.doctor.pair_basis import CUTOFF
from kalmandp.doctor.survey import Survey, spacing_of
from kalmandp.formats.units import BOHR
from kalmandp.frames.elements import UNBOUND
from kalmandp.frames.frame import Frame

#: Shortest distance over the sum of the covalent radii: no bond is shorter than 0.7; in liquids
#: and under compression atoms come to 0.6.
OVERLAPPING, CLOSE = 0.4, 0.6
#: Median over a frame's atoms. Bonds and metals have 0.85–1.15; lengths in bohr read as Å 1.9 times that.
STRETCHED, SQUEEZED = 1.5, 0.62
#: Volume per atom over the median of the set: a cell so much larger is reported.
EMPTY = 8.0
#: Å: atoms that vibrate about the same place; a sum of forces, over the RMS force, that no rounding explains.
SAME_PLACE, BROKEN_SUM = 0.6, 0.2
#: Share of its atoms that a frame may have lost; share of the frames that makes a formula usual; how much
#: rarer that of a frame must be that lacks atoms.
LOST, MANY_ALIKE, RARER = 0.05, 0.1, 3
#: Fewer frames than this, and fewer atoms, teach little about a species.
FEW_FRAMES, FEW_ATOMS = 5, 50


#: Share of frames in which atoms that come close are usual.
OFTEN = 0.15
#: Share by which the cells of a crystal under strain differ, and those of a run at one volume.
ALIKE, EXACTLY = 0.1, 1e-6
#: A force (eV/Å) that two atoms so close feel, and over the largest that is usual: a collision, computed.
COLLISION, BEYOND = 5.0, 2.0


def check_atoms(s: Survey, units_are_off: bool = False) -> Iterator[Finding]:
    """What positions say; ``units_are_off``: energies and forces do not fit each other either."""
    yield from _overlaps(s)
    yield from _scale(s, units_are_off)
    yield from _emptiness(s)
    yield from _missing(s)
    yield from _rare(s)


def _overlaps(s: Survey) -> Iterator[Finding]:
    """Pairs much shorter than a bond: an error if the forces do not show it, a note if they do."""
    known_f = np.isfinite(s.spacing_f)  # no atom has a neighbour, or no name is an element's: nothing to say
    if not known_f.any() or not np.median(s.spacing_f[known_f]) > SQUEEZED:
        return
    near = np.flatnonzero(s.ratio_f < CLOSE)
    known = np.array([frame.forces is not None for frame in s.frames], dtype=bool)
    usual = np.median(
        [np.abs(f.forces).max() for f in s.frames if f.forces is not None and f.forces.size] or [0.0]
    )
    felt = np.array([_force_at(s, f) > max(COLLISION, BEYOND * usual) for f in near.tolist()], dtype=bool)
    severe = s.ratio_f[near] < OVERLAPPING
    # under compression and in hot liquids atoms come so close in many frames
    felt |= ~severe & known[near] & (len(near) > OFTEN * len(s))
    for severity, bad in (
        ("error", near[severe & known[near] & ~felt]),
        ("warning", near[(severe & ~known[near]) | (~severe & ~felt)]),
        ("note", near[felt]),
    ):
        if not len(bad):
            continue
        f = int(bad[s.ratio_f[bad].argmin()])
        i, j, r = s.closest_f[f]
        names = s.frames[f].symbols
        aside = {
            "error": ", and the forces on them are too small for that" if known[f] else "",
            "warning": "",
            "note": f"; the forces on them reach {_force_at(s, f):.3g} eV/Å",
        }[severity]
        yield s.finding(
            severity, "overlap",
            f"atoms {i} ({names[i]}) and {j} ({names[j]}) of frame {s.numbers_f[f]} are {r:.3g} Å apart, "
            f"{s.ratio_f[f]:.2f} of a bond's length{aside}",
            "Take the frames out, unless such collisions are meant to be learned", bad,
        )  # fmt: skip


def _force_at(s: Survey, f: int) -> float:
    """The largest force on the closest pair of a frame; 0 without forces."""
    forces = s.frames[f].forces
    i, j, _ = s.closest_f[f]
    return 0.0 if forces is None else float(np.abs(forces[[i, j]]).max())


def _scale(s: Survey, units_are_off: bool) -> Iterator[Finding]:
    """Nearest neighbours all at a distance that no bond has: lengths in another unit."""
    bound = [t for t in s.types if t not in UNBOUND]
    spacing = _spacing(s)
    if not bound or np.isnan(spacing) or SQUEEZED <= spacing <= STRETCHED:
        return
    guess = "bohr" if STRETCHED < spacing < 2.4 else "another unit (bohr, nm)"
    yield s.finding(
        "error" if units_are_off else "warning", "lengths",
        f"neighbouring atoms are typically {spacing:.2f} times a bond's length apart (expected 0.8 to 1.2)",
        f"Are positions and cell in {guess}? They must be in Å (1 bohr = {BOHR:.4f} Å)",
    )  # fmt: skip


def _spacing(s: Survey) -> float:
    """Median over frames of an atom's shortest distance over a bond's length; NaN if none is known."""
    known = np.isfinite(s.spacing_f)
    if known.sum() > 0.5 * len(s):
        return float(np.median(s.spacing_f[known]))
    further = [spacing_of(f, 2.0 * CUTOFF) for f in s.frames[:20]]
    return float(np.median([r for r in further if np.isfinite(r)] or [np.nan]))


def _emptiness(s: Survey) -> Iterator[Finding]:
    """Cells much larger than those of the other frames, and atoms that have no neighbours."""
    volume_f = np.array([f.volume for f in s.frames]) / np.maximum(s.n_atoms_f, 1)
    solid = (volume_f > 0) & np.array([all(f.pbc) for f in s.frames], dtype=bool)
    if solid.sum() >= 5:
        usual = np.median(volume_f[solid])
        vast = solid & (volume_f > EMPTY * usual)
        if vast.any():
            # where the same atoms also come in usual cells, the cell may be wrong; else they may be molecules
            usual_atoms = {s.counts_ft[f].tobytes() for f in np.flatnonzero(solid & ~vast)}
            alike = [s.counts_ft[f].tobytes() in usual_atoms for f in np.flatnonzero(vast)]
            yield s.finding(
                "warning" if any(alike) else "note", "empty-cell",
                f"up to {volume_f[vast].max():.3g} Å³ per atom, where {usual:.3g} Å³ is usual in the set",
                "Are atoms missing, or does the cell belong to another frame? Isolated molecules are right",
                np.flatnonzero(vast),
            )  # fmt: skip
    lone = (s.lone_f > 0) & (s.n_atoms_f > 1)
    if lone.any() and np.median(s.lone_f / s.n_atoms_f) < 0.5:
        # a gas or molecules that fall apart have them often, a crystal with a wrong cell now and then
        meant = lone.mean() > 0.3 or all(s.lone_f[f] == s.n_atoms_f[f] for f in np.flatnonzero(lone))
        yield s.finding(
            "note" if meant else "warning", "lone-atoms",
            f"up to {s.lone_f[lone].max()} atoms have no neighbour within {CUTOFF} Å",
            "Have atoms flown off, or is the cell wrong? A model with a cut-off learns nothing from them",
            np.flatnonzero(lone),
        )  # fmt: skip


def _missing(s: Survey) -> Iterator[Finding]:
    """Frames that lack atoms, or have too many, while their labels are those of the right number.

    A vacancy that was computed as one has an energy higher by the energy of an atom, and forces that
    add up to zero. If an atom was lost on the way, the labels are those of the whole configuration: the
    hole and a sum of forces are two signs and an error; the hole and the energy alone are a warning.
    """
    bad: dict[int, int] = {}
    maybe: dict[int, int] = {}
    for few, whole in _families(s):
        for f in few:
            if f in bad:
                continue
            like = next((g for g in whole if _same_cell(s, f, g) and _same_places(s, f, g)), None)
            broken = _sum_is_broken(s, f, whole)
            same_box = broken and next((g for g in whole if _same_cell(s, f, g, EXACTLY)), None)
            if broken and (like is not None or same_box is not None):
                bad[f] = whole[0]
            elif like is not None and broken is None and _energy_of_the_whole(s, f, whole):
                maybe[f] = whole[0]
    for severity, frames, sign in (
        ("error", bad, "the forces do not add up to zero, as they do there"),
        ("warning", maybe, "the energy is one of those"),
    ):
        if frames:
            f, g = next(iter(frames.items()))
            yield s.finding(
                severity, "missing-atoms",
                f"{s.formula(f)} has the labels of {s.formula(g)}, or of as many atoms: {sign}",
                "The conversion has lost or doubled atoms: convert the frames anew, or take them out",
                sorted(frames),
            )  # fmt: skip


def _families(s: Survey) -> Iterator[tuple[list[int], list[int]]]:
    """Frames that have some atoms more or less than many others, and these others."""
    if len(s) < 3:
        return
    formulas, which_f = np.unique(s.counts_ft, axis=0, return_inverse=True)
    which_f = which_f.reshape(-1)
    often = np.bincount(which_f)
    allowed = lambda n: max(2, LOST * n)
    for usual in np.argsort(-often, kind="stable").tolist():
        if often[usual] < max(3, MANY_ALIKE * len(s)):
            break
        change_f = np.abs(s.counts_ft - formulas[usual]).sum(1)
        rare_f = RARER * often[which_f] < often[usual]
        few = np.flatnonzero((change_f > 0) & (change_f <= allowed(formulas[usual].sum())) & rare_f)
        yield few.tolist(), np.flatnonzero(which_f == usual).tolist()
    # an alloy, whose frames have many compositions of as many atoms
    number = int(np.bincount(s.n_atoms_f).argmax())
    change_f = np.abs(s.n_atoms_f - number)
    if (change_f == 0).mean() > 0.5:
        few = np.flatnonzero((change_f > 0) & (change_f <= allowed(number)))
        yield few.tolist(), np.flatnonzero(change_f == 0).tolist()


def _sum_is_broken(s: Survey, f: int, whole: list[int]) -> bool | None:
    """Whether forces do not add up to zero where those of whole frames do; None without forces."""
    if s.frames[f].forces is None:
        return None
    forces = [np.asarray(s.frames[g].forces) for g in whole[:50] if s.frames[g].forces is not None]
    if not forces:
        return False
    usual = float(np.median([np.abs(F_ic.sum(0)).max() for F_ic in forces]))
    rms = float(np.median([np.sqrt((F_ic * F_ic).mean()) for F_ic in forces]))
    largest = float(np.abs(np.asarray(s.frames[f].forces).sum(0)).max())
    return usual < 0.1 * BROKEN_SUM * rms and largest > BROKEN_SUM * rms


def _energy_of_the_whole(s: Survey, f: int, whole: list[int]) -> bool:
    """Whether the energy is one of whole frames, whose scatter is less than the energy of an atom."""
    known = s.energy_f[whole][np.isfinite(s.energy_f[whole])]
    if not len(known) or not np.isfinite(s.energy_f[f]):
        return False
    lost = abs(np.median(known)) / s.n_atoms_f[whole[0]] * abs(s.n_atoms_f[f] - s.n_atoms_f[whole[0]])
    return bool(np.std(known) < 0.2 * lost and abs(s.energy_f[f] - np.median(known)) < 0.4 * lost)


def _same_cell(s: Survey, f: int, g: int, share: float = ALIKE) -> bool:
    a, b = s.frames[f].cell, s.frames[g].cell
    if a is None or b is None:
        return a is None and b is None and share == ALIKE
    return bool(np.abs(a - b).max() < share * np.abs(b).max())


def _same_places(s: Survey, f: int, g: int) -> bool:
    """Whether most atoms of one frame are where the other has one."""
    few, many = sorted((s.frames[f], s.frames[g]), key=len)
    if few.cell is None or many.cell is None:
        r_im = few.positions[:, None] - many.positions[None]
    else:
        s_im = _fractions(few)[:, None] - _fractions(many)[None]
        r_im = (s_im - np.round(s_im) * np.array(many.pbc)) @ many.cell
    nearest_i = np.sqrt((r_im * r_im).sum(-1).min(axis=1))
    return bool(np.median(nearest_i) < SAME_PLACE)


def _fractions(frame: Frame) -> np.ndarray:
    return frame.positions @ np.linalg.inv(np.asarray(frame.cell))


def _rare(s: Survey) -> Iterator[Finding]:
    """Species of which the set has few atoms or few frames."""
    for t, name in enumerate(s.types):
        n_frames, n_atoms = int((s.counts_ft[:, t] > 0).sum()), int(s.counts_ft[:, t].sum())
        if not n_atoms:
            continue
        if n_frames < min(FEW_FRAMES, 0.2 * len(s)) or n_atoms < FEW_ATOMS <= len(s):
            yield s.finding(
                "warning", "rare-species",
                f"{name} occurs in {n_frames} of {len(s)} frames, {n_atoms} atoms in all",
                "A net of its own cannot be trained on so few: add frames, or leave the species out",
                np.flatnonzero(s.counts_ft[:, t]),
            )  # fmt: skip
