"""Frames out of other people's files: which reader for which file; reading by ASE and dpdata."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from kalmandp.errors import FileError, InputError, KalmanDPError, MissingPackage
from kalmandp.formats.extxyz import read_extxyz
from kalmandp.formats.programs.registry import INSTEAD, PROGRAMS, read_program, recognise
from kalmandp.formats.programs.steps import LeftOut
from kalmandp.frames.dataset import Dataset
from kalmandp.frames.frame import Frame

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
EXTXYZ_SUFFIXES = (".extxyz", ".xyz")

#: Beginning of a file's name -> format, for programs whose files are known by name.
KNOWN_NAMES = {
    "OUTCAR": "vasp/outcar",
    "vasprun": "vasp/xml",
    "MOVEMENT": "dpdata:pwmat/movement",
    "input.data": "runner",
}

#: Files of a run of cp.x, which are read together: PREFIX.in, .pos, .for, .evp, .cel.
CP_SUFFIXES = (".evp", ".pos", ".for", ".cel")

#: What `Frame.from_ase` reads of a calculator's results.
ASE_READ = ("energy", "free_energy", "forces", "stress", "virial", "energies")
#: What we read of dpdata's data, and what says nothing more.
DPDATA_READ = (
    "coords", "cells", "energies", "forces", "virials", "nopbc", "orig",
    "atom_types", "atom_names", "atom_numbs",
)  # fmt: skip


@dataclass
class Source:
    """One file to take frames from.

    Attributes
    ----------
    path, format : what to read, and as what
    keys : names of labels in extended XYZ
    type_map : for systems that name no types
    skipped : None, or a list that takes the messages of frames that cannot be used
    left_out : takes the messages of steps that are no training data: unconverged, incomplete
    keep_unconverged : take steps whose SCF cycle did not converge
    ignored : names of quantities in the file that are not read
    without, numbers : frames to pass over by their numbers, which sources that are read one after the
        other draw from one counter
    """

    path: str
    format: str
    keys: dict[str, str] | None = None
    type_map: tuple[str, ...] | None = None
    skipped: list[str] | None = None
    left_out: list[str] = field(default_factory=list)
    keep_unconverged: bool = False
    ignored: set[str] = field(default_factory=set)
    without: frozenset[int] = frozenset()
    numbers: Iterator[int] = field(default_factory=count)

    def frames(self) -> Iterator[Frame]:
        """Go through the frames that can be used."""
        for make in self.makers():
            if next(self.numbers) in self.without:
                continue
            try:
                frame = make()
            except LeftOut as error:
                self.left_out.append(str(error))
            except InputError as error:
                if self.skipped is None:
                    raise
                self.skipped.append(str(error))
            else:
                yield frame

    def makers(self) -> Iterator[Callable[[], Frame]]:
        """A function for each frame that makes it, or raises an InputError that concerns it alone."""
        library, _, name = self.format.partition(":")
        if self.keys and library != "extxyz":
            raise InputError(f"keys is for extended XYZ; {self.path} is read as {self.format}")
        if library == "extxyz":
            return read_extxyz(self.path, keys=self.keys, ignored=self.ignored)
        if library == "deepmd":
            return self._from_dataset()
        if self.format in PROGRAMS or self.format in INSTEAD:
            return read_program(
                self.format, self.path, keep_unconverged=self.keep_unconverged, ignored=self.ignored
            )
        from_library = _from_ase if library == "ase" else _from_dpdata
        return from_library(self.path, name, self.ignored)

    def _from_dataset(self) -> Iterator[Callable[[], Frame]]:
        with Dataset(self.path, self.type_map) as dataset:
            self.ignored.update(dataset.ignored)
            for k in range(len(dataset)):
                yield partial(dataset.__getitem__, k)


def guess_format(path: str) -> str:
    """The format of a file by its name, or by what is in a folder.

    Returns
    -------
    "extxyz", "deepmd" (hdf5, npy, npy/mixed), one of `PROGRAMS`, "dpdata:FORMAT", or "ase" where ASE
    may guess
    """
    if os.path.isdir(path):
        return _guess_folder(path)
    name = os.path.basename(path.rpartition("#")[0] or path)
    if name.lower().endswith(HDF5_SUFFIXES):
        return "deepmd"
    if name.lower().endswith(EXTXYZ_SUFFIXES):
        return "i =" if recognise(path) == "i =" else "extxyz"
    if name.endswith(CP_SUFFIXES) and os.path.isfile(os.path.splitext(path)[0] + ".for"):
        return "dpdata:qe/cp/traj"
    if format := recognise(path):
        return format
    for beginning, known in KNOWN_NAMES.items():
        if name.startswith(beginning):
            return known
    return "ase"


def _guess_folder(path: str) -> str:
    if os.path.isfile(os.path.join(path, "coord.raw")) and not any(
        name.startswith("set.") for name in os.listdir(path)
    ):
        return "dpdata:deepmd/raw"
    return "deepmd"


def check_format(format: str) -> str:
    """A format as the user may write it, or an InputError that lists what there is."""
    library, _, name = format.partition(":")
    if format in ("extxyz", "deepmd", "ase", *PROGRAMS) or (library in ("ase", "dpdata") and name):
        return format
    if format == "espresso/cp":
        return "dpdata:qe/cp/traj"
    if format in ("deepmd/hdf5", "deepmd/npy", "deepmd/npy/mixed", "deepmd/hdf5/mixed"):
        return "deepmd"
    raise InputError(
        f"format is {format!r}; expected 'extxyz', 'deepmd/hdf5', 'deepmd/npy', "
        f"'deepmd/npy/mixed', {', '.join(map(repr, PROGRAMS))}, 'espresso/cp', "
        "'ase', 'ase:NAME' or 'dpdata:NAME', such as 'dpdata:pwmat/movement'"
    )


def _from_ase(path: str, name: str, ignored: set[str]) -> Iterator[Callable[[], Frame]]:
    """Whatever ase.io reads; ``name`` is one of its formats, or empty to let it guess."""
    try:
        from ase.io import iread
    except ImportError as error:
        raise MissingPackage("ase", "ase", f"reading {path}") from error
    _check_there(path)
    whose = "ASE" if name else "its format is not recognised, and ASE"
    images = _foreign(
        path, whose, lambda: iread(path, ":", format=name or None, do_not_split_by_at_sign=True)
    )
    number = 0
    while True:
        atoms = _foreign(path, whose, lambda: next(images, None))
        if atoms is None:
            break
        ignored |= _ase_unread(atoms)
        yield partial(Frame.from_ase, atoms, source=f"{path} frame {number}")
        number += 1
    if not number:
        raise FileError(f"{path}: holds no frames; expected at least one")


def _ase_unread(atoms) -> set[str]:
    """Names of what an Atoms carries and a Frame does not: magnetic moments, charges, dipoles."""
    results = getattr(atoms.calc, "results", None) or {}
    names = {name for name, value in results.items() if value is not None and name not in ASE_READ}
    return names | {name for name in ("initial_magmoms", "initial_charges") if atoms.has(name)}


def _from_dpdata(path: str, name: str, ignored: set[str]) -> Iterator[Callable[[], Frame]]:
    """Whatever dpdata reads as a labelled system, as it reads it.

    The data are taken from the reader of the format. `dpdata.LabeledSystem` would turn every frame so
    that its cell becomes lower triangular, and positions would no longer be those of the file.
    """
    try:
        from dpdata.system import load_format
    except ImportError as error:
        raise MissingPackage("dpdata", "data", f"reading {path} as {name}") from error
    _check_there(path)
    given = os.path.splitext(path)[0] if name == "qe/cp/traj" and path.endswith(CP_SUFFIXES) else path
    data = _foreign(path, "dpdata", lambda: load_format(name).from_labeled_system(given))
    if not isinstance(data, dict):
        raise FileError(f"{path}: dpdata finds several systems in it as {name}; expected one")
    if not len(data.get("coords", ())):
        raise FileError(f"{path}: dpdata finds no converged frames in it as {name}")
    for label in ("energies", "forces", "virials"):
        if np.size(data.get(label, ())) and len(data[label]) != len(data["coords"]):
            raise FileError(
                f"{path}: dpdata finds {len(data[label])} {label} for {len(data['coords'])} frames in it"
            )
    ignored |= {key for key in data if key not in DPDATA_READ}
    for k in range(len(data["coords"])):
        yield partial(_dpdata_frame, data, k, f"{path} frame {k}")


def _dpdata_frame(data: dict, k: int, source: str) -> Frame:
    def row(name: str) -> Any:
        return np.array(data[name][k]) if np.size(data.get(name, ())) else None

    return Frame(
        positions=row("coords"),
        types=data["atom_types"],
        type_map=data["atom_names"],
        cell=None if data.get("nopbc", False) else row("cells"),
        energy=row("energies"),
        forces=row("forces"),
        virial=row("virials"),
        source=source,
    )


def _check_there(path: str) -> None:
    if not os.path.exists(path):
        raise FileError(f"{path}: no such file or folder")


def _foreign(path: str, whose: str, call: Callable):
    """Call a reader that may raise anything for a file it does not understand."""
    try:
        return call()
    except KalmanDPError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileError(f"{path}: {whose} cannot read it ({reason})") from error
