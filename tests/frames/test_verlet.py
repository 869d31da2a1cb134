"""A list with a skin against a fresh search, step by step along random walks of atoms and cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.geometry.verlet import VerletList, still_complete
from kalmandp.registry import PAIR_FILTERS

ENGINES = sorted(PAIR_FILTERS)


def lattice(rng, pbc=(True, True, True), jitter=0.2, tilt=0.3) -> Frame:
    """36 atoms of two kinds, none on top of another, some of them outside of the cell."""
    sites = np.stack(np.meshgrid(np.arange(4), np.arange(3), np.arange(3), indexing="ij"), -1).reshape(-1, 3)
    cell = np.diag([10.4, 7.8, 7.8]) + rng.normal(0.0, tilt, (3, 3))
    cells_off = rng.integers(-1, 2, (36, 3)) * np.array(pbc)
    positions = (sites / [4, 3, 3] + cells_off) @ cell + rng.uniform(-jitter, jitter, (36, 3))
    return Frame(positions, rng.integers(0, 2, 36), ("O", "H"), cell=cell, pbc=pbc)


def assert_same_pairs(got, wanted) -> None:
    for name in ("i_p", "j_p", "shift_pd"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=name)
        assert getattr(got, name).dtype == getattr(wanted, name).dtype
    # the same three terms in another order, for coordinates of some tens of Å
    np.testing.assert_allclose(got.r_pc, wanted.r_pc, atol=1e-12)


@st.composite
def walks(draw):
    """A first frame, and how far the atoms and the cell go in each of eight steps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frame = lattice(rng, draw(st.tuples(*[st.booleans()] * 3)))
    return frame, draw(st.sampled_from([0.005, 0.05, 0.3])), draw(st.sampled_from([0.0, 0.003, 0.05])), rng


def walk(frame: Frame, step: float, strain: float, rng):
    for _ in range(8):
        positions = frame.positions + rng.uniform(-step, step, frame.positions.shape)
        cell = frame.cell
        if cell is not None and strain:
            F = np.eye(3) + rng.uniform(-strain, strain, (3, 3))
            cell = cell @ F
            if rng.integers(2):  # now and then the cell moves and the atoms stay
                positions = positions @ F
        if rng.integers(4) == 0:  # an atom is put back into the cell, or all of them are shifted
            if cell is not None and frame.pbc[0] and rng.integers(2):
                positions[rng.integers(len(positions))] += cell[0]
            else:
                positions += rng.uniform(-5, 5, 3)
        frame = replace(frame, positions=positions, cell=cell)
        yield frame


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=40, deadline=None)
@given(case=walks(), skin=st.sampled_from([0.0, 0.3, 1.0]))
def test_the_same_pairs_as_a_fresh_search(engine, case, skin):
    verlet = VerletList(3.9, skin, engine)
    for frame in walk(*case):
        try:
            wanted = neighbour_pairs(frame, 3.9)
        except InputError:  # a walk that has put two atoms on top of each other
            break
        assert_same_pairs(verlet.pairs(frame), wanted)


def test_the_list_is_reused_until_the_skin_is_used_up():
    frame = lattice(np.random.default_rng(0))
    verlet = VerletList(3.9, skin=1.0)

    def moved(distance):
        positions = frame.positions.copy()
        positions[3, 1] += distance * 36 / 35  # against the mean, of which it is one part in 36
        return replace(frame, positions=positions)

    searches = []
    for distance in (0.0, 0.3, 0.499, 0.501, 0.6):
        verlet.pairs(moved(distance))
        searches.append(verlet.searches)
    assert searches == [1, 1, 1, 2, 2]
    assert verlet.calls == 5


def test_a_translation_of_all_and_a_breathing_cell_cost_no_search():
    frame = lattice(np.random.default_rng(1))
    assert still_complete(frame, replace(frame, positions=frame.positions + 7.0), 3.9, 1.0)
    # rcut/(rcut + skin) = 0.796
    for factor, complete in ((1.5, True), (0.8, True), (0.79, False)):
        scaled = replace(frame, positions=frame.positions * factor, cell=frame.cell * factor)
        assert still_complete(frame, scaled, 3.9, 1.0) is complete


def test_other_atoms_or_another_periodicity_cost_a_search():
    frame = lattice(np.random.default_rng(2))
    assert not still_complete(frame, replace(frame, types=1 - frame.types), 3.9, 1.0)
    assert not still_complete(frame, replace(frame, pbc=(True, True, False)), 3.9, 1.0)
    fewer = replace(frame, positions=frame.positions[:-1], types=frame.types[:-1])
    assert not still_complete(frame, fewer, 3.9, 1.0)


def test_a_list_that_is_not_renewed_is_noticed():
    # the planted error: a skin that promises more than the search went for
    rng = np.random.default_rng(3)
    frame = lattice(rng)
    verlet = VerletList(3.9, skin=0.1)
    verlet.pairs(frame)
    verlet.skin = 10.0
    moved = replace(frame, positions=frame.positions + rng.uniform(-0.4, 0.4, (36, 3)))
    with pytest.raises(AssertionError):
        assert_same_pairs(verlet.pairs(moved), neighbour_pairs(moved, 3.9))


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_and_next_to_nothing(engine):
    verlet = VerletList(3.0, 1.0, engine)
    nothing = Frame(np.zeros((0, 3)), [], ("H",))
    for _ in range(2):
        assert len(verlet.pairs(nothing).i_p) == 0
    alone = Frame([[1.0, 2.0, 3.0]], [0], ("H",))
    assert len(verlet.pairs(alone).i_p) == 0
    assert verlet.pairs(alone).r_pc.shape == (0, 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_atoms_that_run_into_each_other_are_named(engine):
    # within the skin no search is made that could find them
    verlet = VerletList(3.0, 4.0, engine)
    verlet.pairs(Frame([[0, 0, 0], [0.5, 0, 0]], [0, 0], ("H",)))
    with pytest.raises(InputError, match=r"atoms 0 and 1 are 0.05 Å apart"):
        verlet.pairs(Frame([[0, 0, 0], [0.05, 0, 0]], [0, 0], ("H",)))
    assert verlet.searches == 1


def test_a_failed_search_leaves_no_list_behind():
    verlet = VerletList(3.0, 1.0)
    good = Frame([[0, 0, 0], [1.0, 0, 0]], [0, 0], ("H",))
    verlet.pairs(good)
    with pytest.raises(InputError):
        verlet.pairs(Frame([[0, 0, 0], [5.0, 0, 0], [5.0, 0, 0.01]], [0, 0, 0], ("H",)))
    assert len(verlet.pairs(good).i_p) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0), "cutoff is"),
        ((3.0, -0.1), "skin is"),
        ((3.0, np.inf), "skin is"),
        ((3.0, "thick"), "skin is"),
        ((3.0, 1.0, "fortran"), "engine is 'fortran'"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message):
    with pytest.raises(InputError, match=message):
        VerletList(*arguments)
