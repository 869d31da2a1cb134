"""Numba twin of `potentials.atomic` with the Deep Potential's descriptor: fused loops, G from a table.

With G in a table the moments are T = S G, where S depends on the frame alone (see
`frame_kernels`). S, R̃ and what its derivatives need are computed once for the frame and may be
kept; a pass over the pairs then costs some tens of multiplications each, whatever the size of the
embedding, and the nets run on blocks of atoms. What atoms share (adjoints of the table's nodes, gradients
of the weights) is summed in a fixed order, so the bits do not depend on the number of threads.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cpu import network as network_kernels
from kalmandp.engines.cpu.deep_potential import gradient_kernels as grad
from kalmandp.engines.cpu.deep_potential import prediction_kernels as predict
from kalmandp.engines.cpu.deep_potential.environment import (
    FusedEnvironment,
    Nodes,
    fused_environment,
    polynomials,
    sum_nodes,
)
from kalmandp.engines.cpu.deep_potential.rows import force_rows
from kalmandp.engines.cpu.deep_potential.table import NodeValues, TableRows, serves, table_rows
from kalmandp.engines.cpu.fused import ATOMS_PER_CHUNK, CHUNKS, FusedEngine
from kalmandp.engines.cpu.network import LayerAdjoints, NetCache, NetRows, multiplications
from kalmandp.errors import InputError
from kalmandp.potentials import atomic
from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.deep_potential.environment import pair_kinds
from kalmandp.potentials.deep_potential.table import CPU_ORDER, CPU_STEP, CPU_TOLERANCE, SMOOTH, TableGrid
from kalmandp.potentials.deep_potential.table_step import (
    binomials,
    estimate_windows,
    find_step,
    relative_errors,
)
from kalmandp.potentials.protocol import Parameters


class PairData(NamedTuple):
    """What loops over pairs take, in one piece."""

    first_i: Any
    types_i: Any
    Rt_pk: Any
    geometry_p: Any
    dstd: Any
    place_p: Any
    inverse_step: float
    c_an: Any
    dc_an: Any


class NodeSums(NamedTuple):
    """S and G: what T = S G takes. row_t : the table's row of each node in the atoms' lists."""

    touched_i: Any
    row_t: Any
    S_tk: Any
    G_rm: Any


class Moments(NamedTuple):
    """T of every atom, and what makes D of it: M rows, of which ``axis`` are M‹; scale = 1/Σsel."""

    T_ikm: Any
    M: int
    axis: int
    scale: float


class Wanted(NamedTuple):
    """Whose derivative: the atoms with an Ē or a motion, Ē of all, and v of all pairs or of none."""

    atoms: Any
    E_bar_i: Any
    v_pc: Any


class Back(NamedTuple):
    """What the backward pass stores; without motion the arrays with a dot have no rows.

    collected : Ḡ of the table's rows, a sum for each chunk of atoms
    """

    fitting: LayerAdjoints
    embedding: LayerAdjoints
    T_bar_ikm: Any
    T_dot_ikm: Any
    T_dot_bar_ikm: Any
    S_dot_tk: Any
    collected: Any


class Table(NamedTuple):
    """G as a frame needs it, and what the nets' backward pass needs. error : estimated, relative"""

    grid: TableGrid
    rows: TableRows
    cache: NetCache
    sums: NodeSums
    pairs: PairData
    nodes: Nodes
    error: float


class FusedForward(NamedTuple):
    table: Table
    T_ikm: Any
    cache: NetCache


class Space(NamedTuple):
    """Work space, the first index being the thread: rows of a layer, rows of all; T̄; an atom's B or Ṡ."""

    rows: Any
    layers: Any
    T_km: Any
    B_kt: Any


class NumbaEngine(FusedEngine):
    """The passes of the potential for one form; keeps the table's grid between calls.

    Parameters
    ----------
    form, layout : of the potential
    step : distance h of the table's nodes in units of g = R̃_p0
    threads : how many threads work on a pass; None asks `numba.get_num_threads` each time
    """

    def __init__(self, form, layout, step: float = CPU_STEP, threads: int | None = None):
        if reason := self.unfit(form):
            raise InputError(reason)
        super().__init__(form, layout, threads)
        a = form
        self.grid = TableGrid(0, 0, float(step), CPU_ORDER)
        start = lambda net: layout[f"{net}.layer.0.W"].start
        stack = lambda nets: network_kernels.stack([layout.nets[n] for n in nets], [start(n) for n in nets])
        self._embedding = stack([f"embedding.{e}" for e in range(a.n_embeddings)])
        self._fitting = stack([f"fitting.{t}" for t in range(a.n_types)])
        self._M, self._axis, self._scale = a.embedding[-1], a.axis_neuron, 1.0 / a.n_neighbours
        self._padded = 8 * -(-self._M // 8)
        self._coefficients, self._slopes = polynomials()
        self._binomials = binomials(CPU_ORDER)
        self._w_embedding = slice(0, int(self._fitting.forms[0, 0, network_kernels.W_START]))
        self._values: dict[float, NodeValues] = {}
        self._halvings = 0

    @staticmethod
    def unfit(form) -> str | None:
        """Why this engine cannot compute a form; None if it can."""
        phi = form.embedding_activation
        if phi.lower() in SMOOTH:
            return None
        return (
            f"the engine 'numba' tabulates the embedding, which activation {phi!r} makes too rough "
            f"for that; expected one of {', '.join(SMOOTH)}, or the engine 'numpy'"
        )

    def environment(self, statistics, frames, pairs=None) -> FusedEnvironment:
        """Twin of `DeepPotential.environment`."""
        step = self.grid.refined(self._halvings).step  # the step that S will most likely need
        davg, dstd = statistics["davg"], statistics["dstd"]
        found = self._pairs(frames, pairs)
        return fused_environment(self.form, self._team, davg, dstd, frames, found, step)

    def tabulate(self, par: Parameters, env: FusedEnvironment) -> Table:
        """Run each embedding net on the nodes of a grid, and on its padding slots.

        The grid's step is the largest of h, h/2, h/4, … whose table has an estimated error below
        `table.CPU_TOLERANCE` (`table_step`; for nets too sharp for the smallest step, `table_step.AT_WORST`).
        """
        top = self.grid = self.grid.covering(env.low, env.high)
        self._halvings, values, error = find_step(
            top, self._halvings, CPU_TOLERANCE, partial(self._node_values, par, env),
            partial(self._errors, env, top),
        )  # fmt: skip
        return self._table(values, env, top.refined(self._halvings).step, error)

    def _node_values(self, par: Parameters, env: FusedEnvironment, grid: TableGrid) -> NodeValues:
        """G of all nodes of the grid, kept as long as the weights stay what they are."""
        w, g_v = par.weights[self._w_embedding], env.Rt_vk[:, 0]
        values = self._values.get(grid.step)
        if values is None or not serves(values, w, g_v, grid):
            values = self._run_nets(par, w, g_v, grid)
            self._values = {step: v for step, v in self._values.items() if serves(v, w, g_v, v.grid)}
            self._values[grid.step] = values
        return values

    def _errors(self, env: FusedEnvironment, top: TableGrid, values: NodeValues, halvings: int) -> list:
        """Estimated errors of the tables of step h, h/2, … (h of ``top``), from the nodes of the finest."""
        windows = estimate_windows(top, halvings, env.low, env.high)
        windows[:, :2] += top.refined(halvings).start - values.grid.start
        worst, largest = np.zeros((2, len(self._embedding.forms), halvings + 1))
        self._team.run(
            predict.differences, 20 * values.G_rm.size, values.rows.first_e, windows, self._binomials,
            values.G_rm, worst, largest,
        )  # fmt: skip
        return relative_errors(zip(worst.max(axis=0), largest.max(axis=0), strict=True), CPU_ORDER)

    def _table(self, values: NodeValues, env: FusedEnvironment, step: float, error: float) -> Table:
        """The table for a frame: where in ``values`` the nodes are that its atoms touch."""
        nodes = env.nodes
        if nodes.step != step:
            nodes = sum_nodes(self.form, self._team, env, step)
        row_t = self._store.empty((len(nodes.net_t),), np.int32)
        rows = values.rows
        base_e = rows.first_e[:-1] - values.grid.start
        self._team.run(predict.place_nodes, len(row_t), nodes, base_e, rows.row_v, row_t)
        sums = NodeSums(nodes.touched_i, row_t, nodes.S_tk, values.G_rm)
        pairs = PairData(
            env.first_i, env.geometry.types_i, env.Rt_pk, env.geometry_p, env.dstd, nodes.place_p, 1.0 / step,
            self._coefficients, self._slopes,
        )  # fmt: skip
        return Table(values.grid, rows, values.cache, sums, pairs, nodes, error)

    def _run_nets(self, par: Parameters, w, g_v, grid: TableGrid) -> NodeValues:
        """G at the nodes of the grid and for padding slots."""
        nets, count = self._embedding, grid.stop - grid.start
        rows = table_rows(count, tuple(pair_kinds(self.form).net_v.tolist()), len(nets.forms))
        n_rows = int(rows.first_e[-1])
        g_r = np.empty(n_rows)
        for first in rows.first_e[:-1]:
            g_r[first : first + count] = grid.nodes
        g_r[rows.row_v] = g_v
        cache, G_rm = self._new_cache(nets, n_rows), self._store.empty((n_rows, self._padded))
        work = multiplications(nets, n_rows)
        self._team.run(predict.tabulate, work, nets, rows.blocks, par.weights, g_r, cache, G_rm)
        return NodeValues(w.copy(), g_v.copy(), grid, rows, cache, G_rm)

    def energies(self, par: Parameters, env: FusedEnvironment):
        """Twin of `atomic.energies`."""
        nets, table, n = self._fitting, self.tabulate(par, env), env.n_atoms
        T_ikm = self._store.empty((n, 4, self._padded))
        cache = self._new_cache(nets, n)
        E_i = np.empty(n)
        rows = NetRows(nets, env.blocks, env.first_t, self._count(n), cache)
        self._team.run(
            predict.atomic_energies, multiplications(nets, n) + self._products(table.nodes), par.weights,
            rows, env.order_r, par.bias_t, table.sums, self.moments(T_ikm), np.empty((n, 1)), E_i,
        )  # fmt: skip
        return E_i, FusedForward(table, T_ikm, cache)

    def pair_gradient(self, par: Parameters, env: FusedEnvironment, fwd: FusedForward, once: bool = False):
        """Twin of `atomic.pair_gradient`: f_pc = ∂E/∂r_pc."""
        nets, table = self._fitting, fwd.table
        f_pc = self._store.empty((len(env.geometry.i_p), 3))
        work = multiplications(nets, env.n_atoms) + self._products(table.nodes) + 200 * len(f_pc)
        rows = NetRows(nets, env.blocks, env.first_t, self._count(env.n_atoms), fwd.cache)
        self._team.run(
            predict.pair_gradient, work, self._space(nets, table.nodes.most), par.weights, rows, env.order_r,
            table.pairs, table.sums, self.moments(fwd.T_ikm), f_pc,
        )  # fmt: skip
        return f_pc

    def energy_gradient(self, par, env, fwd, E_bar_i):
        """Twin of `atomic.energy_gradient`."""
        return self._weight_gradient(par, env, fwd, E_bar_i, np.empty((0, 3)))

    def weight_gradient(self, par, env, fwd, E_bar_i, v_pc):
        """Twin of `atomic.weight_gradient`; atoms that feel neither Ē nor v are passed over."""
        return self._weight_gradient(par, env, fwd, E_bar_i, np.ascontiguousarray(v_pc, dtype=float))

    def rows(self, par, env, fwd, numbers: Numbers):
        """Twin of `atomic.rows`."""
        none, ends = np.empty((0, 2), np.int64), np.cumsum([len(part) for part in numbers])
        others_mw = atomic.rows_by(self, par, env, fwd, numbers._replace(force_k=none))
        if not len(numbers.force_k):
            return others_mw
        H_mw = np.zeros((int(ends[-1]), par.layout.size))
        H_mw[: ends[0]], H_mw[ends[1] :] = others_mw[: ends[0]], others_mw[ends[0] :]
        force_rows(self, par, env, fwd, numbers.force_k, H_mw[ends[0] : ends[1]])
        return H_mw

    def _weight_gradient(self, par, env, fwd, E_bar_i, v_pc):
        nets, table = self._fitting, fwd.table
        E_bar_i = np.ascontiguousarray(E_bar_i, dtype=float)
        moves = len(v_pc) > 0
        source, atoms, first_t, blocks = self._touched(env, E_bar_i, v_pc)
        n, shape = len(atoms), fwd.T_ikm.shape
        still = (shape, (0, *shape[1:]), (0, *shape[1:]), (0, 4))
        T_bar_ikm, T_dot_ikm, T_dot_bar_ikm, S_dot_tk = self._store.several(
            *((shape, shape, shape, table.nodes.S_tk.shape) if moves else still)
        )
        collected = self._store.empty((chunks_of(n), *table.sums.G_rm.shape))
        n_rows = len(table.sums.G_rm)
        fitting = NetRows(nets, blocks, first_t, source, fwd.cache)
        embedding = NetRows(
            self._embedding, table.rows.blocks, table.rows.first_e, self._count(n_rows), table.cache
        )
        back = Back(
            self._new_adjoints(nets, n, moves), self._new_adjoints(self._embedding, n_rows, False),
            T_bar_ikm, T_dot_ikm, T_dot_bar_ikm, S_dot_tk, collected,
        )  # fmt: skip
        gradient = np.zeros(par.layout.size)
        work = (6 if moves else 3) * (multiplications(nets, n) + self._products(table.nodes) // 2)
        self._team.run(
            grad.weight_gradient, work, self._space(nets, table.nodes.most), par.weights, fitting, embedding,
            Wanted(atoms, E_bar_i, v_pc), self.moments(fwd.T_ikm), table.pairs, table.sums, back, gradient,
        )  # fmt: skip
        return gradient

    def _touched(self, env: FusedEnvironment, E_bar_i, v_pc):
        """Rows of atoms with an Ē or a pair that moves, these atoms, where each type's begin, and blocks."""
        feels_i = E_bar_i != 0.0
        if len(v_pc) and not feels_i.all():
            feels_i[env.geometry.i_p[v_pc.any(axis=1)]] = True
        if feels_i.all():
            return self._count(env.n_atoms)[: env.n_atoms], env.order_r, env.first_t, env.blocks
        source = np.nonzero(feels_i[env.order_r])[0]
        first_t = np.searchsorted(source, env.first_t)
        return source, env.order_r[source], first_t, network_kernels.row_blocks(first_t)

    def moments(self, T_ikm) -> Moments:
        return Moments(T_ikm, self._M, self._axis, self._scale)

    def _new_cache(self, nets: network_kernels.NetStack, n_rows: int) -> NetCache:
        a = (n_rows, nets.n_a)
        return NetCache(*self._store.several((n_rows, nets.n_x), a, a, a))

    def _new_adjoints(self, nets: network_kernels.NetStack, n_rows: int, tangents: bool) -> LayerAdjoints:
        n, n_idt = n_rows if tangents else 0, n_rows if nets.has_idt else 0
        a = lambda rows: (rows, nets.n_a)
        return LayerAdjoints(*self._store.several(a(n_rows), a(n), (n, nets.n_x), a(n), a(n_idt)))

    def _space(self, nets: network_kernels.NetStack, most: int) -> Space:
        """Work space for passes over the nets; with room for the ``most`` nodes of an atom."""
        n, rows = self._team.size, network_kernels.ROWS
        widest = max(nets.widest, self._embedding.widest)
        shapes = (n, 4, rows, widest), (n, 2, rows, nets.n_a), (n, 4, self._padded), (n, 4, most)
        return Space(*self._store.several(*shapes))

    def _products(self, nodes: Nodes) -> int:
        """Multiplications of one product with the table, about."""
        return 4 * self._padded * len(nodes.net_t)


def chunks_of(n_atoms: int) -> int:
    """Chunks of atoms with a sum of their own."""
    return max(1, min(CHUNKS, n_atoms // ATOMS_PER_CHUNK))
