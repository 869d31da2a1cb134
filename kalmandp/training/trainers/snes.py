"""SNES, the separable natural evolution strategy: a baseline that needs no derivative of the weights.

A generation of λ members z_k is drawn around the mean μ, each weight with a σ of its own, and ranked by its
loss; k = 1 is the best::

    z_k = μ + σ s_k,   s_k ~ N(0, 1)
    u_k = max(0, ln(λ/2 + 1) − ln k) / Σ_j max(0, ln(λ/2 + 1) − ln j) − 1/λ
    μ ← μ + η_μ σ Σ_k u_k s_k                    η_μ = 1
    σ ← σ exp((η_σ/2) Σ_k u_k (s_k² − 1))        η_σ = (3 + ln n)/(5 √n),  n weights

Source: Schaul, Glasmachers and Schmidhuber, "High dimensions and heavy tails for natural evolution
strategies", GECCO 2011; Wierstra et al., JMLR 15, 949 (2014). GPUMD trains its NEP this way (``snes.cu``,
λ = 50, first σ 0.1); the loss is NEP's, root mean squares per atom, without its penalty of large weights::

    L = λ_e RMSE(ΔE/N) + λ_f RMSE(ΔF) + λ_v RMSE(ΔW/N)

A frame of weight ω (`measurements.weights`) has its squared errors times ω².

`SNES` knows nothing of atoms: ask for a generation, tell its losses.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from math import log, sqrt
from typing import Any

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import FilterError, InputError, require
from kalmandp.potentials.potential import Potential
from kalmandp.ranks.team import Alone, Team, in_turn
from kalmandp.training.config.presets import SnesChoices
from kalmandp.training.measurements.labels import taught
from kalmandp.training.measurements.measurement import Sample, errors, predict
from kalmandp.training.measurements.weights import frame_weights
from kalmandp.training.trainers.protocol import Guard, Trainer


def utilities(population: int) -> np.ndarray:
    """u_k of the ranks k = 1 … λ, (λ,): falling, equal for the lower half, summing to zero.

    Examples
    --------
    >>> np.round(utilities(4), 2)
    array([ 0.48,  0.02, -0.25, -0.25])
    """
    u_k = np.maximum(0.0, log(population / 2 + 1) - np.log(np.arange(1, population + 1)))
    return u_k / u_k.sum() - 1.0 / population


class SNES:
    """SNES: a search for the least of a function of n numbers.

    Parameters
    ----------
    mean : (n,) μ at the start
    sigma : σ at the start, a number or (n,)
    population : λ, at least 2
    rng : draws the members

    Examples
    --------
    >>> search = SNES(np.full(3, 2.0), 0.5, 20, np.random.default_rng(0))
    >>> for _ in range(60):
    ...     search.tell([float(z @ z) for z in search.ask()])
    >>> bool(abs(search.mean).max() < 1e-3)
    True
    """

    def __init__(self, mean, sigma, population: int, rng: np.random.Generator):
        require(population >= 2, "population", population, "at least 2")
        self.mean = np.array(mean, dtype=float)
        self.sigma = np.broadcast_to(np.asarray(sigma, dtype=float), self.mean.shape).copy()
        self.population, self.rng = population, rng
        self.utilities = utilities(population)
        n = len(self.mean)
        self.eta_mu, self.eta_sigma = 1.0, (3.0 + log(n)) / (5.0 * sqrt(n))
        self.updates = 0
        self._s_kn: Any = None

    def draw(self) -> Callable[[int], np.ndarray]:
        """Draw the next generation; what is returned gives its member k, (n,)."""
        s_kn = self._s_kn = self.rng.standard_normal((self.population, len(self.mean)))
        return lambda k: self.mean + self.sigma * s_kn[k]

    def ask(self) -> Iterator[np.ndarray]:
        """The members of the next generation, one after another, (n,) each."""
        return map(self.draw(), range(self.population))

    def tell(self, losses) -> None:
        """Move μ and σ by the losses (λ,) of the members asked for; what is not finite ranks last.

        Raises
        ------
        FilterError
            If no member has a finite loss: μ and σ are as they were.
        """
        loss_k = np.asarray(losses, dtype=float)
        require(self._s_kn is not None, "the generation", "none", "one that was asked for")
        require(loss_k.shape == (self.population,), "losses' shape", loss_k.shape, f"({self.population},)")
        if not np.isfinite(loss_k).any():
            raise FilterError("no member of the generation has a finite loss; the weights were not changed")
        order = np.argsort(np.where(np.isfinite(loss_k), loss_k, np.inf), kind="stable")
        u_k: Any = np.empty(self.population)
        u_k[order] = self.utilities
        # einsum, not BLAS, whose bits depend on its threads;  Σ u_k (s_k² − 1) = Σ u_k s_k²,  as Σ u_k = 0
        self.mean += self.eta_mu * self.sigma * np.einsum("k,kn->n", u_k, self._s_kn)
        self.sigma *= np.exp(0.5 * self.eta_sigma * np.einsum("k,kn,kn->n", u_k, self._s_kn, self._s_kn))
        self.updates += 1
        self._s_kn = None


def rmse_loss(
    potential: Potential, sample: Sample, lambda_e: float, lambda_f: float, lambda_v: float
) -> float:
    """λ_e RMSE(ΔE/N) + λ_f RMSE(ΔF) + λ_v RMSE(ΔW/N): eV/atom, eV/Å and eV/atom, as NEP adds them up.

    A term whose λ is zero, or whose label a frame of the sample lacks, is left out.

    Raises
    ------
    InputError
        If that leaves no term at all.
    """
    weights = {"energy": lambda_e, "force": lambda_f, "virial": lambda_v}
    kinds = taught(sample.frames, [kind for kind, weight in weights.items() if weight])
    now = predict(potential, sample)
    n_f = namespace(now.E_f).asarray(np.diff(sample.first_f))

    def rms(kind: str, error, frame_k=None) -> float:
        weight_f = frame_weights(sample.frames, kind)
        if weight_f is not None:
            weight_k = namespace(error).asarray(weight_f if frame_k is None else weight_f[frame_k])
            error = error * weight_k.reshape(-1, *[1] * (error.ndim - 1))
        return float((error * error).mean()) ** 0.5

    loss = 0.0
    if "energy" in kinds:
        loss += lambda_e * rms("energy", errors(potential, sample, "energy", now.E_f) / n_f)
    if "force" in kinds:
        frame_i = np.repeat(np.arange(len(sample.frames)), np.diff(sample.first_f))
        loss += lambda_f * rms("force", errors(potential, sample, "forces", now.F_ic), frame_i)
    if "virial" in kinds:
        loss += lambda_v * rms("virial", errors(potential, sample, "virial", now.W_fcc) / n_f[:, None, None])
    return loss


class SNESTrainer(Trainer):
    """SNES behind the interface of the other trainers: a generation for each sample.

    The potential has the weights μ. A generation costs λ predictions of the sample, and
    8·λ·n bytes.

    Parameters
    ----------
    potential : its weights are μ at the start
    choices : of a preset and an input's optimizer
    rng : draws the members; part of a checkpoint is its state, not here
    guard : called for a context in which μ moves
    team : ranks that share the members; all draw the same, and each predicts its own
    """

    def __init__(
        self, potential: Potential, choices: SnesChoices, rng: np.random.Generator,
        guard: Guard = contextlib.nullcontext, team: Team | None = None,
    ):  # fmt: skip
        self.team: Team = Alone() if team is None else team
        self.potential, self.choices, self.guard = potential, choices, guard
        self.snes = SNES(to_numpy(potential.weights), choices.sigma0, choices.population, rng)

    @property
    def updates(self) -> int:
        """Generations so far."""
        return self.snes.updates

    def step(self, sample: Sample) -> dict:
        """One generation; ``loss`` is that of its best member."""
        c, members = self.choices, self.snes.draw()
        xp, trial = namespace(self.potential.parameters.weights), copy.copy(self.potential)

        def loss(k: int) -> float:
            trial.share_weights(xp.asarray(members(k)))  # the potential itself keeps μ
            return rmse_loss(trial, sample, c.lambda_e, c.lambda_f, c.lambda_v)

        losses = in_turn(self.team, self.snes.population, loss)
        with self.guard():
            self.snes.tell(losses)
            self.potential.weights = self.snes.mean
        return {"loss": float(np.nanmin(losses))}

    def state(self) -> dict[str, Any]:
        """μ, σ and the number of generations."""
        return {"weights": self.snes.mean, "sigma": self.snes.sigma, "updates": self.updates}

    def restore(self, state: dict[str, Any]) -> None:
        if "sigma" not in state:
            raise InputError("the input's optimizer is SNES, the checkpoint's is not; expected the same")
        self.snes.mean[:], self.snes.sigma[:] = state["weights"], state["sigma"]
        self.snes.updates = int(state["updates"])
        self.potential.weights = self.snes.mean
