"""Tables that are Markdown and can be read as they stand."""

from __future__ import annotations

import math

MISSING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, "–" for what is not there."""
    if value is None or not math.isfinite(value):
        return MISSING
    size = abs(value)
    if size >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    decimals = digits - 1 - (math.floor(math.log10(size)) if size > 0 else 0)
    return f"{value:.{min(max(decimals, 0), 5)}f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table whose columns stand below each other; numbers to the right."""
    lines = [header, *rows]
    widths = [max(len(line[c]) for line in lines) for c in range(len(header))]
    right = [c > 0 for c in range(len(header))]
    put = lambda line: (
        "| "
        + " | ".join(
            cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right, strict=True)
        )
        + " |"
    )
    rule = (
        "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)) + "|"
    )
    return "\n".join([put(header), rule, *(put(line) for line in rows)])
