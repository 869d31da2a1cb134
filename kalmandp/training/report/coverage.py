"""How well σ predicts the errors: shares of true errors within 1 σ and 2 σ, and how σ follows errors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kalmandp.files import naming, replacing
from kalmandp.ranks.team import Team, in_turn
from kalmandp.training.uncertainty import KINDS, UPPER, UncertainPotential, errors_of

#: Factor from eV to what is printed, and the unit.
MILLI = {"energy": "meV/atom", "force": "meV/Å", "virial": "meV/atom"}
#: Shares that a normal distribution has.
NORMAL = (0.683, 0.954)


class Coverage(NamedTuple):
    """Of all frames: by kind, errors (m,) and σ (m,), energy and virial in eV per atom.

    force_f : (f, 4) of each frame, eV/Å: RMS error, RMS σ, largest error and largest σ of an atom's component
    energy_f : (f, 2) eV per atom: error (not a number without a label) and σ
    """

    errors: dict[str, np.ndarray]
    sigmas: dict[str, np.ndarray]
    force_f: np.ndarray
    energy_f: np.ndarray

    def summary(self) -> dict[str, dict[str, float]]:
        """By kind: rmse and sigma (RMS; eV, Å, per atom), within_1, within_2, and log_correlation."""
        found = {}
        for kind, error_q in self.errors.items():
            size_q, sigma_q = np.abs(error_q), self.sigmas[kind]
            found[kind] = {
                "rmse": float(np.sqrt(np.mean(size_q**2))), "sigma": float(np.sqrt(np.mean(sigma_q**2))),
                "within_1": float(np.mean(size_q < sigma_q)),
                "within_2": float(np.mean(size_q < 2 * sigma_q)),
                "log_correlation": log_correlation(size_q, sigma_q),
            }  # fmt: skip
        return found

    def table(self) -> str:
        """The summary for a reader."""
        head = f"{'':10}{'RMSE':>12}{'RMS σ':>12}{'':12}{'in 1 σ':>9}{'in 2 σ':>9}{'log corr.':>11}"
        lines = [head, f"{'normal':46}{NORMAL[0]:>9.0%}{NORMAL[1]:>9.0%}"]
        for kind, s in self.summary().items():
            lines.append(
                f"{kind:10}{1e3 * s['rmse']:>12.4g}{1e3 * s['sigma']:>12.4g} {MILLI[kind]:11}"
                f"{s['within_1']:>9.0%}{s['within_2']:>9.0%}{s['log_correlation']:>11.2f}"
            )
        return "\n".join(lines)

    def write(self, path) -> str:
        """Write a line for each frame."""
        lines = ["# frame e_error e_std (eV/atom) f_rmse f_std f_max_error f_max_std (eV/Angstrom)"]
        for f, (e, F) in enumerate(zip(self.energy_f, self.force_f, strict=True)):
            lines.append(" ".join([str(f), *(f"{x:.6e}" for x in (*e, *F))]))
        with replacing(path) as beside, naming(path):
            Path(beside).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)


def log_correlation(error_q, sigma_q) -> float:
    """Correlation of log |error| with log σ; not a number for fewer than three."""
    good = (np.abs(error_q) > 0) & (sigma_q > 0)
    if good.sum() < 3 or np.ptp(sigma_q[good]) == 0:
        return float("nan")
    return float(np.corrcoef(np.log(np.abs(error_q[good])), np.log(sigma_q[good]))[0, 1])


def coverage_of(known: UncertainPotential, frames: Any, team: Team | None = None) -> Coverage:
    """Errors beside σ of labelled frames.

    Parameters
    ----------
    known : a potential with its P
    frames : Frames; kinds of labels that one lacks are passed over
    team : ranks that share the frames, which are then read by number; all have the result
    """
    if team is None:
        rows: Iterable = (_row(known, known.potential.as_frame(frame)) for frame in frames)
    else:
        rows = in_turn(team, len(frames), lambda k: _row(known, known.potential.as_frame(frames[k])))
    errors: dict[str, list] = {kind: [] for kind in KINDS}
    sigmas: dict[str, list] = {kind: [] for kind in KINDS}
    force_f, energy_f = [], []
    for found, sigma, force, energy in rows:
        for kind, error in found.items():
            errors[kind].append(error)
            sigmas[kind].append(sigma[kind])
        force_f.append(force)
        energy_f.append(energy)
    join = lambda parts: {kind: np.concatenate(p) for kind, p in parts.items() if p}
    return Coverage(join(errors), join(sigmas), np.array(force_f), np.array(energy_f))


def _row(known: UncertainPotential, frame: Any) -> tuple[dict, dict, list[float], list[float]]:
    """Of one frame: errors and σ by kind, each (m,), and its rows of ``force_f`` and ``energy_f``."""
    n = max(1, len(frame))
    result, std = known.predict(frame)
    d, c = UPPER.T
    of = {"energy": np.array([std.energy / n]), "force": std.forces, "virial": std.virial[d, c] / n}
    found = errors_of(result, frame)
    per_atom = lambda x: np.sqrt((x**2).mean(axis=1))
    e_i = per_atom(found["force"]) if "force" in found else np.full(n, np.nan)
    rms = lambda x: float(np.sqrt(np.mean(x**2)))
    force = [rms(e_i), rms(std.forces), float(e_i.max()), float(std.force_i.max())]
    energy = [float(found["energy"][0]) if "energy" in found else np.nan, std.energy / n]
    return {k: e.ravel() for k, e in found.items()}, {k: of[k].ravel() for k in found}, force, energy
