"""Frames that lie near each other: configurations that differ by small displacements and strains.

Two steps of a trajectory are near, and so are frames of different trajectories about the same
crystal, whatever their order in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kalmandp.doctor.survey import Survey

#: Frames compared with each other at a time.
BLOCK = 2000
#: RMS displacement (Å) and strain beyond which the trapezoidal rule says nothing.
FAR, STRAINED = 0.4, 0.05
#: A strain below this counts as zero.
SAME_CELL = 1e-5


class Step(NamedTuple):
    """From frame ``a`` to frame ``b``: affine strain and what the atoms move beside it.

    d_ic : (n, 3) displacement at the mean cell h̄, Å, without the mean over the atoms
    strain_cd : (3, 3) ε of h_b = h_a(1 + ε) about h̄;  rms : of d, Å, per atom
    """

    a: int
    b: int
    d_ic: np.ndarray
    strain_cd: np.ndarray
    rms: float


def steps_to_nearest(s: Survey, neighbours: int = 2) -> Iterator[Step]:
    """A step from each frame to its nearest, and to the nearest of another cell; each pair once."""
    for members in s.groups.values():
        for start in range(0, len(members), BLOCK):
            block = members[start : start + BLOCK]
            yield from _steps_in(s, block, neighbours)


def _steps_in(s: Survey, members: np.ndarray, neighbours: int) -> Iterator[Step]:
    if len(members) < 2:
        return
    x_fd, strain_fd = _coordinates(s, members)
    D_fg = _squared_distances(x_fd, x_fd)
    strained_fg = _squared_distances(strain_fd, strain_fd) > SAME_CELL**2
    np.fill_diagonal(D_fg, np.inf)
    seen: set[tuple[int, int]] = set()
    for allowed, count in ((~strained_fg, neighbours), (strained_fg, 1)):
        D = np.where(allowed, D_fg, np.inf)
        count = min(count, len(members) - 1)
        nearest = np.argpartition(D, count - 1, axis=1)[:, :count]
        for a, b in zip(np.repeat(np.arange(len(members)), count), nearest.ravel(), strict=True):
            pair = (int(min(a, b)), int(max(a, b)))
            if pair in seen or not np.isfinite(D[a, b]):
                continue
            seen.add(pair)
            step = step_between(s, int(members[pair[0]]), s, int(members[pair[1]]))
            if step.rms < FAR and np.abs(step.strain_cd).max() < STRAINED:
                yield step


def step_between(s: Survey, a: int, t: Survey, b: int) -> Step:
    """The step from frame ``a`` of ``s`` to frame ``b``, of the same atoms, of ``t``."""
    A, B = s.frames[a], t.frames[b]
    if A.cell is None or B.cell is None:
        d_ic, strain = B.positions - A.positions, np.zeros((3, 3))
    else:
        h = 0.5 * (A.cell + B.cell)
        s_ic = B.positions @ np.linalg.inv(B.cell) - A.positions @ np.linalg.inv(A.cell)
        d_ic = (s_ic - np.round(s_ic) * np.array(A.pbc)) @ h
        strain = np.linalg.solve(h, B.cell - A.cell)
    d_ic = d_ic - _common(d_ic)
    return Step(a, b, d_ic, strain, float(np.sqrt((d_ic * d_ic).sum() / len(d_ic))))


def _common(d_ic: np.ndarray) -> np.ndarray:
    """The displacement that all atoms share; the median stands atoms that crossed the cell."""
    return d_ic.mean(axis=0) if np.ptp(d_ic, axis=0).max() < 2.0 else np.median(d_ic, axis=0)


def _coordinates(s: Survey, members: np.ndarray, reference=None) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose distance is about the RMS displacement (Å) of two frames, strain included."""
    frames = [s.frames[f] for f in members]
    first = frames[0] if reference is None else reference
    n = len(first)
    if first.cell is None:
        r = np.array([f.positions - f.positions.mean(0) for f in frames])
        return r.reshape(len(frames), -1) / np.sqrt(n), np.zeros((len(frames), 9))
    inverse = np.linalg.inv(first.cell)
    s_ic = np.array([f.positions @ np.linalg.inv(f.cell) for f in frames])
    origin = first.positions @ inverse
    s_ic -= np.round(s_ic - origin) * np.array(first.pbc)
    r = (s_ic - s_ic.mean(1, keepdims=True)) @ first.cell
    strain = np.array([inverse @ f.cell - np.eye(3) for f in frames]).reshape(len(frames), 9)
    length = np.cbrt(first.volume)
    return np.concatenate([r.reshape(len(frames), -1) / np.sqrt(n), strain * length], axis=1), strain


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    D = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2.0 * x @ y.T
    return np.maximum(D, 0.0)


def nearest_in(s: Survey, t: Survey) -> Iterator[Step]:
    """For each frame of ``t`` the step to it from the nearest frame of ``s`` with the same atoms.

    Both must number their types alike. ``a`` of a step is a frame of ``s``, ``b`` one of ``t``.
    """
    for key, members_t in t.groups.items():
        members_s = s.groups.get(key)
        if members_s is None:
            continue
        reference = s.frames[members_s[0]]
        for start in range(0, len(members_t), BLOCK):
            block_t = members_t[start : start + BLOCK]
            x_t, _ = _coordinates(t, block_t, reference)
            best = np.full(len(block_t), np.inf)
            which = np.zeros(len(block_t), dtype=int)
            for begin in range(0, len(members_s), BLOCK):
                block_s = members_s[begin : begin + BLOCK]
                D = _squared_distances(_coordinates(s, block_s, reference)[0], x_t)
                nearest = D.argmin(0)
                closer = D.min(0) < best
                best = np.where(closer, D.min(0), best)
                which = np.where(closer, block_s[nearest], which)
            for b, a in zip(block_t, which, strict=True):
                yield step_between(s, int(a), t, int(b))
