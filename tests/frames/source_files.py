"""What tests of readers do with one file: write it, and read its frames."""

from __future__ import annotations

from pathlib import Path

from kalmandp.formats.sources import Source, guess_format
from kalmandp.frames.frame import Frame


def read(path, **options) -> tuple[list[Frame], Source]:
    source = Source(str(path), guess_format(str(path)), **options)
    return list(source.frames()), source


def read_whole(path, **options) -> tuple[list[Frame], list[str], set[str]]:
    """Frames, messages of what was left out, and names of what is not read."""
    frames, source = read(path, **options)
    return frames, source.left_out, source.ignored


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
