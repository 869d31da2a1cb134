"""n2p2's model, a folder with input.nn, scaling.data and weights.ZZZ.data, as a `Potential`."""

from __future__ import annotations

from pathlib import Path

from kalmandp.constants import BOHR
from kalmandp.errors import FileError
from kalmandp.formats.runner import length_unit_of
from kalmandp.potentials.hdnnp.files import read_folder, write_folder
from kalmandp.potentials.potential import Potential

#: What such a folder is, for messages; its usual name, and the suffixes it may have.
FORMAT = "a folder of n2p2 (input.nn, scaling.data, weights.*.data)"
DEFAULT, SUFFIXES = "hdnnp", ("",)
#: The structures beside an input.nn.
DATA = "input.data"
#: Begins the line of an input.nn that says in which units it is; n2p2 takes it for a comment.
UNITS = "# units:"
#: Cut-offs above this many units of length are in bohr: 12 bohr are usual, 6 Å as well.
LARGEST_IN_ANGSTROM = 9.0


def recognises(path) -> bool:
    """Whether it is a folder with an input.nn and a weights file."""
    path = Path(path)
    return path.is_dir() and (path / "input.nn").is_file() and any(path.glob("weights.*.data"))


def units_of(path) -> str:
    """ "metal" (Å, eV) or "atomic" (bohr, hartree), of an input.nn.

    As it says itself, or as the structures in the input.data beside it are, or by the size of its cut-offs.

    Raises
    ------
    FileError
        If it cannot be read, or says otherwise than its input.data.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read ({error})") from None
    stated = [line[len(UNITS) :].split() for line in lines if line.startswith(UNITS)]
    data = Path(path).with_name(DATA)
    known = {1.0: "metal", BOHR: "atomic"}.get(length_unit_of(data)) if data.is_file() else None
    if stated and stated[0]:
        if known not in (None, stated[0][0]):
            raise FileError(
                f"{path}: says that it is in {stated[0][0]} units, {data.name} beside it is in {known} ones; "
                'expected the same ("metal": Å and eV, "atomic": bohr and hartree)'
            )
        return stated[0][0]
    if known is not None:
        return known
    largest = 0.0
    for words in (line.split("#")[0].split() for line in lines):
        if words[:1] == ["symfunction_short"] and len(words) > 3:
            place = {"2": -1, "3": 8, "9": 8, "20": -2, "21": 6, "22": 6}.get(words[2])
            try:
                largest = max(largest, float(words[place])) if place is not None else largest
            except (ValueError, IndexError):
                continue  # said by who reads the file
    return "atomic" if largest > LARGEST_IN_ANGSTROM else "metal"


def read(path) -> Potential:
    """The potential of a folder.

    Raises
    ------
    FileError
        For a file that is missing, cut short, or belongs to another model.
    """
    folder = Path(path)
    units = units_of(folder / "input.nn")
    found = read_folder(folder, units)
    info = {"training": found.training} if found.training else {}
    return Potential(found.form, found.weights, bias_atom_e=found.bias_t, info=info, **found.statistics)


def write(potential: Potential, path) -> None:
    """Write a folder that n2p2 reads; every file is there as a whole or as it was."""
    write_folder(
        path, potential.form, potential.weights, potential.statistics,
        potential.bias_atom_e + potential.out_bias, potential.info.get("training"),
    )  # fmt: skip
