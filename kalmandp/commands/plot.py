"""Draw learning curve, parity and the filter's health from the files of a run: lcurve.out, the detail
files that `kalmandp train` and `kalmandp test -d` (or `dp test -d`) write, and the checkpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path


def add_arguments(parser) -> None:
    parser.add_argument("folder", metavar="RUN_FOLDER", help="folder of a run")
    parser.add_argument(
        "-f", "--format", choices=("png", "svg", "pdf"), default="png", help="of the figures [png]"
    )


def run(args) -> int:
    from kalmandp import plots
    from kalmandp.errors import FileError
    from kalmandp.training.report import read_details

    folder = Path(args.folder)
    if not folder.is_dir():
        raise FileError(f"{folder}: is not a folder; expected the folder of a run")
    drawn = []
    for curve in sorted(folder.glob("*lcurve*.out")):
        name = "learning_curve" if curve.name == "lcurve.out" else curve.stem
        drawn.append(plots.learning_curve(curve, folder / f"{name}.{args.format}"))
    for prefix in _prefixes(folder):
        name = "parity" if prefix.name == "validation" else f"parity_{prefix.name}"
        drawn.append(plots.parity(read_details(prefix), folder / f"{name}.{args.format}"))
    drawn += _health(folder, args.format)
    if not drawn:
        raise FileError(f"{folder}: holds neither lcurve.out nor detail files (*.f.out, *.e.out)")
    for path in drawn:
        print(path)
    return 0


def _health(folder: Path, suffix: str) -> list[Path]:
    """A figure for each checkpoint of a filter."""
    from kalmandp.commands.info import kind_of
    from kalmandp.errors import InputError
    from kalmandp.plots_filter import filter_health

    drawn = []
    for path in sorted(folder.glob("*.h5")):
        if kind_of(str(path)) == "checkpoint":
            name = "filter" if path.name == "model.ckpt.h5" else f"filter_{path.stem}"
            with contextlib.suppress(InputError):  # Adam has no filter
                drawn.append(filter_health(path, folder / f"{name}.{suffix}"))
    return drawn


def _prefixes(folder: Path) -> list[Path]:
    """Prefixes of all detail files of a folder."""
    ends = (".e_peratom.out", ".f.out")
    found = {p.name[: -len(end)] for end in ends for p in folder.glob(f"*{end}")}
    return [folder / name for name in sorted(found)]
