"""Numba twin of `potential.model` and `potential.jacobian`: fused loops over pairs, G from a table.

What depends on the frame alone (R̃, ∂R̃/∂r, the place of each pair in the table and its Lagrange
weights) is computed once for the frame. A pass over the pairs then costs a few hundred multiplications
each. Threads run over atoms; what atoms share (adjoints at the table's nodes) is summed by chunks in
a fixed order, so the bits do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

from kalmandp.engines import cpu_network
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

_fast: dict[str, Any] = {
    "cache": True,
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    "error_model": "numpy",
}

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
        _pair_environment(
            types_i, i_p, r_pc, a.rcut_smth, a.rcut, np.array(SWITCH_COEFFICIENTS),
            np.ascontiguousarray(davg, dtype=float), np.ascontiguousarray(dstd, dtype=float),
            lagrange_coefficients(), self.grid.step, Rt_pk, dRt_pkc, node_p, ell_pn, dell_pn,
        )  # fmt: skip
        first_i = np.searchsorted(i_p, np.arange(len(types_i) + 1))
        back_p = np.empty(n_p, np.int64)
        _match_back(first_i, i_p, j_p, r_pc, back_p)
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
        _moments(
            env.first_i, env.net_p, table.node_p, table.ell_pn, env.Rt_pk,
            table.G_enm, env.count_iv, table.G_vm, env.Rt_vk, 1.0 / a.n_neighbours, T_ikm,
        )  # fmt: skip
        E_i = np.empty(env.n_atoms)
        caches_t = []
        for t, atoms in enumerate(env.atoms_t):
            D = np.empty((len(atoms), a.descriptor_size))
            _contract(T_ikm, T_ikm, atoms, a.axis_neuron, 0.5, D)
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
            _contract_adjoint(fwd.T_ikm, atoms, a.axis_neuron, D_bar, T_bar_ikm)
        f_pc = np.empty((len(env.i_p), 3))
        _pair_gradient(
            env.first_i, env.net_p, fwd.table.node_p, fwd.table.ell_pn, fwd.table.dell_pn,
            env.Rt_pk, env.dRt_pkc, fwd.table.G_enm, T_bar_ikm, 1.0 / a.n_neighbours, f_pc,
        )  # fmt: skip
        return f_pc

    def forces(self, env: FusedEnvironment, f_pc):
        """Twin of `model.forces_from_pairs`."""
        F_ic = np.empty((env.n_atoms, 3))
        _forces(env.first_i, env.back_p, f_pc, F_ic)
        return F_ic

    def virial(self, env: FusedEnvironment, f_pc):
        """Twin of `model.virial_from_pairs`."""
        W_icc = np.empty((env.n_atoms, 3, 3))
        _virial(env.first_i, env.r_pc, f_pc, W_icc)
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
            _contract_adjoint(fwd.T_ikm, atoms, self.architecture.axis_neuron, D_bar, T_bar_ikm)
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
        _moments_tangent(
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
            _contract(T_dot_ikm, fwd.T_ikm, atoms, a.axis_neuron, 1.0, D_dot)
            _, cache = cpu_network.tangent(self._fitting[t], par.weights, cache, D_dot)
            E_bar = np.ascontiguousarray(E_bar_i[atoms, None], dtype=float)
            D_bar, D_dot_bar = cpu_network.tangent_backward(
                self._fitting[t], par.weights, cache, E_bar, np.ones_like(E_bar), gradient
            )
            # T̄ = adj(T, D̄) + adj(Ṫ, Ḋ̄);  Ṫ̄ = adj(T, Ḋ̄)
            _contract_adjoint(fwd.T_ikm, atoms, a.axis_neuron, D_bar, T_bar_ikm)
            _contract_adjoint(T_dot_ikm, atoms, a.axis_neuron, D_dot_bar, T_bar_ikm)
            _contract_adjoint(fwd.T_ikm, atoms, a.axis_neuron, D_dot_bar, T_dot_bar_ikm)
        self._embedding_gradient(par, env, fwd, T_bar_ikm, T_dot_bar_ikm, Rt_dot_pk, gradient)
        return gradient

    def _embedding_gradient(self, par, env, fwd, T_bar_ikm, T_dot_bar_ikm, Rt_dot_pk, gradient):
        """Collect Ḡ and Ġ̄ at the nodes of the table, and send them back through the nets."""
        table = fwd.table
        E, n, M = table.G_enm.shape
        collected = np.zeros((CHUNKS, E, n, M))
        virtual = np.zeros((CHUNKS, len(env.net_v), M))
        _node_adjoint(
            env.first_i, env.net_p, table.node_p, table.ell_pn, table.dell_pn,
            env.Rt_pk, Rt_dot_pk, T_bar_ikm, T_dot_bar_ikm, env.count_iv, env.Rt_vk,
            1.0 / self.architecture.n_neighbours, collected, virtual,
        )  # fmt: skip
        _sum_chunks(collected.reshape(CHUNKS, -1))
        _sum_chunks(virtual.reshape(CHUNKS, -1))
        for e, net in enumerate(self._embedding):
            G_bar = np.concatenate([collected[0, e], virtual[0][env.net_v == e]])
            cpu_network.backward(net, par.weights, table.caches_e[e], G_bar, gradient)


@njit(parallel=True, **_fast)
def _pair_environment(
    types_i, i_p, r_pc, rcut_smth, rcut, switch, davg, dstd, c_na, step,
    Rt_pk, dRt_pkc, node_p, ell_pn, dell_pn,
):  # fmt: skip
    """R̃, ∂R̃/∂r and the place in the table: the equations of `environment.raw_environment`."""
    order = c_na.shape[0]
    A, B, C = switch[0], switch[1], switch[2]
    for p in prange(len(i_p)):
        t = types_i[i_p[p]]
        r = np.sqrt(r_pc[p, 0] ** 2 + r_pc[p, 1] ** 2 + r_pc[p, 2] ** 2)
        u = (r - rcut_smth) / (rcut - rcut_smth)
        w, dw = 1.0, 0.0
        if u >= 1.0:
            w = 0.0
        elif u > 0.0:
            w = u * u * u * (A * u * u + B * u + C) + 1.0
            dw = u * u * (5 * A * u * u + 4 * B * u + 3 * C) / (rcut - rcut_smth)
        s = w / r
        ds = (dw - s) / r
        Rt_pk[p, 0] = (s - davg[t, 0]) / dstd[t, 0]
        for d in range(3):
            n_d = r_pc[p, d] / r
            Rt_pk[p, 1 + d] = (s * n_d - davg[t, 1 + d]) / dstd[t, 1 + d]
            dRt_pkc[p, 0, d] = ds * n_d / dstd[t, 0]
            for c in range(3):
                n_c = r_pc[p, c] / r
                change = (ds - s / r) * n_d * n_c
                if c == d:
                    change += s / r
                dRt_pkc[p, 1 + d, c] = change / dstd[t, 1 + d]
        g = Rt_pk[p, 0] / step
        node = int(np.floor(g)) - (order // 2 - 1)
        x = g - node - 0.5 * (order - 1)
        node_p[p] = node
        for n in range(order):
            value, slope = c_na[n, order - 1], 0.0
            for a in range(order - 2, -1, -1):
                slope = slope * x + value
                value = value * x + c_na[n, a]
            ell_pn[p, n] = value
            dell_pn[p, n] = slope / step


@njit(parallel=True, cache=True)
def _match_back(first_i, i_p, j_p, r_pc, back_p):
    """The pair j → i whose vector is −r_p; images of an atom differ by a lattice vector."""
    for p in prange(len(i_p)):
        i, j = i_p[p], j_p[p]
        best, best_q = np.inf, -1
        for q in range(first_i[j], first_i[j + 1]):
            if j_p[q] == i:
                apart = 0.0
                for c in range(3):
                    apart += (r_pc[q, c] + r_pc[p, c]) ** 2
                if apart < best:
                    best, best_q = apart, q
        back_p[p] = best_q


@njit(**_fast)
def _interpolate(G_nm, node, weights, out):
    """out_m = Σ_n weights_n G_nm[node + n]: the polynomial through ORDER nodes."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    w4, w5, w6, w7 = weights[4], weights[5], weights[6], weights[7]
    a0, a1, a2, a3 = G_nm[node], G_nm[node + 1], G_nm[node + 2], G_nm[node + 3]
    a4, a5, a6, a7 = G_nm[node + 4], G_nm[node + 5], G_nm[node + 6], G_nm[node + 7]
    for m in range(out.shape[0]):
        low = (w0 * a0[m] + w1 * a1[m]) + (w2 * a2[m] + w3 * a3[m])
        out[m] = low + ((w4 * a4[m] + w5 * a5[m]) + (w6 * a6[m] + w7 * a7[m]))


@njit(parallel=True, **_fast)
def _moments(
    first_i, net_p, node_p, ell_pn, Rt_pk, G_enm, count_iv, G_vm, Rt_vk, scale, T_ikm
):
    """T = (1/Σsel) [Σ_p R̃_p ⊗ G_p + Σ_v n_iv R̃_v ⊗ G_v], stored as (i, 4, M)."""
    M = T_ikm.shape[2]
    for i in prange(T_ikm.shape[0]):
        G = np.empty(M)
        T = np.zeros((4, M))
        for p in range(first_i[i], first_i[i + 1]):
            _interpolate(G_enm[net_p[p]], node_p[p], ell_pn[p], G)
            R0, R1, R2, R3 = Rt_pk[p, 0], Rt_pk[p, 1], Rt_pk[p, 2], Rt_pk[p, 3]
            for m in range(M):
                T[0, m] += R0 * G[m]
                T[1, m] += R1 * G[m]
                T[2, m] += R2 * G[m]
                T[3, m] += R3 * G[m]
        for v in range(count_iv.shape[1]):
            if count_iv[i, v] != 0.0:
                for k in range(4):
                    R = count_iv[i, v] * Rt_vk[v, k]
                    for m in range(M):
                        T[k, m] += R * G_vm[v, m]
        for k in range(4):
            for m in range(M):
                T_ikm[i, k, m] = scale * T[k, m]


@njit(parallel=True, **_fast)
def _contract(X_ikm, T_ikm, atoms, axis, scale, D):
    """D_ms = scale Σ_k (X_km T_ks + T_km X_ks): D for X = T and scale ½, Ḋ for X = Ṫ and scale 1."""
    M = T_ikm.shape[2]
    for row in prange(len(atoms)):
        X, T = X_ikm[atoms[row]], T_ikm[atoms[row]]
        for m in range(M):
            out = D[row, m * axis : (m + 1) * axis]
            x0, x1, x2, x3 = scale * X[0, m], scale * X[1, m], scale * X[2, m], scale * X[3, m]
            t0, t1, t2, t3 = scale * T[0, m], scale * T[1, m], scale * T[2, m], scale * T[3, m]
            for s in range(axis):
                first = (x0 * T[0, s] + x1 * T[1, s]) + (x2 * T[2, s] + x3 * T[3, s])
                out[s] = first + ((t0 * X[0, s] + t1 * X[1, s]) + (t2 * X[2, s] + t3 * X[3, s]))


@njit(parallel=True, **_fast)
def _contract_adjoint(T_ikm, atoms, axis, D_bar, T_bar_ikm):
    """T̄_km += Σ_s D̄_ms T_ks, and for m < M‹ also Σ_m' D̄_m'm T_km'."""
    M = T_ikm.shape[2]
    for row in prange(len(atoms)):
        T, T_bar = T_ikm[atoms[row]], T_bar_ikm[atoms[row]]
        for m in range(M):
            B = D_bar[row, m * axis : (m + 1) * axis]
            for k in range(4):
                total = 0.0
                t = T[k, m]
                for s in range(axis):
                    total += B[s] * T[k, s]
                    T_bar[k, s] += B[s] * t
                T_bar[k, m] += total


@njit(parallel=True, **_fast)
def _pair_gradient(
    first_i, net_p, node_p, ell_pn, dell_pn, Rt_pk, dRt_pkc, G_enm, T_bar_ikm, scale, f_pc
):
    """f_pc = Σ_k R̃̄_k ∂R̃_k/∂r_c with R̃̄_k = Σ_m T̄_km G_m + δ_k0 Σ_m G′_m Σ_k' T̄_k'm R̃_k'."""
    M = T_bar_ikm.shape[2]
    for i in prange(T_bar_ikm.shape[0]):
        G, dG = np.empty(M), np.empty(M)
        T_bar = T_bar_ikm[i]
        for p in range(first_i[i], first_i[i + 1]):
            _interpolate(G_enm[net_p[p]], node_p[p], ell_pn[p], G)
            _interpolate(G_enm[net_p[p]], node_p[p], dell_pn[p], dG)
            R0, R1, R2, R3 = Rt_pk[p, 0], Rt_pk[p, 1], Rt_pk[p, 2], Rt_pk[p, 3]
            b0 = b1 = b2 = b3 = 0.0
            for m in range(M):
                t0, t1, t2, t3 = T_bar[0, m], T_bar[1, m], T_bar[2, m], T_bar[3, m]
                along = (t0 * R0 + t1 * R1) + (t2 * R2 + t3 * R3)
                b0 += t0 * G[m] + along * dG[m]
                b1 += t1 * G[m]
                b2 += t2 * G[m]
                b3 += t3 * G[m]
            for c in range(3):
                f_pc[p, c] = scale * (
                    (b0 * dRt_pkc[p, 0, c] + b1 * dRt_pkc[p, 1, c])
                    + (b2 * dRt_pkc[p, 2, c] + b3 * dRt_pkc[p, 3, c])
                )


@njit(parallel=True, cache=True)
def _forces(first_i, back_p, f_pc, F_ic):
    """F_i = Σ_p (f_p − f_back(p)) over the pairs of centre i."""
    for i in prange(F_ic.shape[0]):
        for c in range(3):
            total = 0.0
            for p in range(first_i[i], first_i[i + 1]):
                total += f_pc[p, c] - f_pc[back_p[p], c]
            F_ic[i, c] = total


@njit(parallel=True, cache=True)
def _virial(first_i, r_pc, f_pc, W_icc):
    """Share of atom i in W_dc = −Σ_p f_pd r_pc."""
    for i in prange(W_icc.shape[0]):
        W_icc[i] = 0.0
        for p in range(first_i[i], first_i[i + 1]):
            for d in range(3):
                for c in range(3):
                    W_icc[i, d, c] -= f_pc[p, d] * r_pc[p, c]


@njit(parallel=True, **_fast)
def _moments_tangent(
    first_i, net_p, node_p, ell_pn, dell_pn, Rt_pk, dRt_pkc, v_pc, G_enm, scale,
    Rt_dot_pk, T_dot_ikm, moved_i,
):  # fmt: skip
    """Ṫ = (1/Σsel) Σ_p (Ṙ̃ ⊗ G + R̃ ⊗ Ġ), Ṙ̃ = ∂R̃/∂r·v, Ġ = G′ Ṙ̃_0; pairs with v = 0 add nothing."""
    M = T_dot_ikm.shape[2]
    for i in prange(T_dot_ikm.shape[0]):
        G, dG = np.empty(M), np.empty(M)
        T = np.zeros((4, M))
        for p in range(first_i[i], first_i[i + 1]):
            v0, v1, v2 = v_pc[p, 0], v_pc[p, 1], v_pc[p, 2]
            if v0 == 0.0 and v1 == 0.0 and v2 == 0.0:
                for k in range(4):
                    Rt_dot_pk[p, k] = 0.0
                continue
            moved_i[i] = True
            for k in range(4):
                Rt_dot_pk[p, k] = (
                    dRt_pkc[p, k, 0] * v0 + dRt_pkc[p, k, 1] * v1 + dRt_pkc[p, k, 2] * v2
                )
            _interpolate(G_enm[net_p[p]], node_p[p], ell_pn[p], G)
            _interpolate(G_enm[net_p[p]], node_p[p], dell_pn[p], dG)
            R0, R1, R2, R3 = Rt_pk[p, 0], Rt_pk[p, 1], Rt_pk[p, 2], Rt_pk[p, 3]
            S0, S1, S2, S3 = Rt_dot_pk[p, 0], Rt_dot_pk[p, 1], Rt_dot_pk[p, 2], Rt_dot_pk[p, 3]
            for m in range(M):
                G_dot = S0 * dG[m]
                T[0, m] += S0 * G[m] + R0 * G_dot
                T[1, m] += S1 * G[m] + R1 * G_dot
                T[2, m] += S2 * G[m] + R2 * G_dot
                T[3, m] += S3 * G[m] + R3 * G_dot
        for k in range(4):
            for m in range(M):
                T_dot_ikm[i, k, m] = scale * T[k, m]


@njit(parallel=True, **_fast)
def _node_adjoint(
    first_i, net_p, node_p, ell_pn, dell_pn, Rt_pk, Rt_dot_pk, T_bar_ikm, T_dot_bar_ikm,
    count_iv, Rt_vk, scale, collected, virtual,
):  # fmt: skip
    """Adjoints of node values: Σ_p ℓ_n Ḡ_p + ℓ′_n ġ_p Ġ̄_p, Ḡ = T̄R̃ + Ṫ̄Ṙ̃, Ġ̄ = Ṫ̄R̃."""
    n_atoms, M = T_bar_ikm.shape[0], T_bar_ikm.shape[2]
    chunks = collected.shape[0]
    with_tangent = T_dot_bar_ikm.shape[0] > 0
    for chunk in prange(chunks):
        G_bar, dG_bar = np.empty(M), np.empty(M)
        for i in range(n_atoms * chunk // chunks, n_atoms * (chunk + 1) // chunks):
            T_bar = T_bar_ikm[i]
            silent = True
            for k in range(4):
                for m in range(M):
                    silent = silent and T_bar[k, m] == 0.0
            if silent and not with_tangent:
                continue
            for p in range(first_i[i], first_i[i + 1]):
                R0, R1, R2, R3 = Rt_pk[p, 0], Rt_pk[p, 1], Rt_pk[p, 2], Rt_pk[p, 3]
                for m in range(M):
                    G_bar[m] = (T_bar[0, m] * R0 + T_bar[1, m] * R1) + (
                        T_bar[2, m] * R2 + T_bar[3, m] * R3
                    )
                target = collected[chunk, net_p[p], node_p[p] : node_p[p] + ell_pn.shape[1]]
                S0 = S1 = S2 = S3 = 0.0
                if with_tangent:
                    S0, S1 = Rt_dot_pk[p, 0], Rt_dot_pk[p, 1]
                    S2, S3 = Rt_dot_pk[p, 2], Rt_dot_pk[p, 3]
                if S0 == 0.0 and S1 == 0.0 and S2 == 0.0 and S3 == 0.0:
                    for n in range(ell_pn.shape[1]):
                        ell = scale * ell_pn[p, n]
                        for m in range(M):
                            target[n, m] += ell * G_bar[m]
                    continue
                T_dot = T_dot_bar_ikm[i]
                for m in range(M):
                    t0, t1, t2, t3 = T_dot[0, m], T_dot[1, m], T_dot[2, m], T_dot[3, m]
                    G_bar[m] += (t0 * S0 + t1 * S1) + (t2 * S2 + t3 * S3)
                    dG_bar[m] = S0 * ((t0 * R0 + t1 * R1) + (t2 * R2 + t3 * R3))
                for n in range(ell_pn.shape[1]):
                    ell, dell = scale * ell_pn[p, n], scale * dell_pn[p, n]
                    for m in range(M):
                        target[n, m] += ell * G_bar[m] + dell * dG_bar[m]
            for v in range(count_iv.shape[1]):
                if count_iv[i, v] != 0.0:
                    for k in range(4):
                        R = scale * count_iv[i, v] * Rt_vk[v, k]
                        for m in range(M):
                            virtual[chunk, v, m] += R * T_bar[k, m]


@njit(parallel=True, **_fast)
def _sum_chunks(parts):
    """parts[0] += parts[1] + parts[2] + … in that order."""
    for x in prange(parts.shape[1]):
        for chunk in range(1, parts.shape[0]):
            parts[0, x] += parts[chunk, x]
