"""Sums as a tree: the same bits however the parts are shared out, and few nodes that travel."""

from __future__ import annotations

from itertools import pairwise
from math import log2

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kalmandp.engines.cpu.covariance.spans import between, joined
from kalmandp.ranks import tree
from kalmandp.ranks.team import Alone


@st.composite
def shared_out(draw) -> tuple[int, list[int]]:
    """So many parts, and where each of a few ranks begins, with the end."""
    n = draw(st.integers(1, 70))
    inner = draw(st.lists(st.integers(0, n), max_size=5))
    return n, [0, *sorted(inner), n]


@given(shared_out(), st.integers(0, 2**32 - 1))
def test_a_sum_has_the_same_bits_for_all_ranks(parts, seed):
    n, starts = parts
    rng = np.random.default_rng(seed)
    leaves = {(k, k + 1): x for k, x in enumerate(rng.normal(size=n) * 10.0 ** rng.integers(-8, 8, n))}
    add = lambda a, b: a + b
    whole = tree.summed(leaves, tree.root(n), add)
    nodes = [node for a, b in pairwise(starts) for node in tree.nodes_of(a, b)]
    assert [k for a, b in nodes for k in range(a, b)] == list(range(n))
    assert len(nodes) <= (len(starts) - 1) * 2 * (1 + log2(n))
    assert tree.summed({node: tree.summed(leaves, node, add) for node in nodes}, tree.root(n), add) == whole
    np.testing.assert_allclose(
        whole, sum(leaves.values()), rtol=0, atol=1e-15 * n * sum(map(abs, leaves.values()))
    )


def test_of_few_numbers_and_of_many():
    rng = np.random.default_rng(0)
    for shape in ((3,), (2, tree.FEW)):
        parts = rng.normal(size=(11, *shape))
        one, two = (tree.sum_in_tree(Alone(), parts[..., :k], [11]) for k in (None, 1))
        np.testing.assert_allclose(one, parts.sum(axis=0), rtol=0, atol=1e-14)
        np.testing.assert_array_equal(one[..., :1], two)  # gathered, or each rank its share: the same tree
    assert tree.sum_in_tree(Alone(), np.zeros((0, 2)), [0]).tolist() == [0.0, 0.0]


@given(st.data())
def test_rows_that_only_some_parts_have(data):
    """Part n has rows low_n ≤ t < end_n, both growing: as chunks of blocks do."""
    n = data.draw(st.integers(1, 20))
    ends = np.cumsum(data.draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))).tolist()
    lows = []
    for begin in [0, *ends[:-1]]:
        lows.append(data.draw(st.integers(lows[-1] if lows else 0, begin)))
    first, stop = sorted(data.draw(st.tuples(st.integers(0, ends[-1]), st.integers(0, ends[-1]))))
    rng = np.random.default_rng(n)
    values = [rng.normal(size=b - a) for a, b in zip(lows, ends, strict=True)]
    leaves = lambda: {(k, k + 1): [(a, x.copy())] for k, (a, x) in enumerate(zip(lows, values, strict=True))}
    plain = np.zeros(ends[-1])
    for a, x in zip(lows, values, strict=True):
        plain[a : a + len(x)] += x
    whole, window = np.full(ends[-1], np.nan), np.full(ends[-1], np.nan)
    for t, x in tree.summed(leaves(), tree.root(n), joined):
        whole[t : t + len(x)] = x
    np.testing.assert_allclose(whole, plain, rtol=0, atol=1e-13)
    # only some of the rows: the same bits
    known = {node: cut for node, rows in leaves().items() if (cut := between(rows, first, stop))}
    for t, x in tree.summed(known, tree.root(n), joined) or []:
        window[t : t + len(x)] = x
    np.testing.assert_array_equal(window[first:stop], whole[first:stop])
