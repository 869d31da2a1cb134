"""What the fused engines of the CPU have in common: a team of threads, and what follows from pairs alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmandp.engines.cpu import pair_sums
from kalmandp.engines.cpu.buffers import Store
from kalmandp.engines.cpu.threads import Team
from kalmandp.engines.protocol import Engine
from kalmandp.frames.frame import Frame
from kalmandp.geometry.kept import with_pairs
from kalmandp.geometry.neighbours import Pairs, Search

#: Chunks of a frame's atoms with sums of their own at most, and atoms that are worth one: constants, whatever
#: the number of threads.
CHUNKS = 8
ATOMS_PER_CHUNK = 16


class FusedEngine(Engine):
    """The base of the fused engines.

    Their environments have ``geometry`` and ``first_i``: pairs of atom i are first_i[i] … first_i[i+1]−1.

    Parameters
    ----------
    form, layout : of the potential
    threads : how many threads work on a pass; None asks `numba.get_num_threads` each time
    """

    name = "numba"

    def __init__(self, form, layout, threads: int | None = None):
        self.form, self.layout = form, layout
        self._team, self._store = Team(threads), Store()
        self._search, self._each = Search(form.cutoff), np.arange(0)

    def frames(self, data) -> Any:
        """Frames of a data set with their pairs, found once and kept."""
        return with_pairs(data, self.form.cutoff, self.form.type_map)

    def forces(self, env, f_pc):
        """Twin of `pairs.forces_from_pairs`."""
        F_ic = np.empty((env.n_atoms, 3))
        parts = self._store.empty((CHUNKS, env.n_atoms, 3))
        self._team.run(pair_sums.forces, 10 * len(f_pc), env.first_i, env.geometry.j_p, f_pc, parts, F_ic)
        return F_ic

    def virial(self, env, f_pc):
        """Twin of `pairs.virial_from_pairs`."""
        W_icc = self._store.empty((env.n_atoms, 3, 3))
        self._team.run(pair_sums.virials, 10 * len(f_pc), env.first_i, env.geometry.r_pc, f_pc, W_icc)
        W_fcc = np.zeros((env.geometry.n_frames, 3, 3))
        np.add.at(W_fcc, env.geometry.frame_i, W_icc)
        return W_fcc

    def _pairs(self, frames, pairs) -> list[Pairs]:
        """The pairs of each frame: those that are known, or what a search finds."""
        if pairs is not None:
            return pairs
        frames = [frames] if isinstance(frames, Frame) else frames
        return [self._search.pairs(frame.with_type_map(self.form.type_map)) for frame in frames]

    def _count(self, n: int) -> np.ndarray:
        """0, 1, 2, …, at least n of them."""
        if len(self._each) < n:
            self._each = np.arange(n)
        return self._each
