"""Labels that stand apart: an energy unlike those of similar structures, an unusually large force."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.doctor.findings import Finding
from kalmandp.doctor.survey import Survey

#: Residuals beyond this many robust standard deviations, and eV/atom, are outliers.
DEVIATIONS, APART = 10.0, 0.02
#: Frames per coefficient of the regression, at least.
FRAMES_PER_COLUMN = 3
#: Neighbours in structure with which a residual is compared; frames at most.
NEIGHBOURS, MOST_FRAMES = 4, 20000
#: The largest force over the median frame's largest, and in eV/Å.
FORCE_RATIO, FORCE = 10.0, 15.0
#: Refittings of the robust regression.
ROUNDS = 20


def check_outliers(s: Survey) -> Iterator[Finding]:
    yield from _energies(s)
    yield from _forces(s)


def _energies(s: Survey) -> Iterator[Finding]:
    """Energies per atom after a robust regression on composition and pair sums.

    A frame is an outlier if its residual is large and that of every frame of similar structure differs:
    what the regression cannot describe concerns neighbours alike, an unconverged calculation does not.
    """
    known = np.flatnonzero(np.isfinite(s.energy_f))
    columns = s.counts_ft.shape[1] + s.fingerprint_fk.shape[1] if len(s) else 0
    if len(known) < FRAMES_PER_COLUMN * columns or len(known) > MOST_FRAMES or not len(known):
        return
    n_f = s.n_atoms_f[known]
    share_ft = s.counts_ft[known] / n_f[:, None]
    x_fk = s.fingerprint_fk[known] / n_f[:, None]
    residual_f = robust_residual(np.hstack([share_ft, x_fk]), s.energy_f[known] / n_f)
    scale = 1.4826 * np.median(np.abs(residual_f))
    limit = max(DEVIATIONS * scale, APART)
    suspects = np.flatnonzero(np.abs(residual_f) > limit)
    place_fk = np.hstack([x_fk, 30.0 * share_ft])
    outliers, gaps = [], []
    for f in suspects:
        distance = ((place_fk - place_fk[f]) ** 2).sum(1)
        distance[f] = np.inf
        like = np.argsort(distance)[:NEIGHBOURS]
        gap = np.abs(residual_f[f] - residual_f[like]).min()
        if gap > limit:
            outliers.append(known[f])
            gaps.append(gap)
    if outliers:
        worst = int(np.argmax(gaps))
        yield s.finding(
            "warning", "energy-outlier",
            f"the energy of frame {s.numbers_f[outliers[worst]]} is {1e3 * gaps[worst]:.3g} meV/atom from "
            f"that of frames of similar structure, whose scatter is {1e3 * scale:.2g}",
            "Is it converged, with the settings of the others? Compute it again, or leave it out",
            outliers,
        )  # fmt: skip


def robust_residual(x_fk: np.ndarray, y_f: np.ndarray) -> np.ndarray:
    """y − x·c with c from least squares, reweighted so that outliers count little (Cauchy's weights)."""
    x_fk = x_fk / np.maximum(np.sqrt((x_fk * x_fk).mean(0)), 1e-12)
    ridge = 1e-9 * len(y_f) * np.eye(x_fk.shape[1])
    weight_f = np.ones(len(y_f))
    residual_f = y_f
    for _ in range(ROUNDS):
        weighted = x_fk * weight_f[:, None]
        c = np.linalg.solve(weighted.T @ x_fk + ridge, weighted.T @ y_f)
        residual_f = y_f - x_fk @ c
        scale = 2.0 * 1.4826 * np.median(np.abs(residual_f)) + 1e-12
        weight_f = 1.0 / (1.0 + (residual_f / scale) ** 2)
    return residual_f


def _forces(s: Survey) -> Iterator[Finding]:
    largest_f = np.array([0.0 if f.forces is None else np.abs(f.forces).max() for f in s.frames])
    moved = largest_f > 0
    if moved.sum() < 5:
        return
    usual = float(np.median(largest_f[moved]))
    high = largest_f > max(FORCE_RATIO * usual, FORCE)
    if high.any():
        f = int(largest_f.argmax())
        yield s.finding(
            "warning", "force-outlier",
            f"a force of {largest_f[f]:.3g} eV/Å in frame {s.numbers_f[f]}, where a frame's largest is "
            f"usually {usual:.2g}",
            "Is the calculation converged, and do atoms collide? Such frames dominate the training",
            np.flatnonzero(high),
        )  # fmt: skip
