"""Table 1 of the paper is typed in as it is printed."""

from __future__ import annotations

import pytest
from numpy.testing import assert_allclose

#: Sums over the thirteen systems, of RLEKF and of Adam, added up from the paper's own text.
SUMS = {
    "energy_train": (4.5171, 6.7431),
    "energy_test": (6.5215, 11.1394),
    "force_train": (950.86, 852.18),
    "force_test": (1028.29, 1043.27),
}


@pytest.mark.parametrize("column", SUMS)
def test_columns_add_up(study, column):
    pairs = [getattr(row, column) for row in study.paper.TABLE_1.values()]
    # the numbers have at most four decimals: their sums are exact to rounding
    assert_allclose([sum(p.rlekf for p in pairs), sum(p.adam for p in pairs)], SUMS[column], rtol=1e-12)


def test_systems_and_snapshots(study):
    assert tuple(study.paper.TABLE_1) == study.systems.THIRTEEN
    assert sum(row.snapshots for row in study.paper.TABLE_1.values()) == 40_878


def test_how_often_the_paper_wins(study):
    """Its text says 11 and 7; its table has 11 (sulphur is a tie) and 6."""
    assert study.paper.wins("energy_test") == study.paper.CLAIMED_ENERGY == 11
    assert study.paper.wins("force_test") == study.paper.CLAIMED_FORCE - 1
    assert study.paper.TABLE_1["S"].energy_test == (0.628, 0.628)
