"""n2p2's noise: R does not depend on numbers of blocks or atoms, and is annealed as the epochs go by.

n2p2 (Singraber et al., J. Chem. Theory Comput. 15, 3075 (2019)) counts its schedules in epochs of U updates;
with k = 0, 1, … the number of updates made before this one ::

    R_k = 1/η_k,   η_k = min(η₀ exp((k + 1) η_τ/U), η_max)            of an energy
    P ← P + q_k I, q_k = max(q₀ exp(−k q_τ/U), q_min)                 after the update

With η_τ = q_τ = 2.302 = ln 10 both change by a factor of ten in an epoch. n2p2 stops at the first η above
η_max and the first q below q_min, here they end at the bound itself: closed forms, so that a restart needs
nothing but k. A force enters with error and H times β (`force_weight`), which is R/β² on the force as it is.

Its other filter, with fading memory, has R = λ and no annealing: S = λ·1 + H P Hᵀ, P ← (P − K S⁻¹ Kᵀ)/λ.

Sources: n2p2's ``KalmanFilter.cpp``, ``Training.cpp`` and ``input.nn.recommended``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from kalmandp.training.noise.variances import BlockNoise


@dataclass(frozen=True)
class UnitNoise(BlockNoise):
    """R = 1/p²: one for an energy (eV²), 1/β² for a force with the prefactor β ((eV/Å)²)."""

    def _variance(self, prefactor: float, n_atoms: int, n_blocks: int) -> float:
        return 1.0 / prefactor**2


@dataclass(frozen=True)
class Annealing:
    """n2p2's R = 1/η and process noise q, by the number of updates made so far.

    Attributes
    ----------
    eta0, eta_tau, eta_max : η₀, η_τ (per epoch) and η_max of R = 1/η
    q0, q_tau, q_min : q₀, q_τ (per epoch) and q_min of P ← P + q I
    """

    eta0: float = 0.01
    eta_tau: float = 2.302
    eta_max: float = 1.0
    q0: float = 0.01
    q_tau: float = 2.302
    q_min: float = 1e-6

    def measurement(self, k: int, per_epoch: float) -> float:
        """1/η_k, the factor of R in update number k of U = ``per_epoch`` an epoch."""
        # the exponent is bounded: a long run is no overflow
        return 1.0 / min(self.eta0 * exp(min((k + 1) * self.eta_tau / per_epoch, 700.0)), self.eta_max)

    def process(self, k: int, per_epoch: float) -> float:
        """q_k of P ← P + q_k I after update number k."""
        return max(self.q0 * exp(-k * self.q_tau / per_epoch), self.q_min)
