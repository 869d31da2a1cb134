"""Who feels an atom move, and work space: what `row_kernels` takes to make rows of H of force components."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cpu.deep_potential import row_kernels
from kalmandp.engines.cpu.deep_potential.row_parts import Known
from kalmandp.engines.cpu.linear import LANES
from kalmandp.engines.cpu.network import N_IN, ROWS, LayerAdjoints, NetRows, NetStack, multiplications
from kalmandp.potentials.deep_potential.table import CPU_ORDER as ORDER

#: Force components of an atom, whose rows are made together.
COMPONENTS = 3


class Links(NamedTuple):
    """Pairs by their neighbour.

    first_j : (n_atoms + 1,) pairs whose neighbour is atom j are first_j[j] … first_j[j+1]−1 of
    pair_q, centre_q : numbers of these pairs, and their centres, by the centre's type and then by centre
    j_p : neighbour of a pair;  row_i : row of an atom in the fitting nets' arrays
    """

    first_j: Any
    pair_q: Any
    centre_q: Any
    j_p: Any
    row_i: Any


class Space(NamedTuple):
    """Work space of each thread; ``most`` items of a row at most, one thread's after the other's.

    item_r, source_r, first_t : of `row_kernels._find_items`
    T_dot_rkm : Ṫ of items, of three components one after the other
    T_bar_rkm : T̄ of items;  rows : of layers;  pair : Ṙ̃, ℓ, ℓ′ of a pair;  values : G_p, G′_p
    G_smr : Ḡ in strips of eight columns
    layers, table_layers : adjoints of the fitting nets for the items, of the embedding nets for the nodes
    """

    most: int
    item_r: Any
    source_r: Any
    first_t: Any
    T_dot_rkm: Any
    T_bar_rkm: Any
    rows: Any
    G_smr: Any
    pair: Any
    values: Any
    layers: LayerAdjoints
    table_layers: LayerAdjoints


def links_of(env) -> tuple[Links, int]:
    """The links of an environment, and the most items that a row can have."""
    g, n = env.geometry, env.n_atoms
    pair_q = np.lexsort((g.i_p, g.types_i[g.i_p], g.j_p))
    first_j = np.searchsorted(g.j_p[pair_q], np.arange(n + 1))
    row_i = np.empty(n, np.int64)
    row_i[env.order_r] = np.arange(n)
    centre_q = g.i_p[pair_q]
    most = 1 + min(n, int(np.diff(first_j).max(initial=0)))
    return Links(first_j, pair_q, centre_q, np.ascontiguousarray(g.j_p), row_i), most


def groups_of(force_k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of components (m, 2) by their atoms, and groups (g, 2) in it: from … to, three of an atom."""
    order_k = np.argsort(force_k[:, 0], kind="stable")
    j_k = force_k[order_k, 0]
    of_atom = np.arange(len(j_k)) - np.searchsorted(j_k, j_k)
    first = np.flatnonzero(of_atom % COMPONENTS == 0)
    return order_k, np.stack([first, np.append(first[1:], len(j_k))], axis=1)


def force_rows(engine, par, env, fwd, force_k, H_mw) -> None:
    """∂F_jc/∂w of the components ``force_k`` (m, 2), into ``H_mw``, whose rows are zero."""
    nets, embedding, table, n = engine._fitting, engine._embedding, fwd.table, env.n_atoms
    links, most = links_of(env)
    size, n_rows, padded = engine._team.size, len(table.sums.G_rm), engine._padded
    widest = max(nets.widest, embedding.widest)
    several, of_nets = engine._store.several, (n, nets.n_a)
    T_dot, T_bar, rows, G_smr, pair, values = several(
        (COMPONENTS * size * most, 4, padded), (size * most, 4, padded), (size, 2, ROWS, widest),
        (size, padded // LANES, n_rows, LANES), (size, 3, ORDER), (size, 2, padded),
    )  # fmt: skip
    *of_layers, D, T_dot_bar_ikm = several(
        of_nets, of_nets, of_nets, (n, int(nets.forms[0, 0, N_IN])), (n, 4, padded)
    )
    whole = lambda *shape: np.empty(shape, np.int64)
    lists = whole(size * most, 3), whole(size * most), whole(size, len(env.first_t))
    layers = _adjoints(engine._store, nets, size * most, True)
    table_layers = _adjoints(engine._store, embedding, size * n_rows, False)
    space = Space(most, *lists, T_dot, T_bar, rows, G_smr, pair, values, layers, table_layers)
    fitting = NetRows(nets, env.blocks, space.first_t, space.source_r, fwd.cache)
    moments, known = engine.moments(fwd.T_ikm), Known(*of_layers, D)
    once = multiplications(nets, n)
    engine._team.run(
        row_kernels.atoms_adjoints, once, space, par.weights, fitting, moments, env.order_r, known,
        T_dot_bar_ikm,
    )  # fmt: skip
    # every thread has rows of its own in these; the table's are counted on from one thread to the next
    each = np.tile(np.arange(n_rows), size)
    work = len(force_k) * (4 * multiplications(nets, most) + 3 * multiplications(embedding, n_rows))
    order_k, groups = groups_of(force_k)
    engine._team.run(
        row_kernels.force_rows, work, space, par.weights, fitting,
        NetRows(embedding, table.rows.blocks, table.rows.first_e, each, table.cache), links, groups,
        np.ascontiguousarray(force_k[order_k], dtype=np.int64), order_k, moments, known, T_dot_bar_ikm,
        table.pairs, table.sums, H_mw,
    )  # fmt: skip


def _adjoints(store, nets: NetStack, n_rows: int, tangents: bool) -> LayerAdjoints:
    n, n_idt = n_rows if tangents else 0, n_rows if nets.has_idt else 0
    a = lambda count: (count, nets.n_a)
    return LayerAdjoints(*store.several(a(n_rows), a(n), (n, nets.n_x), a(n), a(n_idt)))
