"""The table of updates and the traces of P's blocks: what is kept of them stays within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kalmandp.training.report.diagnostics import TRACE_NUMBERS, TRACES, Diagnostics


def trace_of(update, L):
    return update + np.arange(L) / L


@pytest.mark.parametrize(
    ("L", "lines"),
    # bounds of 2048 lines, of 52, of 51, and of what there is always: the first and the last
    [(1, TRACES + 100), (20_000, 200), (20_200, 200), (TRACE_NUMBERS, 4)],
)
def test_traces_are_thinned_to_their_bounds(L, lines):
    """Of few blocks so many lines, of many so many numbers; the first and the last line stay."""
    diagnostics = Diagnostics()
    for update in range(1, lines + 1):
        diagnostics.add_traces(update, trace_of(update, L))
        at = [line[0] for line in diagnostics._traces]
        assert len(at) <= max(2, min(TRACES, TRACE_NUMBERS // (1 + L)))
        assert at[0] == 1 and at[-1] == update
    kept = diagnostics.traces
    assert 2 <= len(kept) < lines and (np.diff(kept[:, 0]) > 0).all()
    assert_array_equal(kept[:, 1:], [trace_of(update, L) for update in kept[:, 0]])


def test_traces_go_on_from_a_state_and_a_longer_one_is_thinned():
    L = 2_000
    whole, first = Diagnostics(), Diagnostics()
    for update in range(1, 700):
        whole.add_traces(update, trace_of(update, L))
        if update == 300:
            first = Diagnostics(whole.state())
        elif update > 300:
            first.add_traces(update, trace_of(update, L))
    assert_array_equal(first.traces, whole.traces)
    longer = np.array([[update, *trace_of(update, L)] for update in range(1, 1500)])
    old = Diagnostics({"traces": longer})
    old.add_traces(1500, trace_of(1500, L))
    assert old.traces.size <= TRACE_NUMBERS and old.traces[[0, -1], 0].tolist() == [1, 1500]
