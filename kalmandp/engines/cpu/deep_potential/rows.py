"""Who feels an atom move, and work space: what `row_kernels` takes to make rows of H of force components."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cpu.deep_potential import row_kernels
from kalmandp.engines.cpu.network import ROWS, LayerAdjoints, NetRows, NetStack, multiplications
from kalmandp.potentials.deep_potential.table import CPU_ORDER as ORDER


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
    T_dot_rkm, T_bar_rkm, T_dot_bar_rkm : of items;  rows : of layers;  G_rm : Ḡ;  pair : Ṙ̃, ℓ, ℓ′ of a pair
    layers, table_layers : adjoints of the fitting nets for the items, of the embedding nets for the nodes
    """

    most: int
    item_r: Any
    source_r: Any
    first_t: Any
    T_dot_rkm: Any
    T_bar_rkm: Any
    T_dot_bar_rkm: Any
    rows: Any
    G_rm: Any
    pair: Any
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


def force_rows(engine, par, env, fwd, force_k, H_mw) -> None:
    """∂F_jc/∂w of the components ``force_k`` (m, 2), into ``H_mw``, whose rows are zero."""
    nets, embedding, table = engine._fitting, engine._embedding, fwd.table
    links, most = links_of(env)
    size, n_rows, padded = engine._team.size, len(table.sums.G_rm), engine._padded
    widest = max(nets.widest, embedding.widest)
    moments = (size * most, 4, padded)
    *of_items, rows, G_rm, pair = engine._store.several(
        moments, moments, moments, (size, 4, ROWS, widest), (size, n_rows, padded), (size, 3, ORDER)
    )
    whole = lambda *shape: np.empty(shape, np.int64)
    lists = whole(size * most, 3), whole(size * most), whole(size, len(env.first_t))
    layers = _adjoints(engine._store, nets, size * most, True)
    table_layers = _adjoints(engine._store, embedding, size * n_rows, False)
    space = Space(most, *lists, *of_items, rows, G_rm, pair, layers, table_layers)
    # every thread has rows of its own in these; the table's are counted on from one thread to the next
    each = np.tile(np.arange(n_rows), size)
    work = len(force_k) * (6 * multiplications(nets, most) + 3 * multiplications(embedding, n_rows))
    engine._team.run(
        row_kernels.force_rows, work, space, par.weights,
        NetRows(nets, env.blocks, space.first_t, space.source_r, fwd.cache),
        NetRows(embedding, table.rows.blocks, table.rows.first_e, each, table.cache), links,
        np.ascontiguousarray(force_k, dtype=np.int64), engine.moments(fwd.T_ikm), table.pairs, table.sums,
        H_mw,
    )  # fmt: skip


def _adjoints(store, nets: NetStack, n_rows: int, tangents: bool) -> LayerAdjoints:
    n, n_idt = n_rows if tangents else 0, n_rows if nets.has_idt else 0
    a = lambda count: (count, nets.n_a)
    return LayerAdjoints(*store.several(a(n_rows), a(n), (n, nets.n_x), a(n), a(n_idt)))
