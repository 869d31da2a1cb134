"""Which reader for which file: by name where it tells, else by how the file begins."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import islice

from kalmandp.errors import FileError
from kalmandp.formats import runner
from kalmandp.formats.programs import abinit, aims, cp2k, espresso, lammps_dump, movement, mtp, vasp_outcar
from kalmandp.formats.programs.steps import frames_in, opened
from kalmandp.formats.programs.vasp_xml import read_vasprun
from kalmandp.formats.told import Told
from kalmandp.formats.units import Units
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import reading

#: Format -> (reader of its lines, what the file is).
TEXTS = {
    "vasp/outcar": (vasp_outcar.read_outcar, vasp_outcar.WHAT),
    "espresso/pw": (espresso.read_pw, espresso.WHAT),
    "cp2k": (cp2k.read_cp2k, cp2k.WHAT),
    "abinit": (abinit.read_abinit, abinit.WHAT),
    "pwmat/movement": (movement.read_movement, movement.WHAT),
    "aims": (aims.read_aims, aims.WHAT),
    "lammps/dump": (lammps_dump.read_dump, lammps_dump.WHAT),
    "mtp": (mtp.read_cfg, mtp.WHAT),
    "runner": (runner.read_runner, runner.WHAT),
}
#: All formats that are read here.
PROGRAMS = ("vasp/xml", *TEXTS)

#: What one of the first lines of a file holds -> its format.
MARKS = (
    (" vasp.", "vasp/outcar"),
    ("<modeling>", "vasp/xml"),
    ("Program PWSCF", "espresso/pw"),
    ("CP2K| version", "cp2k"),
    (" of ABINIT", "abinit"),
    ("Invoking FHI-aims", "aims"),
    # outputs that somebody has shortened
    *((mark, "aims") for mark in ("Begin self-consistency loop", "Self-consistency cycle converged")),
    ("ITEM: TIMESTEP", "lammps/dump"),
    ("BEGIN_CFG", "mtp"),
    *((mark, mark) for mark in ("<qes:espresso", "Program CP ", "creator: LAMMPS")),
)
#: Files that look like data and are not, or not alone -> what to convert instead.
INSTEAD = {
    "<qes:espresso": "is the XML of pw.x, which has no stress for the steps of a trajectory and gives the "
    "last energy with atoms that have moved on; expected the text that pw.x prints",
    "Program CP ": "is what cp.x prints; expected the files of its trajectory, PREFIX.evp with .pos, .for "
    "and .in beside it",
    "creator: LAMMPS": "is a dump of LAMMPS in YAML, which is not read; expected a dump of style custom",
    "i =": "is a trajectory of CP2K; expected the output of the run, beside which its trajectory is found",
}
#: What the second line of an extended XYZ file holds.
EXTENDED = re.compile(r"\b(lattice|properties)\s*=", re.IGNORECASE)
#: Keys of MLIP's first form, which begins as RuNNer's input.data does.
FIRST_MLIP = (["Lattice"], ["AtmData"], ["AtomData"], ["AtomPos"])
#: So many lines are looked at; what a queueing system prints may come before.
HEAD = 400


def recognise(path: str) -> str | None:
    """The format of a file by what it holds: "extxyz", one of `PROGRAMS` or of `INSTEAD`; or None."""
    if not os.path.isfile(path):
        return None
    try:
        with reading(path):
            file = opened(path)
    except FileError:
        return None  # packed in a way that is not read
    with reading(path), file:
        head = [line[:2000] for line in islice(file, HEAD)]
    first = next((line for line in head if line.split()), "")
    if first.split() == ["BEGIN"] and any(line.split()[:1] in FIRST_MLIP for line in head):
        return "mtp"  # which names it
    if first.lower().split()[:1] == ["begin"] and (len(first.split()) == 1 or "position(" in first):
        return "runner"
    if len(head) > 1 and head[1].split()[:2] == ["i", "="] and "E =" in head[1]:
        return "i ="
    if movement.BLOCK.match(first):
        return "pwmat/movement"
    if first.strip().isdigit() and EXTENDED.search("".join(head[head.index(first) + 1 :][:1])):
        return "extxyz"
    for line in head:
        for mark, format in MARKS:
            if line.startswith(mark) if mark == " vasp." else mark in line:
                return format
    return None


def read_program(
    format: str, path: str, *, keep_unconverged: bool, told: Told, units: Units | None = None,
    type_map: tuple[str, ...] | None = None,
) -> Iterator[Callable[[], Frame]]:  # fmt: skip
    """Frames of a file of one of `PROGRAMS`; see `steps.frames_in`. Those of `INSTEAD` are refused."""
    if format in INSTEAD:
        raise FileError(f"{path}: {INSTEAD[format]}")
    if format == "vasp/xml":
        return read_vasprun(path, keep_unconverged=keep_unconverged, told=told)
    read, what = TEXTS[format]
    return frames_in(
        path, read, what, keep_unconverged=keep_unconverged, told=told, units=units, type_map=type_map
    )
