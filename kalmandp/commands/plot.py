"""Draw learning curve, parity and errors from the files of a run: lcurve.out, and the detail files that
`kalmandp train` and `kalmandp test -d` (or `dp test -d`) write."""

from __future__ import annotations

from pathlib import Path


def add_arguments(parser) -> None:
    parser.add_argument("folder", metavar="RUN_FOLDER", help="folder of a run")
    parser.add_argument(
        "-f", "--format", choices=("png", "svg", "pdf"), default="png", help="of the figures [png]"
    )
    parser.add_argument("--column", action="store_true", help="panels one below the other, 3.5 inches wide")


def run(args) -> int:
    from kalmandp import plots
    from kalmandp.error_plots import error_histogram
    from kalmandp.errors import FileError
    from kalmandp.training.report import read_details

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
    if not drawn:
        raise FileError(f"{folder}: holds neither lcurve.out nor detail files (*.f.out, *.e.out)")
    for path in drawn:
        print(path)
    return 0


def _prefixes(folder: Path) -> list[Path]:
    """Prefixes of all detail files of a folder."""
    ends = (".e_peratom.out", ".f.out")
    found = {p.name[: -len(end)] for end in ends for p in folder.glob(f"*{end}")}
    return [folder / name for name in sorted(found)]
