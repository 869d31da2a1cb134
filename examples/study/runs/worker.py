"""A worker of the queue: reads folders of runs on its standard input, carries them out, tells how far it is.

Each line that it writes is a JSON object: {"step": …, "steps": …}, {"energy": …, "force": …}, and at the end
of a run {"end": "done" | "stopped" | "failed", "words": …}. SIGTERM, or a reader that is gone, ends it after
the step at hand; the run is saved.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from kalmandp.errors import KalmanDPError

from .one import carry_out
from .unit import unit_from

#: Seconds between two lines that say how far a run is.
TELL_EVERY = 0.5


class Teller:
    """Writes lines to the queue; remembers that it is to stop."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)  # what anything else prints goes to the log
        self.stopped, self.told = False, 0.0
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the queue's

    def stop(self, *_) -> None:
        self.stopped = True

    def __call__(self, line: dict, always: bool = True) -> None:
        now = time.monotonic()
        if not always and now - self.told < TELL_EVERY:
            return
        self.told = now
        try:
            self.out.write(json.dumps(line) + "\n")
        except OSError:  # the queue is gone
            self.stopped = True

    def progress(self, line: dict) -> None:
        self(line, always="step" not in line or line["step"] in (1, line["steps"]))


def main() -> None:
    """Work until the standard input ends."""
    tell = Teller()
    for line in sys.stdin:
        if tell.stopped:
            break
        order = json.loads(line)
        folder = Path(order["folder"])
        try:
            done = carry_out(unit_from(order["unit"]), folder, tell.progress, lambda: tell.stopped)
            tell({"end": "done" if done else "stopped"})
        except KalmanDPError as error:
            tell({"end": "failed", "words": str(error)})
        except Exception as error:  # a defect: the other runs go on, the log has where it was
            traceback.print_exc()
            tell({"end": "failed", "words": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
