"""Figures of `kalmandp.plots` as SVG inside a page: its fonts, and its colours for light and dark."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path

from kalmandp.errors import MissingPackage

#: Colours of the figures, and the names that the page's style sheet gives them.
COLOURS = {
    "#0072b2": "blue", "#d55e00": "orange", "#009e73": "green", "#cc79a7": "pink", "#222222": "ink",
    "#9a9a9a": "grey", "#666666": "muted", "#e6e6e6": "grid", "#ffffff": "paper",
}  # fmt: skip
#: How much larger than in print a figure may become.
LARGEST = 1.25
#: What matplotlib writes before the picture, and describes it with.
HEAD = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
FONT = re.compile(r"font: ([\d.]+px|(?:bold|[1-9]00) [\d.]+px) [^;\"]*")


def figure(name: str, words: str, draw: Callable[[Path, bool], object]) -> str:
    """The HTML of a figure in two forms: panels side by side, and below each other for a narrow window.

    Parameters
    ----------
    name : unique in the page
    words : what it shows; the caption, and what is read aloud
    draw : ``draw(path, column)`` writes it
    """
    forms = "".join(
        f'<div class="{kind}">{_svg(f"{name}-{kind}", words, draw, kind == "narrow")}</div>'
        for kind in ("wide", "narrow")
    )
    return f'<figure id="{escape(name)}">{forms}<figcaption>{escape(words)}</figcaption></figure>'


def _svg(name: str, words: str, draw, column: bool) -> str:
    try:
        import matplotlib
    except ImportError as error:
        raise MissingPackage("matplotlib", "plot", "a report") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            draw(path, column)
        return themed(path.read_text(encoding="utf-8"), name, words)


def themed(svg: str, name: str, words: str) -> str:
    """An SVG of matplotlib's as part of a page: no head, colours by name, ids that no other has."""
    svg = HEAD.sub("", svg)
    for colour, variable in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})").replace(colour.upper(), f"var(--{variable})")
    svg = FONT.sub(r"font: \1 var(--font)", svg)
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\1{name}-", svg)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()  # type: ignore[union-attr]
    widest = f"max-width:{LARGEST * float(width):.0f}pt"
    head = (
        f'<svg role="img" aria-label="{escape(words)}" viewBox="0 0 {width} {height}" style="{widest}" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1).strip()
