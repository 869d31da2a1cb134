"""What `kalmandp train` says of its progress, in a pipe and on a terminal."""

from __future__ import annotations

import io

import pytest

from kalmandp.commands.progress import Progress
from kalmandp.training.report.history import Record


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(step: int, event: str = "step") -> Record:
    known = {"step": step, "n_steps": 3, "event": event, "seconds": 1.0 * step, "epoch": 0.5 * step}
    return Record(**{**dict.fromkeys(Record._fields, float("nan")), **known})


@pytest.mark.parametrize("stream", [io.StringIO, Screen])
def test_the_end_takes_a_while_and_that_is_said_once(stream):
    shown = stream()
    progress = Progress(stream=shown)
    for n in (1, 2, 3):
        assert "finishing" not in shown.getvalue()
        progress(record(n))
    progress(record(3, "end"))
    progress.close()
    assert shown.getvalue().count("finishing the model …") == 1


def test_a_run_that_is_stopped_or_quiet_says_nothing_of_it():
    shown = io.StringIO()
    progress = Progress(stream=shown)
    progress(record(3, "stopped"))
    assert "finishing" not in shown.getvalue()
    silent = io.StringIO()
    progress = Progress(quiet=True, stream=silent)
    progress(record(3))
    assert silent.getvalue() == ""
