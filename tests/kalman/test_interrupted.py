"""A filter inside a host leaves its signals alone, and half an update is not taken for a whole one."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from textbook import bits

from kalmandp.errors import FilterError
from kalmandp.kalman import RLEKF

N = 40


class Watched(np.ndarray):
    """Weights whose writing calls ``now``: P has changed then, λ has not."""

    def __setitem__(self, at, value):
        self.now()
        super().__setitem__(at, value)


def interrupted(now, covariance="tiled") -> RLEKF:
    """A filter whose next update calls ``now`` in its middle."""
    kalman = RLEKF(np.ones(N), (15, 25), covariance=covariance)
    kalman.update(np.ones(N), 1.0, 1.0)
    kalman.weights = kalman.weights.view(Watched)
    kalman.weights.now = now
    return kalman


def test_no_signal_handler_is_touched_while_an_update_is_made():
    seen = []

    def look():
        seen.append([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)])

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    interrupted(look).update(np.arange(N), 0.5, 2.0)
    assert seen == [before]


@pytest.mark.parametrize("covariance", ["dense", "tiled"])
def test_half_an_update_is_neither_given_out_nor_built_upon(covariance):
    def ctrl_c():
        raise KeyboardInterrupt

    kalman = interrupted(ctrl_c, covariance)
    whole = bits(kalman)
    with pytest.raises(KeyboardInterrupt):
        kalman.update(np.arange(N), 0.5, 2.0)
    for use in (kalman.state, lambda: kalman.update(np.arange(N), 0.5, 2.0)):
        with pytest.raises(FilterError, match="interrupted in the middle of an update"):
            use()
    assert RLEKF.from_state(_arrays(whole)).updates == 1  # what was saved before goes on


def _arrays(bits_of: dict) -> dict:
    return {
        name: np.frombuffer(v[2], dtype=v[0]).reshape(v[1]) if isinstance(v, tuple) else v
        for name, v in bits_of.items()
    }


def test_an_interrupt_before_anything_changes_is_harmless():
    def ctrl_c(error, S):
        raise KeyboardInterrupt

    kalman = RLEKF(np.ones(N), (15, 25), covariance="tiled")
    before = bits(kalman)
    with pytest.raises(KeyboardInterrupt):
        kalman.update(np.arange(N), 0.5, 2.0, accept=ctrl_c)
    assert bits(kalman) == before
