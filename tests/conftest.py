"""Settings for the whole suite."""

from __future__ import annotations

import os
import signal

import pytest

# GNU OpenMP lets idle threads spin; on a busy machine the suite then takes many times as long
os.environ.setdefault("GOMP_SPINCOUNT", "10000")



@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal, here and in the programs that a test starts.

    A shell that starts the tests in the background of a script has them ignore SIGINT, and Python and its
    children then leave it ignored.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
