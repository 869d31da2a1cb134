"""Give damaged files to every reader and count what comes of it.

    python tests/fuzz/driver.py --cases 1000 --seed 3 [--only hdf5 dp] [--keep FOLDER]

Each reader works in a process of its own, with a limit on its memory; a case that kills it or takes
more than `PATIENCE` seconds is counted, and the next process goes on after it. Exit status 1 if there
was anything but accepted files and clear errors.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import seeds
from targets import TARGETS

WORKER = Path(__file__).with_name("worker.py")
#: Seconds that a case may take on a loaded machine.
PATIENCE = 30.0
GOOD = {"accepted", "clear"}


class Report(NamedTuple):
    """counts : result -> cases; bad : case, result, text of those that are neither accepted nor clear;
    slowest : seconds of the slowest case"""

    counts: Counter
    bad: list[tuple[int, str, str]]
    slowest: float


def fuzz(kind: str, good: Path, folder: Path, cases: int, seed: int) -> Report:
    """Cases 0 … ``cases`` of one reader; the same seed gives the same files."""
    report = Report(Counter(), [], 0.0)
    done = 0
    while done < cases:
        done, report = _run(kind, good, folder, seed, done, cases, report)
    return report


def _run(kind, good, folder, seed, first, last, report: Report) -> tuple[int, Report]:
    """One process; returns the first case that is left."""
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MPLBACKEND": "Agg",
    }  # fmt: skip
    arguments = [sys.executable, str(WORKER), kind, str(good), str(folder), str(seed), str(first), str(last)]
    slowest, begun = report.slowest, first
    with tempfile.TemporaryFile("w+") as stderr, subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=stderr, env=environment
    ) as process:
        for line in _lines(process):
            row = json.loads(line)
            begun = row.get("begin", begun)
            if "case" in row:
                begun += 1
                slowest = max(slowest, row["seconds"])
                report.counts[row["result"]] += 1
                if row["result"] not in GOOD:
                    report.bad.append((row["case"], row["result"], row["text"]))
        ended = process.wait()
        if begun < last:
            stderr.seek(0)
            result = "hang" if ended == -9 else "crash"
            report.counts[result] += 1
            report.bad.append((begun, result, f"exit {ended}: {stderr.read()[-1500:]}"))
            begun += 1
    return begun, Report(report.counts, report.bad, slowest)


def _lines(process):
    """Lines of its output; a process that is silent for too long is killed."""
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(PATIENCE):
                process.kill()
                return
            piece = os.read(process.stdout.fileno(), 1 << 16)
            if not piece:
                return
            *whole, buffer = (buffer + piece).split(b"\n")
            yield from whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=200, help="per reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--show", type=int, default=5, help="bad cases shown per reader")
    args = parser.parse_args()
    total: Counter = Counter()
    with tempfile.TemporaryDirectory() as name:
        with contextlib.redirect_stdout(io.StringIO()):
            good = seeds.make(Path(name))
        for kind in args.only:
            start = time.perf_counter()
            report = fuzz(kind, good[kind], Path(name) / "case", args.cases, args.seed)
            total += report.counts
            took = time.perf_counter() - start
            times = f"slowest {report.slowest:.2f} s, in all {took:.0f} s"
            print(f"{kind:<11} {dict(report.counts)}  {times}", flush=True)
            for case, result, text in report.bad[: args.show]:
                print(f"  case {case}: {result}: {text}")
    print(f"{total.total():,} cases: {dict(total)}")
    return int(bool(set(total) - GOOD))


if __name__ == "__main__":
    sys.exit(main())
