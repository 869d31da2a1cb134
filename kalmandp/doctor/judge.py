"""The second opinion: what a potential fitted to the forces says of energies and virials.

The steps of `work` compare frames that lie near each other; the surrogate compares all of them with a
model. An error is reported only if both say so, and what one alone says is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kalmandp.doctor.nearby import SAME_CELL
from kalmandp.doctor.outliers import robust_residual
from kalmandp.doctor.surrogate import Fit, columns, fit_forces, solve
from kalmandp.doctor.survey import Survey
from kalmandp.doctor.units import Slope, slope

#: RMS force error over RMS force: beyond POOR the surrogate is not used, beyond HOPELESS it shows that forces
#: do not follow from positions.
POOR, HOPELESS = 0.6, 0.85
#: The same, from which forces are not predicted at all (never reached on healthy sets), and the RMS force
#: (eV/Å) above which this counts.
BLIND, SOME_FORCE = 0.97, 0.05
#: The same, and the correlation of its energies, from which it knows better than steps between frames: on
#: healthy sets its slope is then within 6 % of 1.
PRECISE, NEAR_ONE = 0.15, 0.98
#: The same for virials, which are then within 6 % too.
PRECISE_VIRIALS, NEAR_ONE_VIRIALS = 0.1, 0.99
#: Error of a fit to the forces of the next frames over that of a fit to their own; the least of the latter.
MUCH_BETTER, BAD_ENOUGH = 0.5, 0.1
#: Correlation from which its energies and virials judge a slope; on healthy sets they are then within a
#: factor 1.3 (energies) and 3.2 (virials).
SURE = 0.85
#: Robust standard deviations, and eV/atom, by which an energy must be off; the share of frames of which that
#: may be so; RMS error of the forces, over the usual one, up to which a structure is known.
DEVIATIONS, LEAST, MOST_WRONG, KNOWN = 8.0, 0.015, 0.2, 2.0
#: Scatter of the energies about the surrogate's, over that of the surrogate's, where they follow it.
FOLLOWS = 0.4
#: Frames of a group beyond the columns of the regression on the shape of the cell.
MORE_FRAMES = 8
UNKNOWN = Slope(0.0, 0.0, 0.0, 0.0, 0)


class Deviators(NamedTuple):
    """Parts of the virial that forces at one volume determine: off-diagonal, traceless diagonal, (s,) each.

    true : of the surrogate;  label;  volume : Å³;  n_atoms
    """

    true: np.ndarray
    label: np.ndarray
    volume: np.ndarray
    n_atoms: np.ndarray


class Judge:
    """The surrogate of a data set, fitted when it is first asked.

    Parameters
    ----------
    s : the data set
    rng : draws the frames to which it is fitted
    """

    def __init__(self, s: Survey, rng: np.random.Generator):
        self.s, self.rng = s, rng

    @cached_property
    def fit(self) -> Fit | None:
        return fit_forces(self.s, self.rng)

    @property
    def asks_too_much(self) -> bool:
        """Whether forces do not follow from positions at all."""
        return self.fit is not None and self.fit.residual > HOPELESS

    @property
    def is_blind(self) -> bool:
        """Whether forces of some size are predicted from positions no better than by zero."""
        known = [f.forces for f in self.s.frames if f.forces is not None]
        if self.fit is None or self.fit.residual < BLIND or len(self.fit.members) < 10:
            return False
        return float(np.median([np.sqrt((F * F).mean()) for F in known])) > SOME_FORCE

    @property
    def is_precise(self) -> bool:
        """Whether the slope of the energies is better known here than from steps between frames."""
        fit, energies = self.fit, self.energies
        return fit is not None and fit.residual < PRECISE and abs(energies.correlation) > NEAR_ONE

    @cached_property
    def neighbours_forces(self) -> tuple[str, float] | None:
        """Whether the forces are those of the frame "before" or "after", and the error of a fit to them so.

        Frames are neighbours in the order of the data set, among those with the same atoms. A conversion that
        is off by one does that.
        """
        fit, s = self.fit, self.s
        if fit is None or fit.residual < BAD_ENOUGH:
            return None
        found = {}
        for word, step in (("before", 1), ("after", -1)):
            other = {
                int(f): int(g)
                for members in s.groups.values()
                for f, g in zip(members, np.roll(members, -step), strict=True)
                if abs(int(g) - int(f)) < len(s) // 2 and s.frames[int(g)].forces is not None
            }
            rows = [k for k, f in enumerate(fit.members.tolist()) if f in other]
            if len(rows) < 10:
                continue
            frames, seen = fit.members[rows].tolist(), [fit.columns[k] for k in rows]
            own = solve(seen, [np.asarray(s.frames[f].forces) for f in frames])
            theirs = solve(seen, [np.asarray(s.frames[other[f]].forces) for f in frames])
            if own and theirs and theirs[1] < MUCH_BETTER * min(own[1], 1.0):
                found[word] = theirs[1]
        best = min(found, key=lambda word: found[word], default=None)
        return None if best is None else (best, found[best])

    @cached_property
    def energies(self) -> Slope:
        """Energies against those of the surrogate; 1 is right.

        In a group of frames with the same atoms, what depends on the shape of the cell is projected out of
        both: forces say little about it.
        """
        fit, s = self.fit, self.s
        if fit is None or fit.residual > POOR:
            return UNKNOWN
        known = [
            k for k, f in enumerate(fit.members.tolist())
            if np.isfinite(s.energy_f[f]) and f not in self.wrong_energies
        ]  # fmt: skip
        true: list[float] = []
        label: list[float] = []
        weight: list[float] = []
        free = 0
        for members in self._groups(known):
            frames = fit.members[members]
            Q, _ = np.linalg.qr(self._shapes(frames))
            if len(members) < Q.shape[1] + 3:
                continue
            free += len(members) - Q.shape[1]
            E_predicted = np.array([fit.columns[k].E_k @ fit.coefficients for k in members])
            for values, into in ((E_predicted, true), (s.energy_f[frames], label)):
                into.extend(values - Q @ (Q.T @ values))
            weight.extend(1.0 / s.n_atoms_f[frames].astype(float) ** 2)
        if free < 8:
            return UNKNOWN
        found = slope(np.array(true), np.array(label), np.array(weight))
        return found if abs(found.correlation) > SURE else UNKNOWN

    @cached_property
    def energy_errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Frames, and by how much their energies differ from the surrogate's, eV/atom.

        In groups of frames with the same atoms what the mean and the shape of the cell explain is taken out.
        Groups whose energies do not follow the surrogate's are left out.
        """
        fit, s = self.fit, self.s
        frames, errors = [np.zeros(0, dtype=int)], [np.zeros(0)]
        if fit is None or fit.residual > PRECISE:
            return frames[0], errors[0]
        known = [k for k, f in enumerate(fit.members) if np.isfinite(s.energy_f[f])]
        groups = [(members, self._shapes(fit.members[members])) for members in self._groups(known)]
        enough = lambda members, table: len(members) >= table.shape[1] + MORE_FRAMES
        rest = [k for members, table in groups for k in members if not enough(members, table)]
        if rest:
            groups.append((rest, self._compositions(fit.members[rest])))
        for members, table in groups:
            if not enough(members, table):
                continue
            group = fit.members[members]
            n = s.n_atoms_f[group]
            predicted = np.array([fit.columns[k].E_k @ fit.coefficients for k in members]) / n
            error = robust_residual(table, s.energy_f[group] / n - predicted)
            # of another unit, or of other frames, they differ by as much as energies vary
            if np.median(np.abs(error)) < FOLLOWS * np.median(np.abs(robust_residual(table, predicted))):
                errors.append(error)
                frames.append(group)
        return np.concatenate(frames), np.concatenate(errors)

    @cached_property
    def wrong_energies(self) -> dict[int, float]:
        """Frames whose energy contradicts the forces of all frames -> by how much, eV/atom.

        The forces of such a frame are told as well as usual: where they are not, the surrogate knows too
        little of structures like it.
        """
        frames, errors = self.energy_errors
        if not len(frames):
            return {}
        limit = max(DEVIATIONS * 1.4826 * float(np.median(np.abs(errors))), LEAST)
        off = {int(f): abs(float(e)) for f, e in zip(frames, errors, strict=True) if abs(e) > limit}
        if len(off) > MOST_WRONG * len(frames):
            return {}
        return {f: e for f, e in off.items() if self.surprise(f) < KNOWN}

    @cached_property
    def deviators(self) -> Deviators | None:
        """Fluctuations of deviatoric virials of frames with the same atoms: the surrogate's and the label's.

        Their mean is the stress of the cell as it is, on which forces say nothing.
        """
        fit, s = self.fit, self.s
        if fit is None or fit.residual > POOR:
            return None
        known = [k for k, f in enumerate(fit.members) if s.frames[f].virial is not None]
        if not known:
            return None
        upper = np.triu_indices(3)
        part = lambda W: (0.5 * (W + W.T) - np.eye(3) * np.trace(W) / 3)[upper]
        n = s.n_atoms_f[fit.members[known]].astype(float)
        true = np.array([part(fit.columns[k].W_cdk @ fit.coefficients) for k in known]) / n[:, None]
        label = np.array([part(np.asarray(s.frames[fit.members[k]].virial)) for k in known]) / n[:, None]
        place = {k: row for row, k in enumerate(known)}
        single = []
        for members in self._groups(known):
            rows = [place[k] for k in members]
            if len(rows) == 1:
                single += rows
                continue
            for values in (true, label):
                values[rows] -= values[rows].mean(0)
        for values in (true, label):
            values[single] -= values[single].mean(0) if single else 0.0
        volume = np.array([s.frames[fit.members[k]].volume for k in known])
        return Deviators(
            (true * n[:, None]).ravel(), (label * n[:, None]).ravel(), np.repeat(volume, 6), np.repeat(n, 6)
        )

    @cached_property
    def virials(self) -> Slope:
        """Deviatoric virials against those of the surrogate; 1 is right, to a factor of 3."""
        d = self.deviators
        if d is None:
            return UNKNOWN
        found = slope(d.true, d.label, 1.0 / d.n_atoms**2)
        return found if found.is_known and abs(found.correlation) > SURE else UNKNOWN

    @property
    def knows_virials(self) -> bool:
        """Whether the slope of the virials is known to a few per cent."""
        fit = self.fit
        good = fit is not None and fit.residual < PRECISE_VIRIALS
        return good and abs(self.virials.correlation) > NEAR_ONE_VIRIALS

    def surprise(self, f: int) -> float:
        """RMS error of the surrogate on the forces of frame ``f``, over the usual one; NaN if unknown."""
        fit, frame = self.fit, self.s.frames[f]
        if fit is None or fit.residual > POOR or frame.forces is None:
            return float("nan")
        here = columns(frame, len(self.s.types)).F_ick @ fit.coefficients - frame.forces
        return float(np.sqrt((here * here).mean())) / max(self._usual, 1e-12)

    @cached_property
    def _usual(self) -> float:
        fit = self.fit
        assert fit is not None
        errors = []
        for f, c in zip(fit.members, fit.columns, strict=True):
            left = c.F_ick @ fit.coefficients - self.s.frames[f].forces
            errors.append(np.sqrt((left * left).mean()))
        return float(np.median(errors))

    def _groups(self, known: list[int]) -> Iterator[list[int]]:
        """Members with the same numbers of atoms of each type and the same periodicity."""
        assert self.fit is not None
        found: dict[tuple, list[int]] = {}
        for k in known:
            f = int(self.fit.members[k])
            found.setdefault((self.s.counts_ft[f].tobytes(), self.s.frames[f].pbc), []).append(k)
        yield from found.values()

    def _compositions(self, frames: np.ndarray) -> np.ndarray:
        """Columns for frames of many compositions: shares of the types, the volume of an atom, its square."""
        s = self.s
        n = s.n_atoms_f[frames]
        shares = s.counts_ft[frames] / n[:, None]
        v = np.array([s.frames[f].volume for f in frames]) / n
        v = v / max(v.mean(), 1e-9) - 1.0
        table = np.column_stack([shares, v, v * v])
        return table[:, np.abs(table).max(0) > 1e-8]

    def _shapes(self, frames: np.ndarray) -> np.ndarray:
        """Columns that the energy of a strained cell depends on: 1, tr ε, (tr ε)², |dev ε|², dev ε."""
        ones = np.ones((len(frames), 1))
        cells = [self.s.frames[f].cell for f in frames]
        if any(cell is None for cell in cells):
            return ones
        h = np.array(cells)
        mean = h.mean(0)
        if abs(np.linalg.det(mean)) < 1e-9:
            return ones
        e = np.linalg.solve(mean, h - mean)
        e = 0.5 * (e + e.transpose(0, 2, 1))
        if np.abs(e).max() < SAME_CELL:
            return ones
        t = np.trace(e, axis1=1, axis2=2)
        d = e - t[:, None, None] * np.eye(3) / 3
        parts = [np.ones(len(frames)), t, t * t, (d * d).sum((1, 2))]
        shear = [d[:, i, j] for i, j in ((0, 0), (1, 1), (0, 1), (0, 2), (1, 2))]
        if len(frames) >= len(parts) + len(shear) + 3:
            parts += shear
        table = np.stack(parts, axis=1)
        # strains of one kind leave columns of zeros
        return table[:, np.abs(table).max(0) > 1e-8]
