"""Two runs in one folder refuse each other; what a killed run leaves behind stops nobody."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from kalmandp.errors import FileError
from kalmandp.files import locking, one_run_in

HOLD = (
    "import sys, time\n"
    "from kalmandp.files import one_run_in, replacing\n"
    "with one_run_in(sys.argv[1]), replacing(sys.argv[1] + '/model.dp') as beside:\n"
    "    open(beside, 'w').write('half')\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder and is writing a file there."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_other_run_is_named(holder, tmp_path):
    with pytest.raises(FileError, match=rf"another run is in this folder \(process {holder.pid} on .+ since"):
        with one_run_in(tmp_path):
            pytest.fail("two runs in one folder")


def test_a_killed_run_blocks_nobody_and_its_half_written_file_goes(holder, tmp_path):
    other = tmp_path / ".kalmandp-1-abc.part"  # somebody else's
    other.touch()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(list(tmp_path.glob(f".kalmandp-{holder.pid}-*.part"))) == 1
    with one_run_in(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == [other.name, locking.NAME]
    assert list(tmp_path.iterdir()) == [other]


def test_two_runs_of_one_process(tmp_path):
    with one_run_in(tmp_path / "a"), one_run_in(tmp_path / "b"):
        with pytest.raises(FileError, match=f"process {os.getpid()} on"):
            with one_run_in(tmp_path / "a"):
                pytest.fail("two runs in one folder")
    with one_run_in(tmp_path / "a"):
        pass


def test_many_at_once_one_at_a_time(tmp_path):
    """Processes that lock, see that they are alone, and remove the lock file: no two meet."""
    code = (
        "import os, sys, time\n"
        "from kalmandp.errors import FileError\n"
        "from kalmandp.files import one_run_in\n"
        "end, mark, n = time.monotonic() + 1.0, sys.argv[1] + '/mark', 0\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with one_run_in(sys.argv[1]):\n"
        "            os.close(os.open(mark, os.O_CREAT | os.O_EXCL)); n += 1\n"
        "            os.unlink(mark)\n"
        "    except FileError as error:\n"
        "        assert 'another run' in str(error), error\n"
        "print(n)\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    held = [int(p.communicate(timeout=60)[0]) for p in processes]
    assert all(p.returncode == 0 for p in processes) and sum(held) > 3


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b'{"pid": "x"}', b'{"pid": 1}'])
def test_a_damaged_lock_file_is_no_obstacle(content, tmp_path):
    (tmp_path / locking.NAME).write_bytes(content)
    with one_run_in(tmp_path):
        pass


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch):
    def flock(handle, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locking.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="this file system has no locks"):
        with one_run_in(tmp_path):
            pass


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be made a folder"):
        with one_run_in(tmp_path / "file"):
            pass


def test_held_while_a_generator_is_alive(tmp_path):
    """The lock of `train` goes when its caller is done with it, at the latest when it is collected."""

    def run():
        with one_run_in(tmp_path):
            yield time.monotonic()

    records = run()
    next(records)
    with pytest.raises(FileError), one_run_in(tmp_path):
        pass
    records.close()
    with one_run_in(tmp_path):
        pass
