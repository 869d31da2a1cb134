"""σ of each kind of label estimated from innovations, and whether these estimates contradict each other.

An update says of a number q of kind c (energy, force, virial, atomic energy) how far it was off, e_q, and
what P accounts for, (H P Hᵀ)_qq. What is left is noise of the labels and what the model cannot have. In
units of the rule's R⁰ (`noise.variances.PhysicalNoise`), with n_c updates so far::

    s_c ← s_c + max(1/n_c, 1 − β)(√mean_q max(0, e_q² − (H P Hᵀ)_qq)/R⁰_q − s_c)           β = MEMORY
    σ_c = s_c σ⁰_c

Energies, forces and virials are derivatives of one function: where a model is not good enough all of them
are off together, in a ratio that depends little on the data: RMSE of the energy per atom over that of the
forces was 0.007 to 0.06 Å for silicon, germanium, metals, water, sulphur and PbTe.
Where a kind is off `BOUND` times as far as the rule expects beside the forces, the two kinds of labels
contradict each other: another unit, another calculation, a reference energy that differs from frame to
frame, a stress that is not converged. Nothing is changed by this; R follows the errors as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.training.noise.variances import PhysicalNoise

#: Name of σ⁰ of `PhysicalNoise`, what is told, its unit and the unit's size.
KINDS = {
    "energy": ("sigma_e", "energies", "meV/atom", 1e-3),
    "force": ("sigma_f", "forces", "meV/Å", 1e-3),
    "virial": ("sigma_w", "virials", "meV/atom", 1e-3),
    "atomic_energy": ("sigma_a", "energies of atoms", "meV", 1e-3),
}
#: A kind contradicts the forces where s_c is so many times max(1, s_F). On 34 trainings with consistent
#: labels it was 2.8 at most, but for 5.3 with an alloy of 36 frames; with energies off by 0.1 eV/atom at
#: random it was 4 to 37, by 0.3 9 to 170 (`examples/benchmarks/README.md`).
BOUND = 10.0


class Contradiction(NamedTuple):
    """What the estimates say of a kind that contradicts the forces.

    kind : of `KINDS`
    sigma, force : σ_c and σ_F, estimated, eV(/atom) and eV/Å
    ratio : s_c over max(1, s_F)
    """

    kind: str
    sigma: float
    force: float
    ratio: float

    def __str__(self) -> str:
        name, what, unit, size = KINDS[self.kind]
        return (
            f"{what} and forces contradict each other: beyond what the weights can still account for, {what} "
            f"are off by {self.sigma / size:.3g} {unit} and forces by {1e3 * self.force:.3g} meV/Å; that is "
            f"{self.ratio:.0f} times as far as {name} and sigma_f let expect; `kalmandp doctor` looks for "
            "units, reference energies and frames of another calculation"
        )


class NoiseEstimates:
    """σ by innovations: s_c of every kind that was measured, by the rule of the module's docstring.

    Parameters
    ----------
    rule : with σ⁰_c
    """

    MEMORY = 0.99
    #: Updates with a kind after which its estimate counts: until then it holds errors of random weights.
    LEAST = 300

    def __init__(self, rule: PhysicalNoise):
        self.rule = rule
        self._s: dict[str, float] = {}
        self._n: dict[str, int] = {}

    def see(self, kind_q, noise_q, error_q, HPH_q) -> None:
        """Tell an update: kinds, R⁰, errors and H P Hᵀ of its numbers, each (m,)."""
        rest_q = np.maximum(to_numpy(error_q) ** 2 - HPH_q, 0.0) / noise_q
        kinds = np.asarray(kind_q)
        for kind in dict.fromkeys(kind_q):
            n = self._n[kind] = self._n.get(kind, 0) + 1
            before = self._s.get(kind, 0.0)
            root = float(np.sqrt(rest_q[kinds == kind].mean()))
            self._s[kind] = before + max(1.0 / n, 1.0 - self.MEMORY) * (root - before)

    def contradictions(self) -> list[Contradiction]:
        """The kinds that contradict the forces; none without forces."""
        return contradictions(self.state())

    def state(self) -> dict[str, float]:
        """Numbers for a checkpoint: s_c, n_c and σ⁰_c."""
        return {
            f"noise/{name}_{kind}": float(value)
            for kind, s in self._s.items()
            for name, value in (
                ("estimated", s), ("estimates", self._n[kind]), ("rule", getattr(self.rule, KINDS[kind][0])),
            )
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned, among other things; from nothing in an older checkpoint."""
        known = [kind for kind in KINDS if f"noise/estimated_{kind}" in state]
        self._s = {kind: float(state[f"noise/estimated_{kind}"]) for kind in known}
        self._n = {kind: int(state[f"noise/estimates_{kind}"]) for kind in known}


def sigmas(state: Mapping[str, Any]) -> dict[str, float]:
    """σ_c (eV, eV/Å, eV/atom) of a stored `NoiseEstimates.state`, of kinds measured often enough."""
    enough = [k for k in KINDS if float(state.get(f"noise/estimates_{k}", 0)) >= NoiseEstimates.LEAST]
    return {k: float(state[f"noise/estimated_{k}"]) * float(state[f"noise/rule_{k}"]) for k in enough}


def contradictions(state: Mapping[str, Any]) -> list[Contradiction]:
    """The kinds that contradict the forces, by a stored `NoiseEstimates.state`."""
    sigma = sigmas(state)
    s = {kind: float(state[f"noise/estimated_{kind}"]) for kind in sigma}
    if "force" not in s:
        return []
    ratio = {kind: s[kind] / max(1.0, s["force"]) for kind in s if kind != "force"}
    return [Contradiction(k, sigma[k], sigma["force"], r) for k, r in ratio.items() if r > BOUND]
