"""CUDA twin of `potential.model` and `potential.jacobian`: fused loops over pairs, G from a table.

The scheme is that of the CPU's engine (`engines.table`): the embedding nets run on the nodes of a table, a
pass over the pairs reads polynomials through them, and what pairs send back to a node is summed in a fixed
order: pairs are sorted by node once, and a block of threads has the pairs of one node. No floating-point
atomics: the same bits from run to run.

What the host decides without waiting for the device: the extent of the table, from the shortest distance,
which is known when a frame is uploaded. What it waits for: the first pass over an environment with new
weights asks whether the table is fine enough; passes that follow with the same array of weights, as between
the updates of a frame, take the same table.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cuda_environment import CudaEnvironment, EnvironmentMaker, Places
from kalmandp.engines.cuda_launch import THREADS, WARP, CupyDevice, Device, blocks_for
from kalmandp.engines.cuda_network import Networks
from kalmandp.engines.table import ORDER, SMOOTH, STEP, TOLERANCE, TableGrid, relative_error
from kalmandp.errors import InputError
from kalmandp.potential.model import Parameters

#: As in potential.cu: threads of an atom, and of a node's chunk.
ATOM_THREADS = 4 * WARP
NODE_THREADS = ORDER * WARP
#: Pairs, a warp each, of a block.
PAIRS_PER_BLOCK = THREADS // WARP


class CudaForward(NamedTuple):
    """Node values, what their backward pass needs, and the moments."""

    places: Places
    G_enm: Any
    G_vm: Any
    table_caches: list
    T_ikm: Any
    caches_t: list

    @property
    def table(self) -> tuple:
        """G, step, start, nodes, M: what every kernel that reads the table takes."""
        grid = self.places.grid
        return self.G_enm, grid.step, grid.start, self.places.n_nodes, self.G_enm.shape[2]


class CudaEngine(EnvironmentMaker):
    """The passes of the potential on a CUDA device, for one architecture.

    Parameters
    ----------
    architecture, layout : of the potential
    step : distance h of the table's nodes in units of g = R̃_p0
    device : by default the current CUDA device
    """

    name = "cuda"

    def __init__(self, architecture, layout, step: float = STEP, device: Device | None = None):
        phi = architecture.embedding_activation
        if phi.lower() not in SMOOTH:
            raise InputError(
                f"the engine 'cuda' tabulates the embedding, which activation {phi!r} makes too rough "
                f"for that; expected one of {', '.join(SMOOTH)}, or the engine 'cupy'"
            )
        super().__init__(architecture, CupyDevice() if device is None else device)
        self.layout, self.step = layout, float(step)
        self._f = self.device.functions("potential.cu")
        self._nets = Networks(self.device)

    # --- passes ----------------------------------------------------------------------------------------

    def energies(self, par: Parameters, env: CudaEnvironment):
        """Twin of `model.energies`."""
        a, xp = self.architecture, self.xp
        M, n_v = a.embedding[-1], len(env.net_v)
        grid, tabulated = self._tabulate(par, env)
        places = self.places(env, grid)
        T_ikm = xp.empty((env.n_atoms, 4, M))
        forward = CudaForward(places, *tabulated, T_ikm, [])
        self._f.moments(
            (env.n_atoms, blocks_for(M, WARP)), ATOM_THREADS, env.pairs.first_i, env.net_p, env.Rt_pk,
            *forward.table, env.count_iv, forward.G_vm, env.Rt_vk, n_v, 1.0 / a.n_neighbours, T_ikm,
        )  # fmt: skip
        E_i = xp.empty(env.n_atoms)
        for t, atoms in enumerate(env.pairs.atoms_t):
            D = xp.empty((len(atoms), a.descriptor_size))
            self._f.contract(len(atoms), THREADS, T_ikm, T_ikm, atoms, M, a.axis_neuron, 0.5, D)
            E, caches = self._nets.forward(self.layout.fitting(par.weights, t), D)
            E_i[atoms] = E[:, 0] + float(par.bias_t[t])
            forward.caches_t.append(caches)
        return E_i, forward

    def pair_gradient(self, par: Parameters, env: CudaEnvironment, fwd: CudaForward):
        """Twin of `model.pair_gradient`: f_pc = ∂E/∂r_pc."""
        a, xp = self.architecture, self.xp
        T_bar_ikm = self._moments_adjoint(par, env, fwd, None, None)
        n_p = len(env.i_p)
        f_pc = xp.empty((n_p, 3))
        self._f.pair_gradient(
            blocks_for(n_p, PAIRS_PER_BLOCK), THREADS, env.i_p, env.net_p, env.Rt_pk, env.dRt_pkc, n_p,
            *fwd.table, T_bar_ikm, 1.0 / a.n_neighbours, f_pc,
        )  # fmt: skip
        return f_pc

    def forces(self, env: CudaEnvironment, f_pc):
        """Twin of `model.forces_from_pairs`."""
        F_ic = self.xp.empty((env.n_atoms, 3))
        n = env.n_atoms
        self._f.forces(
            blocks_for(n, PAIRS_PER_BLOCK), THREADS, env.pairs.first_i, env.pairs.back_p, f_pc, n, F_ic
        )
        return F_ic

    def virial(self, env: CudaEnvironment, f_pc):
        """Twin of `model.virial_from_pairs`."""
        n, W_icc = env.n_atoms, self.xp.empty((env.n_atoms, 3, 3))
        self._f.virial(blocks_for(n, PAIRS_PER_BLOCK), THREADS, env.pairs.first_i, env.r_pc, f_pc, n, W_icc)
        W_fcc = self.xp.empty((env.n_frames, 3, 3))
        self._f.frame_sums((env.n_frames, 9), THREADS, W_icc, env.pairs.first_f, 9, W_fcc)
        return W_fcc

    def energy_gradient(self, par, env, fwd, E_bar_i):
        """Twin of `jacobian.energy_gradient`."""
        gradient = self.xp.empty(self.layout.size)
        T_bar_ikm = self._moments_adjoint(par, env, fwd, E_bar_i, gradient)
        self._embedding_gradient(par, env, fwd, T_bar_ikm, None, None, gradient)
        return gradient

    def weight_gradient(self, par, env, fwd, E_bar_i, v_pc):
        """Twin of `jacobian.weight_gradient`."""
        a, xp, f, M = self.architecture, self.xp, self._f, self.architecture.embedding[-1]
        gradient = xp.empty(self.layout.size)
        Rt_dot_pk, T_dot_ikm = xp.empty((len(env.i_p), 4)), xp.empty_like(fwd.T_ikm)
        f.moments_tangent(
            (env.n_atoms, blocks_for(M, WARP)), ATOM_THREADS, env.pairs.first_i, env.net_p, env.Rt_pk,
            env.dRt_pkc, xp.ascontiguousarray(v_pc), *fwd.table, 1.0 / a.n_neighbours, Rt_dot_pk, T_dot_ikm,
        )  # fmt: skip
        T_bar_ikm, T_dot_bar_ikm = xp.empty_like(T_dot_ikm), xp.empty_like(T_dot_ikm)
        for t, atoms in enumerate(env.pairs.atoms_t):
            n, layers = len(atoms), self.layout.fitting(par.weights, t)
            D_dot = xp.empty((n, a.descriptor_size))
            f.contract(n, THREADS, T_dot_ikm, fwd.T_ikm, atoms, M, a.axis_neuron, 1.0, D_dot)
            _, caches = self._nets.tangent(layers, fwd.caches_t[t], D_dot)
            E_bar = E_bar_i[atoms].reshape(-1, 1)
            D_bar, D_dot_bar = self._nets.tangent_backward(
                layers, caches, E_bar, xp.ones_like(E_bar), self.layout.fitting(gradient, t)
            )
            # T̄ = adj(T, D̄) + adj(Ṫ, Ḋ̄);  Ṫ̄ = adj(T, Ḋ̄)
            for T, D, add, out in (
                (fwd.T_ikm, D_bar, 0, T_bar_ikm), (T_dot_ikm, D_dot_bar, 1, T_bar_ikm),
                (fwd.T_ikm, D_dot_bar, 0, T_dot_bar_ikm),
            ):  # fmt: skip
                f.contract_adjoint(n, ATOM_THREADS, T, atoms, M, a.axis_neuron, D, add, out)
        self._embedding_gradient(par, env, fwd, T_bar_ikm, T_dot_bar_ikm, Rt_dot_pk, gradient)
        return gradient

    # --- the parts of the passes -----------------------------------------------------------------------

    def _moments_adjoint(self, par, env, fwd, E_bar_i, gradient):
        """T̄ from Ē (ones, where it is None); the fitting nets' weight gradients if asked for."""
        a, xp = self.architecture, self.xp
        T_bar_ikm = xp.empty_like(fwd.T_ikm)
        for t, atoms in enumerate(env.pairs.atoms_t):
            n = len(atoms)
            E_bar = xp.ones((n, 1)) if E_bar_i is None else E_bar_i[atoms].reshape(-1, 1)
            into = None if gradient is None else self.layout.fitting(gradient, t)
            D_bar = self._nets.backward(self.layout.fitting(par.weights, t), fwd.caches_t[t], E_bar, into)
            self._f.contract_adjoint(
                n, ATOM_THREADS, fwd.T_ikm, atoms, a.embedding[-1], a.axis_neuron, D_bar, 0, T_bar_ikm
            )
        return T_bar_ikm

    def _embedding_gradient(self, par, env, fwd, T_bar_ikm, T_dot_bar_ikm, Rt_dot_pk, gradient) -> None:
        """Collect Ḡ and Ġ̄ at the nodes of the table, and send them back through the nets."""
        a, xp, f, places = self.architecture, self.xp, self._f, fwd.places
        M, n_v, scale = a.embedding[-1], len(env.net_v), 1.0 / a.n_neighbours
        columns = blocks_for(M, WARP)
        moves = Rt_dot_pk is not None
        parts = xp.empty((places.n_chunks, ORDER, M))
        f.node_adjoint(
            (places.n_chunks, columns), NODE_THREADS, places.chunk_first, a.n_embeddings * places.n_nodes,
            places.bucket_first, places.order_p, env.i_p, env.Rt_pk, Rt_dot_pk if moves else env.Rt_pk, moves,
            T_bar_ikm, T_dot_bar_ikm if moves else T_bar_ikm, places.grid.step, M, parts,
        )  # fmt: skip
        G_bar_enm, G_bar_vm = xp.empty_like(fwd.G_enm), xp.empty((n_v, M))
        f.node_sums(
            a.n_embeddings * places.n_nodes, ATOM_THREADS, places.chunk_first, parts, places.n_nodes, M,
            scale, G_bar_enm,
        )  # fmt: skip
        f.virtual_adjoint(
            (n_v, columns), NODE_THREADS, env.count_iv, env.Rt_vk, T_bar_ikm, env.n_atoms, n_v, M, scale,
            G_bar_vm,
        )  # fmt: skip
        for e in range(a.n_embeddings):
            virtual = np.nonzero(env.net_v == e)[0]
            G_bar = xp.concatenate([G_bar_enm[e], *(G_bar_vm[v : v + 1] for v in virtual.tolist())])
            layers, into = self.layout.embedding(par.weights, e), self.layout.embedding(gradient, e)
            self._nets.backward(layers, fwd.table_caches[e], G_bar, into)

    def _tabulate(self, par: Parameters, env: CudaEnvironment):
        """Run each embedding net on the nodes of a grid that is fine enough, and on its virtual rows.

        The step is halved until the table's estimated error is below `table.TOLERANCE`; asking for it is
        where the host waits, once for an environment and an array of weights.
        """
        chosen = env.kept.get("chosen", (None, None))
        if chosen[0] is par.weights:
            return chosen[1], self._run_nets(par, env, chosen[1])
        grid = TableGrid(0, 0, self.step).covering(env.low, env.high)
        while True:
            tabulated = self._run_nets(par, env, grid)
            if self._error(tabulated[0], slice(*grid.touched(env.low, env.high))) <= TOLERANCE:
                break
            grid = grid.finer().covering(env.low, env.high)
        env.kept["chosen"] = (par.weights, grid)
        return grid, tabulated

    def _error(self, G_enm, touched: slice) -> float:
        """`table.relative_error` of the nodes that this frame touches."""
        xp, G_enm = self.xp, G_enm[:, touched]
        worst = xp.abs(xp.diff(G_enm, n=ORDER, axis=1)).max() if G_enm.shape[1] > ORDER else xp.zeros(())
        worst, largest = xp.stack([worst, xp.abs(G_enm).max()]).get().tolist()
        return relative_error(worst, largest)

    def _run_nets(self, par: Parameters, env: CudaEnvironment, grid: TableGrid):
        """G of the nodes (e, n, M) and of the virtual rows (v, M), and the nets' caches."""
        a, xp, n_nodes = self.architecture, self.xp, grid.stop - grid.start
        M = a.embedding[-1]
        G_enm, G_vm = xp.empty((a.n_embeddings, n_nodes, M)), xp.empty((len(env.net_v), M))
        nodes = xp.arange(grid.start, grid.stop).astype(np.float64) * grid.step
        caches_e = []
        for e in range(a.n_embeddings):
            virtual = np.nonzero(env.net_v == e)[0].tolist()
            g = xp.concatenate([nodes, *(env.Rt_vk[v, :1] for v in virtual)]).reshape(-1, 1)
            G, caches = self._nets.forward(self.layout.embedding(par.weights, e), g)
            G_enm[e] = G[:n_nodes]
            for row, v in enumerate(virtual):
                G_vm[v] = G[n_nodes + row]
            caches_e.append(caches)
        return G_enm, G_vm, caches_e
