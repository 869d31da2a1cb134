"""Numba twin of an HDNNP: symmetry functions once for a frame, then nets only.

G and ∂G/∂r depend on the frame alone and are kept with it (`frames`), without the scaling of scaling.data:
that is a multiplication for each atom. A row of H for a single force component goes over its atom and those
that see it; several numbers are shared out among the threads.

Of frames that are not kept, only G is computed at first. Their forces come from a second pass over the
neighbours, with the weights q̄ of the nets; ∂G/∂r of each function is computed if a row of H asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cpu import network as network_kernels
from kalmandp.engines.cpu.fused import FusedEngine
from kalmandp.engines.cpu.hdnnp import kernels
from kalmandp.engines.cpu.hdnnp.curves import LANES
from kalmandp.engines.cpu.hdnnp.function_kernels import (
    STRAINS,
    Neighbours,
    function_space,
    symmetry_functions,
)
from kalmandp.engines.cpu.hdnnp.nets import net_stack
from kalmandp.engines.cpu.hdnnp.tables import SymmetryTables, symmetry_tables
from kalmandp.engines.cpu.network import LayerAdjoints, NetCache, NetRows, multiplications
from kalmandp.frames.kept import KeptFrames, frame_bytes
from kalmandp.geometry.pairs import Geometry, gather
from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.hdnnp.environment import scaling_numbers
from kalmandp.potentials.protocol import Parameters


class Derivatives(NamedTuple):
    """∂G/∂r of frames side by side.

    dG : ∂G/∂r in 1/Å, for pair p from offset_p[p] on: x of all functions of its class, then y, then z; and
        a vector of zeros at the end
    strain_ikd : (i, 6, d) Ġ along the strains
    by_j, first_j : the pairs whose neighbour is atom j, in their order
    """

    dG: Any
    offset_p: Any
    strain_ikd: Any
    by_j: Any
    first_j: Any


#: Of frames without.
NO_DERIVATIVES = Derivatives(
    np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 6, 0)), np.zeros(0, np.int64), np.zeros(0, np.int64)
)


class Functions(NamedTuple):
    """What is kept of frames side by side.

    geometry : atoms and pairs;  first_i : pairs of atom i are first_i[i] … first_i[i+1]−1
    G_id : (i, d) symmetry functions
    derivatives : how they move
    """

    geometry: Geometry
    first_i: Any
    G_id: Any
    derivatives: Derivatives

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (*self.geometry, self.first_i, self.G_id, *self.derivatives)
        return sum(x.nbytes for x in arrays if isinstance(x, np.ndarray))


class PairData(NamedTuple):
    """What loops over pairs take, in one piece."""

    n_types: int
    n_c: Any
    d_cm: Any
    types_i: Any
    i_p: Any
    j_p: Any
    first_i: Any
    offset_p: Any
    dG: Any
    by_j: Any
    first_j: Any
    factor_td: Any


class FrameData(NamedTuple):
    """Which atoms belong to a frame: frame of each atom, where each type's rows begin; the atom of each row
    and its inverse; Ġ along the strains."""

    frame_i: Any
    first_t: Any
    order: Any
    row_i: Any
    strain_ikd: Any


@dataclass
class FusedEnvironment:
    """Twin of `HDNNPEnvironment`.

    functions : with derivatives, or without: then ``derive`` computes them when they are asked for
    order_r : atom of row r of the nets;  row_i : its inverse;  first_t : where each type's rows begin
    blocks : rows in blocks, see `cpu.network`
    """

    functions: Functions
    q_id: Any
    tables: SymmetryTables
    factor_td: Any
    order_r: Any
    row_i: Any
    first_t: Any
    blocks: Any
    derive: Callable[[Functions], Derivatives]

    @property
    def geometry(self) -> Geometry:
        return self.functions.geometry

    @property
    def n_atoms(self) -> int:
        return self.geometry.n_atoms

    @property
    def first_i(self) -> Any:
        return self.functions.first_i

    @property
    def nbytes(self) -> int:
        """Bytes of the symmetry functions and their derivatives."""
        return self.functions.nbytes

    @property
    def derived(self) -> bool:
        """Whether the frames came with derivatives."""
        return self.functions.derivatives is not NO_DERIVATIVES

    @cached_property
    def derivatives(self) -> Derivatives:
        return self.functions.derivatives if self.derived else self.derive(self.functions)

    @cached_property
    def pairs(self) -> PairData:
        """Pairs with ∂G/∂r."""
        return self.pairs_with(self.derivatives)

    def pairs_with(self, derivatives: Derivatives) -> PairData:
        g, d = self.geometry, derivatives
        return PairData(
            self.tables.n_types, self.tables.n_c, self.tables.d_cm, g.types_i, g.i_p, g.j_p, self.first_i,
            d.offset_p, d.dG, d.by_j, d.first_j, self.factor_td,
        )  # fmt: skip


class Space(NamedTuple):
    """Work space of the nets: rows of a layer, rows of all; q̄ in the order of a class."""

    rows: Any
    layers: Any
    local: Any


class Room(NamedTuple):
    """Room for the entries of one number of `rows`, the first index being the thread."""

    place: Any
    listed: Any
    first: Any
    source: Any
    a_bar: Any
    a_dot_bar: Any
    X_dot: Any
    a_dot: Any
    idt_bar: Any


class NumbaEngine(FusedEngine):
    """The passes of an HDNNP; parameters as `FusedEngine` has them."""

    def __init__(self, form, layout, threads: int | None = None):
        super().__init__(form, layout, threads)
        self.tables: SymmetryTables = symmetry_tables(form)
        self._nets, self._activations = net_stack(layout)

    def frames(self, data) -> KeptFrames:
        """Frames of a data set with their symmetry functions and derivatives, computed once and kept."""
        size = lambda frame, functions: frame_bytes(frame) + functions.nbytes
        return KeptFrames(data, self.form.type_map, self.functions, size)

    def functions(self, frames, pairs=None, derivatives: bool = True) -> Functions:
        """G of frames side by side, and ∂G/∂r unless ``derivatives`` is False."""
        g = gather(frames, self.form.type_map, self.form.cutoff, self._pairs(frames, pairs))
        first_i = np.searchsorted(g.i_p, np.arange(g.n_atoms + 1))
        functions = Functions(g, first_i, np.empty((g.n_atoms, max(self.form.size_t))), NO_DERIVATIVES)
        if derivatives:
            return functions._replace(derivatives=self._derivatives(functions))
        self._symmetry_functions(functions, NO_DERIVATIVES)
        return functions

    def _derivatives(self, functions: Functions) -> Derivatives:
        """∂G/∂r; G is computed with it."""
        g, tables, n_d = functions.geometry, self.tables, functions.G_id.shape[1]
        counts = 3 * tables.n_c[g.types_i[g.i_p] * tables.n_types + g.types_i[g.j_p]]
        ends = np.cumsum(counts)
        by_j = np.argsort(g.j_p, kind="stable")
        first_j = np.searchsorted(g.j_p[by_j], np.arange(g.n_atoms + 1))
        size = int(ends[-1]) if len(ends) else 0
        dG = np.empty(size + LANES)
        dG[size:] = 0.0
        strain_ikd = np.zeros((g.n_atoms, 6, n_d))
        derivatives = Derivatives(dG, ends - counts, strain_ikd, by_j, first_j)
        self._symmetry_functions(functions, derivatives)
        return derivatives

    def _symmetry_functions(self, functions: Functions, derivatives: Derivatives, q_bar_id=None, f_pc=None):
        """Twin of `environment.symmetry_functions`; or f = Σ_d q̄_d ∂G_d/∂r instead of the derivatives."""
        g, first_i, tables = functions.geometry, functions.first_i, self.tables
        most = int(np.diff(first_i).max(initial=1))
        nothing = np.empty((0, functions.G_id.shape[1]))
        space = function_space(tables, self._team.size, most, len(derivatives.dG) > 0)
        atoms = Neighbours(first_i, g.types_i, g.j_p, g.r_pc)
        self._team.run(
            symmetry_functions, 100 * len(g.i_p), tables, atoms, space,
            nothing if q_bar_id is None else q_bar_id, nothing if f_pc is None else f_pc,
            derivatives.offset_p, derivatives.dG, derivatives.strain_ikd, functions.G_id,
        )  # fmt: skip

    def environment(self, statistics, frames, pairs=None) -> FusedEnvironment:
        """Twin of `HDNNPDescriptor.environment`; ``pairs`` may be the `Functions` that `frames` has kept."""
        kept = pairs is not None and len(pairs) > 0 and all(isinstance(p, Functions) for p in pairs)
        functions = _side_by_side(list(pairs)) if kept else self.functions(frames, pairs, derivatives=False)
        g, T = functions.geometry, self.form.n_types
        shift_td, factor_td = (np.ascontiguousarray(x, float) for x in scaling_numbers(self.form, statistics))
        q_id = shift_td[g.types_i] + factor_td[g.types_i] * functions.G_id
        order_r = np.argsort(g.types_i, kind="stable")
        row_i = np.empty_like(order_r)
        row_i[order_r] = np.arange(len(order_r))
        first_t = np.searchsorted(g.types_i[order_r], np.arange(T + 1))
        blocks = network_kernels.row_blocks(first_t)
        return FusedEnvironment(
            functions, q_id, self.tables, factor_td, order_r, row_i, first_t, blocks, self._derivatives
        )

    def energies(self, par: Parameters, env: FusedEnvironment):
        """Twin of `atomic.energies`."""
        nets, n = self._nets, env.n_atoms
        a = (n, nets.n_a)
        cache, E_i = NetCache(*self._store.several((n, nets.n_x), a, a, a)), np.empty(n)
        self._team.run(
            kernels.energies, self._work(n), nets, self._activations, env.blocks, env.order_r, par.weights,
            np.ascontiguousarray(par.bias_t, float), env.q_id, cache, self._store.empty((n, 1)), E_i,
        )  # fmt: skip
        return E_i, cache

    def pair_gradient(self, par: Parameters, env: FusedEnvironment, cache: NetCache, once: bool = False):
        """Twin of `atomic.pair_gradient`: from the ∂G/∂r that rows of H take, too; ``once`` without it.

        Which way is taken does not depend on what has been kept, so neither do the bits.
        """
        n, functions = env.n_atoms, env.functions
        f_pc = self._store.empty((len(env.geometry.i_p), 3))
        pairs = env.pairs_with(NO_DERIVATIVES) if once else env.pairs
        q_bar_id = np.empty((n if once else 0, functions.G_id.shape[1]))
        self._team.run(
            kernels.pair_gradient, self._work(n) + len(pairs.dG), self._space(), self._nets, env.blocks,
            env.order_r, self._count(n), par.weights, cache, pairs, q_bar_id, f_pc,
        )  # fmt: skip
        if once:
            again = functions._replace(G_id=np.empty_like(functions.G_id))
            self._symmetry_functions(again, NO_DERIVATIVES, q_bar_id, f_pc)
        return f_pc

    def energy_gradient(self, par, env, cache, E_bar_i):
        """Twin of `atomic.energy_gradient`."""
        return self._weight_gradient(par, env, cache, E_bar_i, np.empty((0, 3)))

    def weight_gradient(self, par, env, cache, E_bar_i, v_pc):
        """Twin of `atomic.weight_gradient`; atoms that feel neither Ē nor v are passed over."""
        return self._weight_gradient(par, env, cache, E_bar_i, np.ascontiguousarray(v_pc, dtype=float))

    def _weight_gradient(self, par, env, cache, E_bar_i, v_pc):
        nets = self._nets
        E_bar_i = np.ascontiguousarray(E_bar_i, dtype=float)
        feels_i = E_bar_i != 0.0
        if len(v_pc) and not feels_i.all():
            feels_i[env.geometry.i_p[v_pc.any(axis=1)]] = True
        source = np.nonzero(feels_i[env.order_r])[0]
        first_t = np.searchsorted(source, env.first_t)
        n, moves = len(source), len(v_pc) > 0
        a, none = (n, nets.n_a), (n if moves else 0, nets.n_a)
        shapes = (a, none, (n if moves else 0, nets.n_x), none, (0, nets.n_a))
        gradient = np.zeros(par.layout.size)
        pairs = env.pairs if moves else env.pairs_with(NO_DERIVATIVES)
        work = 3 * self._work(n) + len(pairs.dG)
        self._team.run(
            kernels.weight_gradient, work, self._space(), par.weights,
            NetRows(nets, network_kernels.row_blocks(first_t), first_t, source, cache), env.order_r[source],
            pairs, v_pc, E_bar_i, LayerAdjoints(*self._store.several(*shapes)), gradient,
        )  # fmt: skip
        return gradient

    def rows(self, par: Parameters, env: FusedEnvironment, cache: NetCache, numbers: Numbers):
        """Twin of `atomic.rows`: H (m, N)."""
        nets, n, T, team = self._nets, env.n_atoms, self.form.n_types, self._team.size
        wanted = _wanted(numbers)
        H_mw = np.zeros((len(wanted), par.layout.size))
        a = (team, n, nets.n_a)
        room = Room(
            np.full((team, n), -1), np.empty((team, n), np.int64), np.empty((team, T + 1), np.int64),
            np.empty((team, n), np.int64),
            *self._store.several(a, a, (team, n, nets.n_x), a, (team, 0, nets.n_a)),
        )  # fmt: skip
        self._team.run(
            kernels.rows, len(wanted) * self._work(n), self._space(), par.weights, nets, cache,
            FrameData(
                env.geometry.frame_i, env.first_t, env.order_r, env.row_i, env.derivatives.strain_ikd
            ), env.pairs, wanted, room, H_mw,
        )  # fmt: skip
        return H_mw

    def _work(self, n_rows: int) -> int:
        return multiplications(self._nets, n_rows)

    def _space(self) -> Space:
        nets, n, rows = self._nets, self._team.size, network_kernels.ROWS
        local = (n, self.form.n_types, -(-self.tables.d_cm.shape[1] // LANES) * LANES)
        return Space(*self._store.several((n, 4, rows, nets.widest), (n, 2, rows, nets.n_a), local))


def _wanted(numbers: Numbers) -> np.ndarray:
    """The numbers as rows of kind and names: frame; atom and axis; atom; frame and strain."""
    rows = [(kernels.ENERGY, int(f), 0) for f in numbers.energy_f]
    rows += [(kernels.FORCE, int(i), int(c)) for i, c in numbers.force_k]
    rows += [(kernels.ATOM, int(i), 0) for i in numbers.atom_i]
    strains = STRAINS
    number = {pair: k for k, (d, c) in enumerate(strains) for pair in ((d, c), (c, d))}
    rows += [(kernels.VIRIAL, int(f), number[int(d), int(c)]) for f, d, c in numbers.virial_k]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _side_by_side(parts: list[Functions]) -> Functions:
    """Kept functions of several frames as those of one list of atoms."""
    if len(parts) == 1:
        return parts[0]
    before = lambda sizes: (np.cumsum(sizes) - sizes).tolist()
    atoms = before([p.geometry.n_atoms for p in parts])
    pairs = before([len(p.geometry.i_p) for p in parts])
    frames = before([p.geometry.n_frames for p in parts])
    geometry = Geometry(
        np.concatenate([p.geometry.types_i for p in parts]),
        np.concatenate([p.geometry.frame_i + o for p, o in zip(parts, frames, strict=True)]),
        sum(p.geometry.n_frames for p in parts),
        np.concatenate([p.geometry.i_p + o for p, o in zip(parts, atoms, strict=True)]),
        np.concatenate([p.geometry.j_p + o for p, o in zip(parts, atoms, strict=True)]),
        np.concatenate([p.geometry.r_pc for p in parts]),
    )
    several = [p.derivatives for p in parts]
    join = lambda name, offsets: np.concatenate(
        [getattr(d, name) + o for d, o in zip(several, offsets, strict=True)]
    )
    whole = lambda name: np.concatenate([getattr(d, name) for d in several])
    ends = lambda firsts: np.concatenate(
        [first[:-1] + o for first, o in zip(firsts, pairs, strict=True)] + [[len(geometry.i_p)]]
    )
    derivatives = Derivatives(
        whole("dG"), join("offset_p", before([len(d.dG) for d in several])), whole("strain_ikd"),
        join("by_j", pairs), ends([d.first_j for d in several]),
    )  # fmt: skip
    G_id = np.concatenate([p.G_id for p in parts])
    return Functions(geometry, ends([p.first_i for p in parts]), G_id, derivatives)
