"""Numba twin of `potential.model` and `potential.jacobian`: fused loops over pairs, G from a table.

What depends on the frame alone (R̃, ∂R̃/∂r, the place of each pair in the table and its Lagrange
weights) is computed once for the frame. A pass over the pairs then costs a few hundred multiplications
each. Threads run over atoms; what atoms share (adjoints at the table's nodes) is summed by chunks in
a fixed order, so the bits do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines import cpu_network
from kalmandp.engines import cpu_potential_kernels as kernels
from kalmandp.engines.table import (
    ORDER,
    SMOOTH,
    STEP,
    TOLERANCE,
    TableGrid,
    estimated_error,
    lagrange_coefficients,
    locate,
)
from kalmandp.errors import InputError
from kalmandp.potential.cutoff import SWITCH_COEFFICIENTS
from kalmandp.potential.environment import empty_slots, gather, pair_kinds, virtual_rows
from kalmandp.potential.model import Parameters

#: Chunks of atoms with accumulators of their own: a constant, whatever the number of threads.
CHUNKS = 8


class FusedEnvironment(NamedTuple):
    """Twin of `Environment`, with pairs as rows of a compressed list and their places in the table.

    first_i : (n_atoms + 1,) pairs of atom i are first_i[i] … first_i[i+1]−1
    back_p : (p,) the same pair seen from its other end
    node_p, ell_pn, dell_pn : first table node, ℓ and dℓ/dg of each pair
    low, high : range of g = R̃_p0
    """

    types_i: Any
    frame_i: Any
    n_frames: int
    i_p: Any
    j_p: Any
    r_pc: Any
    first_i: Any
    back_p: Any
    net_p: Any
    Rt_pk: Any
    dRt_pkc: Any
    node_p: Any
    ell_pn: Any
    dell_pn: Any
    Rt_vk: Any
    count_iv: Any
    net_v: Any
    atoms_t: tuple
    low: float
    high: float

    @property
    def n_atoms(self) -> int:
        return len(self.types_i)


class Table(NamedTuple):
    """Node values of all embedding nets, what their backward pass needs, and where pairs lie in it.

    node_p, ell_pn, dell_pn : first node of each pair (counted from the grid's start), ℓ and dℓ/dg
    """

    grid: TableGrid
    G_enm: Any
    G_vm: Any
    caches_e: list
    node_p: Any
    ell_pn: Any
    dell_pn: Any


class FusedForward(NamedTuple):
    table: Table
    T_ikm: Any
    caches_t: list


class NumbaEngine:
    """The five passes of the potential for one architecture; keeps the table's grid between calls.

    Parameters
    ----------
    architecture, layout : of the potential
    step : distance h of the table's nodes in units of g = R̃_p0
    """

    name = "numba"

    def __init__(self, architecture, layout, step: float = STEP):
        phi = architecture.embedding_activation
        if phi.lower() not in SMOOTH:
            raise InputError(
                f"the engine 'numba' tabulates the embedding, which activation {phi!r} makes too rough "
                f"for that; expected one of {', '.join(SMOOTH)}, or the engine 'numpy'"
            )
        self.architecture = architecture
        self.grid = TableGrid(0, 0, float(step))
        start = {n: layout[f"{n}.layer.0.W"].start for n in layout.nets}
        describe = lambda n: cpu_network.describe(layout.nets[n], start[n])
        self._embedding = [describe(f"embedding.{e}") for e in range(architecture.n_embeddings)]
        self._fitting = [describe(f"fitting.{t}") for t in range(architecture.n_types)]

    def environment(self, davg, dstd, frames, pairs=None) -> FusedEnvironment:
        """Twin of `environment.environment_of`."""
        a = self.architecture
        types_i, frame_i, n_frames, i_p, j_p, r_pc = gather(a, frames, pairs)
        kinds = pair_kinds(a)
        v_p = types_i[i_p] * a.n_types + types_i[j_p]
        if kinds.excluded_v.any():
            keep = ~kinds.excluded_v[v_p]
            i_p, j_p, r_pc, v_p = i_p[keep], j_p[keep], r_pc[keep], v_p[keep]
        n_p = len(i_p)
        Rt_pk, dRt_pkc = np.empty((n_p, 4)), np.empty((n_p, 4, 3))
        node_p = np.empty(n_p, np.int64)
        ell_pn, dell_pn = np.empty((n_p, ORDER)), np.empty((n_p, ORDER))
        kernels.pair_environment(
            types_i, i_p, r_pc, a.rcut_smth, a.rcut, np.array(SWITCH_COEFFICIENTS),
            np.ascontiguousarray(davg, dtype=float), np.ascontiguousarray(dstd, dtype=float),
            lagrange_coefficients(), self.grid.step, Rt_pk, dRt_pkc, node_p, ell_pn, dell_pn,
        )  # fmt: skip
        first_i = np.searchsorted(i_p, np.arange(len(types_i) + 1))
        back_p = np.empty(n_p, np.int64)
        kernels.match_back(first_i, i_p, j_p, r_pc, back_p)
        return FusedEnvironment(
            types_i, frame_i, n_frames, i_p, j_p, r_pc, first_i, back_p, kinds.net_v[v_p],
            Rt_pk, dRt_pkc, node_p, ell_pn, dell_pn,
            virtual_rows(a, davg, dstd), empty_slots(a, types_i, i_p, v_p), kinds.net_v,
            tuple(np.nonzero(types_i == t)[0] for t in range(a.n_types)),
            float(Rt_pk[:, 0].min()) if n_p else 0.0, float(Rt_pk[:, 0].max()) if n_p else 0.0,
        )  # fmt: skip

    def tabulate(self, par: Parameters, env: FusedEnvironment) -> Table:
        """Run each embedding net on the nodes of the grid, and on its virtual rows.

        Where the nets are too sharp for the step, it is halved until the table's estimated error is
        below `table.TOLERANCE`. The choice depends on the weights alone, not on earlier calls.
        """
        self.grid = self.grid.covering(env.low, env.high)
        grid = self.grid
        while True:
            G_enm, G_vm, caches_e = self._run_nets(par, env, grid)
            # of the nodes that this frame touches: what other frames did to the grid must not matter
            first, last = grid.touched(env.low, env.high)
            if estimated_error(G_enm[:, first:last]) <= TOLERANCE:
                break
            grid = grid.finer().covering(env.low, env.high)
        node_p, ell_pn, dell_pn = env.node_p, env.ell_pn, env.dell_pn
        if grid.step != self.grid.step:
            node_p, ell_pn, dell_pn = locate(env.Rt_pk[:, 0], grid.step)
        return Table(grid, G_enm, G_vm, caches_e, node_p - grid.start, ell_pn, dell_pn)

    def _run_nets(self, par: Parameters, env: FusedEnvironment, grid: TableGrid):
        count = grid.stop - grid.start
        M = self.architecture.embedding[-1]
        G_enm, G_vm = np.empty((len(self._embedding), count, M)), np.empty((len(env.net_v), M))
        caches_e = []
        for e, net in enumerate(self._embedding):
            virtual = np.nonzero(env.net_v == e)[0]
            g = np.concatenate([grid.nodes, env.Rt_vk[virtual, 0]])[:, None]
            G, cache = cpu_network.forward(net, par.weights, g)
            G_enm[e], G_vm[virtual] = G[:count], G[count:]
            caches_e.append(cache)
        return G_enm, G_vm, caches_e

    def energies(self, par: Parameters, env: FusedEnvironment):
        """Twin of `model.energies`."""
        a = self.architecture
        table = self.tabulate(par, env)
        T_ikm = np.empty((env.n_atoms, 4, a.embedding[-1]))
        kernels.moments(
            env.first_i, env.net_p, table.node_p, table.ell_pn, env.Rt_pk,
            table.G_enm, env.count_iv, table.G_vm, env.Rt_vk, 1.0 / a.n_neighbours, T_ikm,
        )  # fmt: skip
        E_i = np.empty(env.n_atoms)
        caches_t = []
        for t, atoms in enumerate(env.atoms_t):
            D = np.empty((len(atoms), a.descriptor_size))
            kernels.contract(T_ikm, T_ikm, atoms, a.axis_neuron, 0.5, D)
            E, cache = cpu_network.forward(self._fitting[t], par.weights, D)
            E_i[atoms] = E[:, 0] + par.bias_t[t]
            caches_t.append(cache)
        return E_i, FusedForward(table, T_ikm, caches_t)

    def pair_gradient(self, par: Parameters, env: FusedEnvironment, fwd: FusedForward):
        """Twin of `model.pair_gradient`: f_pc = ∂E/∂r_pc."""
        a = self.architecture
        T_bar_ikm = np.zeros_like(fwd.T_ikm)
        for t, atoms in enumerate(env.atoms_t):
            ones = np.ones((len(atoms), 1))
            D_bar = cpu_network.backward(self._fitting[t], par.weights, fwd.caches_t[t], ones)
            kernels.contract_adjoint(fwd.T_ikm, atoms, a.axis_neuron, D_bar, T_bar_ikm)
        f_pc = np.empty((len(env.i_p), 3))
        kernels.pair_gradient(
            env.first_i, env.net_p, fwd.table.node_p, fwd.table.ell_pn, fwd.table.dell_pn,
            env.Rt_pk, env.dRt_pkc, fwd.table.G_enm, T_bar_ikm, 1.0 / a.n_neighbours, f_pc,
        )  # fmt: skip
        return f_pc

    def forces(self, env: FusedEnvironment, f_pc):
        """Twin of `model.forces_from_pairs`."""
        F_ic = np.empty((env.n_atoms, 3))
        kernels.forces(env.first_i, env.back_p, f_pc, F_ic)
        return F_ic

    def virial(self, env: FusedEnvironment, f_pc):
        """Twin of `model.virial_from_pairs`."""
        W_icc = np.empty((env.n_atoms, 3, 3))
        kernels.virial(env.first_i, env.r_pc, f_pc, W_icc)
        W_fcc = np.zeros((env.n_frames, 3, 3))
        np.add.at(W_fcc, env.frame_i, W_icc)
        return W_fcc

    def energy_gradient(self, par, env, fwd, E_bar_i):
        """Twin of `jacobian.energy_gradient`."""
        gradient = np.zeros(par.layout.size)
        T_bar_ikm = np.zeros_like(fwd.T_ikm)
        for t, atoms in enumerate(env.atoms_t):
            E_bar = np.ascontiguousarray(E_bar_i[atoms, None], dtype=float)
            D_bar = cpu_network.backward(
                self._fitting[t], par.weights, fwd.caches_t[t], E_bar, gradient
            )
            kernels.contract_adjoint(fwd.T_ikm, atoms, self.architecture.axis_neuron, D_bar, T_bar_ikm)
        none = np.zeros((0, 4))
        self._embedding_gradient(par, env, fwd, T_bar_ikm, T_bar_ikm[:0], none, gradient)
        return gradient

    def weight_gradient(self, par, env, fwd, E_bar_i, v_pc):
        """Twin of `jacobian.weight_gradient`; atoms that feel neither Ē nor v are passed over."""
        a = self.architecture
        gradient = np.zeros(par.layout.size)
        table = fwd.table
        Rt_dot_pk = np.empty((len(env.i_p), 4))
        T_dot_ikm = np.empty_like(fwd.T_ikm)
        moved_i = np.zeros(env.n_atoms, np.bool_)
        kernels.moments_tangent(
            env.first_i, env.net_p, table.node_p, table.ell_pn, table.dell_pn, env.Rt_pk, env.dRt_pkc,
            v_pc, table.G_enm, 1.0 / a.n_neighbours, Rt_dot_pk, T_dot_ikm, moved_i,
        )  # fmt: skip
        moved_i |= E_bar_i != 0.0
        T_bar_ikm, T_dot_bar_ikm = np.zeros_like(T_dot_ikm), np.zeros_like(T_dot_ikm)
        for t, atoms in enumerate(env.atoms_t):
            rows = np.nonzero(moved_i[atoms])[0]
            cache = fwd.caches_t[t]
            if len(rows) < len(atoms):
                atoms, cache = atoms[rows], cpu_network.NetCache(*(c[rows] for c in cache[:4]))
            D_dot = np.empty((len(atoms), a.descriptor_size))
            kernels.contract(T_dot_ikm, fwd.T_ikm, atoms, a.axis_neuron, 1.0, D_dot)
            _, cache = cpu_network.tangent(self._fitting[t], par.weights, cache, D_dot)
            E_bar = np.ascontiguousarray(E_bar_i[atoms, None], dtype=float)
            D_bar, D_dot_bar = cpu_network.tangent_backward(
                self._fitting[t], par.weights, cache, E_bar, np.ones_like(E_bar), gradient
            )
            # T̄ = adj(T, D̄) + adj(Ṫ, Ḋ̄);  Ṫ̄ = adj(T, Ḋ̄)
            kernels.contract_adjoint(fwd.T_ikm, atoms, a.axis_neuron, D_bar, T_bar_ikm)
            kernels.contract_adjoint(T_dot_ikm, atoms, a.axis_neuron, D_dot_bar, T_bar_ikm)
            kernels.contract_adjoint(fwd.T_ikm, atoms, a.axis_neuron, D_dot_bar, T_dot_bar_ikm)
        self._embedding_gradient(par, env, fwd, T_bar_ikm, T_dot_bar_ikm, Rt_dot_pk, gradient)
        return gradient

    def _embedding_gradient(self, par, env, fwd, T_bar_ikm, T_dot_bar_ikm, Rt_dot_pk, gradient):
        """Collect Ḡ and Ġ̄ at the nodes of the table, and send them back through the nets."""
        table = fwd.table
        E, n, M = table.G_enm.shape
        collected = np.zeros((CHUNKS, E, n, M))
        virtual = np.zeros((CHUNKS, len(env.net_v), M))
        kernels.node_adjoint(
            env.first_i, env.net_p, table.node_p, table.ell_pn, table.dell_pn,
            env.Rt_pk, Rt_dot_pk, T_bar_ikm, T_dot_bar_ikm, env.count_iv, env.Rt_vk,
            1.0 / self.architecture.n_neighbours, collected, virtual,
        )  # fmt: skip
        kernels.sum_chunks(collected.reshape(CHUNKS, -1))
        kernels.sum_chunks(virtual.reshape(CHUNKS, -1))
        for e, net in enumerate(self._embedding):
            G_bar = np.concatenate([collected[0, e], virtual[0][env.net_v == e]])
            cpu_network.backward(net, par.weights, table.caches_e[e], G_bar, gradient)
