"""This version beside another one, each in processes of its own that take turns in one run.

    python examples/benchmarks/versions.py --other FOLDER [--rounds 9] [--cold] [--threads 1]
                                           [--json FILE]

``FOLDER`` is a checkout of the other version (``git worktree add FOLDER v0.6.0``); both run under this Python
and with its packages. What is measured is what both have: water with 192 atoms and the RLEKF paper's network
(`support/water.py`), a frame of training by the default of the Deep Potential, an update by two numbers with
blocks of 5120, and energy with forces and virial. "ratio" is the median of the rounds' own ratios,
"spread" where the middle half of them lies: so one sees how much the machine's noise allows to say; "fastest"
is the ratio of the fastest rounds, which noise touches least.

``--cold`` starts `kalmandp train` with nothing compiled: seconds until it has ended after one step, for a
Deep Potential by both versions and for the other kinds by this one (inputs of `examples/`), then once more
with what the first run compiled.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from support.turns import machine, take_turns, with_threads, write_json

HERE = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("support") / "version_child.py"
THIS, OTHER = "this", "other"
WHAT = ("frame", "update", "inference")


class Worker:
    """A process of one version that repeats a thing by name; it waits while the others have their turn."""

    def __init__(self, checkout: Path, small: bool):
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD), *(["--small"] if small else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=of(checkout),
        )  # fmt: skip

    def clock(self, what: str):
        """``clock(count)``: seconds in which ``what`` was done so often."""
        return lambda count: self._ask(f"{what} {count}")

    def _ask(self, line: str) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("a process of a version has ended; its message stands above")
        return float(answer)

    def close(self) -> None:
        self._process.communicate()


def of(checkout: Path, **more: str) -> dict[str, str]:
    """The environment in which ``import kalmandp`` finds the package of this checkout."""
    places = [str(checkout), str(HERE / "examples" / "benchmarks")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(places)} | more


def in_turns(checkouts: dict[str, Path], rounds: int, small: bool) -> dict[str, dict[str, list[float]]]:
    """Seconds by what and by version, in every round."""
    workers = {who: Worker(folder, small) for who, folder in checkouts.items()}
    clocks = {(what, who): worker.clock(what) for what in WHAT for who, worker in workers.items()}
    taken = take_turns(clocks, rounds)
    for worker in workers.values():
        worker.close()
    return {what: {who: taken[what, who] for who in workers} for what in WHAT}


def start(checkout: Path, path: Path, cache: Path) -> float:
    """Seconds of a whole `kalmandp train` of one step; what is compiled goes to ``cache``."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [sys.executable, "-m", "kalmandp", "train", str(path), "-o", out], check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=path.parent,
            env=of(checkout, NUMBA_CACHE_DIR=str(cache)),
        )  # fmt: skip
    return time.perf_counter() - begun


def one_step(example: str, folder: Path) -> Path:
    """The input of an example of this checkout, cut to one step."""
    source = HERE / "examples" / example / "input.json"
    tree = json.loads(source.read_text())
    systems = [str((source.parent / s).resolve()) for s in tree["training"]["training_data"]["systems"]]
    tree["training"] = {"training_data": {"systems": systems}, "numb_steps": 1, "seed": 1}
    path = folder / f"{example}.json"
    path.write_text(json.dumps(tree))
    return path


def starts(checkouts: dict[str, Path], rounds: int) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Seconds cold and warm, by example and version."""
    runs = [("silicon", who) for who in checkouts] + [("nep", THIS), ("hdnnp", THIS)]
    taken = {run: {"cold": [], "warm": []} for run in runs}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(rounds):
            for example, who in runs:
                path = one_step(example, Path(name))
                cache = Path(name) / f"{who}-{example}-{turn}"
                for state in ("cold", "warm"):
                    taken[example, who][state].append(start(checkouts[who], path, cache))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", metavar="FOLDER", help="a checkout of the other version [this one again]")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cold", action="store_true", help="starts with nothing compiled, too: minutes")
    parser.add_argument("--small", action="store_true", help="24 atoms, blocks of 512: seconds")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="of each process [1]")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if not options.cold:
        with_threads(options.threads)
    checkouts = {THIS: HERE, OTHER: Path(options.other or HERE).resolve()}
    if not (checkouts[OTHER] / "kalmandp" / "__init__.py").exists():
        parser.error(f"{checkouts[OTHER]} holds no kalmandp; wanted: a checkout of another version")

    record: dict = {"machine": machine()}
    if options.cold:
        taken = starts(checkouts, options.rounds)
        record["starts"] = {f"{example}, {who}": seconds for (example, who), seconds in taken.items()}
        print("seconds of `kalmandp train` with one step (medians)    cold      warm")
        for name, seconds in record["starts"].items():
            print(f"{name:48}" + "".join(f"{np.median(seconds[s]):10.2f}" for s in ("cold", "warm")))
        cold = [np.median(taken["silicon", who]["cold"]) for who in (THIS, OTHER)]
        print(f"this / other, cold: {cold[0] / cold[1]:.3f}")
    else:
        record["seconds"] = in_turns(checkouts, options.rounds, options.small)
        print(f"{'ms (medians)':14}{'this':>10}{'other':>10}{'ratio':>8}{'fastest':>9}   spread")
        for what, seconds in record["seconds"].items():
            this, other = np.array(seconds[THIS]), np.array(seconds[OTHER])
            low, ratio, high = np.quantile(this / other, (0.25, 0.5, 0.75))
            print(f"{what:14}{1e3 * np.median(this):10.3f}{1e3 * np.median(other):10.3f}{ratio:8.3f}", end="")
            print(f"{this.min() / other.min():9.3f}", end="")
            print(f"   {low:.3f} to {high:.3f}")
    if options.json:
        write_json(options.json, record)


if __name__ == "__main__":
    main()
