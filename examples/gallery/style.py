"""What the gallery's scripts share: one look, the option --smoke, the data, and how pictures are saved."""

import sys
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from kalmandp.plots import BLUE, GREY, INK, ORANGE

GREEN, PURPLE = "#009E73", "#AA4499"  # of the same palette as the others: told apart by any eye
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
SMOKE = "--smoke" in sys.argv  # seconds instead of minutes: what the tests run
FOLDER = Path(__file__).resolve().parent
DATA = FOLDER.parents[1] / "data"

plt.rcParams.update({
    "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.grid": True,
    "grid.color": "#E8E8E8", "grid.linewidth": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.6,
    "axes.edgecolor": INK, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "legend.frameon": False, "legend.handlelength": 1.5, "figure.constrained_layout.use": True,
    "image.interpolation": "nearest",
})  # fmt: skip


def panels(*shape, width=7.6, height=2.7, **options):
    """A figure of ``shape`` (rows, columns) panels, ``height`` inches per row; and its axes."""
    return plt.subplots(*shape, figsize=(width, height * shape[0]), **options)


def save(figure, name):
    """Write ``name``.png beside the scripts, 144 dpi in 96 colours. With --smoke it is drawn but not kept."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=144)
    if not SMOKE:
        Image.open(drawn).convert("RGB").quantize(96).save(FOLDER / f"{name}.png", optimize=True)


__all__ = ["BLUE", "COLOURS", "DATA", "GREEN", "GREY", "INK", "ORANGE", "PURPLE", "SMOKE", "panels", "save"]
