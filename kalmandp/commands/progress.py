"""How far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from kalmandp.commands.wording import duration, plural

#: Seconds between plain lines when the learning curve has no new one.
PATIENCE = 30.0
BAR = "{percentage:3.0f}% {bar:20} {n_fmt}/{total_fmt} steps, {elapsed} < {remaining}{postfix}"


class Progress:
    """Takes the records of a run one by one and shows them on stderr."""

    def __init__(self, quiet: bool = False, stream=None):
        self.quiet = quiet
        self.stream = sys.stderr if stream is None else stream
        self.bar = None
        self.first: Any = None
        self.shown, self.shown_step = time.monotonic(), -1
        if not quiet:
            print("reading the data …", file=self.stream, flush=True)

    def __call__(self, record) -> None:
        if self.quiet:
            return
        if self.first is None:
            self.first = record
            if self.stream.isatty():
                self.bar = self._bar(record)
        if self.bar is not None:
            self.bar.update(record.step - self.bar.n)
            if errors := _errors(record):
                self.bar.set_postfix_str(errors)
        elif self._is_due(record):
            self.shown, self.shown_step = time.monotonic(), record.step
            print(self._line(record), file=self.stream, flush=True)
        if record.step == record.n_steps and record.event not in ("end", "stopped"):
            self._say("finishing the model …")  # the last layer, and all validation frames: seconds

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def _say(self, words: str) -> None:
        if self.bar is not None:
            self.bar.write(words, file=self.stream)
        else:
            print(words, file=self.stream, flush=True)

    def _is_due(self, record) -> bool:
        """A new line of the learning curve, or nothing was said for a while."""
        if _errors(record):
            return record.step != self.shown_step
        return time.monotonic() - self.shown > PATIENCE

    def _bar(self, record):
        from tqdm import tqdm

        return tqdm(
            total=record.n_steps, initial=record.step - 1, file=self.stream, dynamic_ncols=True,
            smoothing=0.05, bar_format=BAR,
        )  # fmt: skip

    def _line(self, record) -> str:
        head = f"step {record.step}/{record.n_steps}  epoch {record.epoch:.2f}"
        parts = [head, _errors(record), self._left(record)]
        return "  ".join(part for part in parts if part)

    def _left(self, record) -> str:
        done = record.step - self.first.step
        if not done or record.step >= record.n_steps:
            return f"{duration(record.seconds)}"
        rate = (record.seconds - self.first.seconds) / done
        return f"{duration(record.seconds)}, {duration(rate * (record.n_steps - record.step))} left"


def _errors(record) -> str:
    """Energy and force errors of this record: of validation frames where there are any."""
    of = f"valid, {plural(record.valid_frames, 'frame')}:"
    for name, energy, force in (
        (of, record.valid_e, record.valid_f),
        ("train", record.rmse_e, record.rmse_f),
    ):
        parts = [
            f"{what} {1e3 * error:.3g} {unit}"
            for what, error, unit in (("E", energy, "meV/atom"), ("F", force, "meV/Å"))
            if math.isfinite(error)
        ]
        if parts:
            return "  ".join([name, *parts])
    return ""
