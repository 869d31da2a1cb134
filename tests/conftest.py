"""Settings for the whole suite."""

from __future__ import annotations

import os
import signal

import pytest

# GNU OpenMP lets idle threads spin; on a busy machine the suite then takes many times as long
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@pytest.fixture
def ctrl_c():
    """Ctrl-C and a lost connection as in a terminal, here and in the programs that a test starts.

    A shell that starts the tests in the background of a script has them ignore SIGINT, and nohup SIGHUP;
    Python and its children then leave them ignored.
    """
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, hangup)
