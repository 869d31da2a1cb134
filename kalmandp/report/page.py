"""A page and its pieces: tables, tiles, text. Everything that comes from outside is escaped."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import NamedTuple

#: Nothing may be loaded, from anywhere.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Section(NamedTuple):
    """name : of the anchor;  title : as shown;  body : HTML"""

    name: str
    title: str
    body: str


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole document."""
    style = (resources.files("kalmandp.report") / "style.css").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{s.name}">{escape(s.title)}</a></li>' for s in sections)
    parts = "\n".join(
        f'<section id="{s.name}" aria-labelledby="{s.name}-title">\n'
        f'<h2 id="{s.name}-title">{escape(s.title)}</h2>\n{s.body}\n</section>'
        for s in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)} – kalmandp</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#content">To the content</a>
<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>
<div class="columns">
<nav aria-label="Contents"><ul>{links}</ul></nav>
<main id="content">
{parts}
</main>
</div>
</body>
</html>
"""


def text(words: str) -> str:
    return f"<p>{escape(words)}</p>"


def code(words: str, label: str) -> str:
    """Text as it is; a long line can be scrolled, with the keyboard too."""
    return f'<pre tabindex="0" aria-label="{escape(label)}"><code>{escape(words)}</code></pre>'


def details(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def tiles(values: Sequence[tuple[str, str, str]]) -> str:
    """Name, number and unit, note: what one wants to know first."""
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd><strong>{escape(value)}</strong><span>{escape(note)}</span></dd></div>"
        for name, value, note in values
    )
    return f'<dl class="tiles">{cells}</dl>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    return f'<dl class="facts">{cells}</dl>'


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str | Bar]]) -> str:
    """The first column names the row, the others are numbers."""
    head = "".join(f'<th scope="col">{_unbroken(h)}</th>' for h in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>{"".join(map(_cell, others))}</tr>'
        for first, *others in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


class Bar(NamedTuple):
    """A number with a bar behind it: its share of the largest one."""

    text: str
    share: float


def _cell(value: str | Bar) -> str:
    if isinstance(value, Bar):
        width = min(max(value.share, 0.0), 1.0) if math.isfinite(value.share) else 0.0
        return f'<td class="bar" style="--share:{100 * width:.1f}%">{escape(value.text)}</td>'
    return f"<td>{escape(value)}</td>"


def _unbroken(head: str) -> str:
    """A unit as meV/Å stays on one line."""
    return " ".join(
        f"<span>{escape(word)}</span>" if "/" in word else escape(word) for word in head.split(" ")
    )


def number(value: float, digits: int = 3) -> str:
    """Significant digits; a dash for what is not there."""
    return f"{value:.{digits}g}".replace("-", "−") if math.isfinite(value) else "–"


def place(address: str) -> str:
    """Where a system or a frame lies, without detours: a/../b.h5#/ frame 3 → b.h5 frame 3."""
    path, mark, rest = address.partition("#")
    rest = rest.removeprefix("/") if rest in ("", "/") or rest.startswith("/ ") else mark + rest
    return os.path.normpath(path) + rest


def milli(value: float, digits: int = 3) -> str:
    """eV as meV."""
    return number(1e3 * value, digits)
