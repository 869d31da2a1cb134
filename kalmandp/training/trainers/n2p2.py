"""n2p2's Kalman filter, number by number: what `kalmandp.kalman.RLEKF` becomes with its settings.

One update, with H (a row for each number) and ξ = reference − prediction in the net's own units::

    standard          A = H P Hᵀ + 1/η      K = P Hᵀ A⁻¹    w += K ξ    P −= K H P,            P += q
    fading memory     A = H P Hᵀ + λ        K = P Hᵀ A⁻¹    w += K ξ    P = (P − K H P)/λ,     P += q

    η is multiplied by exp(etatau/u) before it is used while η < etamax  (it may pass etamax once)
    q is multiplied by exp(−qtau/u) after it was used while q > qmin
    λ ← ν λ + 1 − ν afterwards                                     u : updates of an epoch;  P₀ = 1/ε

An energy counts as that of the whole structure, a force as one component, multiplied by force_weight with its
row. With update_strategy 1 every element has a filter of its own, with its part of H, and ξ times its share:
of the atoms of a structure, or of the neighbours of an atom.

The order in which n2p2 draws its numbers is its generator's; here a numpy Generator draws.

Source: n2p2's documentation; the stored trajectories of nnp-train in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kalmandp.errors import InputError, require
from kalmandp.kalman import RLEKF


class N2P2Settings(NamedTuple):
    """Keywords of input.nn, under their names; n2p2's recommended numbers."""

    kalman_type: int = 0
    kalman_epsilon: float = 0.01
    kalman_q0: float = 0.01
    kalman_qtau: float = 2.302
    kalman_qmin: float = 1e-6
    kalman_eta: float = 0.01
    kalman_etatau: float = 2.302
    kalman_etamax: float = 1.0
    kalman_lambda_short: float = 0.96
    kalman_nue_short: float = 0.9995
    force_weight: float = 1.0
    jacobian_mode: int = 1
    update_strategy: int = 0
    selection_mode: int = 0
    task_batch_size_energy: int = 1
    task_batch_size_force: int = 1
    short_energy_fraction: float = 1.0
    short_force_fraction: float = 0.0
    force_energy_ratio: float = 0.0
    short_energy_error_threshold: float = 0.0
    short_force_error_threshold: float = 1.0
    rmse_threshold_trials: int = 3

    @classmethod
    def read(cls, training: Mapping[str, str]) -> N2P2Settings:
        """The settings among the keywords of an input.nn (`hdnnp.files.N2P2Model.training`).

        Raises
        ------
        InputError
            For a value that is no number, or that does not exist.
        """
        stated: dict[str, Any] = {}
        for name, default in cls._field_defaults.items():
            if name not in training:
                continue
            try:
                stated[name] = type(default)(training[name])
            except ValueError:
                raise InputError(f"{name} is {training[name]!r}; expected a number") from None
        if "rmse_threshold" in training:
            for name in ("short_energy_error_threshold", "short_force_error_threshold"):
                stated.setdefault(name, float(training["rmse_threshold"]))
        if stated.get("kalman_type") == 1:
            stated = {
                "kalman_epsilon": 0.1,
                "kalman_q0": 0.0,
                "kalman_qtau": 0.0,
                "kalman_qmin": 0.0,
                **stated,
            }
        settings = cls(**stated)
        for name, known in (
            ("kalman_type", (0, 1)), ("jacobian_mode", (0, 1, 2)), ("update_strategy", (0, 1)),
            ("selection_mode", (0, 1, 2)),
        ):  # fmt: skip
            require(getattr(settings, name) in known, name, getattr(settings, name), f"one of {known}")
        for name in ("kalman_epsilon", "task_batch_size_energy", "task_batch_size_force"):
            require(getattr(settings, name) > 0, name, getattr(settings, name), "a number > 0")
        if settings.kalman_type == 0:
            require(settings.kalman_eta > 0, "kalman_eta", settings.kalman_eta, "a number > 0")
        return settings

    def updates(self, n_energies: int, n_forces: int) -> tuple[int, int]:
        """Updates by energies and by force components in an epoch of that many of each."""
        energies = int(n_energies * self.short_energy_fraction) // self.task_batch_size_energy
        if self.force_energy_ratio > 0:
            return energies, int(energies * self.force_energy_ratio)
        return energies, int(n_forces * self.short_force_fraction) // self.task_batch_size_force


class N2P2Filter:
    """n2p2's filter of the weights of an HDNNP.

    Parameters
    ----------
    weights : (N,) changed in place by `update`
    settings : N2P2Settings
    updates_per_epoch : u, by which etatau and qtau are divided
    element_w : for each element the slice of its weights; used with update_strategy 1
    covariance : of `kalman.RLEKF`

    Attributes
    ----------
    filters : one `RLEKF`, or one for each element
    eta, q : 1/R and the process noise of now
    """

    def __init__(
        self, weights, settings: N2P2Settings, updates_per_epoch: int, element_w: Sequence[slice] = (),
        covariance: str = "tiled",
    ):  # fmt: skip
        require(updates_per_epoch > 0, "updates_per_epoch", updates_per_epoch, "a number > 0")
        s = settings
        self.settings, self.u = settings, updates_per_epoch
        whole = s.update_strategy == 0
        require(whole or len(element_w) > 0, "element_w", "empty", "a slice for each element")
        self.parts = [slice(0, len(weights))] if whole else list(element_w)
        fading = s.kalman_type == 1
        self.filters = [
            RLEKF(
                weights[w], [w.stop - w.start], P0=1.0 / s.kalman_epsilon, covariance=covariance, copy=False,
                lam=s.kalman_lambda_short if fading else 1.0, nu=s.kalman_nue_short if fading else 1.0,
            )
            for w in self.parts
        ]  # fmt: skip
        self.eta, self.q = s.kalman_eta, s.kalman_q0
        self.updates = 0

    @property
    def lam(self) -> float:
        """λ of the next update."""
        return self.filters[0].lam

    def update(self, H_mw, xi_m, share_me=None) -> None:
        """One update by m numbers.

        Parameters
        ----------
        H_mw : (m, N) derivatives of the numbers, in the net's units and with force_weight
        xi_m : (m,) reference − prediction, alike
        share_me : (m, e) share of each element in a number, for update_strategy 1
        """
        s = self.settings
        H_mw, xi_m = np.atleast_2d(H_mw), np.atleast_1d(xi_m)
        share_me = np.ones((len(H_mw), 1)) if s.update_strategy == 0 else np.asarray(share_me, dtype=float)
        wanted = (len(H_mw), len(self.filters))
        require(share_me.shape == wanted, "share_me's shape", share_me.shape, wanted)
        if s.kalman_type == 0 and self.eta < s.kalman_etamax:
            self.eta *= math.exp(s.kalman_etatau / self.u)
        # RLEKF has S = λ R + H P Hᵀ: R = 1 gives n2p2's λ
        R = 1.0 / self.eta if s.kalman_type == 0 else 1.0
        for w, share_m, part in zip(self.parts, share_me.T, self.filters, strict=True):
            H, xi = H_mw[:, w], share_m * xi_m
            if s.jacobian_mode != 2 and len(xi) > 1:  # one process: modes 0 and 1 are the same sum
                H, xi = H.sum(axis=0)[None], xi.sum()[None]
            part.process_noise = self.q
            part.update(np.ascontiguousarray(H), xi, R)
        if self.q > s.kalman_qmin:
            self.q *= math.exp(-s.kalman_qtau / self.u)
        self.updates += 1

    def state(self) -> dict[str, Any]:
        """All that it is but for the weights' places, ready for HDF5."""
        parts = {f"{k}/{name}": v for k, f in enumerate(self.filters) for name, v in f.state().items()}
        return {"eta": self.eta, "q": self.q, "updates": self.updates, **parts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken: the weights too are those of then."""
        for k, (w, part) in enumerate(zip(self.parts, self.filters, strict=True)):
            mine = {name[len(f"{k}/") :]: v for name, v in state.items() if name.startswith(f"{k}/")}
            old = RLEKF.from_state(mine)
            require(
                len(old.weights) == w.stop - w.start,
                "the state's weights",
                len(old.weights),
                part.weights.size,
            )
            part.weights[...] = old.weights
            old.weights = part.weights
            self.filters[k] = old
        self.eta, self.q, self.updates = float(state["eta"]), float(state["q"]), int(state["updates"])


def epoch_schedule(
    settings: N2P2Settings, n_energies: int, n_forces: int, rng: np.random.Generator
) -> list[str]:
    """The kinds of the updates of an epoch, "energy" and "force", shuffled into one list."""
    energies, forces = settings.updates(n_energies, n_forces)
    kinds = ["energy"] * energies + ["force"] * forces
    return [kinds[k] for k in rng.permutation(len(kinds))]


def select(errors, count: int, mode: int, rng: np.random.Generator, threshold: float = 0.0, trials: int = 1):
    """Which candidates an update takes, n2p2's selection_mode.

    0  at random;  1  those of the largest errors first
    2  at random, each place the first candidate whose error is above ``threshold``; of the ``trials`` tried
       the worst, if none is

    Parameters
    ----------
    errors : (k,) errors of the candidates;  count : how many are taken;  threshold : in the unit of errors
    """
    size = np.abs(np.asarray(errors, dtype=float))
    require(0 < count <= len(size), "the number of candidates taken", count, f"1 to {len(size)}")
    if mode == 1:
        return np.argsort(-size, kind="stable")[:count]
    order = rng.permutation(len(size))
    if mode == 0:
        return order[:count]
    chosen: list[int] = []
    at = 0
    while len(chosen) < count:
        tried = order[at : at + max(1, min(trials, len(order) - at - (count - len(chosen)) + 1))]
        above = np.nonzero(size[tried] > threshold)[0]
        stop = int(above[0]) if len(above) else int(np.argmax(size[tried]))
        chosen.append(int(tried[stop]))
        at += int(above[0]) + 1 if len(above) else len(tried)
    return np.array(chosen)
