"""n2p2's model, a folder with input.nn, scaling.data and weights.ZZZ.data, as a `Potential`."""

from __future__ import annotations

import warnings
from pathlib import Path

from kalmandp.errors import FileError, require
from kalmandp.formats.runner import unit_name
from kalmandp.potentials.hdnnp.files import read_folder, text_of, write_folder
from kalmandp.potentials.potential import Potential

#: What such a folder is, for messages; its usual name, and the suffixes it may have.
FORMAT = "a folder of n2p2 (input.nn, scaling.data, weights.*.data)"
DEFAULT, SUFFIXES = "hdnnp", ("",)
#: Nothing that DeePMD-kit compresses, and no sections of its inputs.
compression = sections = None
#: Begins the line of an input.nn that says in which units it is; n2p2 takes it for a comment.
UNITS = "# units:"
#: What its units are called, by what follows there.
WORDS = {"atomic": "bohr and hartree", "metal": "Å and eV"}
#: Cut-offs above this many units of length are in bohr: 12 bohr are usual, 6 Å as well.
LARGEST_IN_ANGSTROM = 9.0


def recognises(path) -> bool:
    """Whether it is a folder with weights files or a scaling.data: what else is missing is told by `read`."""
    path = Path(path)
    return path.is_dir() and ((path / "scaling.data").exists() or any(path.glob("weights.*.data")))


def units_of(path) -> str:
    """ "metal" (Å, eV) or "atomic" (bohr, hartree): as an input.nn says, or by the size of its cut-offs."""
    lines = text_of(path).splitlines()
    if stated := _stated(path, lines):
        return stated
    largest = 0.0
    for words in (line.split("#")[0].split() for line in lines):
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


def _units_of_folder(folder: Path) -> str:
    """As its input.nn says, else as the input.data beside it is, else by the size of the cut-offs."""
    text, data = folder / "input.nn", folder / "input.data"
    if stated := stated_units(text):
        return stated
    if data.is_file() and (units := unit_name(data).units) in WORDS:
        return units
    units = units_of(text)
    how = f"by the size of its cut-offs (a line '{UNITS} atomic' or '{UNITS} metal' says them)"
    warnings.warn(f"{text}: does not say its units; taken as {WORDS[units]} {how}", stacklevel=4)
    return units


def read(path) -> Potential:
    """The potential of a folder.

    Warns
    -----
    UserWarning
        If nothing but the size of the cut-offs says in which units it is.

    Raises
    ------
    FileError
        For a file that is missing, cut short, or belongs to another model.
    """
    folder = Path(path)
    found = read_folder(folder, _units_of_folder(folder))
    info = {"training": found.training} if found.training else {}
    return Potential(found.form, found.weights, bias_atom_e=found.bias_t, info=info, **found.statistics)


def write(potential: Potential, path) -> None:
    """Write a folder that n2p2 reads; every file is there as a whole or as it was."""
    write_folder(
        path, potential.form, potential.weights, potential.statistics,
        potential.bias_atom_e + potential.out_bias, potential.info.get("training"),
    )  # fmt: skip
