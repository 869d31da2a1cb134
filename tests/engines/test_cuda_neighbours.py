"""Neighbours found on a device: the same pairs, in the same order, as the host finds."""

from __future__ import annotations

import itertools

import numpy as np
import on_device
import pytest
from cuda_emulator import BACKWARD, FORWARD, SHUFFLED, strict_arrays
from numpy.testing import assert_allclose, assert_array_equal

from kalmandp.engines.cuda.deep_potential.frames import from_positions, upload
from kalmandp.engines.cuda.neighbours import Box, search_frame, search_grid
from kalmandp.engines.cuda.sort import order_of_keys
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry import neighbours as on_the_host
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.registry import NEIGHBOUR_SEARCHES, find

TILTED = np.array([[2.0, 0.3, -0.2], [0.9, 2.2, 0.1], [-0.4, 0.8, 2.5]])


def random_frame(seed: int, n: int, cell, pbc=(True, True, True), spread=1.5, n_types=2) -> Frame:
    """Atoms inside the cell and outside it, none of them on top of each other."""
    rng = np.random.default_rng(seed)
    while True:
        frame = Frame(
            rng.uniform(-0.5, spread, (n, 3)) @ cell, rng.integers(0, n_types, n),
            tuple("ABC"[:n_types]), cell=cell, pbc=pbc,
        )  # fmt: skip
        try:
            on_the_host.neighbour_pairs(frame, 2.0)
        except InputError:
            continue
        return frame


def same(frame: Frame, cutoff: float, name: str = "cuda", **device) -> None:
    wanted = on_the_host.neighbour_pairs(frame, cutoff)
    got = find(NEIGHBOUR_SEARCHES, name, "search")(frame, cutoff, **(device or on_device.options(name)))
    for field in ("i_p", "j_p", "shift_pd"):
        assert_array_equal(getattr(got, field), getattr(wanted, field), err_msg=field)
    # the same three numbers added in another order
    reach = max(np.abs(frame.positions).max(initial=0.0), cutoff)
    assert_allclose(got.r_pc, wanted.r_pc, rtol=0, atol=8 * np.finfo(float).eps * reach)


@pytest.mark.parametrize("name", NEIGHBOUR_SEARCHES)
@pytest.mark.parametrize("pbc", list(itertools.product([False, True], repeat=3)))
def test_a_tilted_cell_smaller_than_the_cutoff_in_every_periodicity(name, pbc):
    same(random_frame(3, 3, TILTED, pbc, spread=1.0), 4.0, name)


@pytest.mark.parametrize("seed", range(12))
def test_random_cells(seed):
    """From one atom to 120, from cells of many bins to cells that the cut-off reaches twice over."""
    rng = np.random.default_rng(seed)
    n, length = (1, 7, 40, 120)[seed % 4], (3.0, 5.5, 9.0, 14.0)[seed % 4]
    cell = np.diag(rng.uniform(0.8, 1.3, 3) * length) + rng.normal(0, 0.15 * length, (3, 3))
    pbc = (True, True, True) if seed < 6 else tuple(rng.random(3) < 0.6)
    same(random_frame(seed, n, cell, pbc), (3.0, 4.5, 3.9)[seed % 3])


def test_without_a_cell_and_without_neighbours():
    same(random_frame(1, 30, 8.0 * np.eye(3), (False,) * 3), 2.5)
    for frame in (
        Frame(np.zeros((0, 3)), [], ("A",)),
        Frame([[0.2, 0.1, 0.3]], [0], ("A",)),
        Frame([[0.0, 0, 0], [9.0, 0, 0], [0, 9.0, 0]], [0, 0, 0], ("A",)),
        Frame([[0.0, 0, 0]], [0], ("A",), cell=6.0 * np.eye(3)),
    ):
        assert len(on_the_host.neighbour_pairs(frame, 5.0).i_p) == 0
        same(frame, 5.0)


def test_slabs_wires_and_atoms_far_away():
    for pbc in ((True, True, False), (False, True, False)):
        cell = np.diag([4.1, 4.6, 5.1]) * np.array(pbc)[:, None]
        positions = np.random.default_rng(1).uniform(0, 4, (5, 3))
        same(Frame(positions, [0, 0, 1, 1, 0], ("A", "B"), cell=cell, pbc=pbc), 5.0)
    positions = np.array([[0.0, 0, 0], [1.0, 0, 0], [1e6, 0, 0], [1e6, 1.5, 0]])
    same(Frame(positions, [0] * 4, ("A",)), 3.0)
    # whole cells away: the images are counted from where the atoms are
    inside = random_frame(5, 6, TILTED, spread=1.0)
    moved = inside.positions + np.random.default_rng(2).integers(-9, 9, (6, 3)) @ TILTED
    same(Frame(moved, inside.types, inside.type_map, cell=TILTED), 3.0)


def test_atoms_on_the_edges_of_bins():
    """A crystal whose atoms lie on the faces of the cell and of every bin."""
    sites = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(-1, 3)
    same(Frame(2.0 * sites, np.zeros(64, int), ("A",), cell=8.0 * np.eye(3)), 2.1)
    same(Frame(2.0 * sites - 8.0, np.zeros(64, int), ("A",), cell=8.0 * np.eye(3)), 3.9999)


def box_of(frame: Frame) -> Box:
    return Box.around(np, frame.positions, frame.cell, frame.pbc)


def test_a_grid_has_no_more_bins_than_the_atoms_need():
    sparse = Frame(np.random.default_rng(0).uniform(0, 400, (20, 3)), [0] * 20, ("A",))
    assert search_grid(box_of(sparse), 20, 2.0).n_bins <= 8 * 20 + 27
    same(sparse, 60.0)


@pytest.mark.parametrize("order", [FORWARD, BACKWARD, SHUFFLED])
@pytest.mark.parametrize(("n", "n_keys"), [(0, 3), (5, 1), (2500, 7), (3000, 4000)])
def test_keys_are_sorted_and_keep_their_order(n, n_keys, order):
    device = on_device.emulated(order=order)
    keys = np.random.default_rng(n).integers(0, n_keys, n).astype(np.int32)
    keys[: n // 3] = n_keys - 1  # one that has more than a chunk
    found, first = order_of_keys(device, device.xp.asarray(keys), n_keys)
    assert_array_equal(found.get(), np.argsort(keys, kind="stable"))
    assert_array_equal(first.get(), np.searchsorted(np.sort(keys), np.arange(n_keys + 1)))


@pytest.mark.parametrize("order", [BACKWARD, SHUFFLED])
def test_no_race_between_threads_or_blocks(order):
    same(random_frame(8, 40, 6.0 * np.eye(3)), 3.0, device=on_device.emulated(order=order))


def test_a_planted_mistake_is_seen(monkeypatch):
    """One bin less in reach: pairs are missing."""
    frame = random_frame(8, 40, 9.0 * np.eye(3))
    same(frame, 2.9)
    from kalmandp.engines.cuda import neighbours as cuda_neighbours

    def short_sighted(*arguments):
        grid = search_grid(*arguments)
        grid.bins[3] -= 1
        return grid

    monkeypatch.setattr(cuda_neighbours, "search_grid", short_sighted)
    with pytest.raises(AssertionError):
        same(frame, 2.9)


def messages(frame, **choices) -> list[str]:
    """What is said by the host's search and by the device's."""
    a = Architecture(frame.type_map, 3.0, 0.5, **choices)
    device, said = on_device.emulated(), []
    for pairs in (lambda: on_the_host.neighbour_pairs(frame, 3.0), lambda: None):
        with pytest.raises(InputError) as caught:
            upload(device, a, frame, pairs())
        said.append(str(caught.value))
    return said


@pytest.mark.parametrize("excluded", [(), ((0, 1),), ((0, 0), (0, 1), (1, 1))])
def test_overlaps_and_too_many_neighbours_are_refused_in_the_hosts_words(excluded):
    """Types whose pairs are left out count all the same, as they do on the host."""
    near = Frame([[0, 0, 0.0], [0, 0, 2.0], [0.01, 0, 0]], [0, 1, 1], ("A", "B"))
    own_image = Frame([[0, 0, 0.0]], [0], ("A", "B"), cell=np.diag([9.0, 9.0, 0.05]))
    crowded = random_frame(2, 20, 4.0 * np.eye(3))
    for frame, sel, says in (
        (near, (9, 9), "atoms 0 and 2 are 0.01 Å apart"),
        (own_image, (999, 9), "atom 0 and its own periodic image"),
        (crowded, (30, 2), "neighbours of type B within 3.0 Å; sel allows 2"),
    ):
        host, device = messages(frame, sel=sel, exclude_types=excluded)
        assert host == device and says in device


def test_excluded_types_are_left_out_and_the_shortest_distance_is_known():
    frame = random_frame(4, 25, 7.0 * np.eye(3), n_types=3)
    a = Architecture(("A", "B", "C"), 3.5, 0.5, (99, 99, 99), exclude_types=((0, 1), (2, 2)))
    given = upload(on_device.emulated(), a, frame, on_the_host.neighbour_pairs(frame, 3.5))
    found = upload(on_device.emulated(), a, frame)
    for field in ("types_i", "first_i", "i_p", "j_p", "back_p"):
        assert_array_equal(getattr(found, field).get(), getattr(given, field).get(), err_msg=field)
    for a_t, b_t in zip(found.atoms_t, given.atoms_t, strict=True):
        assert_array_equal(a_t.get(), b_t.get())
    assert_allclose(found.r_pc.get(), given.r_pc.get(), rtol=0, atol=1e-14)
    assert found.closest == pytest.approx(given.closest, rel=1e-14)


def test_the_host_waits_once_for_a_frame_and_uploads_its_atoms_alone():
    frame = random_frame(4, 25, 7.0 * np.eye(3))
    a = Architecture(("A", "B"), 3.5, 0.5, (99, 99))
    device = on_device.emulated()
    strict_arrays.waits.clear()
    strict_arrays.uploads.clear()
    pairs = upload(device, a, frame)
    assert strict_arrays.waits == ["get"]
    atoms = 25 * (3 * 8 + 4 + 4)  # positions, types, numbers by type
    assert sum(strict_arrays.uploads) <= atoms + 400 and len(pairs.i_p) > 200


def test_a_list_that_does_not_fit_is_refused_before_it_is_allocated():
    frame = random_frame(4, 25, 7.0 * np.eye(3))
    device = on_device.emulated(free=10_000)
    with pytest.raises(InputError, match=r"frame: the list of neighbours takes .* shorter cut-off"):
        search_frame(device, frame, 3.5)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_positions_of_a_host_code_stay_on_the_device(pbc):
    """The same pairs as those of a frame; nothing but a few numbers comes back."""
    cell, a = 6.0 * np.eye(3) + 0.5, Architecture(("A", "B"), 3.5, 0.5, (99, 99), exclude_types=((0, 1),))
    frame, device = random_frame(4, 25, cell, pbc), on_device.emulated()
    positions, types = device.xp.asarray(frame.positions), device.xp.asarray(frame.types)
    strict_arrays.waits.clear()
    found = from_positions(device, a, positions, types, cell, pbc)
    assert strict_arrays.waits == ["get", "get", "nonzero", "nonzero"]  # extent; pairs; atoms of each type
    wanted = upload(device, a, frame)
    for field in ("types_i", "first_i", "i_p", "j_p", "r_pc", "back_p"):
        assert_array_equal(getattr(found, field).get(), getattr(wanted, field).get(), err_msg=field)
    assert found.closest == wanted.closest
    positions[1] = positions[0] + 0.01
    with pytest.raises(InputError, match=r"atoms 0 and 1 are 0\.0173 Å apart"):
        from_positions(device, a, positions, types, cell, pbc)
    positions[1] = np.nan
    with pytest.raises(InputError, match="positions is not finite"):
        from_positions(device, a, positions, types, cell, pbc)
    if any(pbc):
        with pytest.raises(InputError, match=r"reaches .* of its images"):
            from_positions(device, a, positions, types, 1e-3 * cell, pbc)
    none = from_positions(device, a, positions[:0], types[:0], cell, pbc)
    assert len(none.i_p) == 0 and none.closest == np.inf
