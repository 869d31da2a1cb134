"""Small inputs for the tests of asking for a GPU."""

from __future__ import annotations

import json

from systems import frames, settings

import kalmandp


def small_architecture():
    return kalmandp.Architecture(("A",), 4.0, 0.5, (20,))


def small_input(folder) -> str:
    """An input file for data that are written to ``folder``."""
    kalmandp.Dataset.write(folder / "morse.h5", frames(2))
    return json.dumps(settings(folder / "morse.h5"))
