"""GPUMD's potential file, nep.txt, as a `Potential`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kalmandp.errors import FileError
from kalmandp.potentials.nep.files import read_nep, write_nep
from kalmandp.potentials.potential import Potential

#: What a file of this kind is, for messages; its usual name, and the suffixes it may have.
FORMAT = "a nep.txt of GPUMD"
DEFAULT, SUFFIXES = "nep.txt", (".txt", ".nep")
#: Nothing that DeePMD-kit compresses, and no sections of its inputs.
compression = sections = None


def recognises(path) -> bool:
    """Whether a file begins as a nep.txt does: "nep" and a digit."""
    path = Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        first = file.read(4).lower()
    return first[:3] == b"nep" and first[3:].isdigit()


def read(path) -> Potential:
    """The potential of a nep.txt.

    Raises
    ------
    FileError
        For a file that is damaged, or a model of another kind (dipole, charge, …).
    """
    if not Path(path).is_file():
        raise FileError(f"{path}: no such file")
    found = read_nep(path)
    counts = {} if found.neighbours is None else {"most neighbours": [int(n) for n in found.neighbours]}
    return Potential(
        found.form, found.weights, bias_atom_e=found.bias_t, info=counts, **found.statistics
    )


def write(potential: Potential, path) -> None:
    """Write a nep.txt that GPUMD, calorine and others read; it appears whole or not at all."""
    neighbours = potential.info.get("most neighbours")
    chosen = {} if neighbours is None else {"neighbours": tuple(neighbours)}
    bias_t = np.asarray(potential.bias_atom_e + potential.out_bias)
    write_nep(path, potential.form, potential.weights, potential.statistics, bias_t, **chosen)
