"""Ctrl-C waits while a state is half changed: what a `loop.Run` puts around each update.

It belongs to programs that own their process. The filter and `OnlineTrainer` leave signals alone.

It is one of three means, each for what the others cannot do. `kalmandp train` asks a run to end after its
step (`commands.stopping`). A loop in somebody's script does not have this: there Ctrl-C is an exception
between any two lines, and this block keeps it out of an update. The filter's own mark (`RLEKF.update`) only
tells that an update was interrupted, where neither of the two is used.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

#: Signals whose handlers may raise an exception between any two lines of Python: Ctrl-C, a queue's end.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class uninterrupted:
    """A ``with`` block that an interrupt of the main thread cannot leave half done.

    While it runs, the Python handlers of `SIGNALS` are replaced by one that remembers the signal; at its
    end they are put back, and called if a signal came. Signals that have no Python handler (the default
    that ends the process, or none) are left alone, and so is everything outside of the main thread,
    where Python runs no handlers. Blocks may be nested. Entering and leaving cost some microseconds.

    (Blocking the signal with a mask of the thread would not do: another thread of the process, one of a
    pool of workers, would take it, and Python would still run the handler in the main thread.)
    """

    __slots__ = ("_before", "_came")

    def __enter__(self) -> None:
        self._before: dict[int, object] = {}
        self._came: list[tuple[int, FrameType | None]] = []
        if threading.current_thread() is threading.main_thread():
            try:
                for number in SIGNALS:
                    handler = signal.getsignal(number)
                    if callable(handler):  # SIG_DFL, SIG_IGN and handlers that are not Python's are not
                        self._before[number] = handler
                        signal.signal(number, self._remember)
            except BaseException:  # an interrupt before all handlers were replaced: nothing has begun
                self._put_back()
                raise

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._came.append((number, frame))

    def _put_back(self) -> None:
        left = list(self._before.items())
        try:
            while left:
                signal.signal(*left[-1])  # type: ignore[arg-type]
                left.pop()
        finally:  # one that is back already may raise before the others are
            for item in left:
                signal.signal(*item)  # type: ignore[arg-type]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._put_back()
        for number, frame in self._came:
            handler = self._before[number]
            handler(number, frame)  # type: ignore[operator]
