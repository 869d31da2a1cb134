"""The same configuration twice, within a set or in two; and frames that are nearly the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.doctor.findings import Finding, some_of
from kalmandp.doctor.nearby import nearest_in, steps_to_nearest
from kalmandp.doctor.pair_basis import CUTOFF, distances
from kalmandp.doctor.survey import Survey
from kalmandp.geometry.neighbours import neighbour_pairs

#: Å. Sorted pair distances of two frames that are the same agree to this; so do their cells. It lies
#: between rounding (1e-5) and the steps of a slow trajectory (1e-2).
SAME = 1e-3
#: FEW distances (each twice) or fewer must agree to SAME_FEW, Å: few agree by chance now and then.
FEW, SAME_FEW = 30, 2e-5
#: Fingerprints of such frames, per atom.
SAME_FINGERPRINT = 1e-2
#: Å, RMS. Nearer frames than this (and strained less) are hardly a test of one another: at 300 K
#: independent frames of a stiff crystal are 0.1 Å apart.
NEAR, NEAR_STRAIN = 0.03, 1e-3
#: eV/atom by which the energies of one configuration may differ.
CONTRADICTION = 2e-3
#: Share of a set that may be near another frame before it is worth a note.
MANY = 0.2


def check_duplicates(s: Survey) -> Iterator[Finding]:
    """Within one set."""
    twins = [(a, b) for a, b in _same(s, s) if a < b]
    if twins:
        later = sorted({b for _, b in twins})
        moved = sum(_other_cell(s, a, s, b) for a, b in twins)
        a, b = twins[0]
        aside = f"; {moved} of them in another cell or orientation, the same by symmetry" if moved else ""
        yield s.finding(
            "note" if moved == len(twins) else "warning", "duplicates",
            some_of(len(later), len(s), "repeats an earlier one", "repeat earlier ones")
            + f" (frame {s.numbers_f[b]} is the same as frame {s.numbers_f[a]}{aside})",
            "Take the repetitions out (kalmandp convert --without): they count twice in training", later,
        )  # fmt: skip
        yield from _contradictions(s, twins)
    near = {step.b for step in steps_to_nearest(s, 1) if _is_near(step)} - {b for _, b in twins}
    if len(near) > MANY * len(s):
        yield s.finding(
            "note", "near-duplicates",
            some_of(len(near), len(s), "is", "are") + f" within {NEAR} Å of another one",
            "Steps that follow each other teach little: every tenth would do; and split the set by "
            "trajectories, not at random", sorted(near),
        )  # fmt: skip


def check_leakage(s: Survey, t: Survey) -> Iterator[Finding]:
    """Frames of ``t`` (a test set) that ``s`` (the training set) has too."""
    twins = list(_same(s, t))
    moved = [b for a, b in twins if _other_cell(s, a, t, b)]
    same = [b for a, b in twins if not _other_cell(s, a, t, b)]
    pairs = [(a, b) for a, b in twins if not _other_cell(s, a, t, b)]
    # of frames whose energies differ one cannot be sure
    sure = any(_same_energy(s, a, t, b) for a, b in pairs)
    if same:
        yield t.finding(
            "error" if sure else "warning", "leakage",
            some_of(len(same), len(t), "is", "are") + f" also in {s.name}",
            "Errors on them are errors of training: take them out of one of the sets", same,
        )  # fmt: skip
    if moved:
        yield t.finding(
            "warning", "leakage",
            some_of(len(moved), len(t), "is", "are")
            + f", in another cell or orientation, also in {s.name}",
            "Symmetry makes them the same to a model: errors on them are errors of training", moved,
        )  # fmt: skip
    near = sorted({step.b for step in nearest_in(s, t) if _is_near(step)} - {b for _, b in twins})
    if near:
        yield t.finding(
            "warning", "near-leakage",
            some_of(len(near), len(t), "is", "are") + f" within {NEAR} Å of a frame of {s.name}",
            "Test on other trajectories: frames so near to the training set say little about others", near,
        )  # fmt: skip


def _same_energy(s: Survey, a: int, t: Survey, b: int) -> bool:
    return bool(abs(s.energy_f[a] - t.energy_f[b]) <= CONTRADICTION * s.n_atoms_f[a])


def _other_cell(s: Survey, a: int, t: Survey, b: int) -> bool:
    """Whether a rotation or another choice of lattice vectors is between two frames."""
    A, B = s.frames[a].cell, t.frames[b].cell
    return A is not None and B is not None and np.abs(A - B).max() > SAME


def _is_near(step) -> bool:
    return step.rms < NEAR and np.abs(step.strain_cd).max() < NEAR_STRAIN


def _contradictions(s: Survey, twins) -> Iterator[Finding]:
    differing = [
        (a, b) for a, b in twins
        if abs(s.energy_f[a] - s.energy_f[b]) > CONTRADICTION * s.n_atoms_f[a] + _within_same(s, a)
    ]  # fmt: skip
    if differing:
        a, b = max(differing, key=lambda pair: abs(s.energy_f[pair[0]] - s.energy_f[pair[1]]))
        gap = abs(s.energy_f[a] - s.energy_f[b]) / s.n_atoms_f[a]
        yield s.finding(
            "error", "contradiction",
            f"the same configuration with energies {1e3 * gap:.3g} meV/atom apart (frames "
            f"{s.numbers_f[a]} and {s.numbers_f[b]})",
            "Compute both with the same settings", sorted({k for pair in differing for k in pair}),
        )  # fmt: skip


def _within_same(s: Survey, f: int) -> float:
    """eV that the energy may change where distances change by `SAME`: Σ|F|·SAME."""
    forces = s.frames[f].forces
    return 0.0 if forces is None else 2.0 * SAME * float(np.abs(forces).sum())


def _same(s: Survey, t: Survey) -> Iterator[tuple[int, int]]:
    """Pairs of frames that are the same up to translation, rotation and the order of the atoms."""
    if not len(s) or not len(t):
        return
    x_sk, x_tk = (np.hstack([u.fingerprint_fk / u.n_atoms_f[:, None], 10.0 * u.counts_ft]) for u in (s, t))
    # along one direction: same frames have the same place
    direction = np.cos(1.0 + np.arange(x_sk.shape[1]) ** 2)
    direction = direction / np.linalg.norm(direction)
    place_s, place_t = x_sk @ direction, x_tk @ direction
    order = np.argsort(place_s, kind="stable")
    low = np.searchsorted(place_s[order], place_t - SAME_FINGERPRINT)
    high = np.searchsorted(place_s[order], place_t + SAME_FINGERPRINT)
    kept: dict[tuple[int, int], tuple] = {}
    for b in range(len(t)):
        near = order[low[b] : high[b]]
        near = near[np.abs(x_sk[near] - x_tk[b]).max(axis=1, initial=0.0) < SAME_FINGERPRINT]
        for a in np.sort(near):
            if s is t and a >= b:
                break
            if _is_same(_table(kept, s, int(a)), _table(kept, t, b)):
                yield int(a), b
                break


def _table(kept: dict, s: Survey, f: int) -> tuple:
    """What two frames that are the same have in common: types and distances of the pairs, sorted."""
    key = (id(s), f)
    if key not in kept:
        frame = s.frames[f]
        pairs = neighbour_pairs(frame, CUTOFF)
        r_p = distances(pairs)
        t_p, u_p = frame.types[pairs.i_p], frame.types[pairs.j_p]
        order = np.lexsort((r_p, u_p, t_p))
        kept[key] = (t_p[order] * len(s.types) + u_p[order], r_p[order], frame)
    return kept[key]


def _is_same(one: tuple, other: tuple) -> bool:
    (kinds, r, frame), (kinds_, r_, frame_) = one, other
    if abs(frame.volume - frame_.volume) > 1e-4 * max(frame.volume, 1.0) or not len(r):
        return False
    if len(r) == len(r_) and np.array_equal(kinds, kinds_):
        # few distances agree by chance now and then
        return bool(np.abs(r - r_).max() < (SAME if len(r) > FEW else SAME_FEW))
    return _agree_inside(one, other)


def _agree_inside(one: tuple, other: tuple) -> bool:
    """The comparison where a pair at the very cut-off is in one list alone."""
    (kinds, r), (kinds_, r_) = ((k[r < CUTOFF - SAME], r[r < CUTOFF - SAME]) for k, r, _ in (one, other))
    return np.array_equal(kinds, kinds_) and bool(np.abs(r - r_).max(initial=0.0) < SAME)
