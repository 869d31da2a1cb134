"""n2p2's schedule: an epoch is a shuffled list of updates, each by numbers of any structures.

The next candidates are taken by selection_mode:

0  at random: all candidates are shuffled, and shuffled anew when all have been taken
1  those of the largest errors at the beginning of the epoch first
2  at random, but the next whose error is above a share of the RMSE at the beginning of the epoch; if none is,
   the worst of those tried (n2p2 takes the last)

The mode may change with the epoch. With repeated_energy_update an update by the energies of the same
structures follows each update by forces (n2p2 documents this, and stops where it is stated with forces).

An error is that of a net's number: of an energy per atom, of a force component with force_weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kalmandp.errors import require
from kalmandp.training.config.n2p2 import N2P2Settings

#: |ξ| of all numbers of a kind that a structure has: ``sizes(kind, structure)``.
Sizes = Callable[[str, int], np.ndarray]
KINDS = ("energy", "force")
#: What stands in a schedule, by its number there.
UPDATES = (*KINDS, "again")


class Row(NamedTuple):
    """One number: the energy of a structure, or (with an atom and an axis) a force component."""

    structure: int
    atom: int = -1
    axis: int = -1


def epoch_schedule(
    settings: N2P2Settings, n_energies: int, n_forces: int, rng: np.random.Generator
) -> list[str]:
    """The kinds of the updates of an epoch, "energy" and "force", shuffled into one list.

    "again" after a "force" is an update by the energies of its structures (repeated_energy_update).
    """
    energies, forces = settings.updates(n_energies, n_forces)
    kinds = ["energy"] * energies + ["force"] * forces
    after = {"energy": ["energy"], "force": ["force"] + ["again"] * settings.repeated_energy_update}
    return [kind for k in rng.permutation(len(kinds)) for kind in after[kinds[k]]]


class UpdateFeed:
    """Updates in n2p2's order; stands in for `data.feed.Feed`.

    Parameters
    ----------
    settings : of n2p2's training
    atoms_f : (f,) atoms of each structure
    lacking : kind -> numbers of the structures without this label
    rng : numpy Generator

    Raises
    ------
    InputError
        If an epoch has no update, or an energy that is to be repeated is missing.
    """

    def __init__(self, settings: N2P2Settings, atoms_f, lacking, rng: np.random.Generator):
        self.settings, self.rng = settings, rng
        self.n_frames = len(atoms_f)
        every = np.arange(self.n_frames)
        self._of = {kind: np.setdiff1d(every, np.asarray(lacking[kind], dtype=int)) for kind in KINDS}
        size = {"energy": np.ones(self.n_frames, dtype=int), "force": 3 * np.asarray(atoms_f, dtype=int)}
        self._first = {k: np.concatenate([[0], np.cumsum(size[k][self._of[k]])]) for k in KINDS}
        self.counts = (self.n_candidates("energy"), self.n_candidates("force"))
        energies, forces = settings.updates(*self.counts)
        if settings.repeated_energy_update and forces:
            missing = len(np.setdiff1d(self._of["force"], self._of["energy"]))
            wanted = "0 with repeated_energy_update"
            require(not missing, "number of structures with forces and no energy", missing, wanted)
        n_updates = energies + forces * (1 + settings.repeated_energy_update)
        require(n_updates > 0, "updates of an epoch", 0, "at least 1: larger fractions, or more data")
        self.steps_per_epoch = n_updates
        self.epoch, self.position = 0, 0
        self._kinds = self._schedule()
        self._waiting = {kind: np.zeros(0, dtype=np.int64) for kind in KINDS}
        self._rmse = dict.fromkeys(KINDS, 0.0)
        self._last = np.zeros(0, dtype=np.int64)  # structures of the last update by forces

    def n_candidates(self, kind: str) -> int:
        """How many numbers of a kind there are."""
        return int(self._first[kind][-1])

    @property
    def progress(self) -> float:
        """Epochs so far."""
        return self.epoch + self.position / self.steps_per_epoch

    def next(self, sizes: Sizes) -> list[Row]:
        """The numbers of the next update, all of one kind."""
        if self.position >= self.steps_per_epoch:
            self.epoch, self.position = self.epoch + 1, 0
            self._kinds = self._schedule()
        if self.position == 0:
            for kind in KINDS:
                before, now = (self.settings.mode(kind, max(e, 0)) for e in (self.epoch - 1, self.epoch))
                if before == 1 != now:  # the worst are no longer first
                    self._waiting[kind] = np.zeros(0, dtype=np.int64)
                if now and KINDS.index(kind) in self._kinds:
                    self._look(kind, sizes)
        kind = UPDATES[self._kinds[self.position]]
        self.position += 1
        if kind == "again":
            return [Row(int(f)) for f in self._last]
        rows = [self._row(kind, number) for number in self._chosen(kind, sizes)]
        if kind == "force":
            self._last = np.array(list(dict.fromkeys(row.structure for row in rows)), dtype=np.int64)
        return rows

    def _schedule(self) -> np.ndarray:
        kinds = epoch_schedule(self.settings, *self.counts, self.rng)
        return np.array([UPDATES.index(kind) for kind in kinds], dtype=np.int8)

    def _look(self, kind: str, sizes: Sizes) -> None:
        """Errors of all candidates as they are now: the RMSE, and the order of mode 1."""
        size_k = np.concatenate([sizes(kind, int(f)) for f in self._of[kind]])
        self._rmse[kind] = float(np.sqrt((size_k * size_k).mean()))
        if self.settings.mode(kind, self.epoch) == 1:
            self._waiting[kind] = np.argsort(-size_k, kind="stable")

    def _take(self, kind: str, count: int) -> np.ndarray:
        """The next candidates; shuffled anew when all have been taken."""
        waiting = self._waiting[kind]
        while len(waiting) < count:
            waiting = np.concatenate([waiting, self.rng.permutation(self.n_candidates(kind))])
        self._waiting[kind] = waiting[count:]
        return waiting[:count]

    def _chosen(self, kind: str, sizes: Sizes) -> np.ndarray:
        s = self.settings
        if s.mode(kind, self.epoch) != 2:
            return self._take(kind, s.count(kind))
        chosen = []
        for _ in range(s.count(kind)):
            best, worst = -1, -1.0
            for _ in range(min(s.trials(kind), self.n_candidates(kind))):
                number = int(self._take(kind, 1)[0])
                f, within = self._place(kind, number)
                error = float(sizes(kind, f)[within])
                if error > worst or best < 0:
                    best, worst = number, error
                if error > s.threshold(kind) * self._rmse[kind]:
                    break
            chosen.append(best)
        return np.array(chosen)

    def _place(self, kind: str, number: int) -> tuple[int, int]:
        """The structure of a candidate, and which of its numbers it is."""
        k = int(np.searchsorted(self._first[kind], number, side="right")) - 1
        return int(self._of[kind][k]), int(number - self._first[kind][k])

    def _row(self, kind: str, number: int) -> Row:
        structure, within = self._place(kind, int(number))
        return Row(structure) if kind == "energy" else Row(structure, within // 3, within % 3)

    def coming(self, n: int) -> np.ndarray:
        """None is known before it is drawn."""
        return np.zeros(0, dtype=np.int64)

    def state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch, "position": self.position, "n_frames": self.n_frames, "kinds": self._kinds,
            "last": self._last,
            **{f"waiting_{kind}": self._waiting[kind] for kind in KINDS},
            **{f"rmse_{kind}": self._rmse[kind] for kind in KINDS},
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        require("kinds" in state, "the checkpoint's optimizer", "another", "n2p2, as in the input")
        kinds = np.array(state["kinds"], dtype=np.int8)
        wanted = f"{self.steps_per_epoch}, as the input says"
        require(len(kinds) == self.steps_per_epoch, "updates of the checkpoint's epoch", len(kinds), wanted)
        self.epoch, self.position, self._kinds = int(state["epoch"]), int(state["position"]), kinds
        self._last = np.array(state.get("last", self._last), dtype=np.int64)
        for kind in KINDS:
            self._waiting[kind] = np.array(state[f"waiting_{kind}"], dtype=np.int64)
            self._rmse[kind] = float(state[f"rmse_{kind}"])
