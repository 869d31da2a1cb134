"""The second opinion: what a potential fitted to the forces says of energies and virials.

The steps of `work` compare frames that lie near each other; the surrogate compares all of them with a
model. An error is reported only if both say so, and what one alone says is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kalmandp.doctor.surrogate import Fit, columns, fit_forces
from kalmandp.doctor.survey import Survey
from kalmandp.doctor.units import Slope, slope

#: RMS force error over RMS force: beyond POOR the surrogate is not used, beyond HOPELESS it shows that forces
#: do not follow from positions.
POOR, HOPELESS = 0.6, 0.85
#: The same, from which forces are not predicted at all (never reached on healthy sets), and the RMS force
#: (eV/Å) above which this counts.
BLIND, SOME_FORCE = 0.97, 0.05
#: Correlation from which its energies and virials judge a slope; on healthy sets they are then within a
#: factor 1.3 (energies) and 3.2 (virials).
SURE = 0.85
#: Strains below this count as zero.
SAME_CELL = 1e-5
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

    @cached_property
    def energies(self) -> Slope:
        """Energies against those of the surrogate; 1 is right.

        In a group of frames with the same atoms, what depends on the shape of the cell is projected out of
        both: forces say little about it.
        """
        fit, s = self.fit, self.s
        if fit is None or fit.residual > POOR:
            return UNKNOWN
        known = [k for k, f in enumerate(fit.members) if np.isfinite(s.energy_f[f])]
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
