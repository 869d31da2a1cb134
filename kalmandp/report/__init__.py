"""One HTML file that describes a whole training run: `write_report`, and `kalmandp report RUN`.

The file holds everything, its figures as SVG. It loads nothing from anywhere, so that it can be mailed, kept
beside the model, and read in ten years.
"""

from __future__ import annotations

from pathlib import Path

from kalmandp.report.page import page
from kalmandp.report.run import read_run
from kalmandp.report.sections import sections

__all__ = ["write_report"]


def write_report(folder, path=None, *, input=None, doctor: bool = True) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    folder : what `kalmandp.train` left: checkpoint, model, learning curve
    path : the .html file to write; by default report.html in ``folder``
    input : input file whose data are to be used, if those of the run were moved
    doctor : look through the data sets too, which takes seconds for a thousand frames

    Returns
    -------
    The path written.

    Raises
    ------
    MissingPackage
        Without matplotlib.
    FileError, InputError
        If the folder holds no checkpoint or no model, or one that cannot be read. Data that are not
        there any more are no error: the report says so.
    """
    from kalmandp.files import naming, replacing

    run = read_run(folder, input)
    path = Path(folder) / "report.html" if path is None else Path(path)
    text = page(run.title, run.subtitle, sections(run, doctor))
    with replacing(path) as beside, naming(path):
        Path(beside).write_text(text, encoding="utf-8")
    return path
