"""Numba twin of NEP's descriptor and of `potentials.atomic`: fused loops over atoms and their pairs.

All that is geometric is computed once for a frame (`FusedEnvironment`) and needs no search and no cosine
again. Between visits of a frame only its pairs are kept, 32 bytes each; making the rest anew takes about a
tenth of the time of a frame's rows of H. See `row_parts` and `force_kernels` for what these have in common.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cpu.fused import ATOMS_PER_CHUNK, CHUNKS, FusedEngine
from kalmandp.engines.cpu.nep import environment_kernels, force_kernels, prediction_kernels, row_kernels
from kalmandp.engines.cpu.nep.tables import (
    LANES,
    Weights,
    constants_of,
    padded,
    places_of,
    sizes_of,
    weights_of,
)
from kalmandp.geometry.pairs import Geometry, atoms_by_type, gather
from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.nep.zbl import pair_table, repulsion
from kalmandp.potentials.protocol import Parameters

#: The six strains, (d, c) with d ≤ c.
STRAINS = tuple((d, c) for d in range(3) for c in range(d, 3))


class Arrays(NamedTuple):
    """What kernels take of a frame: flat arrays, rows padded as in `tables`.

    first_i : (i + 1,) pairs of atom i are first_i[i] … first_i[i+1]−1;  first_a : the same for angular pairs
    n_pc, df_pk : r̂ and f′ of the radial part
    pairs_a, f_ak, df_ak, b_am, db_acm : angular pairs: their numbers, f, f′, b, ∂b/∂r
    phi : (i, kt);  S : (i, kt, m)
    """

    types_i: Any
    j_p: Any
    first_i: Any
    first_a: Any
    n_pc: Any
    df_pk: Any
    pairs_a: Any
    f_ak: Any
    df_ak: Any
    b_am: Any
    db_acm: Any
    phi: Any
    S: Any


class FusedEnvironment(NamedTuple):
    """Twin of `nep.environment.Environment`.

    fixed : None, or E_i and (pairs, f_pc) of the repulsion of nuclei
    chunks : (c, 3) first atom, one past the last, and frame of pieces of frames
    """

    geometry: Geometry
    atoms_t: tuple
    scaler: Any
    arrays: Arrays
    fixed: Any
    chunks: Any

    @property
    def n_atoms(self) -> int:
        return self.geometry.n_atoms

    @property
    def first_i(self) -> Any:
        return self.arrays.first_i

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        arrays = {id(a): a for a in (*self.geometry, *self.arrays, *(self.fixed or ()))}
        return sum(a.nbytes for a in arrays.values() if isinstance(a, np.ndarray))


class Sums(NamedTuple):
    """Of each atom: q̂, s, h, h′, w1 h′, w1 h″, γ, y; see `prediction_kernels`."""

    q: Any
    s: Any
    h: Any
    d1: Any
    a1: Any
    a2: Any
    gamma: Any
    y: Any


class Model(NamedTuple):
    """What the form alone decides: sizes, constants, and places of weights; see `tables`."""

    z: Any
    k: Any
    places: Any


class Known(NamedTuple):
    """What a pass forward knows: padded w, sums of each atom, St and D of `jacobians`."""

    weights: Weights
    sums: Sums
    St: Any
    D: Any


class FusedForward(NamedTuple):
    """weights : padded w;  sums : of each atom;  rows : St and D of `jacobians`, made when first asked for"""

    weights: Weights
    sums: Sums
    rows: list


class NEPNumbaEngine(FusedEngine):
    """The passes of a NEP; parameters as `FusedEngine` has them."""

    def __init__(self, form, layout, threads: int | None = None):
        super().__init__(form, layout, threads)
        self._z, self._k = sizes_of(form), constants_of(form)
        self._places = places_of(form, layout)
        self._model = Model(self._z, self._k, self._places)
        self._table = None if form.zbl is None else pair_table(form.zbl, form.type_map)

    def environment(self, statistics, frames, pairs=None) -> FusedEnvironment:
        """Twin of `NEPDescriptor.environment`."""
        z, g = self._z, gather(frames, self.form.type_map, self.form.cutoff, self._pairs(frames, pairs))
        n, n_p = g.n_atoms, len(g.i_p)
        first_i = np.searchsorted(g.i_p, np.arange(n + 1))
        n_pc, r_p, df_pk, phi = self._store.several((n_p, 3), (n_p,), (n_p * z.kR,), (n * z.Rp,))
        e = self._arrays(g, first_i, np.zeros(n + 1, np.int64), n_pc, df_pk, phi)
        count_i, space = (
            np.empty(n, np.int64),
            self._store.empty((self._team.size, (2 * max(z.kR, z.kA) + 3) * LANES)),
        )
        self._team.run(environment_kernels.radial, 60 * n_p, z, self._k, e, g.r_pc, space, r_p, count_i)
        e = self._arrays(g, first_i, np.concatenate([[0], np.cumsum(count_i)]), n_pc, df_pk, phi)
        work = (10 + z.kA) * z.Mp * len(e.pairs_a)
        self._team.run(environment_kernels.angular, work, z, self._k, e, space, r_p)
        scaler = np.ascontiguousarray(statistics["q_scaler"], dtype=float)
        fixed = self._fixed(g, e.pairs_a, r_p, n_pc)
        return FusedEnvironment(g, atoms_by_type(g, z.T), scaler, e, fixed, chunks_of(g))

    def _arrays(self, g: Geometry, first_i, first_a, n_pc, df_pk, phi) -> Arrays:
        """`Arrays` with room for the angular pairs, which a kernel will fill."""
        z, n, n_a = self._z, g.n_atoms, int(first_a[-1])
        k, m = (n_a * z.kA,), n_a * z.Mp
        f_ak, df_ak, b, db, S = self._store.several(k, k, (m,), (3 * m,), (n * z.kA * z.T * z.Mp,))
        pairs_a = self._store.empty((n_a,), np.int64)
        return Arrays(g.types_i, g.j_p, first_i, first_a, n_pc, df_pk, pairs_a, f_ak, df_ak, b, db, phi, S)

    def _fixed(self, g: Geometry, pairs_a, r_p, n_pc):
        """E_i, and f_pc of the pairs that are near enough to repel each other."""
        if self._table is None:
            return None
        outer = self._table[:, :, 3][g.types_i[g.i_p[pairs_a]], g.types_i[g.j_p[pairs_a]]]
        near = pairs_a[r_p[pairs_a] < outer]
        E_i, f_pc = repulsion(self._table, g.types_i, g.i_p[near], g.j_p[near], r_p[near], n_pc[near])
        return E_i, near, f_pc

    def energies(self, par: Parameters, env: FusedEnvironment):
        """Twin of `atomic.energies`."""
        z, n = self._z, env.n_atoms
        weights = weights_of(z, self._places, par.weights, env.scaler)
        q, s, h = (n * z.dimp,), (n * z.Mp * z.nAp,), (n * z.neup,)
        sums = Sums(*self._store.several(q, s, h, h, h, h, q, s))
        E_i = np.empty(n)
        work = n * (2 * z.dimp * z.neup + z.nA * z.kA * z.T * z.Mp)
        self._team.run(
            prediction_kernels.energies, work, z, self._k, weights,
            np.ascontiguousarray(par.bias_t, dtype=float), env.arrays, sums, E_i,
        )  # fmt: skip
        if env.fixed is not None:
            E_i += env.fixed[0]
        return E_i, FusedForward(weights, sums, [])

    def pair_gradient(self, par: Parameters, env: FusedEnvironment, fwd: FusedForward, once: bool = False):
        """Twin of `atomic.pair_gradient`: f_pc = ∂E/∂r_pc."""
        z, g = self._z, env.geometry
        f_pc = self._store.empty((len(g.i_p), 3))
        space = self._store.empty((self._team.size, z.Rp + 6 * z.nAp))
        work = len(f_pc) * (z.kR + 5) + len(env.arrays.pairs_a) * (2 * z.nA + 10) * z.Mp
        self._team.run(
            prediction_kernels.pair_gradient, work, z, fwd.weights, env.arrays, fwd.sums, space, f_pc
        )
        if env.fixed is not None:
            _, near, f_near = env.fixed
            f_pc[near] += f_near
        return f_pc

    def energy_gradient(self, par, env, fwd, E_bar_i):
        """Twin of `atomic.energy_gradient`."""
        return self._energy_rows(env, fwd, env.chunks, E_bar_i).sum(axis=0)

    def weight_gradient(self, par, env, fwd, E_bar_i, v_pc):
        """Twin of `atomic.weight_gradient`; atoms that feel neither Ē nor v are passed over."""
        gradient = self._motion_rows(env, fwd, env.chunks, v_pc[None]).sum(axis=(0, 1))
        return gradient + self.energy_gradient(par, env, fwd, E_bar_i) if np.any(E_bar_i) else gradient

    def rows(self, par, env, fwd, numbers: Numbers):
        """Twin of `atomic.rows`."""
        H_mw = np.zeros((numbers.n_rows, self.layout.size))
        ends = np.cumsum([len(part) for part in numbers]).tolist()
        H_energy, H_force, H_atom, H_virial = np.split(H_mw, ends[:-1])
        if len(numbers.energy_f):
            chunks, f_c = frames_only(env.chunks, numbers.energy_f)
            add_up(H_energy, numbers.energy_f, f_c, self._energy_rows(env, fwd, chunks, np.ones(env.n_atoms)))
        if len(numbers.force_k):
            self._force_rows(env, fwd, np.asarray(numbers.force_k, np.int64), H_force)
        if len(numbers.atom_i):
            i = np.asarray(numbers.atom_i, np.int64)
            H_atom[...] = self._energy_rows(env, fwd, np.stack([i, i + 1, i], axis=1), np.ones(env.n_atoms))
        if len(numbers.virial_k):
            self._virial_rows(env, fwd, np.asarray(numbers.virial_k, np.int64), H_virial)
        return H_mw

    def _energy_rows(self, env: FusedEnvironment, fwd: FusedForward, chunks, E_bar_i):
        """∂(Σ Ē_i E_i)/∂w of each chunk of atoms."""
        z = self._z
        _, D = self._jacobians(env, fwd)
        H = self._store.zeros((len(chunks), self.layout.size))
        space = self._store.zeros((self._team.size, z.T * z.G))
        work = env.n_atoms * (z.G + len(D) // max(env.n_atoms, 1))
        self._team.run(
            row_kernels.energy_rows, work, z, self._places, chunks,
            np.ascontiguousarray(E_bar_i, dtype=float), env.arrays, fwd.sums, D, space, H,
        )  # fmt: skip
        return H

    def _motion_rows(self, env: FusedEnvironment, fwd: FusedForward, chunks, v_dpc):
        """∂(Σ f_p·v_p)/∂w of each chunk of atoms and each motion, (chunk, motion, N)."""
        z, n = self._z, len(v_dpc)
        St, D = self._jacobians(env, fwd)
        H = self._store.zeros((len(chunks) * n, self.layout.size))
        space = self._store.zeros((self._team.size, n * z.T * z.G))
        self._team.run(
            row_kernels.motion_rows, 4 * n * env.n_atoms * z.G, self._model, chunks,
            np.ascontiguousarray(v_dpc, dtype=float), env.arrays, Known(fwd.weights, fwd.sums, St, D), space,
            self._work(n), H,
        )  # fmt: skip
        return H.reshape(len(chunks), n, -1)

    def _force_rows(self, env: FusedEnvironment, fwd: FusedForward, force_k, H) -> None:
        """Rows of single force components; those of one atom are made together."""
        z, g = self._z, env.geometry
        St, D = self._jacobians(env, fwd)
        tasks, twice = tasks_of(force_k)
        space = self._store.zeros((self._team.size, 3 * z.T * z.G))
        neighbours = len(g.i_p) // max(env.n_atoms, 1) + 1
        self._team.run(
            force_kernels.force_rows, 5 * len(tasks) * neighbours * z.G, self._model, tasks, env.arrays,
            Known(fwd.weights, fwd.sums, St, D), space, self._work(3), H,
        )  # fmt: skip
        for row, like in twice:
            H[row] = H[like]

    def _virial_rows(self, env: FusedEnvironment, fwd: FusedForward, virial_k, H) -> None:
        """Rows of virial components: the strains that are wanted, all frames at once."""
        frame_m = virial_k[:, 0]
        strain_m = [STRAINS.index((min(d, c), max(d, c))) for _, d, c in virial_k.tolist()]
        chunks, f_c = frames_only(env.chunks, frame_m)
        wanted = sorted(set(strain_m))
        r_pc = env.geometry.r_pc
        v_dpc = self._store.zeros((len(wanted), *r_pc.shape))
        for v_pc, number in zip(v_dpc, wanted, strict=True):
            # v = −C r with C = ½ (e_d e_cᵀ + e_c e_dᵀ)
            d, c = STRAINS[number]
            v_pc[:, d] -= 0.5 * r_pc[:, c]
            v_pc[:, c] -= 0.5 * r_pc[:, d]
        rows = self._motion_rows(env, fwd, chunks, v_dpc)
        for row, f, number in zip(H, frame_m, strain_m, strict=True):
            row += rows[f_c == f, wanted.index(number)].sum(axis=0)

    def _jacobians(self, env: FusedEnvironment, fwd: FusedForward):
        """St and D of `prediction_kernels.jacobians`."""
        if not fwd.rows:
            z, n = self._z, env.n_atoms
            St, D = self._store.several((n * z.M * z.Ap,), (n * z.nl * z.nA * z.Ap,))
            work = n * z.nA * (z.M + 3 * len(self._k.c_z)) * z.Ap
            self._team.run(prediction_kernels.jacobians, work, z, self._k, env.arrays, fwd.sums, St, D)
            fwd.rows.extend((St, D))
        return fwd.rows

    def _work(self, n: int):
        """Work space of `row_kernels` for n motions."""
        z = self._z
        moving = n * (max(z.Rp, z.nRp) + z.Mp * z.nAp) + 6 * z.nAp
        one = 3 * z.dimp + z.neup + (z.nAp + 6) * z.Mp
        return self._store.empty((self._team.size, padded(moving + one)))


def chunks_of(g: Geometry) -> np.ndarray:
    """Pieces of frames: first atom, one past the last, frame."""
    sizes = np.bincount(g.frame_i, minlength=g.n_frames).tolist()
    rows, first = [], 0
    for f, size in enumerate(sizes):
        count = max(1, min(CHUNKS, size // ATOMS_PER_CHUNK))
        edges = [first + size * c // count for c in range(count + 1)]
        rows += [(a, b, f) for a, b in pairwise(edges)]
        first += size
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def frames_only(chunks, frames):
    """The chunks of some frames, and the frame of each."""
    chunks = np.ascontiguousarray(chunks[np.isin(chunks[:, 2], frames)])
    return chunks, chunks[:, 2]


def add_up(H, frame_m, frame_c, rows) -> None:
    """Row m of H: the sum over the chunks of frame_m, in their order."""
    for row, f in zip(H, frame_m, strict=True):
        row += rows[frame_c == f].sum(axis=0)


def tasks_of(force_k):
    """Tasks of `row_kernels.force_rows`, one per atom, and (row, row) of what is asked for twice."""
    axes: dict[int, dict[int, int]] = {}
    twice = []
    for row, (i, c) in enumerate(force_k.tolist()):
        of_atom = axes.setdefault(i, {})
        if c in of_atom:
            twice.append((row, of_atom[c]))
        else:
            of_atom[c] = row
    tasks = np.zeros((len(axes), 8), dtype=np.int64)
    for task, (i, of_atom) in zip(tasks, axes.items(), strict=True):
        count = len(of_atom)
        task[:2] = i, count
        task[2 : 2 + count] = list(of_atom)
        task[5 : 5 + count] = list(of_atom.values())
    return tasks, twice
