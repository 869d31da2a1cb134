"""What tests of readers do with one file: write it, and read its frames."""

from __future__ import annotations

from pathlib import Path

from kalmandp.formats.sources import Source, guess_format
from kalmandp.frames.frame import Frame


def read(path, **options) -> tuple[list[Frame], Source]:
    source = Source(str(path), guess_format(str(path)), **options)
    return list(source.frames()), source


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
