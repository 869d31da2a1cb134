"""Partitions of the weights: the paper's network, to the number, and what holds for any network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalmandp.errors import InputError
from kalmandp.kalman import Blocks, Part, covariance_memory, partition
from kalmandp.kalman.blocks import STRATEGIES

EMBEDDING = [25, 25, 625, 25, 625, 25]
FITTING = [20000, 50, 2500, 50, 2500, 50, 50, 1]


def network(n_types: int) -> list[Part]:
    return [
        Part(f"{net}[{t}]/{i}", size, f"{net}[{t}]/{i // 2}")
        for net, sizes in (("embedding", EMBEDDING), ("fitting", FITTING))
        for t in range(n_types)
        for i, size in enumerate(sizes)
    ]


PAPER = [
    # the paper's text: the remainder 4640 is gathered with the bias after it
    (1, "RLEKF", 5120, [1350, 5120, 5120, 5120, 4690, 5100, 51]),
    (1, "RLEKF", 10240, [1350, 10240, 9810, 5151]),
    (2, "RLEKF", 5120, [2700] + 2 * [5120, 5120, 5120, 4690, 5100, 51]),
    # the last 51 weights of the first fitting net wait for what follows, and 20000 is too large
    (2, "RLEKF", 10240, [2700, 10240, 9810, 5151, 10240, 9810, 5151]),
    # the codes: the remainder stays alone (DeePMD-kit logs 1350, 20000, 5100, 101 before the cut)
    (1, "RLEKF-code", 5120, [1350, 5120, 5120, 5120, 4640, 5100, 101]),
    (1, "RLEKF-code", 10240, [1350, 10240, 9760, 5201]),
    (2, "RLEKF-code", 5120, [2700] + 2 * [5120, 5120, 5120, 4640, 5100, 101]),
    (2, "RLEKF-code", 10240, [2700, 10240, 9760, 5201, 10240, 9760, 5201]),
    (1, "LEKF", 5120, [50, 650, 650, 20050, 2550, 2550, 51]),
    (2, "LEKF", 5120, 2 * [50, 650, 650] + 2 * [20050, 2550, 2550, 51]),
    (1, "SEKF", 5120, [4426] + 5 * [4425]),
    (2, "SEKF", 5120, 5 * [4828] + 6 * [4827]),
    (1, "GEKF", 5120, [26551]),
    (2, "GEKF", 5120, [53102]),
]


@pytest.mark.parametrize(("n_types", "strategy", "block_size", "sizes"), PAPER)
def test_the_papers_network(n_types, strategy, block_size, sizes):
    blocks = partition(network(n_types), strategy, block_size)
    assert list(blocks.sizes) == sizes
    assert blocks.n_weights == {1: 26551, 2: 53102}[n_types]


def test_a_part_of_exactly_the_block_size_is_one_block():
    parts = [Part("a", 10, "a"), Part("b", 20, "b"), Part("c", 3, "c"), Part("d", 7, "d")]
    assert partition(parts, "RLEKF", 10).sizes == (10, 10, 10, 10)
    assert partition(parts, "RLEKF-code", 10).sizes == (10, 10, 10, 10)


def test_a_remainder_starts_the_next_block_in_the_text_and_is_alone_in_the_code():
    parts = [Part("a", 25, "a"), Part("b", 3, "b"), Part("c", 3, "c")]
    assert partition(parts, "RLEKF", 10).sizes == (10, 10, 8, 3)
    assert partition(parts, "RLEKF-code", 10).sizes == (10, 10, 5, 6)


def test_groups_are_whole_where_they_fit():
    """Sizes by hand for N_b = 10: 4 + 5 fit together with nothing after; 12 is cut alone; 6 + 3 fit."""
    sizes = [("a", 4), ("a", 5), ("b", 7), ("b", 5), ("c", 2), ("c", 4), ("d", 3), ("", 1)]
    parts = [Part(f"p{i}", n, "layer", group) for i, (group, n) in enumerate(sizes)]
    assert partition(parts, "RLEKF", 10).sizes == (9, 7, 5, 10)
    # without groups 5 of the 7 would stand in the block before
    assert partition([p._replace(group="") for p in parts], "RLEKF", 10).sizes == (9, 7, 7, 8)
    # all fit: one block, as without groups
    assert partition(parts, "RLEKF", 40).sizes == (31,)


@pytest.mark.parametrize(("n_types", "neuron"), [(3, 30), (16, 80), (89, 30)])
def test_blocks_of_a_nep_follow_its_centre_types(n_types, neuron):
    """No block has weights of two types unless it has all of both."""
    from kalmandp.potentials.nep.form import NEPForm

    types = tuple(f"T{t}" for t in range(n_types))
    form = NEPForm(types, n_max=(4, 4), basis_size=(8, 8), l_max=(4, 1), neuron=neuron)
    tensors = form.layout().tensors
    blocks = partition([Part(t.name, t.size, t.layer, t.group) for t in tensors], "RLEKF", 8192)
    ends = {t.group: t.stop for t in tensors}
    starts = {t.group: t.start for t in reversed(tensors)}
    assert blocks.n_weights == form.layout().size and len(ends) == n_types + 1  # and the common bias
    for w in blocks:
        inside = [g for g in ends if starts[g] < w.stop and w.start < ends[g]]
        assert len(inside) == 1 or all(w.start <= starts[g] and ends[g] <= w.stop for g in inside), w
    size = ends["centre.0"]
    assert max(blocks.sizes) <= 8192 and (len(blocks) == 1) == (n_types * size + 1 <= 8192)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=30),
    block_size=st.integers(1, 40),
    strategy=st.sampled_from(sorted(STRATEGIES)),
    groups=st.lists(st.sampled_from(["", "x", "y"]), min_size=3, max_size=3),
)
def test_every_partition_covers_every_weight_once(sizes, block_size, strategy, groups):
    parts = [Part(f"p{i}", size, f"layer{i // 2}", groups[i // 3 % 3]) for i, size in enumerate(sizes)]
    blocks = partition(parts, strategy, block_size)
    covered = np.concatenate([np.arange(sum(sizes))[w] for w in blocks])
    assert covered.tolist() == list(range(sum(sizes)))
    assert [w.stop - w.start for w in blocks] == list(blocks.sizes)
    assert len(blocks) == len(blocks.sizes) and blocks.n_weights == sum(sizes)
    if strategy in ("RLEKF", "RLEKF-code", "SEKF"):
        assert max(blocks.sizes) <= block_size
    if strategy == "RLEKF" and max(sizes) <= block_size:  # each block is as full as it can be
        starts = np.cumsum([0, *sizes])
        next_part = [sizes[np.searchsorted(starts, w.start)] for w in list(blocks)[1:]]
        assert all(n + p > block_size for n, p in zip(blocks.sizes, next_part, strict=False))
    if strategy == "SEKF":
        assert max(blocks.sizes) - min(blocks.sizes) <= 1


def test_memory():
    blocks = Blocks((3, 5))
    assert covariance_memory(blocks) == (8 * (6 + 15), 8 * (9 + 25))
    assert covariance_memory(blocks, "float32") == (4 * (6 + 15), 4 * (9 + 25))
    paper = covariance_memory(partition(network(2), "RLEKF-code"))
    assert paper.squares == 8 * sum(n * n for n in partition(network(2), "RLEKF-code").sizes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], "RLEKF"), "the number of parts is 0; expected at least one"),
        (([Part("a", 0, "a")], "RLEKF"), "part 'a' size is 0; expected a positive integer"),
        (([Part("a", 2.5, "a")], "GEKF"), "part 'a' size is 2.5"),
        (([Part("a", 2, "a")], "rlekf"), "strategy is 'rlekf'; expected one of RLEKF, RLEKF-code"),
        (([Part("a", 2, "a")], "RLEKF", 0), "block_size is 0; expected a positive integer"),
        (([Part("a", 2, "a")], "RLEKF", True), "block_size is True"),
        (
            ([Part("a", 2, "x"), Part("b", 2, "y"), Part("c", 2, "x")], "LEKF"),
            "the parts of layer 'x' are not side by side",
        ),
    ],
)
def test_what_cannot_be_cut(arguments, message):
    with pytest.raises(InputError, match=message):
        partition(*arguments)


def test_blocks_refuse_what_is_no_size():
    for sizes in ((), (3, 0), (3, -1), (2.0,), ("3",)):
        with pytest.raises(InputError):
            Blocks(sizes)
