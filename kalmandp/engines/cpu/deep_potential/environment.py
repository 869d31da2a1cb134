"""Numba twin of `deep_potential.environment`: what the frame alone decides, laid out for the fused loops."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cpu import network as network_kernels
from kalmandp.engines.cpu.deep_potential import frame_kernels as kernels
from kalmandp.engines.cpu.threads import Team
from kalmandp.geometry.cutoff import SWITCH_COEFFICIENTS
from kalmandp.geometry.pairs import Geometry
from kalmandp.potentials.deep_potential.environment import gathered, padding_counts, pair_kinds, virtual_rows
from kalmandp.potentials.deep_potential.table import CPU_ORDER as ORDER
from kalmandp.potentials.deep_potential.table import lagrange_coefficients


class Nodes(NamedTuple):
    """S of every atom, at the nodes of one step that its pairs touch.

    touched_i : (n_atoms + 1,) nodes of atom i are touched_i[i] … touched_i[i+1]−1
    net_t, node_t : net and number (g = number·step) of a node; −1 − v for a padding slot of kind v
    S_tk : (t, 4);  place_p : place of a pair's first node in the list of its atom
    most : the most nodes of an atom
    """

    step: float
    touched_i: Any
    net_t: Any
    node_t: Any
    S_tk: Any
    place_p: Any
    most: int


class Scaling(NamedTuple):
    """From r to R̃: the switch's ends (Å) and polynomial, davg and dstd."""

    rcut_smth: float
    rcut: float
    switch: Any
    davg: Any
    dstd: Any


class Touching(NamedTuple):
    """Pairs that touch nodes of a step, the lowest node of all, and marks (thread, net, node − lowest)."""

    first_i: Any
    net_p: Any
    Rt_pk: Any
    inverse_step: float
    lowest: int
    marks: Any


class FusedEnvironment(NamedTuple):
    """Twin of `Environment`, with pairs as rows of a compressed list.

    geometry : atoms and pairs, those of excluded types left out
    first_i : (n_atoms + 1,) pairs of atom i are first_i[i] … first_i[i+1]−1
    geometry_p : (p, 5) n = r/|r|, ds/dr, s/r
    low, high : range of g = R̃_p0
    order_r : (n_atoms,) atoms by type: atom of row r of the fitting nets
    first_t : (n_types + 1,) rows of type t are first_t[t] … first_t[t+1]−1
    blocks : rows of the fitting nets in blocks, see `cpu.network`
    """

    geometry: Geometry
    first_i: Any
    net_p: Any
    Rt_pk: Any
    geometry_p: Any
    dstd: Any
    Rt_vk: Any
    count_iv: Any
    low: float
    high: float
    order_r: Any
    first_t: Any
    blocks: Any
    nodes: Nodes

    @property
    def n_atoms(self) -> int:
        return self.geometry.n_atoms


@lru_cache(maxsize=1)
def polynomials() -> tuple[np.ndarray, np.ndarray]:
    """c (a, n) with ℓ_n(x) = Σ_a c_an xᵃ, and dc (a, n) with dℓ_n/dx = Σ_a dc_an xᵃ."""
    c_an = np.ascontiguousarray(lagrange_coefficients(ORDER).T)
    return c_an, np.arange(1, ORDER)[:, None] * c_an[1:]


def fused_environment(a, team: Team, davg, dstd, frames, pairs, step: float) -> FusedEnvironment:
    """Twin of `DeepPotential.environment`, with S at the nodes of that step."""
    geometry = gathered(a, frames, pairs)
    types_i, _, _, i_p, j_p, r_pc = geometry
    kinds = pair_kinds(a)
    v_p = types_i[i_p] * a.n_types + types_i[j_p]
    if kinds.excluded_v.any():
        keep = ~kinds.excluded_v[v_p]
        i_p, j_p, r_pc, v_p = i_p[keep], j_p[keep], r_pc[keep], v_p[keep]
    n_p = len(i_p)
    first_i = np.searchsorted(i_p, np.arange(len(types_i) + 1))
    davg, dstd = np.ascontiguousarray(davg, dtype=float), np.ascontiguousarray(dstd, dtype=float)
    Rt_pk, geometry_p = np.empty((n_p, 4)), np.empty((n_p, 5))
    team.run(
        kernels.pair_environment, 60 * n_p, first_i, types_i, i_p, r_pc,
        Scaling(a.rcut_smth, a.rcut, np.array(SWITCH_COEFFICIENTS), davg, dstd), Rt_pk, geometry_p,
    )  # fmt: skip
    order_r = np.argsort(types_i, kind="stable")
    first_t = np.searchsorted(types_i[order_r], np.arange(a.n_types + 1))
    low, high = (float(Rt_pk[:, 0].min()), float(Rt_pk[:, 0].max())) if n_p else (0.0, 0.0)
    env = FusedEnvironment(
        geometry._replace(i_p=i_p, j_p=j_p, r_pc=r_pc), first_i, kinds.net_v[v_p].astype(np.int32),
        Rt_pk, geometry_p, dstd, virtual_rows(a, davg, dstd), padding_counts(a, types_i, i_p, v_p),
        low, high, order_r, first_t, network_kernels.row_blocks(first_t), None,
    )  # fmt: skip
    return env._replace(nodes=sum_nodes(a, team, env, step))


def sum_nodes(a, team: Team, env: FusedEnvironment, step: float) -> Nodes:
    """S of every atom at the nodes of that step."""
    n_p, n = len(env.geometry.i_p), env.n_atoms
    lowest = int(np.floor(env.low / step)) - ORDER
    shape = (a.n_embeddings, int(np.floor(env.high / step)) + 2 * ORDER - lowest)
    count_i = np.empty(n, np.int64)
    marks = np.empty((team.size, *shape), np.int32)
    pairs = Touching(env.first_i, env.net_p, env.Rt_pk, 1.0 / step, lowest, marks)
    team.run(kernels.count_nodes, 50 * n_p, pairs, env.count_iv, count_i)
    touched_i = np.concatenate([[0], np.cumsum(count_i)])
    n_t = int(touched_i[-1])
    nodes = Nodes(
        step, touched_i, np.empty(n_t, np.int32), np.empty(n_t, np.int32), np.empty((n_t, 4)),
        np.empty(n_p, np.int32), int(count_i.max(initial=1)),
    )  # fmt: skip
    team.run(
        kernels.sum_nodes, 100 * n_p, pairs, polynomials()[0], np.empty((team.size, 4, nodes.most)),
        env.count_iv, env.Rt_vk, 1.0 / a.n_neighbours, nodes,
    )  # fmt: skip
    return nodes
