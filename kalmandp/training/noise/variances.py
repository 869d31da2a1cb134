"""How much a measurement is trusted: the variance R of its error, in physical units.

The filter sees a number y with noise R. In RLEKF's paper R is the number of blocks L, in the codes H and
the error are divided by the number of atoms instead; scaling (y, H) by c with noise R is the same as
noise R/c² on y itself, so all these choices are choices of R, and this file states them as such.

Whatever the rule, R may follow the errors that the model makes now: `AdaptiveNoise`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from kalmandp.arrays import to_numpy


@dataclass(frozen=True)
class PhysicalNoise:
    """Expected errors of model and labels together: σ_E (eV/atom), σ_F (eV/Å), σ_W (eV/atom), σ_A (eV).

    R_E = (σ_E N)²;   R_F = σ_F²;   R_W = (σ_W N)²;   R_A = σ_A²

    A signed mean of n components has the noise of one component, not 1/n of it: each sign is that of the
    component's own error, so errors add up instead of averaging out. ⟨mean |e|⟩ is 0.8 σ for any n. So does
    the root mean square (`measurement.norm`), which is σ.
    """

    sigma_e: float
    sigma_f: float
    sigma_w: float
    sigma_a: float = 0.02

    def energy(self, n_atoms: int, n_blocks: int) -> float:
        """Variance of a total energy, eV²."""
        return (self.sigma_e * n_atoms) ** 2

    def force(self, n_atoms: int, n_blocks: int) -> float:
        """Variance of a force component, or of the mean of signed ones, (eV/Å)²."""
        return self.sigma_f**2

    def virial(self, n_atoms: int, n_blocks: int) -> float:
        """Variance of a virial component, or of the mean of signed ones, eV²."""
        return (self.sigma_w * n_atoms) ** 2

    def atomic_energy(self, n_atoms: int, n_blocks: int) -> float:
        """Variance of an atom's energy, or of the mean of signed ones, eV²."""
        return self.sigma_a**2


@dataclass(frozen=True)
class BlockNoise:
    """The paper's R = L and the codes' R = L (N/p)².

    Attributes
    ----------
    pref_e, pref_f, pref_v, pref_a : prefactors p of energy, force, virial and atomic energy
    per_atom : True where error and H are divided by N (DeePMD-kit, MatPL), False for the paper
    """

    pref_e: float = 1.0
    pref_f: float = 1.0
    pref_v: float = 1.0
    per_atom: bool = False
    pref_a: float = 1.0

    def _variance(self, prefactor: float, n_atoms: int, n_blocks: int) -> float:
        return n_blocks * ((n_atoms if self.per_atom else 1.0) / prefactor) ** 2

    def energy(self, n_atoms: int, n_blocks: int) -> float:
        """R of a total energy."""
        return self._variance(self.pref_e, n_atoms, n_blocks)

    def force(self, n_atoms: int, n_blocks: int) -> float:
        """R of a mean of signed force components."""
        return self._variance(self.pref_f, n_atoms, n_blocks)

    def virial(self, n_atoms: int, n_blocks: int) -> float:
        """R of a mean of signed virial components."""
        return self._variance(self.pref_v, n_atoms, n_blocks)

    def atomic_energy(self, n_atoms: int, n_blocks: int) -> float:
        """R of a mean of signed atomic energies."""
        return self._variance(self.pref_a, n_atoms, n_blocks)


class AdaptiveNoise:
    """Adaptive R: inflated while residuals are large.

    For each kind c of number (energy, force, …) with the rule's variance R⁰::

        ρ_c ← ρ_c + (1 − β)(error²/R⁰ − ρ_c)                      β = MEMORY
        ι_c ← ι_c + (1 − β)(max(0, error² − H P Hᵀ)/R⁰ − ι_c)
        R   = R⁰ max(1, γ min(ρ_c, max(ρ_force, ι_c)))

    An extended Kalman filter takes the model for linear; while the errors are large that is wrong, and
    with the R of a converged model the first steps are far too long. With this R steps are shorter while
    errors are large, and R falls to R⁰ in the end.

    A large energy error must not reduce its own weight: its R grows no more than that of the forces,
    of which there are most, as long as P says that the weights may still account for the error. What P does
    not account for, ι, is taken for noise: labels that contradict each other, or that no such model can have
    (or a P that has become too sure of itself; then, too, longer steps would not help). ι begins at 0, ρ with
    the first errors.

    Errors of a step's updates count from the next step on, so that asynchronous updates need not be waited
    for (the very first numbers of a kind count at once).

    With ``tied`` every R grows as that of the forces does, R = R⁰ max(1, γ ρ_force): energies, virials and
    forces keep the balance of the rule from the first frame to the last. An R of energies that follows energy
    errors alone sustains itself: large errors make a large R, and a large R keeps the errors large.

    Parameters
    ----------
    factor : γ
    tied : whether all kinds follow the forces
    """

    MEMORY = 0.98
    #: β where forces come by the hundred: their mean square is known well after some frames.
    MEMORY_TIED = 0.9

    def __init__(self, factor: float, tied: bool = False):
        self.factor, self.tied = factor, tied
        self.memory = self.MEMORY_TIED if tied else self.MEMORY
        self._usual: dict[str, float] = {}
        self._unexplained: dict[str, float] = {}
        self._seen: list[tuple[str, float, float]] = []

    def noise(self, kind_q, noise_q, error_q):
        """R (m,) of a measurement whose rule says ``noise_q``."""
        if not all(kind in self._usual for kind in kind_q):
            for kind, ratio in _means(kind_q, to_numpy(error_q) ** 2 / noise_q).items():
                self._usual.setdefault(kind, ratio)
        return np.asarray(noise_q) * [self._growth(kind) for kind in kind_q]

    def _growth(self, kind: str) -> float:
        if self.tied and "force" in self._usual:
            return max(1.0, self.factor * self._usual["force"])
        others = max(self._usual.get("force", np.inf), self._unexplained.get(kind, 0.0))
        return max(1.0, self.factor * min(self._usual[kind], others))

    def see(self, kind_q, noise_q, error_q, HPH_q) -> None:
        """Tell the errors of an update and what P said of them; they count once `begin_step` was called."""
        square_q = to_numpy(error_q) ** 2
        all_of = _means(kind_q, square_q / noise_q)
        rest_of = _means(kind_q, np.maximum(square_q - HPH_q, 0.0) / noise_q)
        self._seen += [(kind, all_of[kind], rest_of[kind]) for kind in all_of]

    def begin_step(self) -> None:
        """Take what was seen into account."""
        part = 1.0 - self.memory
        for kind, ratio, rest in self._seen:
            self._usual[kind] += part * (ratio - self._usual[kind])
            before = self._unexplained.get(kind, 0.0)
            self._unexplained[kind] = before + part * (rest - before)
        self._seen = []

    def state(self) -> dict:
        """Numbers for a checkpoint, as they are when the next step begins."""
        then = copy.deepcopy(self)
        then.begin_step()
        usual = {f"usual_{kind}": ratio for kind, ratio in then._usual.items()}
        return usual | {f"unexplained_{kind}": rest for kind, rest in then._unexplained.items()}

    def restore(self, state: dict) -> None:
        """Go on from what `state` returned; a dict with other entries, too."""
        of = lambda name: {k[len(name) :]: float(v) for k, v in state.items() if k.startswith(name)}
        self._usual, self._unexplained = of("usual_"), of("unexplained_")


def _means(kind_q, value_q) -> dict[str, float]:
    """The mean value of each kind in a measurement."""
    kinds = np.asarray(kind_q)
    return {kind: float(value_q[kinds == kind].mean()) for kind in dict.fromkeys(kind_q)}
