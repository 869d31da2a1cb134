"""What a reader has to say beside the frames it hands out."""

from __future__ import annotations


class Told:
    """What reading has told of a file.

    Attributes
    ----------
    ignored : names of quantities in the file that are not taken over
    names : label -> the names in the file that it was read from
    notes : what is worth saying, each once, in order
    """

    def __init__(self, ignored: set[str] | None = None):
        self.ignored: set[str] = set() if ignored is None else ignored
        self.names: dict[str, set[str]] = {}
        self.notes: dict[str, None] = {}

    def note(self, text: str) -> None:
        self.notes[text] = None
