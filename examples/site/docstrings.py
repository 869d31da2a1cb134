"""Docstrings are written to be read as plain text; here they are made safe for Sphinx, which reads markup.

|x| is an absolute value, not a substitution; a* is a product; formulas stand indented. What is set out by
indentation, and what is in code quotes, stays as it is written.
"""

from __future__ import annotations

import re

CODE = re.compile(r"(``.+?``|`[^`]+`)")
#: Titles of numpydoc's sections, below which a name stands before its indented explanation.
SECTIONS = {"Parameters", "Returns", "Raises", "Yields", "Attributes", "Notes", "Examples", "See Also"}

NAMED = re.compile(r"(\*{0,2}\w[\w, *]*?) : (.+)")


def safe(lines: list[str]) -> list[str]:
    """The lines of a docstring whose plain text is not taken for markup."""
    made: list[str] = []
    in_section = literal = begins = False
    for paragraph in _paragraphs(lines):
        first = paragraph[0]
        if len(paragraph) > 1 and first in SECTIONS and set(paragraph[1]) == {"-"}:
            in_section = first not in ("Notes", "Examples")
            literal = begins = paragraph[-1].rstrip().endswith("::")
            made += [*paragraph[:2], *_told(paragraph[2:], in_section), ""]
            continue
        indented = first.startswith(" ")
        if literal and (indented or begins):  # what follows "::" may have been left without an indent
            made += [*(line if indented else f"    {line}" for line in paragraph), ""]
            literal, begins = indented, False
            continue
        if first.lstrip().startswith(">>>"):
            made += [*paragraph, ""]
            continue
        if not in_section and (indented or _is_set_out(paragraph)):
            made += ["::", "", *(f"    {line}" for line in paragraph), ""]
            continue
        made += [*_told(paragraph, in_section), ""]
        literal = begins = paragraph[-1].rstrip().endswith("::")
    return made


def _told(lines: list[str], in_section: bool) -> list[str]:
    return [_escaped(x) for line in lines for x in (_explained(line) if in_section else [line])]


def _explained(line: str) -> list[str]:
    """ "name : what it is" as numpydoc has it: the type, which is not stated here, left out."""
    found = NAMED.match(line)
    return [found[1], f"    {found[2]}"] if found else [line]


def _paragraphs(lines: list[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [paragraph for paragraph in found if paragraph]


def _is_set_out(paragraph: list[str]) -> bool:
    """Lines with indents of their own, or columns: to be shown as they are."""
    is_list = re.match(r"\s*([-*•]|\d+\.) ", paragraph[0])
    ruled = paragraph[0].startswith("===")
    return not is_list and not ruled and len({len(x) - len(x.lstrip()) for x in paragraph}) > 1


def _escaped(line: str) -> str:
    parts = CODE.split(re.sub(r"(?<=[^`\s]`)(?=\w)", r"\\ ", line) if line.count("`") == 2 else line)
    for k in range(0, len(parts), 2):
        parts[k] = re.sub(r"([|])", r"\\\1", parts[k])
        parts[k] = re.sub(r"(?<!^)\*(?! )", r"\\*", parts[k])
        parts[k] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", parts[k])
    return "".join(parts)


def setup(app) -> dict:
    def process(app, what, name, obj, options, lines):
        lines[:] = safe(lines)

    def skip(app, what, name, obj, skipped, options):
        """The fields of a NamedTuple are explained in its docstring; by themselves they say nothing."""
        return True if type(obj).__name__ == "_tuplegetter" else None

    app.connect("autodoc-process-docstring", process, priority=100)  # before napoleon
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
