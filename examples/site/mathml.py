"""Formulas as MathML, which browsers draw themselves: nothing is loaded, and nothing has to be installed."""

from __future__ import annotations

import re

from docutils.utils.math.latex2mathml import tex2mathml

#: What the converter does not know, in words that it knows.
REPLACED = {
    r"\\(text|display)style\s*": "", r"\\[dt]frac": r"\\frac", r"\\[lr]Vert": r"\\|", r"\\[lr]vert": "|",
}  # fmt: skip


def mathml(formula: str, block: bool) -> str:
    """The MathML of a formula in LaTeX."""
    for old, new in REPLACED.items():
        formula = re.sub(old, new, formula)
    return tex2mathml(formula, as_block=block)


def _inline(self, node) -> None:
    import docutils.nodes

    self.body.append(mathml(node.astext(), block=False))
    raise docutils.nodes.SkipNode


def _block(self, node) -> None:
    import docutils.nodes

    self.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>')
    raise docutils.nodes.SkipNode


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
