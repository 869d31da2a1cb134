"""A table of seconds by stage and by who took them, and the same as bars."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kalmandp.errors import MissingPackage
from kalmandp.files import replacing
from kalmandp.plots import BLUE, GREY, INK, NOTE, ORANGE

OURS, LIMIT, NUMPY, DEEPMD = "kalmandp", "limit", "NumPy", "DeePMD-kit"
LIGHT = "#B9D7EA"
COLOURS = {OURS: BLUE, LIMIT: GREY, NUMPY: LIGHT, DEEPMD: ORANGE}
#: Inches: a row of the plot, and what is above and below all rows.
ROW, MARGIN, WIDTH = 0.42, 1.1, 7.2


class Row(NamedTuple):
    """A stage and its seconds, by who took them; who has none is missing."""

    stage: str
    seconds: dict[str, float]


def table(rows: list[Row]) -> str:
    """Milliseconds, and how many times as long as ours each of the others takes."""
    others = (LIMIT, NUMPY, DEEPMD)
    lines = [f"{'':42}{OURS:>10}" + "".join(f"{who:>12}{'':8}" for who in others)]
    for row in rows:
        ours = row.seconds[OURS]
        line = f"{row.stage:42}{1e3 * ours:10.3f}"
        for who in others:
            other = row.seconds.get(who)
            line += f"{'–':>12}{'':8}" if other is None else f"{1e3 * other:12.3f} {other / ours:6.2f}×"
        lines.append(line)
    return "\n".join(line.rstrip() for line in lines)


def plot(rows: list[Row], path, title: str) -> Path:
    """Bars on a logarithmic scale, to a .png, .svg or .pdf."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "plot", "a plot") from None
    path = Path(path)
    figure = Figure(figsize=(WIDTH, MARGIN + ROW * len(rows)), layout="constrained")
    ax = figure.add_subplot()
    for who, colour in COLOURS.items():
        places, values = [], []
        for k, row in enumerate(rows):
            if who in row.seconds:
                present = [w for w in COLOURS if w in row.seconds]
                places.append(k + 0.8 * ((present.index(who) + 0.5) / len(present) - 0.5))
                values.append(1e3 * row.seconds[who])
        heights = [0.8 / len(rows[round(y)].seconds) for y in places]
        ax.barh(places, values, heights, color=colour, label=who)
        for y, value in zip(places, values, strict=True):
            ax.text(1.08 * value, y, _digits(value), va="center", fontsize=6.5, color=NOTE)
    ax.set_xscale("log")
    ax.margins(x=0.12)
    ax.set_yticks(range(len(rows)), [row.stage for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("milliseconds (median)")
    ax.set_title(title, fontsize=9, color=INK, loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0, labelsize=8)
    figure.legend(loc="outside lower center", ncols=len(COLOURS), frameon=False, fontsize=8)
    with replacing(path) as beside:
        figure.savefig(beside, format=path.suffix.lstrip(".") or "png", dpi=200)
    return path


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
