"""The paper's study, and what it leaves open, as one command that can be interrupted and gone on with.

    python examples/study/study.py table1 -o study

Parts: table1 fig2 fig3 fig4 fig5 theorem1 cost width noise speed, and report, which makes the tables and
figures of all of them from the results that are there. Without a part: all. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from runs import Study, find_systems, optimizer

from kalmandp.errors import KalmanDPError, require

PARTS = ("table1", "fig2", "fig3", "fig4", "fig5", "theorem1", "cost", "width", "noise", "speed")


def arguments(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{' '.join(PARTS)}, report; default: all")
    parser.add_argument("-o", "--output", default="study", metavar="DIR", help="folder of the study (study)")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="by default the thirteen of the paper")
    parser.add_argument("--data-folder", metavar="DIR", help="where NAME_train.h5 are (data/thirteen)")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=TRAIN,TEST", help="a system of your own")
    parser.add_argument("--optimizers", nargs="+", default=["default", "paper", "adam"], metavar="NAME",
                        help="presets, adam, NAME-EPOCHS, NAME={JSON keys} (default paper adam)")  # fmt: skip
    parser.add_argument("--epochs", type=float, default=30.0, help="passes over the data (30)")
    parser.add_argument("--frames", type=int, help="so many frames instead of epochs")
    parser.add_argument("--seeds", type=int, default=1, help="runs with seeds 1 … N (1)")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time (2)")
    parser.add_argument("--threads", type=int, default=1, help="of each run (1)")
    parser.add_argument("--smoke", action="store_true", help="tiny networks and 12 frames: does it work?")
    parser.add_argument("--list", action="store_true", help="name the runs and whether they are finished; run none")
    return parser.parse_args(argv)


def study_of(args: argparse.Namespace) -> Study:
    """The study that the command line asks for."""
    for name in ("epochs", "seeds", "processes", "threads"):
        require(getattr(args, name) > 0, f"--{name}", getattr(args, name), "more than 0")
    require(args.frames is None or args.frames > 0, "--frames", args.frames, "more than 0")
    names = args.systems
    systems, missing = find_systems(names, args.data_folder, args.data)
    if args.smoke and names is None:
        systems, missing = _few(args)
    require(bool(systems), "systems with data", "none", f"data for some of {', '.join(missing)}")
    for name in args.optimizers:
        optimizer(name)
    return Study(
        Path(args.output), systems, missing, tuple(args.optimizers), args.epochs, args.frames, args.seeds,
        args.processes, args.threads, args.smoke,
    )  # fmt: skip


def _few(args):
    """For --smoke: the systems of the user's own, or silicon that lies in the repository."""
    own = [text.partition("=")[0] for text in args.data]
    return find_systems(own or ["Si64"], args.data_folder, args.data)


def main(argv=None) -> int:
    """Run the parts asked for, then write their tables and figures."""
    args = arguments(argv)
    asked = args.parts or [*PARTS]
    for name in asked:
        require(name in (*PARTS, "report"), "PART", repr(name), f"{', '.join(PARTS)} or report")
    study = study_of(args)
    names = PARTS if "report" in asked else asked
    parts = {name: import_module(f"parts.{name}") for name in names}
    running = [parts[name] for name in asked if name != "report"]
    units = [unit for part in running for unit in part.units(study)]
    if args.list:
        return _list(study, units)
    if study.missing:
        print(f"no data yet for {', '.join(study.missing)}", file=sys.stderr)
    outcome = study.run(units)
    if not outcome.stopped:
        for part in running:
            if hasattr(part, "measure"):
                part.measure(study)
        for part in parts.values():
            part.report(study)
    for key, words in outcome.failed.items():
        print(f"failed: {key}: {words}", file=sys.stderr)
    if outcome.stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
    return 130 if outcome.stopped else int(bool(outcome.failed))


def _list(study: Study, units) -> int:
    for unit in {unit.key: unit for unit in units}.values():
        print(f"{'done' if study.result(unit) else 'open'}  {unit.key}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KalmanDPError as error:
        sys.exit(f"study.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
