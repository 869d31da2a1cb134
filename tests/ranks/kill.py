"""Kill one rank of two at a random moment, many times: each time both end soon, and go on with the same bits.

    python tests/ranks/kill.py --times 20

Prints a line for each time and the count at the end; the exit status is 1 if one was not so.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_models import write_data
from starting import assert_same, environment, missing, run, state, training, words

#: Seconds in which the other rank, and mpiexec, must end.
SOON = 10.0
OPTIONS = {"numb_steps": 400, "save_freq": 10, "disp_freq": 100}


def killed(folder: Path, name: str, rank: int, wait: float) -> tuple[float, int] | None:
    """Kill one rank of a run after ``wait`` seconds: how long the rest took to end, and the step saved.

    None if the run was over before.
    """
    pids = [folder / f"{name}.{r}.pid" for r in range(2)]
    command = words(2, *training(folder, name, "hdnnp", pids=True, **OPTIONS))
    silent = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=environment(), **silent) as runs:
        while runs.poll() is None and not all(pid.exists() and pid.read_text() for pid in pids):
            time.sleep(0.01)
        until = time.monotonic() + wait
        while runs.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        if runs.poll() is not None:
            return None
        os.kill(int(pids[rank].read_text()), signal.SIGKILL)
        began = time.monotonic()
        try:
            runs.communicate(timeout=6 * SOON)
        except subprocess.TimeoutExpired:
            runs.kill()
        seconds = time.monotonic() - began
    checkpoint = folder / name / "model.ckpt.h5"
    return seconds, _step(checkpoint) if checkpoint.exists() else 0


def _step(checkpoint: Path) -> int:
    import h5py

    with h5py.File(checkpoint) as file:
        return int(file["progress"].attrs["step"])


def kill(folder: Path, times: int, seed: int) -> int:
    """Do it so many times; how many were as they should be."""
    write_data(folder)
    began = time.monotonic()
    done = run(2, folder, "whole", "hdnnp", **OPTIONS)
    assert done.returncode == 0, done.stderr
    whole, duration = state(folder, "whole"), time.monotonic() - began
    rng, good, made = np.random.default_rng(seed), 0, 0
    while made < times:
        name, rank, wait = f"killed {made}", int(rng.integers(2)), float(rng.uniform(0, duration))
        found = killed(folder, name, rank, wait)
        if found is None:  # it had ended; another moment
            for file in folder.glob(f"{name}.*.pid"):
                file.unlink()
            continue
        made += 1
        seconds, step = found
        restart = {"restart": str(folder / name / "model.ckpt.h5")} if step else {}
        done = run(2, folder, name, "hdnnp", **restart, **OPTIONS)
        try:
            assert done.returncode == 0, done.stderr
            assert_same(whole, state(folder, name))
            same = True
        except AssertionError as error:
            print(error)
            same = False
        good += same and seconds < SOON
        bits = "same bits" if same else "OTHER BITS"
        ended = f"ended in {seconds:4.2f} s, saved step {step:3d}"
        print(f"rank {rank} after {wait:4.1f} s: {ended}, {bits}", flush=True)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if missing():
        print(f"nothing was killed: {missing()}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        good = kill(Path(folder), args.times, args.seed)
    print(f"{good} of {args.times}: ended within {SOON:.0f} s, restarted with the same bits")
    return int(good < args.times)


if __name__ == "__main__":
    sys.exit(main())
