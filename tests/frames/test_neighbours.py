"""Neighbours against a list made with nothing but loops, and what keeps the search from harm."""

from __future__ import annotations

import itertools
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import (
    Search,
    neighbour_counts,
    neighbour_pairs,
    neighbour_statistics,
)


def brute_force(frame: Frame, cutoff: float) -> dict:
    """(i, j, image) -> r_j + image·cell − r_i of every pair, by going through all images in reach."""
    reach = [0, 0, 0]
    cell = np.zeros((3, 3)) if frame.cell is None else frame.cell
    if frame.cell is not None:
        inverse = np.linalg.inv(cell)
        fractional = frame.positions @ inverse
        for d in range(3):
            if frame.pbc[d]:
                height = 1.0 / np.linalg.norm(inverse[:, d])
                spread = np.ptp(fractional[:, d])
                reach[d] = int(np.ceil(cutoff / height + spread))
    pairs = {}
    for image in itertools.product(*(range(-m, m + 1) for m in reach)):
        for i, j in itertools.product(range(len(frame)), repeat=2):
            r = frame.positions[j] + np.array(image) @ cell - frame.positions[i]
            if np.linalg.norm(r) <= cutoff and (i != j or any(image)):
                pairs[(i, j, *image)] = r
    return pairs


def assert_right(frame: Frame, cutoff: float) -> None:
    pairs = neighbour_pairs(frame, cutoff)
    wanted = brute_force(frame, cutoff)
    keys = [(int(i), int(j), *map(int, s)) for i, j, s in zip(*pairs[:3], strict=True)]
    assert len(set(keys)) == len(keys)
    assert set(keys) == set(wanted)
    if keys:
        # the same three numbers added in another order
        expected = np.array([wanted[key] for key in keys])
        np.testing.assert_allclose(pairs.r_pc, expected, atol=1e-12)


def make(rng, n, cell, pbc, spread=1.5) -> Frame:
    fractional = rng.uniform(-0.5, spread, (n, 3))
    return Frame(
        positions=fractional @ cell,
        types=rng.integers(0, 2, n),
        type_map=("O", "H"),
        cell=cell,
        pbc=pbc,
    )


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = rng.uniform(1.5, 8.0, 3)
    tilt = draw(st.sampled_from([0.0, 0.3, 1.5]))
    cell = np.diag(lengths) + rng.normal(0.0, tilt, (3, 3)) if tilt else np.diag(lengths)
    pbc = draw(st.tuples(*[st.booleans()] * 3))
    return cell, pbc, draw(st.integers(1, 7)), draw(st.sampled_from([1.0, 3.0, 5.0])), rng


@settings(max_examples=60, deadline=None)
@given(cases())
def test_equals_brute_force(case):
    cell, pbc, n, cutoff, rng = case
    if abs(np.linalg.det(cell)) < 4.0:
        cell = np.diag([2.1, 3.2, 4.3])
    frame = make(rng, n, cell, pbc)
    distances = [np.linalg.norm(r) for r in brute_force(frame, 0.1).values()]
    if not distances:
        assert_right(frame, cutoff)


@pytest.mark.parametrize("pbc", list(itertools.product([False, True], repeat=3)))
def test_small_tilted_cell_in_every_periodicity(pbc):
    cell = np.array([[2.0, 0.3, -0.2], [0.9, 2.2, 0.1], [-0.4, 0.8, 2.5]])
    assert_right(make(np.random.default_rng(3), 3, cell, pbc, spread=1.0), 4.0)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, True), (False, True, False)])
def test_slab_and_wire_with_zero_vectors(pbc):
    cell = np.diag([4.1, 4.6, 5.1]) * np.array(pbc)[:, None]
    rng = np.random.default_rng(1)
    frame = Frame(rng.uniform(0, 4, (5, 3)), [0, 0, 1, 1, 0], ("O", "H"), cell=cell, pbc=pbc)
    assert_right(frame, 5.0)


def test_one_atom():
    frame = Frame([[0.2, 0.1, 0.3]], [0], ("Cu",), cell=np.eye(3) * 2.0)
    assert_right(frame, 4.5)
    alone = Frame([[0.2, 0.1, 0.3]], [0], ("Cu",))
    assert len(neighbour_pairs(alone, 4.5).i_p) == 0


def test_no_atoms():
    pairs = neighbour_pairs(Frame(np.zeros((0, 3)), [], ("Cu",)), 3.0)
    assert pairs.r_pc.shape == pairs.shift_pd.shape == (0, 3)


def test_pairs_come_in_a_fixed_order():
    frame = make(np.random.default_rng(4), 12, np.eye(3) * 6.0, (True,) * 3, spread=0.5)
    first = neighbour_pairs(frame, 4.0)
    keys = np.column_stack([first.i_p, frame.types[first.j_p], first.j_p, first.shift_pd])
    assert np.array_equal(keys, keys[np.lexsort(keys.T[::-1])])
    for got, again in zip(first, neighbour_pairs(frame, 4.0), strict=True):
        np.testing.assert_array_equal(got, again)


def test_permuted_atoms_have_the_same_neighbours():
    rng = np.random.default_rng(5)
    frame = make(rng, 10, np.diag([5.0, 6.0, 7.0]), (True, True, False), spread=0.5)
    order = rng.permutation(10)
    shuffled = Frame(frame.positions[order], frame.types[order], frame.type_map, frame.cell, frame.pbc)
    first, second = neighbour_pairs(frame, 4.0), neighbour_pairs(shuffled, 4.0)
    back = {(int(order[i]), int(order[j]), *map(int, s)) for i, j, s in zip(*second[:3], strict=True)}
    assert back == {(int(i), int(j), *map(int, s)) for i, j, s in zip(*first[:3], strict=True)}
    np.testing.assert_array_equal(neighbour_counts(shuffled, second), neighbour_counts(frame, first)[order])


def test_the_brute_force_list_notices_a_wrong_image():
    frame = make(np.random.default_rng(6), 4, np.eye(3) * 3.0, (True,) * 3, spread=0.5)
    pairs = neighbour_pairs(frame, 3.5)
    pairs.shift_pd[0, 0] += 1
    wanted = brute_force(frame, 3.5)
    assert {(int(i), int(j), *map(int, s)) for i, j, s in zip(*pairs[:3], strict=True)} != set(wanted)


# --- harm -----------------------------------------------------------------------------------------


def test_overlap_names_the_atoms():
    frame = Frame([[0, 0, 0], [3, 0, 0], [3, 0, 0.05]], [0, 0, 0], ("H",), source="x frame 3")
    with pytest.raises(InputError, match=r"x frame 3: atoms 1 and 2 are 0.05 Å apart"):
        neighbour_pairs(frame, 5.0)
    frame = Frame([[0, 0, 0]], [0], ("H",), cell=np.diag([0.09, 5.0, 5.0]))
    with pytest.raises(InputError, match="atom 0 and its own periodic image are"):
        neighbour_pairs(frame, 1.0)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf, "far", None])
def test_cutoff_must_be_positive(cutoff):
    with pytest.raises(InputError, match="expected a positive number of Å"):
        neighbour_pairs(Frame([[0.0, 0, 0]], [0], ("H",)), cutoff)


@pytest.mark.parametrize(
    ("cell", "cutoff", "message"),
    [
        (np.eye(3) * 0.01, 6.0, "images"),
        (np.diag([1e-6, 5.0, 5.0]), 6.0, "images"),
        ([[5, 0, 0], [1e7, 5, 0], [0, 0, 5]], 6.0, "images"),
        (np.eye(3) * 5.0, 1e3, "images"),
        (np.eye(3) * 0.5, 6.0, "are the lengths in Å"),
    ],
)
def test_cells_that_make_no_sense_are_refused_at_once(cell, cutoff, message):
    positions = np.random.default_rng(0).uniform(0, 5, (8, 3))
    frame = Frame(positions, np.zeros(8, int), ("H",), cell=cell)
    start = time.perf_counter()
    with pytest.raises(InputError, match=message):
        neighbour_pairs(frame, cutoff)
    assert time.perf_counter() - start < 1.0


def test_strongly_sheared_cell_works():
    cell = np.array([[3.0, 0, 0], [30.0, 3.0, 0], [0, 0, 3.0]])
    positions = np.array([[0.0, 0, 0], [1.5, 1.5, 1.5]])
    assert_right(Frame(positions, [0, 0], ("H",), cell=cell), 3.5)


@pytest.mark.parametrize("pbc", [(False,) * 3, (True, True, False), (True, False, False)])
@pytest.mark.parametrize("far", [1e4, 1e6, 9e7])
def test_an_atom_that_has_flown_off(pbc, far):
    # vesin's grid would fill the memory or divide by zero; the search leaves out what is empty
    rng = np.random.default_rng(2)
    positions = rng.uniform(0, 4.0, (6, 3))
    positions[0, 2] += far
    positions[1, 2] -= far / 3
    frame = Frame(positions, np.zeros(6, int), ("H",), cell=np.diag([4.1, 5.2, 6.3]), pbc=pbc)
    start = time.perf_counter()
    assert_right(frame, 5.0)
    assert time.perf_counter() - start < 5.0


def test_vectors_of_a_long_system_are_not_touched_by_the_search():
    positions = np.array([[0.1, 0.2, 0.3], [0.7, 0.9, 1.3], [0.0, 0.0, 54321.0], [0, 0.1, 54322.0]])
    pairs = neighbour_pairs(Frame(positions, [0] * 4, ("H",)), 3.0)
    assert list(zip(pairs.i_p, pairs.j_p, strict=True)) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    np.testing.assert_array_equal(pairs.r_pc, positions[pairs.j_p] - positions[pairs.i_p])


def test_many_atoms_in_one_place_do_not_fill_the_memory():
    frame = Frame(np.zeros((20000, 3)), np.zeros(20000, int), ("H",), cell=np.eye(3) * 60.0)
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"atoms \d+ and \d+ are 0 Å apart"):
        neighbour_pairs(frame, 6.0)
    assert time.perf_counter() - start < 2.0


# --- statistics -----------------------------------------------------------------------------------


def test_statistics_are_the_largest_counts():
    rng = np.random.default_rng(8)
    frames = [make(rng, 6, np.eye(3) * 6.0, (True,) * 3, spread=0.5) for _ in range(4)]
    got = neighbour_statistics(frames, 4.0)
    counts = np.zeros((4, 6, 2), dtype=int)
    shortest = np.inf
    for f, frame in enumerate(frames):
        for (i, j, *_), r in brute_force(frame, 4.0).items():
            counts[f, i, frame.types[j]] += 1
            shortest = min(shortest, np.linalg.norm(r))
    assert got.most_t.tolist() == counts.max(axis=(0, 1)).tolist()
    # frame by frame, of each type and of all types together
    assert got.most_ft.tolist() == counts.max(axis=1).tolist()
    assert got.most_f.tolist() == counts.sum(axis=2).max(axis=1).tolist()
    np.testing.assert_allclose(got.min_distance, shortest, rtol=1e-14)
    swapped = neighbour_statistics(frames, 4.0, type_map=["H", "C", "O"])
    most_o, most_h = got.most_t
    assert swapped.most_t.tolist() == [most_h, 0, most_o]


def test_statistics_of_lonely_atoms_and_of_nothing():
    lonely = Frame([[0.0, 0, 0], [50.0, 0, 0]], [0, 1], ("O", "H"))
    got = neighbour_statistics([lonely], 4.0)
    assert got.most_t.tolist() == [0, 0]
    assert got.min_distance == np.inf
    with pytest.raises(InputError, match="no frames"):
        neighbour_statistics([], 4.0)


def test_a_search_that_keeps_its_memory_gives_what_a_new_one_gives():
    """Frames of other sizes, cells and types one after another, from several threads at once."""
    cells = [np.diag([4.0, 6.0, 5.0]), np.array([[5.0, 0.0, 0.0], [2.0, 6.0, 0.0], [-1.0, 1.5, 4.0]])]
    rng, sizes = np.random.default_rng(9), (5, 40, 0, 90, 7, 60)
    frames = [make(rng, n, cells[k % 2], (True, k % 3 > 0, True)) for k, n in enumerate(sizes)]
    wanted = [neighbour_pairs(frame, 4.0) for frame in frames]
    search = pickle.loads(pickle.dumps(Search(4.0)))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(search.pairs, frames * 5))
    for pairs, other in zip(found, wanted * 5, strict=True):
        for one, another in zip(pairs, other, strict=True):
            np.testing.assert_array_equal(one, another)
