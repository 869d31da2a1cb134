"""Histograms of errors: how a model errs, not only how much; several models in one picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kalmandp.errors import InputError
from kalmandp.plots import BLUE, GREY, INK, ORANGE, _dress, _pairs_of, _panels, _save, _ticks

#: The last one is the model that matters; those before it are in the background.
COLOURS = {1: (BLUE,), 2: (ORANGE, BLUE), 3: (GREY, ORANGE, BLUE)}
#: Share of the errors within the axis: a single very large one would compress all others into a line.
WITHIN = 99.5


def error_histogram(details, path, column: bool = False) -> Path:
    """Draw the distribution of errors of energies per atom and of force components.

    Parameters
    ----------
    details : a `Comparison` or `Details`, or up to three of them by name: ``{"Adam": …, "RLEKF": …}``
    path : .png (200 dpi), .svg or .pdf; it is written completely or not at all
    column : as wide as one column of a journal, the panels one below the other

    Returns
    -------
    The path written.

    Raises
    ------
    MissingPackage
        Without matplotlib.
    InputError
        If there is nothing to draw, there are too many models, or the suffix is another one.
    """
    named = dict(details) if isinstance(details, Mapping) else {"": details}
    if len(named) not in COLOURS:
        raise InputError(f"there are {len(named)} models to draw; expected one to {max(COLOURS)}")
    values = {name: _pairs_of(d) for name, d in named.items()}
    kinds = [("Energy", "meV/atom", 0), ("Force", "meV/Å", 1)]
    drawn = [kind for kind in kinds if all(len(v[kind[2]]) for v in values.values())]
    if not drawn:
        raise InputError("no frame has an energy or forces; expected labels to draw")
    figure, axes = _panels(len(drawn), column)
    for ax, (kind, unit, which) in zip(axes, drawn, strict=True):
        errors = {name: 1e3 * (v[which][:, 1] - v[which][:, 0]) for name, v in values.items()}
        _histograms(ax, errors, unit)
        _dress(ax, f"{kind} error, model − reference ({unit})", "Density")
        ax.xaxis.set_major_locator(_ticks())
    return _save(figure, path)


def _histograms(ax, errors: dict[str, np.ndarray], unit: str) -> None:
    reach = max(float(np.percentile(np.abs(e), WITHIN)) for e in errors.values()) or 1.0
    fewest = min(len(e) for e in errors.values())
    # 2 n^(1/3) bins show the shape without the noise of single points (Rice's rule)
    edges = np.linspace(-reach, reach, int(np.clip(2 * fewest ** (1 / 3), 8, 60)) + 1)
    ax.axvline(0.0, ymax=0.77, color=INK, lw=0.8, zorder=1)
    for (name, error), colour in zip(errors.items(), COLOURS[len(errors)], strict=True):
        rmse = float(np.sqrt(np.mean(error * error)))
        label = f"{name + ': ' if name else ''}RMSE {rmse:.3g} {unit}"
        density = np.histogram(error, edges)[0] / (len(error) * np.diff(edges))
        ax.stairs(density, edges, fill=True, color=colour, alpha=0.25, zorder=2)
        ax.stairs(density, edges, color=colour, lw=1.4, zorder=3, label=label)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(0, 1.3 * ax.get_ylim()[1])
    ax.set_yticks([])
    ax.legend(frameon=False, fontsize=8.5, loc="upper left", handlelength=1.2, labelcolor=INK)
