"""What the study's figures share: size, look, colours that any eye can tell apart, and how they are saved."""

from __future__ import annotations

from pathlib import Path

from kalmandp.errors import MissingPackage
from kalmandp.files import naming, replacing
from kalmandp.plots import BLUE, GREY, INK, NOTE, ORANGE

GREEN, PURPLE, SKY = "#009E73", "#AA4499", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, GREY)

__all__ = ["BLUE", "COLOURS", "GREEN", "GREY", "INK", "NOTE", "ORANGE", "PURPLE", "dress", "panels", "save"]


def panels(rows: int, columns: int, width: float = 7.6, height: float = 2.7, **options):
    """A figure and its axes (rows, columns); ``height`` inches per row."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "plot", "drawing a figure") from None
    figure = Figure(figsize=(width, height * rows), layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


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


def save(figure, path: Path) -> Path:
    """Write a picture beside and rename it."""
    with replacing(path) as beside, naming(path):
        figure.savefig(beside, format="png", dpi=160)
    print(f"(written to {path})")
    return path
