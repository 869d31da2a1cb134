"""n2p2's training, epoch by epoch: one energy or one force component at a time, of any structure.

An epoch is a shuffled list of updates (`n2p2.epoch_schedule`). Each takes the next candidates: at random,
those of the largest errors at the beginning of the epoch, or the next whose error is above a share of the
RMSE (of those tried the worst, if none is; n2p2 takes the last). Numbers are measured in the units of the
net::

    ξ = (E_ref − E) conv_energy                                      H = ∂E/∂w conv_energy
    ξ = (F_ref − F) conv_energy/conv_length · force_weight,          H alike

This is for comparisons with n2p2, and for who wants its filter as it is; ours (`trainers.kalman`) measures
all forces of a frame at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kalmandp.errors import InputError, require
from kalmandp.potentials.atomic import Numbers
from kalmandp.training.trainers.n2p2 import N2P2Filter, N2P2Settings, epoch_schedule, select


class Row(NamedTuple):
    """One number: the energy of a structure, or (with an atom and an axis) a force component."""

    structure: int
    atom: int = -1
    axis: int = -1


class Factors(NamedTuple):
    """Internal units per eV and per eV/Å; the latter with force_weight."""

    energy: float
    force: float


class N2P2Training:
    """n2p2's ``nnp-train`` for a potential with one net for each type.

    Parameters
    ----------
    potential : `Potential`, whose weights are trained
    data : frames with energies, and with forces if the settings use them
    settings : `N2P2Settings`
    rng : draws the order of candidates and updates
    factors : `Factors` of the potential's form; (1, force_weight) trains in eV and Å
    covariance : of the filter, see `kalman.RLEKF`

    Raises
    ------
    InputError
        Frames without labels, or settings with which an epoch has no update.
    """

    def __init__(
        self, potential, data, settings: N2P2Settings, rng, factors: Factors | None = None, covariance="tiled"
    ):  # fmt: skip
        self.potential, self.settings, self.rng = potential, settings, rng
        self.factors = Factors(1.0, settings.force_weight) if factors is None else factors
        self.items = potential.engine.frames(data)
        frames = [self.items[k][0] for k in range(len(self.items))]
        self.energies = [Row(k) for k in range(len(frames))]
        self.forces = [Row(k, i, c) for k, f in enumerate(frames) for i in range(len(f)) for c in range(3)]
        n_energies, n_forces = settings.updates(len(self.energies), len(self.forces))
        enough = "at least 1: larger fractions, or more data"
        require(n_energies + n_forces > 0, "updates of an epoch", 0, enough)
        for frame in frames:
            if frame.energy is None or (n_forces and frame.forces is None):
                raise InputError(f"{frame.source}: has no energy or no forces; expected both")
        weights = potential.weights.copy()
        potential.share_weights(weights)
        self.filter = N2P2Filter(
            weights, settings, n_energies + n_forces, _weights_of_types(potential.layout), covariance
        )
        self._waiting: dict[str, list[Row]] = {"energy": [], "force": []}
        self._rmse = {"energy": 0.0, "force": 0.0}

    def epoch(self) -> dict[str, int]:
        """One epoch; how many updates were made by energies and by forces."""
        s, made = self.settings, {"energy": 0, "force": 0}
        kinds = epoch_schedule(s, len(self.energies), len(self.forces), self.rng)
        for kind in set(kinds) if s.selection_mode else ():
            self._look(kind)
        for kind in kinds:
            self.filter.update(*self.measure(self._next(kind)))
            made[kind] += 1
        return made

    def _candidates(self, kind: str) -> list[Row]:
        return self.energies if kind == "energy" else self.forces

    def _look(self, kind: str) -> None:
        """Errors of all candidates as they are now: the RMSE, and the order of mode 1."""
        rows = self._candidates(kind)
        errors = self._sizes(rows)
        self._rmse[kind] = float(np.sqrt((errors**2).mean()))
        if self.settings.selection_mode == 1:
            self._waiting[kind] = [rows[k] for k in select(errors, len(rows), 1, self.rng)]

    def _sizes(self, rows: list[Row]) -> np.ndarray:
        """|ξ| of rows; of an energy per atom."""
        _, xi_m, _ = self.measure(rows, derivatives=False)
        atoms = [1 if row.atom >= 0 else len(self.items[row.structure][0]) for row in rows]
        return np.abs(xi_m) / np.array(atoms)

    def _take(self, kind: str, count: int) -> list[Row]:
        """The next candidates; shuffled anew when all have been taken."""
        waiting = self._waiting[kind]
        while len(waiting) < count:
            rows = self._candidates(kind)
            waiting += [rows[k] for k in self.rng.permutation(len(rows))]
        self._waiting[kind] = waiting[count:]
        return waiting[:count]

    def _next(self, kind: str) -> list[Row]:
        """The rows of an update."""
        s = self.settings
        count = s.task_batch_size_energy if kind == "energy" else s.task_batch_size_force
        if s.selection_mode != 2:
            return self._take(kind, count)
        share = s.short_energy_error_threshold if kind == "energy" else s.short_force_error_threshold
        chosen = []
        for _ in range(count):
            best, worst = None, -1.0
            for _ in range(max(1, s.rmse_threshold_trials)):
                (row,) = self._take(kind, 1)
                error = float(self._sizes([row])[0])
                if error > worst:
                    best, worst = row, error
                if error > share * self._rmse[kind]:
                    break
            chosen.append(best)
        return chosen  # type: ignore[return-value]

    def measure(self, rows: list[Row], derivatives: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """H (m, N), ξ (m,) and the shares of the types (m, T) of rows, in the net's units."""
        p, T = self.potential, self.potential.form.n_types
        H_mw = np.zeros((len(rows) if derivatives else 0, p.layout.size))
        xi_m, share_mt = np.empty(len(rows)), np.empty((len(rows), T))
        of_structure: dict[int, list[int]] = {}
        for m, row in enumerate(rows):
            of_structure.setdefault(row.structure, []).append(m)
        for structure, numbers in of_structure.items():
            frame, kept = self.items[structure]
            env = p.engine.environment(p.statistics, [frame], [kept])
            E_i, cache = p.engine.energies(p.parameters, env)
            g, by_force = env.geometry, [m for m in numbers if rows[m].atom >= 0]
            by_energy = [m for m in numbers if rows[m].atom < 0]
            F_ic = np.zeros((0, 3))
            if by_force:
                F_ic = p.engine.forces(env, p.engine.pair_gradient(p.parameters, env, cache))
            for m in numbers:
                i, c = rows[m].atom, rows[m].axis
                if i < 0:
                    xi_m[m] = self.factors.energy * (frame.energy - E_i.sum())
                    count_t = np.bincount(g.types_i, minlength=T)
                else:
                    xi_m[m] = self.factors.force * (frame.forces[i, c] - F_ic[i, c])
                    count_t = np.bincount(g.types_i[g.j_p[g.i_p == i]], minlength=T)
                share_mt[m] = count_t / max(int(count_t.sum()), 1)
            if derivatives:
                none = np.zeros(0, int)
                wanted = Numbers(
                    np.zeros(len(by_energy), int),
                    np.array([rows[m][1:] for m in by_force], int).reshape(-1, 2), none, none.reshape(0, 3),
                )  # fmt: skip
                factor_m = [self.factors.energy] * len(by_energy) + [self.factors.force] * len(by_force)
                H = p.engine.rows(p.parameters, env, cache, wanted)
                H_mw[by_energy + by_force] = np.array(factor_m)[:, None] * H
        return H_mw, xi_m, share_mt


def _weights_of_types(layout) -> list[slice]:
    """The weights of each type's net."""
    parts = []
    for net in layout.fitting_nets:
        own = [t for t in layout.tensors if t.net == net]
        parts.append(slice(min(t.start for t in own), max(t.stop for t in own)))
    return parts
