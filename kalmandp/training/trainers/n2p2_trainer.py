"""n2p2's training: one energy or one force component of any structure at a time.

`data.update_feed.UpdateFeed` decides which comes next; the update is `n2p2.N2P2Filter`'s. Numbers are
measured in the units of the net (with u_E internal units of energy per eV and u_F of force per eV/Å)::

    ξ = (E_ref − E) u_E                              H = ∂E/∂w u_E
    ξ = (F_ref − F) u_F · force_weight               H in the same way

With frames of weight ω (`measurements.weights`) ξ and H are multiplied by ω.

This is for comparisons with n2p2, and for those who want its filter as it is; ours (`trainers.kalman`)
measures all forces of a frame at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.errors import InputError, require
from kalmandp.potentials.atomic import Numbers
from kalmandp.training.config.n2p2 import N2P2Settings
from kalmandp.training.data.update_feed import Row, UpdateFeed
from kalmandp.training.measurements.measurement import Sample, make_sample, predict
from kalmandp.training.measurements.weights import frame_weights
from kalmandp.training.report.diagnostics import Update, innovations
from kalmandp.training.trainers.n2p2 import N2P2Filter
from kalmandp.training.trainers.protocol import Guard, Trainer


class Factors(NamedTuple):
    """Internal units per eV and per eV/Å; the latter with force_weight."""

    energy: float
    force: float


class N2P2Trainer(Trainer):
    """n2p2's ``nnp-train``, update by update.

    Parameters
    ----------
    potential : its weights are trained
    settings : of the filter and its schedule
    updates_per_epoch : by which etatau and qtau are divided
    units : internal units per eV and per eV/Å; (1, 1) trains in eV and Å
    guard : called for a context that each update is made in
    covariance : of the filter, see `kalman.RLEKF`

    Raises
    ------
    InputError
        For update_strategy 1 and a potential that has weights outside of the nets of its types.
    """

    def __init__(
        self, potential, settings: N2P2Settings, updates_per_epoch: int,
        units: tuple[float, float] = (1.0, 1.0), guard: Guard = contextlib.nullcontext, covariance="tiled",
    ):  # fmt: skip
        self.potential, self.settings, self.guard = potential, settings, guard
        self.factors = Factors(units[0], units[1] * settings.force_weight)
        parts = [] if settings.update_strategy == 0 else weights_of_types(potential.layout)
        self._weights = np.array(to_numpy(potential.weights))
        self.filter = N2P2Filter(self._weights, settings, updates_per_epoch, parts, covariance)
        self._chosen: list[Row] = []
        self.log: list = []

    @property
    def updates(self) -> int:
        return self.filter.updates

    @property
    def lam(self) -> float:
        return self.filter.lam

    def choose(self, feed: UpdateFeed, frames) -> np.ndarray:
        """The structures of the next update; `step` measures the numbers of them that were chosen."""
        rows = feed.next(lambda kind, f: self.sizes(kind, *frames[f]))
        structures = list(dict.fromkeys(row.structure for row in rows))
        place = {f: k for k, f in enumerate(structures)}
        self._chosen = [row._replace(structure=place[row.structure]) for row in rows]
        return np.array(structures)

    def step(self, sample: Sample) -> dict:
        """One update by the numbers that were chosen last."""
        kind = "energy" if self._chosen[0].atom < 0 else "force"
        H_mw, xi_m, share_mt = self.measure(sample, self._chosen)
        with self.guard():
            infos = self.filter.update(H_mw, xi_m, share_mt)
            self.potential.weights = self._weights
        self.log = []
        if len(infos) == 1:
            (error_q, info), kinds = infos[0], (kind,) * len(infos[0][0])
            found = innovations(kinds, error_q, info.innovation_variance)
            did = (info.nis / len(error_q), info.step_norm, info.gain_norm, info.lam, False)
            self.log.append((Update(self.updates, found, *did), None))
        return {kind: infos[0][1]}

    def sizes(self, kind: str, frame, pairs=None) -> np.ndarray:
        """|ξ| of all numbers of a kind that a structure has; of the energy per atom."""
        sample = make_sample(self.potential, [frame], [pairs])
        now = predict(self.potential, sample, forces=kind == "force")
        if kind == "energy":
            error = labelled(frame, "energy") - to_numpy(now.E_f)
            return np.abs(self.factors.energy * error) / len(frame)
        return np.abs(self.factors.force * (labelled(frame, "forces") - to_numpy(now.F_ic))).ravel()

    def measure(self, sample: Sample, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """H (m, N), ξ (m,) and the shares of the types (m, T) of numbers of one kind, in the net's units.

        Parameters
        ----------
        sample : the structures
        rows : numbers of them, by the structure's place in the sample
        """
        p, T, none = self.potential, self.potential.form.n_types, np.zeros(0, int)
        forces = rows[0].atom >= 0
        now = predict(p, sample, forces=forces)
        f_m = np.array([row.structure for row in rows])
        i_m = sample.first_f[f_m] + [row.atom for row in rows]
        c_m = np.array([row.axis for row in rows])
        if forces:
            wanted = Numbers(none, np.stack([i_m, c_m], axis=1), none, none.reshape(0, 3))
            known_m = [labelled(sample.frames[r.structure], "forces")[r.atom, r.axis] for r in rows]
            error_m, factor = known_m - to_numpy(now.F_ic)[i_m, c_m], self.factors.force
        else:
            wanted = Numbers(f_m, none.reshape(0, 2), none, none.reshape(0, 3))
            known_m = [labelled(sample.frames[f], "energy") for f in f_m]
            error_m, factor = known_m - to_numpy(now.E_f)[f_m], self.factors.energy
        H_mw = to_numpy(p.engine.rows(p.parameters, sample.environment, now.forward, wanted))
        g, share_mt = sample.environment.geometry, np.empty((len(rows), T))
        for m, (f, i) in enumerate(zip(f_m, i_m, strict=True)):
            counted = g.types_i[g.j_p[g.i_p == i]] if forces else sample.frames[f].types
            count_t = np.bincount(counted, minlength=T)
            share_mt[m] = count_t / max(int(count_t.sum()), 1)
        weight_f = frame_weights(sample.frames, "force" if forces else "energy")
        factor_m = np.full(len(rows), factor) if weight_f is None else factor * weight_f[f_m]
        return factor_m[:, None] * H_mw, factor_m * error_m, share_mt

    def traces(self) -> np.ndarray:
        """The trace of each block of P."""
        return np.concatenate([to_numpy(part.covariance.trace()) for part in self.filter.filters])

    def state(self) -> dict:
        return self.filter.state()

    def restore(self, state: dict) -> None:
        if "eta" not in state:
            raise InputError("the input's optimizer is n2p2, the checkpoint's is not; expected the same")
        self.filter.restore(state)
        self.potential.weights = self._weights


def labelled(frame, name: str) -> Any:
    """A label of a frame; an error if it has none."""
    if getattr(frame, name) is None:
        raise InputError(f"{frame.source}: has no {name}; expected them, to be learnt")
    return getattr(frame, name)


def weights_of_types(layout) -> list[slice]:
    """The weights of each type's net.

    Raises
    ------
    InputError
        If there are weights outside of these nets.
    """
    parts = []
    for net in dict.fromkeys(layout.fitting_nets):
        own = [t for t in layout.tensors if t.net == net]
        parts.append(slice(min(t.start for t in own), max(t.stop for t in own)))
    inside = sum(part.stop - part.start for part in parts)
    wanted = "0 for a potential with weights that types share"
    whole = inside == layout.size and len(parts) == len(layout.fitting_nets)
    require(whole, "update_strategy", 1, wanted)
    return parts
