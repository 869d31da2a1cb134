"""Write what a run did as one HTML file that opens in any browser and loads nothing from anywhere: errors
and where they are, learning curves, what the filter did, data and what the doctor finds in them, settings,
time, and the commands that use the model."""

from __future__ import annotations


def add_arguments(parser) -> None:
    parser.add_argument("folder", metavar="RUN_FOLDER", help="folder of a run")
    parser.add_argument("-o", "--output", metavar="FILE.html", help="file to write [RUN_FOLDER/report.html]")
    parser.add_argument(
        "--input", metavar="INPUT.json", help="take the data from this input, if those of the run were moved"
    )
    parser.add_argument("--skip-doctor", action="store_true", help="do not look through the data")


def run(args) -> int:
    from kalmandp.registry import REPORT, load

    print(load(REPORT)(args.folder, args.output, input=args.input, doctor=not args.skip_doctor))
    return 0
