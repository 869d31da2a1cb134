"""How a model file is used in n2p2."""

from __future__ import annotations

from pathlib import Path

from kalmandp.errors import FileError
from kalmandp.potentials.hdnnp.file_units import units_of
from kalmandp.potentials.hdnnp.files import read_input_nn


def usage(model: str, types) -> list[tuple[str, str, str]]:
    """The program, what it needs, and text to copy, for the path of a model and the names of its types.

    LAMMPS (units metal) is told of the cut-off in Å, and of the model's units of length and energy in an Å
    and an eV where they are others.
    """
    cutoff, factors = "CUTOFF", ""
    try:
        text = Path(model) / "input.nn"
        form = read_input_nn(text, units_of(text)).form
    except FileError:  # the text is of a model that is elsewhere
        pass
    else:
        cutoff = f"{form.cutoff:.6f}"
        if (form.length_unit, form.energy_unit) != (1.0, 1.0):
            factors = f" &\n             cflength {1 / form.length_unit!r} cfenergy {1 / form.energy_unit!r}"
    run = f"kalmandp convert DATA {model}/input.data\ncd {model} && nnp-predict 0"
    return [
        ("LAMMPS, with n2p2", "LAMMPS built with the package ML-HDNNP; in its input, units metal",
         f'pair_style   hdnnp {cutoff} dir "{model}" showew no showewsum 100 resetew no maxew 100{factors}\n'
         f"pair_coeff   * * {' '.join(types)}"),
        ("n2p2", "energy and forces of the first frame of an input.data", run),
    ]  # fmt: skip
