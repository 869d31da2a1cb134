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
from typing import Any

import numpy as np

from kalmandp.errors import require
from kalmandp.kalman import RLEKF
from kalmandp.kalman.filter import UpdateInfo, check_finite
from kalmandp.training.config.n2p2 import N2P2Settings


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
    eta, q : current 1/R and process noise
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

    def update(self, H_mw, xi_m, share_me=None) -> list[tuple[np.ndarray, UpdateInfo]]:
        """One update by m numbers; for each filter the errors it took in, and what it did.

        Parameters
        ----------
        H_mw : (m, N) derivatives of the numbers, in the net's units and with force_weight
        xi_m : (m,) reference − prediction, in the same units
        share_me : (m, e) share of each element in a number, for update_strategy 1

        Raises
        ------
        FilterError
            For numbers that are not finite; nothing has changed then.
        """
        s = self.settings
        H_mw, xi_m = np.atleast_2d(H_mw), np.atleast_1d(xi_m)
        share_me = np.ones((len(H_mw), 1)) if s.update_strategy == 0 else np.asarray(share_me, dtype=float)
        wanted = (len(H_mw), len(self.filters))
        require(share_me.shape == wanted, "share_me's shape", share_me.shape, wanted)
        for name, array in (("H", H_mw), ("the error", xi_m)):
            check_finite(name, array, np)
        rises = s.kalman_type == 0 and self.eta < s.kalman_etamax
        eta = self.eta * math.exp(s.kalman_etatau / self.u) if rises else self.eta
        # RLEKF has S = λ R + H P Hᵀ: R = 1 gives n2p2's λ
        R, infos = 1.0 / eta if s.kalman_type == 0 else 1.0, []
        for w, share_m, part in zip(self.parts, share_me.T, self.filters, strict=True):
            H, xi = H_mw[:, w], share_m * xi_m
            if s.jacobian_mode != 2 and len(xi) > 1:  # one process: modes 0 and 1 are the same sum
                H, xi = H.sum(axis=0)[None], xi.sum()[None]
            part.process_noise = self.q
            infos.append((xi, part.update(np.ascontiguousarray(H), xi, R)))
        self.eta = eta
        if self.q > s.kalman_qmin:
            self.q *= math.exp(-s.kalman_qtau / self.u)
        self.updates += 1
        return infos

    def state(self) -> dict[str, Any]:
        """The whole state but for the slices of the weights, ready for HDF5."""
        parts = {f"{k}/{name}": v for k, f in enumerate(self.filters) for name, v in f.state().items()}
        sizes = np.array([w.stop - w.start for w in self.parts], dtype=np.int64)
        own = {"eta": self.eta, "q": self.q, "updates": self.updates, "block_sizes": sizes}
        return {**own, **parts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; the weights are restored, too."""
        stored, wanted = sum(name.endswith("/weights") for name in state), len(self.filters)
        require(stored == wanted, "the number of filters stored", stored, f"{wanted}, of update_strategy")
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
