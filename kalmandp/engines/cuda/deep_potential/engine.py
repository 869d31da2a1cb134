"""CUDA twin of `potentials.atomic` with the Deep Potential's descriptor: fused loops, G from a table.

The scheme is that of the CPU's engine (`deep_potential.table`): the embedding nets run on the nodes of a
table, a pass over the pairs reads polynomials through them, and what pairs send back to a node is summed in a
fixed order: pairs are sorted by node once, and a block of threads has the pairs of one node. No
floating-point atomics: the same bits from run to run.

What the host decides without waiting for the device: the extent of the table, from the shortest distance,
which is known when a frame is uploaded. What it waits for: the first pass over an environment with new
weights asks how fine the table must be, once as a rule (`table_step`); passes that follow with the same array
of weights, as between the updates of a frame, take a table of the same step.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cuda.deep_potential.constants import TABLE
from kalmandp.engines.cuda.deep_potential.environment import CudaEnvironment, EnvironmentMaker, Places
from kalmandp.engines.cuda.deep_potential.frames import device_frames
from kalmandp.engines.cuda.deep_potential.network import Nets, Rows, rows_of
from kalmandp.engines.cuda.launch import THREADS, WARP, CupyDevice, Device, blocks_for
from kalmandp.engines.protocol import Engine
from kalmandp.errors import InputError
from kalmandp.frames.kept import KeptFrames
from kalmandp.potentials import atomic
from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.deep_potential.table import ORDER, SMOOTH, STEP, TOLERANCE, TableGrid
from kalmandp.potentials.deep_potential.table_step import estimate_windows, find_step, relative_errors
from kalmandp.potentials.protocol import Parameters

#: As in potential.cu: threads of an atom, and of a node's chunk.
ATOM_THREADS = 4 * WARP
NODE_THREADS = ORDER * WARP
#: Tables of rows that are kept on the device: of grids of nodes, and of frames' compositions.
MOST_KEPT = 64
#: Pairs, a warp each, of a block.
PAIRS_PER_BLOCK = THREADS // WARP
#: Blocks of threads that look at the nodes of one net and one step.
DIFFERENCE_PARTS = 16


class Fitting(NamedTuple):
    """Atoms in the order of their types, as rows of the fitting nets: order_i (i,), rows, bias_i (i,) eV."""

    order_i: Any
    rows: Rows
    bias_i: Any


class Nodes(NamedTuple):
    """Rows of the embedding nets: the nodes of a table, net by net, then the virtual rows; x (b, 1)."""

    x: Any
    rows: Rows


class CudaForward(NamedTuple):
    """Node values, what their backward pass needs, and the moments."""

    places: Places
    nodes: Nodes
    G_enm: Any
    G_vm: Any
    table_caches: list
    T_ikm: Any
    fitting: Fitting
    caches: list

    @property
    def table(self) -> tuple:
        """G, step, start, nodes, M: what every kernel that reads the table takes."""
        grid = self.places.grid
        return self.G_enm, grid.step, grid.start, self.places.n_nodes, self.G_enm.shape[2]


class CudaEngine(EnvironmentMaker, Engine):
    """The passes of the potential on a CUDA device, for one form.

    Parameters
    ----------
    form, layout : of the potential
    step : distance h of the table's nodes in units of g = R̃_p0
    device : by default the current CUDA device
    """

    name = "cuda"

    def __init__(self, form, layout, step: float = STEP, device: Device | None = None):
        if reason := self.unfit(form):
            raise InputError(reason)
        super().__init__(form, CupyDevice() if device is None else device)
        self.layout, self.step = layout, float(step)
        self._f = self.device.functions("potential.cu", **TABLE)
        net = lambda kind, n: [f"{kind}.{k}" for k in range(n)]
        self._embedding = Nets(self.device, layout, net("embedding", form.n_embeddings))
        self._fitting = Nets(self.device, layout, net("fitting", form.n_types))
        self._nodes: dict[TableGrid, tuple[Any, Nodes]] = {}
        self._rows: dict[tuple[int, ...], Rows] = {}
        self._bias: tuple = (None, None)
        self._halvings = 0

    # --- passes ----------------------------------------------------------------------------------------

    @staticmethod
    def unfit(form) -> str | None:
        """Why this engine cannot compute a form; None if it can."""
        phi = form.embedding_activation
        if phi.lower() in SMOOTH:
            return None
        return (
            f"the engine 'cuda' tabulates the embedding, which activation {phi!r} makes too rough "
            f"for that; expected one of {', '.join(SMOOTH)}, or the engine 'cupy'"
        )

    def frames(self, data) -> KeptFrames:
        """Frames of a data set with their pairs, uploaded once and kept on the device."""
        return device_frames(data, self)

    def labels(self, env: CudaEnvironment, name: str, values_f):
        """The label of all frames, on the device; each frame's is uploaded once."""
        return env.labels(name, values_f)

    def memory_of(self, frames) -> int:
        """Bytes of the atoms and pairs of these frames on the device."""
        return sum(self.upload(frame).nbytes for frame in frames)

    def energies(self, par: Parameters, env: CudaEnvironment):
        """Twin of `atomic.energies`."""
        a, xp = self.form, self.xp
        M, n_v = a.embedding[-1], len(env.net_v)
        grid, tabulated = self._tabulate(par, env)
        T_ikm, fitting = xp.empty((env.n_atoms, 4, M)), self._atoms(par, env)
        forward = CudaForward(self.places(env, grid), *tabulated, T_ikm, fitting, [])
        self._f.moments(
            (env.n_atoms, blocks_for(M, WARP)), ATOM_THREADS, env.pairs.first_i, env.net_p, env.Rt_pk,
            *forward.table, env.count_iv, forward.G_vm, env.Rt_vk, n_v, 1.0 / a.n_neighbours, T_ikm,
        )  # fmt: skip
        D = self._contract(T_ikm, T_ikm, fitting, 0.5)
        E, caches = self._fitting.forward(par.weights, fitting.rows, D)
        forward.caches.extend(caches)
        E_i = xp.empty(env.n_atoms)
        E_i[fitting.order_i] = E[:, 0] + fitting.bias_i
        return E_i, forward

    def pair_gradient(self, par: Parameters, env: CudaEnvironment, fwd: CudaForward, once: bool = False):
        """Twin of `atomic.pair_gradient`: f_pc = ∂E/∂r_pc."""
        a, xp = self.form, self.xp
        T_bar_ikm = self._moments_adjoint(par, env, fwd, None, None)
        n_p = len(env.pairs.i_p)
        f_pc = xp.empty((n_p, 3))
        self._f.pair_gradient(
            blocks_for(n_p, PAIRS_PER_BLOCK), THREADS, env.pairs.i_p, env.net_p, env.Rt_pk, env.dRt_pkc, n_p,
            *fwd.table, T_bar_ikm, 1.0 / a.n_neighbours, f_pc,
        )  # fmt: skip
        return f_pc

    def forces(self, env: CudaEnvironment, f_pc):
        """Twin of `pairs.forces_from_pairs`."""
        F_ic = self.xp.empty((env.n_atoms, 3))
        n = env.n_atoms
        self._f.forces(
            blocks_for(n, PAIRS_PER_BLOCK), THREADS, env.pairs.first_i, env.pairs.back_p, f_pc, n, F_ic
        )
        return F_ic

    def virial(self, env: CudaEnvironment, f_pc):
        """Twin of `pairs.virial_from_pairs`."""
        n, W_icc = env.n_atoms, self.xp.empty((env.n_atoms, 3, 3))
        first_i, r_pc = env.pairs.first_i, env.pairs.r_pc
        self._f.virial(blocks_for(n, PAIRS_PER_BLOCK), THREADS, first_i, r_pc, f_pc, n, W_icc)
        W_fcc = self.xp.empty((env.pairs.n_frames, 3, 3))
        self._f.piece_sums((env.pairs.n_frames, 9), THREADS, W_icc, env.pairs.first_f, 9, W_fcc)
        return W_fcc

    def energy_gradient(self, par, env, fwd, E_bar_i):
        """Twin of `atomic.energy_gradient`."""
        gradient = self.xp.empty(self.layout.size)
        T_bar_ikm = self._moments_adjoint(par, env, fwd, E_bar_i, gradient)
        self._embedding_gradient(par, env, fwd, T_bar_ikm, None, None, gradient)
        return gradient

    def rows(self, par: Parameters, env: CudaEnvironment, fwd: CudaForward, numbers: Numbers):
        """Twin of `atomic.rows`."""
        return atomic.rows_by(self, par, env, fwd, numbers)

    def weight_gradient(self, par, env, fwd, E_bar_i, v_pc):
        """Twin of `atomic.weight_gradient`."""
        a, xp, f, M = self.form, self.xp, self._f, self.form.embedding[-1]
        gradient = xp.empty(self.layout.size)
        Rt_dot_pk, T_dot_ikm = xp.empty((len(env.pairs.i_p), 4)), xp.empty_like(fwd.T_ikm)
        f.moments_tangent(
            (env.n_atoms, blocks_for(M, WARP)), ATOM_THREADS, env.pairs.first_i, env.net_p, env.Rt_pk,
            env.dRt_pkc, xp.ascontiguousarray(v_pc), *fwd.table, 1.0 / a.n_neighbours, Rt_dot_pk, T_dot_ikm,
        )  # fmt: skip
        w, fitting = par.weights, fwd.fitting
        D_dot = self._contract(T_dot_ikm, fwd.T_ikm, fitting, 1.0)
        _, caches = self._fitting.tangent(w, fitting.rows, fwd.caches, D_dot)
        E_bar = E_bar_i[fitting.order_i]
        D_bar, D_dot_bar = self._fitting.backward(
            w, fitting.rows, caches, E_bar, xp.ones_like(E_bar), gradient
        )
        # T̄ = adj(T, D̄) + adj(Ṫ, Ḋ̄);  Ṫ̄ = adj(T, Ḋ̄)
        T_bar_ikm = self._contract_adjoint(fwd.T_ikm, D_bar, fitting)
        self._contract_adjoint(T_dot_ikm, D_dot_bar, fitting, T_bar_ikm)
        T_dot_bar_ikm = self._contract_adjoint(fwd.T_ikm, D_dot_bar, fitting)
        self._embedding_gradient(par, env, fwd, T_bar_ikm, T_dot_bar_ikm, Rt_dot_pk, gradient)
        return gradient

    # --- the parts of the passes -----------------------------------------------------------------------

    def _atoms(self, par: Parameters, env: CudaEnvironment) -> Fitting:
        """Rows of the fitting nets; kept with the environment."""
        if "fitting" not in env.kept:
            atoms_t = env.pairs.atoms_t
            order_i = self.xp.concatenate(atoms_t) if len(atoms_t) > 1 else atoms_t[0]
            rows = self._fitting_rows(tuple(map(len, atoms_t)))
            env.kept["fitting"] = order_i, rows, env.pairs.types_i[order_i]
        order_i, rows, types_r = env.kept["fitting"]
        key = np.asarray(par.bias_t, float).tobytes()
        if self._bias[0] != key:
            self._bias = key, self.xp.asarray(np.array(par.bias_t, float))
        return Fitting(order_i, rows, self._bias[1][types_r])

    def _fitting_rows(self, sizes: tuple[int, ...]) -> Rows:
        """Tables for so many atoms of each type, kept: frames of one composition share them."""
        if sizes not in self._rows:
            if len(self._rows) >= MOST_KEPT:
                self._rows.clear()
            ends = np.cumsum([0, *sizes]).tolist()
            self._rows[sizes] = rows_of(
                self.device, len(sizes), zip(range(len(sizes)), ends[:-1], ends[1:], strict=True)
            )
        return self._rows[sizes]

    def _contract(self, X_ikm, T_ikm, fitting: Fitting, scale: float):
        """D or Ḋ of all atoms, in the order of the fitting nets' rows."""
        a, n = self.form, len(fitting.order_i)
        D = self.xp.empty((n, a.descriptor_size))
        self._f.contract(n, THREADS, X_ikm, T_ikm, fitting.order_i, a.embedding[-1], a.axis_neuron, scale, D)
        return D

    def _contract_adjoint(self, T_ikm, D_bar, fitting: Fitting, out=None):
        """T̄ of D̄ at T; added to ``out``, if that is given."""
        a, add = self.form, out is not None
        out = out if add else self.xp.empty_like(T_ikm)
        self._f.contract_adjoint(
            len(fitting.order_i), ATOM_THREADS, T_ikm, fitting.order_i, a.embedding[-1], a.axis_neuron, D_bar,
            add, out,
        )  # fmt: skip
        return out

    def _moments_adjoint(self, par, env, fwd, E_bar_i, gradient):
        """T̄ from Ē (ones, where it is None); the fitting nets' weight gradients if asked for."""
        fitting = fwd.fitting
        E_bar = self.xp.ones(env.n_atoms) if E_bar_i is None else E_bar_i[fitting.order_i]
        D_bar, _ = self._fitting.backward(par.weights, fitting.rows, fwd.caches, E_bar, None, gradient)
        return self._contract_adjoint(fwd.T_ikm, D_bar, fitting)

    def _embedding_gradient(self, par, env, fwd, T_bar_ikm, T_dot_bar_ikm, Rt_dot_pk, gradient) -> None:
        """Collect Ḡ and Ġ̄ at the nodes of the table, and send them back through the nets."""
        a, xp, f, places = self.form, self.xp, self._f, fwd.places
        M, n_v, scale = a.embedding[-1], len(env.net_v), 1.0 / a.n_neighbours
        columns = blocks_for(M, WARP)
        moves = Rt_dot_pk is not None
        parts = xp.empty((places.n_chunks, ORDER, M))
        f.node_adjoint(
            (places.n_chunks, columns), NODE_THREADS, places.chunk_first, a.n_embeddings * places.n_nodes,
            places.bucket_first, places.order_p, env.pairs.i_p, env.Rt_pk,
            Rt_dot_pk if moves else env.Rt_pk, moves, T_bar_ikm, T_dot_bar_ikm if moves else T_bar_ikm,
            places.grid.step, M, parts,
        )  # fmt: skip
        G_bar = xp.empty((fwd.nodes.rows.total, M))
        n = a.n_embeddings * places.n_nodes
        f.node_sums(
            n, ATOM_THREADS, places.chunk_first, parts, places.n_nodes, M, scale, G_bar[:n],
        )  # fmt: skip
        f.virtual_adjoint(
            (n_v, columns), NODE_THREADS, env.count_iv, env.Rt_vk, T_bar_ikm, env.n_atoms, n_v, M, scale,
            G_bar[n:],
        )  # fmt: skip
        self._embedding.backward(
            par.weights, fwd.nodes.rows, fwd.table_caches, G_bar, None, gradient, wants_input=False
        )

    def _tabulate(self, par: Parameters, env: CudaEnvironment):
        """Run each embedding net on the nodes of a grid that is fine enough, and on its virtual rows.

        The grid's step is the largest of h, h/2, h/4, … whose table has an estimated error below
        `table.TOLERANCE` (`table_step`). Asking for the errors is where the host waits, once for an
        environment and an array of weights if they are as sharp as those before.
        """
        chosen = env.kept.get("chosen", (None, None))
        if chosen[0] is par.weights:
            return chosen[1], self._run_nets(par, env, chosen[1])
        top = TableGrid(0, 0, self.step).covering(env.low, env.high)
        self._halvings, tabulated, _ = find_step(
            top, self._halvings, TOLERANCE, partial(self._run_nets, par, env), partial(self._errors, env, top)
        )
        grid = top.refined(self._halvings)
        env.kept["chosen"] = (par.weights, grid)
        return grid, tabulated

    def _errors(self, env: CudaEnvironment, top: TableGrid, tabulated: tuple, halvings: int) -> list[float]:
        """Estimated errors of the tables of step h, h/2, … (h of ``top``), from the nodes of the finest."""
        xp, (_, G_enm, *_) = self.xp, tabulated
        windows = estimate_windows(top, halvings, env.low, env.high)
        n_nets, n_nodes, M = G_enm.shape
        squares = xp.empty((len(windows), n_nets * DIFFERENCE_PARTS, 2))
        self._f.differences(
            (len(windows) * n_nets, DIFFERENCE_PARTS), THREADS, G_enm, n_nets, n_nodes, M,
            xp.asarray(windows.astype(np.int32)), squares,
        )  # fmt: skip
        return relative_errors(squares.get().max(axis=1), ORDER)

    def _run_nets(self, par: Parameters, env: CudaEnvironment, grid: TableGrid):
        """The rows, G of the nodes (e, n, M) and of the virtual rows (v, M), and the nets' caches."""
        nodes, M = self._table_rows(env, grid), self.form.embedding[-1]
        G, caches = self._embedding.forward(par.weights, nodes.rows, nodes.x)
        n = self.form.n_embeddings * (grid.stop - grid.start)
        return nodes, G[:n].reshape(-1, grid.stop - grid.start, M), G[n:], caches

    def _table_rows(self, env: CudaEnvironment, grid: TableGrid) -> Nodes:
        """The rows of the embedding nets; kept for each grid, while davg and dstd are what they were."""
        virtual, nodes = self._nodes.get(grid, (None, None))
        if virtual is not env.Rt_vk:
            xp, n_e, n = self.xp, self.form.n_embeddings, grid.stop - grid.start
            g = np.tile(np.arange(grid.start, grid.stop) * grid.step, n_e)
            x = xp.concatenate([xp.asarray(g), env.Rt_vk[:, 0]]).reshape(-1, 1)
            pieces = [(e, e * n, (e + 1) * n) for e in range(n_e)]
            pieces += [(e, n_e * n + v, n_e * n + v + 1) for v, e in enumerate(env.net_v.tolist())]
            nodes = Nodes(x, rows_of(self.device, n_e, pieces))
            if len(self._nodes) >= MOST_KEPT:
                self._nodes.clear()
            self._nodes[grid] = env.Rt_vk, nodes
        return nodes
