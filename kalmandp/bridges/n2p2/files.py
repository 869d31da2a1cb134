"""n2p2's model, a folder with input.nn, scaling.data and weights.ZZZ.data, as a `Potential`."""

from __future__ import annotations

from pathlib import Path

from kalmandp.potentials.hdnnp.file_units import units_of_files
from kalmandp.potentials.hdnnp.files import read_folder, write_folder
from kalmandp.potentials.potential import Potential

#: What such a folder is, for messages; its usual name, and the suffixes it may have.
FORMAT = "a folder of n2p2 (input.nn, scaling.data, weights.*.data)"
DEFAULT, SUFFIXES = "hdnnp", ("",)
#: Nothing that DeePMD-kit compresses, and no sections of its inputs.
compression = sections = None


def recognises(path) -> bool:
    """Whether it is a folder with weights files or a scaling.data: what else is missing is told by `read`."""
    path = Path(path)
    return path.is_dir() and ((path / "scaling.data").exists() or any(path.glob("weights.*.data")))


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
    found = read_folder(folder, units_of_files(folder / "input.nn"))
    info = {"training": found.training} if found.training else {}
    return Potential(found.form, found.weights, bias_atom_e=found.bias_t, info=info, **found.statistics)


def write(potential: Potential, path) -> None:
    """Write a folder that n2p2 reads; every file is there as a whole or as it was."""
    write_folder(
        path, potential.form, potential.weights, potential.statistics,
        potential.bias_atom_e + potential.out_bias, potential.info.get("training"),
    )  # fmt: skip
