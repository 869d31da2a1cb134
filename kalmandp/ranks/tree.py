"""A sum over parts as a tree: what consecutive parts add up to can be sent as one, and the bits stay.

Part n is leaf n of a binary tree, whose nodes are the ranges [k 2ˢ, (k + 1) 2ˢ). A node is left + right, or
the one of them that there is. A rank that has a range of parts adds up the largest nodes within it
(`nodes_of`), at most two of each size; whoever gets these goes on with the same tree. So a sum has the same
bits however its parts are shared out, and 2 log₂ n numbers travel at most in place of n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np

from kalmandp.ranks.team import Team

#: Numbers that are sent to all ranks, which then add them up themselves.
FEW = 4096
#: First part of a node, and the end.
Node = tuple[int, int]
Value = TypeVar("Value")


def nodes_of(first: int, stop: int) -> list[Node]:
    """The largest nodes that make up the parts first ≤ n < stop, in their order.

    Examples
    --------
    >>> nodes_of(3, 8)
    [(3, 4), (4, 8)]
    """
    found = []
    while first < stop:
        size = first & -first or 1 << (stop - first).bit_length()
        while first + size > stop:
            size //= 2
        found.append((first, first + size))
        first += size
    return found


def summed(known: Mapping[Node, Value], node: Node, add: Callable[[Value, Value], Value]) -> Value | None:
    """The value of a node, from those that are known below it; None if there are none.

    Parameters
    ----------
    known : values of leaves or of larger nodes, none within another
    node : `root` for all
    add : of the left and the right one, which it may use up
    """
    if node in known:
        return known[node]
    begin, end = node
    if end - begin == 1:
        return None
    middle = (begin + end) // 2
    left, right = summed(known, (begin, middle), add), summed(known, (middle, end), add)
    return right if left is None else left if right is None else add(left, right)


def root(n: int) -> Node:
    """The node of n parts."""
    return 0, 1 << max(0, n - 1).bit_length()


def is_small(n: int, counts: Sequence[int]) -> bool:
    """Whether `sum_in_tree` sends all parts, so many of each rank and of n numbers, to all ranks."""
    return n * sum(counts) <= FEW


def _added(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left + right


def sum_in_tree(team: Team, own: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Σ over the parts of all ranks, as a tree.

    Parameters
    ----------
    own : (parts, …) of this rank
    counts : (R,) how many consecutive parts each rank has

    Returns
    -------
    The sum, the same bits however the parts are shared out. Of many numbers each rank adds up a share; a few
    are added up by all, so that only one message is waited for.
    """
    shape, n_parts = own.shape[1:], sum(counts)
    n = int(np.prod(shape, dtype=int))
    starts = [0, *accumulate(counts)]
    if is_small(n, counts):
        every = team.gather(own, [c * n for c in counts]).reshape(-1, n)
        return _total(dict(zip(((k, k + 1) for k in range(n_parts)), every, strict=True)), n_parts, shape)
    bounds = [n * r // team.size for r in range(team.size + 1)]
    mine, first = bounds[team.rank + 1] - bounds[team.rank], starts[team.rank]
    leaves = {(first + k, first + k + 1): part for k, part in enumerate(own.reshape(len(own), n))}
    nodes_r = [nodes_of(a, b) for a, b in pairwise(starts)]
    sums = (summed(leaves, node, _added) for node in nodes_r[team.rank])
    flat = [x for x in sums if x is not None]
    sent = [np.concatenate([np.zeros(0), *(x[a:b] for x in flat)]) for a, b in pairwise(bounds)]
    known: dict[Node, Any] = {}
    got = team.exchange(sent, [len(nodes) * mine for nodes in nodes_r])
    for part, nodes in zip(got, nodes_r, strict=True):
        known |= zip(nodes, part.reshape(-1, mine), strict=True)
    total = _total(known, n_parts, (mine,))
    return team.gather(total, [b - a for a, b in pairwise(bounds)]).reshape(shape)


def _total(known: Mapping[Node, np.ndarray], n_parts: int, shape: tuple[int, ...]) -> np.ndarray:
    total = summed(known, root(n_parts), _added)
    return np.zeros(shape) if total is None else total.reshape(shape)
