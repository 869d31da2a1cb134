"""The compiled search against the reference's: the same pairs in the same order, in cells of every shape."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kalmandp.engines.cpu import search as compiled
from kalmandp.engines.cpu.pairs import pairs_within
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.registry import PAIR_SEARCHES, find


def some(rng, n: int, cell, pbc=(True, True, True), spread=1.5, n_types=2) -> Frame:
    """Atoms inside the cell and outside it."""
    places = rng.uniform(-0.5, spread, (n, 3)) @ cell
    return Frame(places, rng.integers(0, n_types, n), tuple("ABC"[:n_types]), cell=cell, pbc=pbc)


def assert_same(got, wanted, reach: float) -> None:
    for name in ("i_p", "j_p", "shift_pd"):
        assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=name)
        assert getattr(got, name).dtype == getattr(wanted, name).dtype
    # the same numbers added in another order
    assert_allclose(got.r_pc, wanted.r_pc, rtol=0, atol=8 * np.finfo(float).eps * reach)


def same(frame: Frame, cutoff: float, search=None) -> None:
    got = (compiled.Search(cutoff) if search is None else search).pairs(frame)
    assert_same(got, neighbour_pairs(frame, cutoff), max(np.abs(frame.positions).max(initial=0.0), cutoff))


def apart(frame: Frame, cutoff: float) -> bool:
    try:
        neighbour_pairs(frame, cutoff)
    except InputError:
        return False
    return True


@pytest.mark.parametrize("seed", range(60))
def test_random_cells(seed):
    """From one atom to 300, from cells of many bins to cells that the cut-off reaches three times over."""
    rng = np.random.default_rng(seed)
    n, length = ((1, 2.0), (7, 5.5), (40, 9.0), (120, 14.0), (300, 40.0))[seed % 5]
    cutoff = (3.0, 4.5, 6.1)[seed % 3]
    pbc = (True, True, True) if seed % 4 else tuple(rng.random(3) < 0.6)
    while True:
        cell = np.diag(rng.uniform(0.8, 1.3, 3) * length) + rng.normal(0, 0.25 * length, (3, 3))
        frame = some(rng, n, cell, pbc, n_types=1 + seed % 3)
        if abs(np.linalg.det(cell)) > 0.2 * length**3 and apart(frame, cutoff):
            break
    same(frame, cutoff)


def test_left_handed_sheared_and_flat_cells():
    rng = np.random.default_rng(1)
    for cell in (
        np.array([[0.0, 5.0, 0], [5.0, 0, 0], [0, 0, 5.0]]),
        np.array([[3.0, 0, 0], [30.0, 3.0, 0], [0, 0, 3.0]]),
        np.diag([30.0, 30.0, 1.1]),
    ):
        frame = some(rng, 3, cell, spread=1.0)
        if apart(frame, 3.5):
            same(frame, 3.5)


def test_whole_cells_away():
    """The images are counted from where the atoms are."""
    rng, cell = np.random.default_rng(2), np.array([[6.0, 0.3, -0.2], [0.9, 5.2, 0.1], [-0.4, 0.8, 4.5]])
    inside = some(rng, 12, cell, spread=1.0)
    moved = inside.positions + rng.integers(-9, 9, (12, 3)) @ cell
    same(Frame(moved, inside.types, inside.type_map, cell=cell), 4.0)


def test_atoms_on_the_edges_of_bins():
    """A crystal whose atoms lie on the faces of the cell and of every bin, or a rounding beside them."""
    sites = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(-1, 3)
    for shift in (0.0, -8.0, 1e-16, -1e-16, 1e-9):
        frame = Frame(2.0 * sites + shift, np.arange(64) % 2, ("A", "B"), cell=8.0 * np.eye(3))
        for cutoff in (2.1, 3.9999, 4.1):
            same(frame, cutoff)


def test_a_clump_in_a_large_cell_has_more_pairs_than_room_was_made_for():
    rng = np.random.default_rng(3)
    sites = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), -1).reshape(-1, 3)
    frame = Frame(sites + rng.uniform(-0.2, 0.2, sites.shape), [0] * 216, ("A",), cell=60.0 * np.eye(3))
    search = compiled.Search(4.0)
    assert len(neighbour_pairs(frame, 4.0).i_p) > compiled.ROOM * search._expected(frame) + 64
    same(frame, 4.0, search)


def test_a_list_that_is_kept_has_the_same_bits():
    frame = some(np.random.default_rng(4), 40, 9.0 * np.eye(3))
    longer, wanted = compiled.Search(5.0).pairs(frame), compiled.Search(4.0).pairs(frame)
    for one, another in zip(pairs_within(frame.positions, frame.cell, longer, 4.0), wanted, strict=True):
        assert_array_equal(one, another)


@pytest.mark.parametrize("name", PAIR_SEARCHES)
def test_a_search_that_keeps_its_memory_gives_what_a_new_one_gives(name):
    """Frames of other sizes, cells and types one after another, from several threads at once."""
    rng, made = np.random.default_rng(9), find(PAIR_SEARCHES, name, "engine")
    cells = [np.diag([8.0, 12.0, 10.0]), np.array([[10.0, 0.0, 0.0], [4.0, 12.0, 0.0], [-2.0, 3.0, 8.0]])]
    frames = [some(rng, n, cells[n % 2], (True, n % 3 > 0, True)) for n in (5, 40, 0, 90, 7, 60)]
    frames = [frame for frame in frames if apart(frame, 4.0)]
    assert len(frames) > 3
    wanted = [neighbour_pairs(frame, 4.0) for frame in frames]
    search = pickle.loads(pickle.dumps(made(4.0)))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(search.pairs, frames * 5))
    for pairs, other in zip(found, wanted * 5, strict=True):
        assert_same(pairs, other, 20.0)


def test_overlapping_atoms_and_cells_without_sense_are_refused():
    frame = Frame([[0, 0, 0], [3, 0, 0], [3, 0, 0.05]], [0, 0, 0], ("H",), cell=9.0 * np.eye(3), source="x")
    with pytest.raises(InputError, match=r"x: atoms 1 and 2 are 0.05 Å apart"):
        compiled.Search(5.0).pairs(frame)
    with pytest.raises(InputError, match="images"):
        compiled.Search(6.0).pairs(Frame(np.zeros((1, 3)), [0], ("H",), cell=0.01 * np.eye(3)))


@pytest.mark.parametrize("mistake", ["a bin less in reach", "images from the first to the last"])
def test_planted_mistakes_are_seen(monkeypatch, mistake):
    find_pairs = compiled._find

    def wrong(x, h, inverse, types, n_types, bins_d, reach_d, square, first_i, found_ps):
        if mistake == "a bin less in reach":
            return find_pairs(x, h, inverse, types, n_types, bins_d, reach_d - 1, square, first_i, found_ps)
        count = find_pairs(x, h, inverse, types, n_types, bins_d, reach_d, square, first_i, found_ps)
        found_ps[:count] = found_ps[:count][::-1]
        return count

    frame = some(np.random.default_rng(8), 40, 9.0 * np.eye(3))
    same(frame, 2.9)
    monkeypatch.setattr(compiled, "_find", wrong)
    with pytest.raises(AssertionError):
        same(frame, 2.9)
