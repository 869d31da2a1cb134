"""The unit of length that an input.nn and its input.data share, and a check that it makes sense for both.

n2p2 reads both files in the same unit, which neither has to state. Here input.data says it, by its comments
or by its distances; an input.nn may say it in a line ``# units: atomic`` (bohr and hartree) or ``metal`` (Å
and eV).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kalmandp.constants import BOHR
from kalmandp.errors import FileError
from kalmandp.formats.distances import ANGSTROM, IN_BOHR
from kalmandp.formats.runner import unit_name
from kalmandp.potentials.hdnnp.file_units import LARGEST_IN_ANGSTROM, WORDS, stated_units, units_of
from kalmandp.potentials.hdnnp.files import read_input_nn

LENGTH = {"atomic": "bohr", "metal": "Å"}
#: A cut-off below this multiple of the shortest distance reaches the nearest neighbours only.
FEWEST = 1.5


class Shared(NamedTuple):
    """units : "atomic" or "metal";  notices : sentences on what cannot be, or was taken for granted
    forces : whether input.data has any, none if all are 0
    """

    units: str
    notices: tuple[str, ...]
    forces: bool


def shared_units(path, data) -> Shared:
    """The units of an input.nn and its input.data.

    Parameters
    ----------
    path, data : of the two files

    Raises
    ------
    FileError
        If the two files state different units, or one cannot be read.
    InputError
        If nothing says in which units input.data is.
    """
    stated, guessed = stated_units(path), units_of(path)
    units, usual, closest, names, forces = unit_name(data)
    if units not in WORDS:
        raise FileError(f"{data}: is in {units}; expected {' or '.join(WORDS.values())} beside {path}")
    if stated and stated != units:
        raise FileError(
            f"{path}: says that it is in {WORDS.get(stated, stated)}, and {data} is in {WORDS[units]}; n2p2 "
            "reads both in the same units"
        )
    unit = LENGTH[units]
    form = read_input_nn(path, units).form
    unknown = [name for name in names if name not in form.type_map]
    if unknown:
        raise FileError(
            f"{data}: has atoms of {', '.join(unknown)}; expected the elements of {path}, "
            f"{' '.join(form.type_map)}"
        )
    cutoff = form.cutoff  # Å
    own = cutoff / BOHR if units == "atomic" else cutoff
    notices = []
    low, high = ANGSTROM
    if np.isfinite(usual) and not low <= usual <= high:
        bohr = f", as if bohr were taken for {unit}" if IN_BOHR[0] <= usual <= IN_BOHR[1] else ""
        notices.append(
            f"the atoms of {data} stand {usual:.2f} bond lengths apart in {unit}, the closest {closest:.2f} "
            f"Å{bohr}; usual are {low} to {high}"
        )
    if not stated and guessed != units:
        size = "large" if guessed == "atomic" else "small"
        notices.append(
            f"the cut-offs of {path}, up to {own:g}, are taken in {unit}, the unit of {data}: that is {size} "
            f"({cutoff:.1f} Å; the closest atoms are {closest:.2f} Å apart). If they are in "
            f"{LENGTH[guessed]}, convert them"
        )
    if np.isfinite(closest) and cutoff < FEWEST * closest:
        notices.append(
            f"the largest cut-off of {path}, {cutoff:.2f} Å, reaches hardly beyond the closest atoms, "
            f"{closest:.2f} Å apart; are its cut-offs in another unit than {data}?"
        )
    if stated == "metal" and cutoff > 2 * LARGEST_IN_ANGSTROM:
        notices.append(f"the largest cut-off of {path} is {cutoff:.1f} Å; usual are 5 to 8")
    if not forces:
        notices.append(f"the forces of {data} are 0 for all atoms; taken as not known")
    return Shared(units, tuple(notices), forces)
