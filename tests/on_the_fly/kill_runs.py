"""Kill a run of learning on the fly at random moments, and compare it with one that nothing disturbed.

    python tests/on_the_fly/kill_runs.py [KILLS] [SEED]

Each run is a process of its own (a fork, so that it need not import all again). It is killed with SIGKILL
after a random number of saves and a random wait; the next one goes on in its folder.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from fly_runs import simulate

import kalmandp

#: Steps of the whole run, those between two saves, the tolerance, and steps between calls: for many labels.
STEPS, EVERY, RELATIVE, AUDIT = 160, 2, 0.004, 4


def positions_of(folder):
    """Positions of all labels, from a reader that knows nothing of `OnTheFly`; late ones after the others."""
    files = sorted(Path(folder).glob("labels*.h5"), key=lambda path: path.name != "labels.h5")
    found = []
    for path in files:
        with kalmandp.Dataset(path) as data:
            first = 0 if path.name == "labels.h5" else int(path.stem.rpartition("-")[2])
            assert first <= len(found), f"labels {len(found)} to {first - 1} are lost"
            found += [frame.positions for frame in data][len(found) - first :]
    return found


def killed_run(folder, rng) -> bool:
    """One process in the folder, killed on its way; False if it came to its end before."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            simulate(folder, STEPS, EVERY, say=lambda: os.write(write, b"."), relative=RELATIVE, audit=AUDIT)
        finally:
            os._exit(0)
    os.close(write)
    for _ in range(rng.integers(0, 5)):
        os.read(read, 1)
    time.sleep(rng.uniform(0.0, 0.05))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(read)
    return os.WIFSIGNALED(status)


def compare(kills: int, seed: int, where) -> dict[str, int]:
    """Kill a run so many times; what was compared. Raises AssertionError if a label or a bit differs."""
    whole, torn = Path(where) / "whole", Path(where) / "torn"
    positions, weights, labels = simulate(whole, STEPS, EVERY, relative=RELATIVE, audit=AUDIT)
    rng, made, most = np.random.default_rng(seed), 0, 0
    while made < kills and killed_run(torn, rng):
        made += 1
        if torn.exists():
            now = positions_of(torn)
            assert len(now) >= most, f"{most} labels were there before kill {made}, now {len(now)}"
            most = len(now)
            for n, r in enumerate(now):
                np.testing.assert_array_equal(r, labels[n].positions, err_msg=f"label {n} after kill {made}")
    again = simulate(torn, STEPS, EVERY, relative=RELATIVE, audit=AUDIT)
    np.testing.assert_array_equal(again[0], positions)
    np.testing.assert_array_equal(again[1], weights)
    assert len(again[2]) == len(labels)
    return {"kills": made, "labels": len(labels), "labels at the last kill": most}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        kills, seed = (int(x) for x in [*sys.argv[1:], *(30, 0)[len(sys.argv) - 1 :]])
        began = time.time()
        found = compare(kills, seed, folder)
        told = ", ".join(f"{value} {name}" for name, value in found.items())
        print(f"{told}, same bits, {time.time() - began:.0f} s")
