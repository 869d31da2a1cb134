"""Values of the embedding nets at the nodes of a grid, and whose they are."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cpu import network as network_kernels
from kalmandp.engines.cpu.network import NetCache
from kalmandp.potentials.deep_potential.table import TableGrid


class TableRows(NamedTuple):
    """Rows of the embedding nets: for each net the nodes, then its padding slots.

    first_e : (E + 1,) rows of net e;  row_v : row of the padding slot of kind v
    """

    first_e: np.ndarray
    row_v: np.ndarray
    blocks: np.ndarray


class NodeValues(NamedTuple):
    """G of the nodes of a grid and of the padding slots, for weights ``w`` and g = ``g_v`` of those slots."""

    w: Any
    g_v: Any
    grid: TableGrid
    rows: TableRows
    cache: NetCache
    G_rm: Any


def serves(values: NodeValues, w, g_v, grid: TableGrid) -> bool:
    """Whether these values are those of weights w, and hold all nodes of the grid."""
    kept = values.grid
    covers = kept.step == grid.step and kept.start <= grid.start and grid.stop <= kept.stop
    return covers and np.array_equal(values.w, w) and np.array_equal(values.g_v, g_v)


@lru_cache(maxsize=64)
def table_rows(n_nodes: int, net_v: tuple[int, ...], n_nets: int) -> TableRows:
    kinds_e = [[v for v, net in enumerate(net_v) if net == e] for e in range(n_nets)]
    first_e = np.concatenate([[0], np.cumsum([n_nodes + len(kinds) for kinds in kinds_e])])
    row_v = np.empty(len(net_v), dtype=np.int64)
    for e, kinds in enumerate(kinds_e):
        row_v[kinds] = first_e[e] + n_nodes + np.arange(len(kinds))
    return TableRows(first_e, row_v, network_kernels.row_blocks(first_e))
