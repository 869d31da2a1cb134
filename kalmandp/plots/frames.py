"""The error of every frame of a data set, in its order: single frames that are far off stand out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kalmandp.errors import InputError
from kalmandp.plots import BLUE, INK, _dress, _panels, _save


def frame_errors(energy_f, force_f, path, column: bool = False) -> Path:
    """Draw the energy error and the force RMSE of each frame.

    Parameters
    ----------
    energy_f : (f,) model − reference, eV/atom; NaN where a frame has no energy
    force_f : (f,) RMSE of the components, eV/Å; NaN where it has no forces
    path : .png (200 dpi), .svg or .pdf; it is written completely or not at all
    column : panels one below the other, 3.5 inches wide

    Returns
    -------
    The path written.

    Raises
    ------
    MissingPackage
        Without matplotlib.
    InputError
        If there is nothing to draw, or the suffix is another one.
    """
    kinds = [(energy_f, "Energy error (meV/atom)"), (force_f, "Force RMSE (meV/Å)")]
    drawn = [(1e3 * np.asarray(v, dtype=float), label) for v, label in kinds if np.isfinite(v).any()]
    if not drawn:
        raise InputError("no frame has an energy or forces; expected labels to draw")
    figure, axes = _panels(len(drawn), column)
    for ax, (values, label) in zip(axes, drawn, strict=True):
        n = len(values)
        if label.startswith("Energy"):
            ax.axhline(0.0, color=INK, lw=0.8, zorder=1)
        else:
            ax.set_ylim(0, 1.05 * np.nanmax(values) or 1.0)
        size = 4.0 if n < 300 else 2.0
        ax.plot(np.arange(n), values, "o", ms=size, color=BLUE, mec="none", alpha=0.75, rasterized=n > 3000)
        _dress(ax, "Frame", label)
    return _save(figure, path)
