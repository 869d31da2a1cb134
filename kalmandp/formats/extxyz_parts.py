"""The parts of a frame of extended XYZ: key=value pairs, the columns of Properties, numbers."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from kalmandp.errors import FileError

# a key, then perhaps "=" and a value: in quotes, in brackets, or a word
_PAIR = re.compile(
    r"""\s*(?P<key>"(?:\\.|[^"\\])*"|[^\s="]+)"""
    r"""(?:\s*=\s*(?:"(?P<quoted>(?:\\.|[^"\\])*)"|'(?P<single>[^']*)'"""
    r"""|\{(?P<braces>[^{}]*)\}|\[(?P<brackets>[^\[\]]*)\]|(?P<word>\S+)))?"""
)


class Column(NamedTuple):
    """A property of the atoms: its type (S, R, I, L) and its columns."""

    kind: str
    first: int
    width: int


def pairs_of(source: str, comment: str) -> dict[str, str]:
    """The ``key=value`` pairs; a key without a value is true, ``T``."""
    pairs: dict[str, str] = {}
    position, text = 0, comment.strip()
    while position < len(text):
        found = _PAIR.match(text, position)
        if found is None and "properties" not in text.lower():
            break  # the comment of a plain XYZ file may be anything
        if found is None:
            raise FileError(
                f"{source}: its second line has {text[position : position + 40]!r}; expected pairs key=value"
            )
        values = [v for name, v in found.groupdict().items() if name != "key" and v is not None]
        pairs[found["key"].strip('"')] = values[0] if values else "T"
        position = found.end()
    return pairs


def columns_of(source: str, text: str) -> dict[str, Column]:
    fields = text.split(":")
    columns: dict[str, Column] = {}
    first = 0
    for name, kind, count in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if kind not in ("S", "R", "I", "L") or not count.isdecimal() or not 0 < int(count[:7]) < 10**6:
            columns = {}
            break
        columns[name] = Column(kind, first, int(count))
        first += int(count)
    pos, kinds = name_in(("pos",), columns), name_in(("species", "Z"), columns)
    if len(fields) % 3 or pos is None or columns[pos].width != 3 or kinds is None:
        raise FileError(f"{source}: Properties is {text[:80]!r}; expected species:S:1:pos:R:3 and more")
    return columns


def name_in(known: tuple[str, ...], there) -> str | None:
    """The first of the names that is there: as it stands, or else without regard to capitals."""
    for name in known:
        if name in there:
            return name
    folded: dict[str, str] = {}
    for name in there:
        folded.setdefault(name.lower(), name)
    return next((folded[name.lower()] for name in known if name.lower() in folded), None)


def numbers_of(source: str, name: str, words: list[str]) -> np.ndarray:
    try:
        return np.array([word.rstrip(",") for word in words], dtype=np.float64)
    except ValueError:
        raise FileError(f"{source}: {name} is {' '.join(words)[:60]!r}; expected numbers") from None


def cut_columns(source: str, table, columns: dict[str, Column], name: str) -> np.ndarray:
    """The columns of one property, (n_atoms, count)."""
    kind, first, count = columns[name]
    words = [row[first : first + count] for row in table]
    try:
        if kind not in "RI":
            raise ValueError
        return np.array(words, dtype=np.float64).reshape(len(table), count)
    except ValueError:
        raise FileError(f"{source}: the columns {name} are not all numbers") from None


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
