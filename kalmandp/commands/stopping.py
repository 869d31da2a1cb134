"""What a signal does to a run of ``kalmandp train``: save and end, end at once, or nothing.

========  =========================================  ============================================
signal    from                                       what it does
========  =========================================  ============================================
SIGINT    Ctrl-C                                     finishes the step, saves, ends; twice: at once
SIGTERM   a queue, ``kill``                          the same
SIGHUP    a terminal or connection that is closed    the same, but prints nothing: nobody reads
========  =========================================  ============================================

A signal that was ignored when the program started stays ignored: this is what ``nohup`` asks for (SIGHUP),
and a shell that starts a job in the background of a script (SIGINT).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

#: Signals that ask a run to end; Windows has no SIGHUP.
SIGNALS = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n))


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """A function that tells whether to stop, to be called after each step.

    Before the first step there is nothing to save, and a second signal means at once: then
    KeyboardInterrupt is raised. Outside of the main thread, where Python handles no signals, none is touched.
    """
    running = wanted = False

    def stop() -> bool:
        nonlocal running
        running = True
        return wanted

    def on_signal(number, frame) -> None:
        nonlocal wanted
        hangup = number not in (signal.SIGINT, signal.SIGTERM)
        if hangup:
            _nobody_reads(terminals)
        if not running or (wanted and not hangup):
            raise KeyboardInterrupt
        wanted = True
        if not hangup:
            print("\nsaving after this step …", file=sys.stderr)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    terminals = [number for number in (1, 2) if os.isatty(number)]
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _nobody_reads(terminals: list[int]) -> None:
    """Output to a terminal that is gone would be an error, and end the run before it is saved."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in terminals:
        os.dup2(nowhere, number)
    os.close(nowhere)
