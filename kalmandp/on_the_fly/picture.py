"""Learning on the fly in three panels: calls against steps, σ against errors, where the seconds went."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kalmandp.errors import InputError
from kalmandp.on_the_fly.records import read_records
from kalmandp.plots import BLUE, GREY, INK, ORANGE, _dress, _panels, _save


def on_the_fly(log, path, column: bool = False) -> Path:
    """Draw the log of an `OnTheFly`.

    Parameters
    ----------
    log : path of ``on_the_fly.out``
    path : .png (200 dpi), .svg or .pdf; it is written completely or not at all
    column : as wide as one column of a journal, the panels one below the other

    Returns
    -------
    The path written.

    Raises
    ------
    MissingPackage
        Without matplotlib.
    FileError, InputError
        If the log cannot be read, or has nothing to draw yet.
    """
    records = read_records(log)
    n = len(records["label"])
    if n < 2:
        raise InputError(f"{log}: has {n} labels; expected at least two to draw")
    figure, (calls, errors, seconds) = _panels(3, column)
    calls.step(records["step"], np.arange(1, n + 1), where="post", color=BLUE)
    _dress(calls, "Step", "Calls of the reference")
    sigma, largest = records["sigma"], records["largest"]
    drawn = (sigma > 0) & (largest > 0)
    ends = [0.7 * min(sigma[drawn].min(), largest[drawn].min()), 1.4 * max(sigma.max(), largest.max())]
    errors.plot(ends, ends, color=INK, lw=0.8)
    errors.scatter(sigma[drawn], largest[drawn], s=9, color=BLUE, linewidths=0)
    errors.set_xscale("log")
    errors.set_yscale("log")
    _dress(errors, "Largest σ of an atom (meV/Å)", "Largest error of an atom (meV/Å)")
    for name, colour in (("reference", ORANGE), ("learning", BLUE), ("model", GREY)):
        seconds.plot(records["step"], np.cumsum(records[name]), color=colour, label=name)
    seconds.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    _dress(seconds, "Step", "Seconds, summed")
    return _save(figure, path)
