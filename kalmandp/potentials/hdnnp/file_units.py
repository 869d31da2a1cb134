"""In which units the files of an n2p2 model are: they have no place to say it.

A line ``# units: atomic`` (bohr and hartree) or ``# units: metal`` (Å and eV) of an input.nn says it; n2p2
takes it for a comment. Without it an input.data beside it tells, by its comments or distances, and without
that the size of the cut-offs.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from kalmandp.errors import FileError, require
from kalmandp.formats.runner import unit_name
from kalmandp.potentials.hdnnp.files import text_of
from kalmandp.potentials.hdnnp.keywords import words_of

#: Begins the line of an input.nn that says in which units it is; n2p2 takes it for a comment.
UNITS = "# units:"
#: What its units are called, by what follows there.
WORDS = {"atomic": "bohr and hartree", "metal": "Å and eV"}
#: Cut-offs above this many units of length are in bohr: 12 bohr are usual, 6 Å as well.
LARGEST_IN_ANGSTROM = 9.0


def units_of(path) -> str:
    """ "metal" (Å, eV) or "atomic" (bohr, hartree): as an input.nn says, or by the size of its cut-offs."""
    lines = text_of(path).splitlines()
    if stated := _stated(path, lines):
        return stated
    largest = 0.0
    for words in map(words_of, lines):
        if words[:1] == ["symfunction_short"] and len(words) > 3:
            place = {"2": -1, "3": 8, "9": 8, "20": -2, "21": 6, "22": 6}.get(words[2])
            try:
                largest = max(largest, float(words[place])) if place is not None else largest
            except (ValueError, IndexError):
                continue  # said by who reads the file
    return "atomic" if largest > LARGEST_IN_ANGSTROM else "metal"


def stated_units(path) -> str:
    """The units that an input.nn says, "" if it says none."""
    return _stated(path, text_of(path).splitlines())


def _stated(path, lines: list[str]) -> str:
    found = [line[len(UNITS) :].split() for line in lines if line.startswith(UNITS)]
    unit = found[0][0] if found and found[0] else ""
    wanted = " or ".join(f"{name} ({words})" for name, words in WORDS.items())
    require(not unit or unit in WORDS, f"{path}: {UNITS.strip('# :')}", repr(unit), wanted, FileError)
    return unit


def units_of_files(path) -> str:
    """As an input.nn says, else as the input.data beside it is, else by the size of the cut-offs.

    Warns
    -----
    UserWarning
        If nothing but the size of the cut-offs says it.
    """
    text, data = Path(path), Path(path).parent / "input.data"
    if stated := stated_units(text):
        return stated
    if data.is_file() and (units := unit_name(data).units) in WORDS:
        return units
    units = units_of(text)
    how = f"by the size of its cut-offs (a line '{UNITS} atomic' or '{UNITS} metal' says them)"
    warnings.warn(f"{text}: does not say its units; taken as {WORDS[units]} {how}", stacklevel=4)
    return units
