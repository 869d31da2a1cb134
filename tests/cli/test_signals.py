"""Signals to a run of ``kalmandp train``: in a terminal, in the background of a script, under nohup."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from systems import frames, settings

import kalmandp
from kalmandp.commands.info import read_checkpoint_header

#: Seconds for a run to begin, or to end, on a loaded machine; the first one compiles.
PATIENCE = 300.0  # seconds; kernels may have to be compiled first, on a busy machine
TRAIN = f"exec {sys.executable} -m kalmandp train input.json -o run --skip-plots"


@pytest.fixture
def place(tmp_path) -> Path:
    kalmandp.Dataset.write(tmp_path / "morse.h5", frames(6))
    tree = settings("morse.h5", training={"numb_steps": 1_000_000, "disp_freq": 1})
    (tmp_path / "input.json").write_text(json.dumps(tree))
    return tmp_path


def wait_for(what: Callable[[], bool], process: subprocess.Popen) -> bool:
    """Whether it becomes true while the process lives and there is patience."""
    until = time.monotonic() + PATIENCE
    while not what() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    return what()


@contextlib.contextmanager
def started(place: Path, command: str, **files) -> Iterator[subprocess.Popen]:
    """A run in a session of its own whose output goes to run.log; it is over afterwards."""
    with open(place / "run.log", "wb") as log:
        files = {"stdout": log, "stderr": log, **files}
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=place, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PYTHONUTF8": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            **files,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait(PATIENCE)


def at_work(place: Path) -> Callable[[], bool]:
    return lambda: "step 2/" in (place / "run.log").read_text(encoding="utf-8")


def last_step(place: Path) -> int:
    """The last step that is shown."""
    lines = [x for x in (place / "run.log").read_text(encoding="utf-8").splitlines() if x.startswith("step ")]
    return int(lines[-1].split()[1].split("/")[0])


def test_what_was_ignored_at_the_start_stays_ignored(place):
    """nohup ignores SIGHUP, a script's ``&`` SIGINT; the end that a queue asks for is saved all the same."""
    with started(place, f"trap '' HUP INT; {TRAIN}") as process:
        assert wait_for(at_work(place), process)
        for number in (signal.SIGHUP, signal.SIGINT):
            process.send_signal(number)
            step = last_step(place)
            assert wait_for(lambda step=step: last_step(place) > step + 1, process), number
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 130
    step = read_checkpoint_header(place / "run" / "model.ckpt.h5").step
    assert f"stopped after step {step} " in (place / "run.log").read_text(encoding="utf-8")


def test_nohup_itself(place):
    with started(place, f"nohup {TRAIN.removeprefix('exec ')} & echo $! > pid; wait") as shell:
        assert wait_for(at_work(place), shell)
        step, run = last_step(place), int((place / "pid").read_text())
        os.kill(run, signal.SIGHUP)
        assert wait_for(lambda: last_step(place) > step + 1, shell) and shell.poll() is None
        os.kill(run, signal.SIGTERM)
        shell.wait(PATIENCE)
    assert (place / "run" / "model.ckpt.h5").is_file()


@pytest.mark.usefixtures("ctrl_c")
def test_a_connection_that_is_lost_saves_the_run(place):
    """Its terminal is gone: what the run would show has no reader, and is no error."""
    ours, theirs = pty.openpty()
    size = struct.pack("HHHH", 24, 120, 0, 0)  # a terminal without a width shows nothing
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    with started(place, TRAIN, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown, until = b"", time.monotonic() + PATIENCE
        while b" valid " not in shown and b" train " not in shown and time.monotonic() < until:
            if select.select([ours], [], [], 1.0)[0]:
                shown += os.read(ours, 4096)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE) == 130, shown
    assert read_checkpoint_header(place / "run" / "model.ckpt.h5").step >= 1
