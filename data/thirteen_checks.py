"""What must hold before a data set of `make_thirteen.py` is written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from thirteen_dynamics import Failed, Label

#: `derivatives`: |analytic - difference| of a directional derivative, relative to the root mean square
#: that direction would give; an error of sign, unit or shape is a hundred times larger.
TOLERANCE = 0.01
#: `examine`: drift of the conserved energy over a trajectory, meV per atom (k_B T is 26).
MOST_DRIFT = 10.0


def derivatives(label: Callable[..., Label], rows: dict[str, np.ndarray], rng: np.random.Generator) -> dict:
    """Forces and virial beside differences of the energy, and the error of the SCF threshold.

    The last snapshot of a trajectory, moved along a direction that is random plus the forces' own
    (so that no error of a factor hides behind a right angle), and strained along two: all alike, and
    a random symmetric one plus the virial's own.

    Parameters
    ----------
    label : positions, cell -> `Label`, with a threshold tighter than that of the labels in ``rows``
    rows : a trajectory: positions, cell, energy, forces, virial
    rng : draws the directions

    Raises
    ------
    Failed
        If they differ by more than TOLERANCE.
    """
    pos_ic, cell_cc = rows["positions"][-1], rows["cell"]
    tight = label(pos_ic, cell_cc)
    d_ic = rng.normal(size=pos_ic.shape) + tight.forces / np.sqrt(np.mean(tight.forces**2))
    d_cc = rng.normal(size=(3, 3)) + 3 * tight.virial / np.linalg.norm(tight.virial)
    d_cc = (d_cc + d_cc.T) / 2

    def slope(h, changed):  # -dE/ds
        return (label(*changed(-h)).energy - label(*changed(h)).energy) / (2 * h)

    def strained(d_cc):
        def changed(s):
            f_cc = np.eye(3) + s * d_cc
            return pos_ic @ f_cc, cell_cc @ f_cc

        return slope(5e-4, changed)

    w_cc, force_norm = tight.virial, float(np.linalg.norm(tight.forces))
    # a virial of a few eV is the difference of larger parts: the forces set its scale as well
    w_norm = float(np.linalg.norm(w_cc)) + force_norm * 1.0  # eV: forces times 1 Å
    pairs = {
        "forces, along a direction (eV/Angstrom)": (
            float((tight.forces * d_ic).sum()),
            slope(1e-3, lambda s: (pos_ic + s * d_ic, cell_cc)),
            force_norm,
        ),
        "virial, trace (eV)": (float(np.trace(w_cc)), strained(np.eye(3)), w_norm),
        "virial, along a strain (eV)": (
            float((w_cc * d_cc).sum()), strained(d_cc), w_norm
        ),
    }  # fmt: skip
    report = {name: list(pair[:2]) for name, pair in pairs.items()}
    for part in ("energy", "forces", "virial"):
        error = np.abs(rows[part][-1] - getattr(tight, part)).max()
        report[f"error of the usual SCF threshold, {part}, largest"] = float(error)
    for name, (analytic, differences, scale) in pairs.items():
        if abs(analytic - differences) > TOLERANCE * scale:
            raise Failed(f"{name}: {analytic:.6f}, by differences of the energy {differences:.6f}")
    return report


def examine(found: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Figures of the whole set, which become attributes of its files.

    Raises
    ------
    Failed
        If the conserved energy drifts, or a net force is left.
    """
    n = len(found[0]["numbers"])
    stack = lambda name: np.concatenate([rows[name] for rows in found])
    per_atom = np.concatenate([rows["energy"] / len(rows["numbers"]) for rows in found])
    forces = np.concatenate([rows["forces"].ravel() for rows in found])
    wander = max(np.ptp(rows["conserved"]) / len(rows["numbers"]) for rows in found) * 1e3
    moved = [rows["positions"] - rows["start_pos"] for rows in found]
    moved = [m - m.mean(axis=1, keepdims=True) for m in moved]
    net = max(np.abs(rows["forces"].sum(axis=1)).max() for rows in found)
    figures = {
        "atoms": n,
        "snapshots": sum(len(rows["energy"]) for rows in found),
        "trajectories": len(found),
        "mean_temperature_K": float(stack("temperature").mean()),
        "force_rms_eV_per_angstrom": float(np.sqrt(np.mean(forces**2))),
        "energy_std_meV_per_atom": float(
            np.sqrt(np.mean([np.var(r["energy"] / len(r["numbers"])) for r in found])) * 1e3
        ),
        "energy_range_meV_per_atom": float(np.ptp(per_atom) * 1e3),
        "conserved_energy_range_meV_per_atom": float(wander),
        "largest_net_force_eV_per_angstrom": float(net),
        "rms_displacement_from_start_angstrom": float(
            np.sqrt(np.mean(np.concatenate([(m**2).sum(-1).ravel() for m in moved])))
        ),
        "largest_virial_over_volume_GPa": float(
            max(np.abs(r["virial"].mean(0)).max() / abs(np.linalg.det(r["cell"])) for r in found)
            * 160.2176634
        ),
    }
    if wander > MOST_DRIFT:
        raise Failed(f"the conserved energy ranges over {wander:.1f} meV per atom")
    if net > 1e-6:
        raise Failed(f"a net force of {net:.1e} eV/Angstrom is left")
    return figures
