"""Whatever dpdata reads as a labelled system."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from kalmandp.errors import FileError, MissingPackage
from kalmandp.formats.foreign.calling import check_there, foreign
from kalmandp.formats.told import Told
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import reading

#: What we read of dpdata's data, and what says nothing more.
READ = (
    "coords", "cells", "energies", "forces", "virials", "nopbc", "orig",
    "atom_types", "atom_names", "atom_numbs",
)  # fmt: skip
#: Formats of which dpdata is given the beginning of the files' names.
PREFIXES = ("qe/cp/traj", "openmx/md", "amber/md")
#: Files of a run of cp.x, which are read together: PREFIX.in, .pos, .for, .evp, .cel.
CP_SUFFIXES = (".evp", ".pos", ".for", ".cel")
#: Files by which a prefix may be named as well.
OF_PREFIX = (*CP_SUFFIXES, ".md", ".dat", ".nc", ".parm7", ".mdfrc", ".mden", ".mdout")
#: Formats of which dpdata is given two files: their names in the folder of a run.
PAIRS = {"dftbplus": ("dftb_in.hsd", "detailed.out")}


def read_dpdata(path: str, name: str, told: Told) -> Iterator[partial]:
    """Frames of a file or folder as dpdata reads it.

    The data are taken from the reader of the format. `dpdata.LabeledSystem` would turn every frame so
    that its cell becomes lower triangular, and positions would no longer be those of the file.
    """
    try:
        from dpdata.system import load_format
    except ImportError as error:
        raise MissingPackage("dpdata", "data", f"reading {path} as {name}") from error
    given: Any = _prefix(path) if name in PREFIXES else path
    if name in PAIRS:
        given = _pair(path, PAIRS[name])
        _refuse_periodic(given[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = foreign(path, "dpdata", lambda: load_format(name).from_labeled_system(given))
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            told.note(f"dpdata warns: {' '.join(str(warning.message).split())[:200]}")
    if not isinstance(data, dict):
        raise FileError(f"{path}: dpdata finds several systems in it as {name}; expected one")
    if not len(data.get("coords", ())):
        raise FileError(f"{path}: dpdata finds no converged frames in it as {name}")
    for label in ("energies", "forces", "virials"):
        if np.size(data.get(label, ())) and len(data[label]) != len(data["coords"]):
            raise FileError(
                f"{path}: dpdata finds {len(data[label])} {label} for {len(data['coords'])} frames in it; "
                "expected one for each"
            )
    told.ignored |= {key for key in data if key not in READ}
    for k in range(len(data["coords"])):
        yield partial(_frame, data, k, f"{path} frame {k}")


def files_of(path: str, name: str) -> list[str] | None:
    """The files of a run that are read together, for the formats of which that is so; else None."""
    if name in PAIRS:
        return list(_pair(path, PAIRS[name]))
    if name not in PREFIXES:
        return None
    beginning = glob.escape(_prefix(path))
    return sorted(file for suffix in OF_PREFIX for file in glob.glob(beginning + suffix))


def _prefix(path: str) -> str:
    """What the names of the files begin with, given it or one of them."""
    if path.endswith(OF_PREFIX) and os.path.exists(path):
        return os.path.splitext(path)[0]
    if not glob.glob(glob.escape(path) + ".*"):
        check_there(path)
    return path


def _pair(path: str, names: tuple[str, str]) -> tuple[str, str]:
    """Two files of a run, given their folder or one of them."""
    check_there(path)
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    pair = (os.path.join(folder, names[0]), os.path.join(folder, names[1]))
    missing = [name for name, file in zip(names, pair, strict=True) if not os.path.isfile(file)]
    if missing:
        raise FileError(f"{folder or '.'}: has no {' and no '.join(missing)}; expected {' and '.join(names)}")
    return pair


def _refuse_periodic(path: str) -> None:
    """DFTB+'s GenFormat with lattice vectors (S, F), which dpdata passes over."""
    with reading(path), open(path, encoding="utf-8", errors="replace") as file:
        if re.search(r"GenFormat\s*=?\s*\{\s*\d+\s+[SFsf]\b", file.read()):
            raise FileError(
                f"{path}: is a periodic system, whose lattice vectors dpdata does not read; expected a "
                "cluster (GenFormat C)"
            )


def _frame(data: dict, k: int, source: str) -> Frame:
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
