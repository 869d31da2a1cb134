"""The paper's study, and what it leaves open, as one command that can be interrupted and gone on with.

    python examples/study/study.py table1 -o study

Parts: table1 learning fig2 fig3 fig4 fig5 theorem1 cost width noise speed; second, the study of three models
and their optimizers; and report, which makes the tables and figures of all of them from the results that are
there. Without a part: all. Under mpiexec ranks share the runs, each with --processes of its own.
See README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from math import inf
from pathlib import Path

from kalmandp.errors import KalmanDPError, require
from kalmandp.ranks.team import Alone, Team, team_of

from runs import Study, asked  # isort: skip
from runs.pool import THREADS  # isort: skip

PARTS = (
    "table1", "learning", "fig2", "fig3", "fig4", "fig5", "theorem1", "cost", "width", "noise", "speed",
    "second",
)  # fmt: skip

MODELS = ("dp", "nep", "hdnnp", "nep-gpumd")


def arguments(argv=None) -> argparse.Namespace:
    """The command line. What is not stated is None: `runs.asked` has the defaults."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"{' '.join(PARTS)}, report; default: all")
    add("-o", "--output", default="study", metavar="DIR", help="folder of the study (study)")
    add("--systems", nargs="+", metavar="NAME", help="by default the thirteen of the paper")
    add("--data-folder", metavar="DIR", help="where NAME_train.h5 are (data/thirteen)")
    add("--data", action="append", metavar="NAME=TRAIN,TEST", help="a system of your own")
    add("--optimizers", nargs="+", metavar="NAME",
        help="presets, adam, NAME-EPOCHS, NAME={JSON keys} (default paper adam)")  # fmt: skip
    add("--models", nargs="+", metavar="NAME", choices=MODELS,
        help="of the part second: dp nep hdnnp (these three), nep-gpumd")  # fmt: skip
    add("--epochs", type=float, help="passes over the data (30)")
    add("--frames", type=int, help="so many frames instead of epochs")
    add("--seconds", type=float, help="of one processor, for each run of the part second (60)")
    add("--seeds", type=int, help="runs with seeds 1 … N (1)")
    add("--processes", type=int, default=2, help="runs at a time (2)")
    add("--threads", type=int, default=1, help="of each run (1)")
    add("--smoke", action="store_true", help="tiny networks and 12 frames: does it work?")
    add("--list", action="store_true", help="name the runs, finished or open; run none")
    args = parser.parse_args(argv)
    for name in ("epochs", "frames", "seconds", "seeds", "processes", "threads"):
        value = getattr(args, name)
        require(value is None or value > 0, f"--{name}", value, "more than 0")
    for name in args.parts:
        require(name in (*PARTS, "report"), "PART", repr(name), f"one of {', '.join(PARTS)}, report")
    return args


def main(argv=None) -> int:
    """Run the parts asked for, then write their tables and figures; 130 if it was interrupted."""
    args = arguments(argv)
    team = team_of() or Alone()
    try:
        return _main(args, team)
    finally:
        team.all_agree(inf)  # the first makes tables; the others sleep


def _main(args: argparse.Namespace, team: Team) -> int:
    folder, given = Path(args.output), vars(args)
    names = [name for name in args.parts or PARTS if name != "report"]
    parts = {name: import_module(f"parts.{name}") for name in PARTS}
    failed: dict[str, str] = {}
    if names:
        study = asked.study_of(folder, given, args.processes, args.threads)
        require(bool(study.systems), "systems with data", "none", f"data for {', '.join(study.missing)}")
        units = [unit for name in names for unit in parts[name].units(study)]
        if args.list:
            return _list(study, units) if team.rank == 0 else 0
        if team.rank == 0:
            asked.note(folder, names, given)
        if study.missing and team.rank == 0:
            print(f"no data for {', '.join(study.missing)}", file=sys.stderr)
        outcome = study.run(units, team=team)
        failed = outcome.failed
        if team.rank:
            return 130 if outcome.stopped else int(bool(failed))
        if outcome.stopped:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
        for name in names:
            if hasattr(parts[name], "measure"):
                parts[name].measure(study)
    if team.rank:
        return 0
    report(folder, PARTS if "report" in args.parts else names, parts)
    for key, words in failed.items():
        print(f"failed: {key}: {words}", file=sys.stderr)
    return int(bool(failed))


def report(folder: Path, names, parts) -> None:
    """Tables and figures of parts, each as it was asked for."""
    known = asked.read(folder)
    never = [name for name in names if name not in known]
    for name in names:
        if name in known:
            study = asked.study_of(folder, known[name])
            try:
                if study.systems:
                    parts[name].report(study)
            except KalmanDPError as error:  # the other parts have their tables all the same
                print(f"report of {name}: {error}", file=sys.stderr)
    if never:
        print(f"not asked for yet in {folder}: {', '.join(never)}")


def _list(study: Study, units) -> int:
    for unit in {unit.key: unit for unit in units}.values():
        print(f"{'done' if study.result(unit) else 'open'}  {unit.key}")
    return 0


def with_threads(threads: int) -> None:
    """Begin anew with so many threads: BLAS and Numba read the number when they start."""
    wanted = dict.fromkeys(THREADS, str(threads))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


if __name__ == "__main__":
    try:
        with_threads(arguments().threads)
        sys.exit(main())
    except KalmanDPError as error:
        sys.exit(f"study.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
