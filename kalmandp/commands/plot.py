"""Draw learning curve, parity, errors and the filter's health from the files of a run: lcurve.out, the
detail files that `kalmandp train` and `kalmandp test -d` (or `dp test -d`) write, and the checkpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path


def add_arguments(parser) -> None:
    parser.add_argument("folder", metavar="RUN_FOLDER", help="folder of a run")
    parser.add_argument(
        "-f", "--format", choices=("png", "svg", "pdf"), default="png", help="format of the figures [png]"
    )
    parser.add_argument("--column", action="store_true", help="panels one below the other, 3.5 inches wide")


def run(args) -> int:
    from kalmandp import plots
    from kalmandp.errors import FileError
    from kalmandp.plots.errors import error_histogram
    from kalmandp.training.report.summary import read_details

    folder = Path(args.folder)
    if not folder.is_dir():
        raise FileError(f"{folder}: is not a folder; expected the folder of a run")
    drawn, column = [], args.column
    for curve in sorted(folder.glob("*lcurve*.out")):
        name = "learning_curve" if curve.name == "lcurve.out" else curve.stem
        drawn.append(plots.learning_curve(curve, folder / f"{name}.{args.format}", column=column))
    for prefix in _prefixes(folder):
        of = "" if prefix.name == "validation" else f"_{prefix.name}"
        details = read_details(prefix)
        drawn.append(plots.parity(details, folder / f"parity{of}.{args.format}", column=column))
        drawn.append(error_histogram(details, folder / f"errors{of}.{args.format}", column=column))
    drawn += _health(folder, args.format, column)
    if not drawn:
        raise FileError(f"{folder}: holds neither lcurve.out nor detail files (*.f.out, *.e.out)")
    for path in drawn:
        print(path)
    return 0


def _health(folder: Path, suffix: str, column: bool) -> list[Path]:
    """A figure for each checkpoint of a filter."""
    from kalmandp.commands.info import kind_of
    from kalmandp.errors import InputError
    from kalmandp.plots.filter import filter_health

    drawn = []
    for path in sorted(folder.glob("*.h5")):
        if kind_of(str(path)) == "checkpoint":
            name = "filter" if path.name == "model.ckpt.h5" else f"filter_{path.stem}"
            with contextlib.suppress(InputError):  # Adam has no filter
                drawn.append(filter_health(path, folder / f"{name}.{suffix}", column=column))
    return drawn


def _prefixes(folder: Path) -> list[Path]:
    """Prefixes of all detail files of a folder."""
    ends = (".e_peratom.out", ".f.out")
    found = {p.name[: -len(end)] for end in ends for p in folder.glob(f"*{end}")}
    return [folder / name for name in sorted(found)]
