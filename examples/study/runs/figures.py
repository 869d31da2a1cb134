"""What the study's figures share: size, look, colours that any eye can tell apart, and how they are saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kalmandp.errors import MissingPackage
from kalmandp.files import naming, replacing
from kalmandp.plots import BLUE, GREY, INK, NOTE, ORANGE

GREEN, PURPLE, SKY = "#009E73", "#AA4499", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, GREY)

__all__ = [
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "INK",
    "NOTE",
    "ORANGE",
    "PURPLE",
    "dress",
    "grid",
    "panels",
    "plain_ticks",
    "save",
]


def panels(rows: int, columns: int, width: float = 7.6, height: float = 2.7, **options):
    """A figure and its axes (rows, columns); ``height`` inches per row."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "plot", "drawing a figure") from None
    figure = Figure(figsize=(width, height * rows), layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def grid(n: int, columns: int, width: float = 1.9, height: float = 2.0, beside: float = 0.3):
    """A figure of n small panels in rows of ``columns``, and those panels; ``beside`` inches for a legend."""
    columns = min(columns, n)
    rows = -(-n // columns)
    figure, axes = panels(rows, columns, width=width * columns + beside, height=height)
    for ax in axes.ravel()[n:]:
        ax.set_visible(False)
    return figure, axes.ravel()[:n]


def dress(ax, title: str = "", x: str = "", y: str = "", size: float = 9) -> None:
    """Title to the left, thin axes on two sides, a faint grid behind."""
    ax.set_title(title, fontsize=size + 0.5, fontweight="bold", loc="left", color=INK)
    ax.set_xlabel(x, fontsize=size, color=INK)
    ax.set_ylabel(y, fontsize=size, color=INK)
    ax.tick_params(labelsize=size - 1, colors=INK, length=3)
    ax.tick_params(which="minor", length=1.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(linewidth=0.8, color=INK)
    ax.grid(which="major", color="#E8E8E8", lw=0.6)
    ax.set_axisbelow(True)


def plain_ticks(axis, room: float = 1.0) -> None:
    """Plain numbers on a logarithmic axis, also between the decades where it spans few of them.

    In a panel with less ``room`` than usual there are fewer.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = np.log10(high / low) / room if 0 < low < high else 1.0
    steps = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    if decades < 0.6:
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    axis.set_major_locator(LogLocator(base=10, subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure, path: Path) -> Path:
    """Write a picture beside and rename it."""
    with replacing(path) as beside, naming(path):
        figure.savefig(beside, format="png", dpi=160)
    print(f"(written to {path})")
    return path
