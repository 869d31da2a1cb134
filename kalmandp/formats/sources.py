"""Frames out of other people's files: which reader for which file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import h5py

from kalmandp.errors import FileError, InputError
from kalmandp.formats.extxyz import read_extxyz
from kalmandp.formats.foreign.ase import ase_format, read_ase
from kalmandp.formats.foreign.checks import STORES, checked
from kalmandp.formats.foreign.dpdata import CP_SUFFIXES, files_of, read_dpdata
from kalmandp.formats.npz import read_npz
from kalmandp.formats.programs.registry import INSTEAD, PROGRAMS, read_program, recognise
from kalmandp.formats.programs.steps import LeftOut, opened
from kalmandp.formats.told import Told
from kalmandp.formats.units import Units, in_our_units
from kalmandp.frames.dataset import Dataset
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import HDF5_SIGNATURE, reading

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
EXTXYZ_SUFFIXES = (".extxyz", ".xyz")
PACKED_SUFFIXES = (".gz", ".bz2", ".xz")

#: Beginning of a file's name -> format, for programs whose files are known by name.
KNOWN_NAMES = {
    "OUTCAR": "vasp/outcar",
    "vasprun": "vasp/xml",
    "MOVEMENT": "pwmat/movement",
    "input.data": "runner",
}

#: Formats of which the user may be asked for the elements of numbered types.
NUMBERED = ("lammps/dump", "mtp")
#: Formats that may have any unit; in the others the program says what it is.
FREE_UNITS = ("extxyz", "runner", "lammps/dump", "npz")


@dataclass
class Source:
    """One file to take frames from.

    Attributes
    ----------
    path, format : what to read, and as what
    keys : names of labels in extended XYZ, and in what ASE reads
    units : of the numbers, instead of what the file states or what is usual
    type_map : for systems that name no types
    skipped : None, or a list that takes the messages of frames that cannot be used
    left_out : takes the messages of steps that are no training data: unconverged, incomplete
    keep_unconverged : take steps whose SCF cycle did not converge
    told : what reading tells: names that are not read, names of labels, notes
    without, numbers : numbers of frames to leave out, and the counter, shared by all sources, that numbers
        frames
    alone : whether it is the only one; of several, a file that cannot be read may be skipped
    """

    path: str
    format: str
    keys: dict[str, str] | None = None
    type_map: tuple[str, ...] | None = None
    skipped: list[str] | None = None
    left_out: list[str] = field(default_factory=list)
    keep_unconverged: bool = False
    told: Told = field(default_factory=Told)
    units: Units | None = None
    without: frozenset[int] = frozenset()
    numbers: Iterator[int] = field(default_factory=count)
    alone: bool = True

    @property
    def ignored(self) -> set[str]:
        """Names of quantities in the file that are not read."""
        return self.told.ignored

    def frames(self) -> Iterator[Frame]:
        """Go through the frames that can be used."""
        makers = self.makers()
        while True:
            try:
                make = next(makers, None)
            except FileError as error:
                if self.skipped is None or self.alone:
                    raise
                self.skipped.append(f"{error} (this and the rest of this file are left out)")
                return
            if make is None:
                return
            if next(self.numbers) in self.without:
                continue
            try:
                frame = make()
            except LeftOut as error:
                self.left_out.append(str(error))
            except (InputError, FileError) as error:
                if self.skipped is None:
                    raise
                self.skipped.append(str(error))
            else:
                yield frame

    def makers(self) -> Iterator[Callable[[], Frame]]:
        """A function for each frame that makes it, or raises an InputError that concerns it alone."""
        library, _, name = self.format.partition(":")
        if self.keys and library not in ("extxyz", "ase"):
            raise InputError(
                f"keys is given, and {self.path} is read as {self.format}; expected extended XYZ, or a "
                "format that ASE reads"
            )
        if library == "extxyz":
            return read_extxyz(self.path, keys=self.keys, units=self.units, told=self.told)
        if library == "npz":
            return read_npz(self.path, self.told, self.units)
        if self.format in PROGRAMS or self.format in INSTEAD:
            if self.units is not None and self.format not in FREE_UNITS and self.format != "mtp":
                raise InputError(
                    f"units are given, and {self.path} is read as {self.format}, whose units are fixed; "
                    "expected none"
                )
            return self._in_units(
                read_program(
                    self.format, self.path, keep_unconverged=self.keep_unconverged, told=self.told,
                    units=self.units, type_map=self.type_map if self.format in NUMBERED else None,
                )
            )  # fmt: skip
        if library == "deepmd":
            return self._in_units(self._from_dataset())
        return self._in_units(self._from_library(library, name))

    def _in_units(self, makers: Iterator[Callable[[], Frame]]) -> Iterator[Callable[[], Frame]]:
        """The frames of a reader that knows nothing of units, in ours."""
        units = self.units
        if units is None or self.format in FREE_UNITS:
            return makers
        return (lambda make=make: in_our_units(make(), units) for make in makers)  # type: ignore[misc]

    def _from_library(self, library: str, name: str) -> Iterator[Callable[[], Frame]]:
        stores, files = False, None
        if library == "ase":
            makers: Iterator[Callable[[], Frame]] = read_ase(self.path, name, self.told, self.keys)
            stores = ase_format(self.path, name) in STORES
        else:
            makers = read_dpdata(self.path, name, self.told)
            stores, files = name.startswith("deepmd/"), files_of(self.path, name)
        whose = "ASE's reader" if library == "ase" else "dpdata's reader"
        return checked(
            makers, self.path, whose, self.told, stores=stores, keep=self.keep_unconverged, files=files
        )

    def _from_dataset(self) -> Iterator[Callable[[], Frame]]:
        # a data set opens files of other formats too; here the format was told, or is that of the name
        if os.path.isfile(self.path) and os.path.getsize(self.path) and not h5py.is_hdf5(self.path):
            raise FileError(f"{self.path}: is not an HDF5 file, or is damaged at its beginning")
        with Dataset(self.path, self.type_map) as dataset:
            self.ignored.update(dataset.ignored)
            yield from dataset.makers()


def guess_format(path: str) -> str:
    """The format of a file by its name, or by what is in a folder.

    Returns
    -------
    "extxyz", "deepmd" (hdf5, npy, npy/mixed), one of `PROGRAMS`, "dpdata:FORMAT", or "ase" where ASE
    may guess
    """
    if os.path.isdir(path):
        return _guess_folder(path)
    refuse_by_content(path)
    name = os.path.basename(path.rpartition("#")[0] or path)
    if name.lower().endswith(HDF5_SUFFIXES):
        return "deepmd"
    if name.lower().endswith(".npz"):
        return "npz"
    if name.lower().endswith((*EXTXYZ_SUFFIXES, *(x + z for x in EXTXYZ_SUFFIXES for z in PACKED_SUFFIXES))):
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
    names = os.listdir(path)
    if "data.mdb" in names:
        raise FileError(
            f"{path}: is a data set in LMDB, which is not read; expected its systems as deepmd/npy or HDF5 "
            "(dpdata and DeePMD-kit write them)"
        )
    if "INPUT" in names and any(name.startswith("OUT.") for name in names):
        return f"dpdata:abacus/{_abacus_calculation(os.path.join(path, 'INPUT'))}"
    if os.path.isfile(os.path.join(path, "coord.raw")) and not any(name.startswith("set.") for name in names):
        return "dpdata:deepmd/raw"
    return "deepmd"


def _abacus_calculation(path: str) -> str:
    """scf, md or relax, as ABACUS's INPUT says; scf is its default."""
    with reading(path), open(path, encoding="utf-8", errors="replace") as file:
        words = [line.split("#")[0].split() for line in file]
    kind = next((w[1].lower() for w in words if len(w) > 1 and w[0].lower() == "calculation"), "scf")
    return {"cell-relax": "relax"}.get(kind, kind) if kind in ("md", "relax", "cell-relax") else "scf"


def refuse_by_content(path: str) -> None:
    """Name files that are not read, and what to convert instead.

    Raises
    ------
    FileError
        For vaspout.h5, LMDB, packed HDF5 files, and files packed otherwise than by gzip, bzip2 and xz.
    """
    name = os.path.basename(path)
    if os.path.isfile(path) and not name.lower().endswith(".npz"):
        with reading(path), opened(path, binary=True) as file:
            packed = file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
        if packed and not h5py.is_hdf5(path):
            raise FileError(f"{path}: is a packed HDF5 file; expected it unpacked (gunzip)")
    if name.lower() == "vaspout.h5":
        raise FileError(
            f"{path}: is VASP's vaspout.h5, which is not read; expected the vasprun.xml or OUTCAR beside it"
        )
    if name.lower().endswith((".mdb", ".lmdb")):
        raise FileError(
            f"{path}: is a data set in LMDB, which is not read; expected its systems as deepmd/npy or HDF5 "
            "(dpdata and DeePMD-kit write them)"
        )


def check_format(format: str) -> str:
    """A format as the user may write it, or an InputError that lists what there is."""
    library, _, name = format.partition(":")
    if format in ("extxyz", "deepmd", "ase", "npz", *PROGRAMS) or (library in ("ase", "dpdata") and name):
        return format
    if format == "espresso/cp":
        return "dpdata:qe/cp/traj"
    if format in ("deepmd/hdf5", "deepmd/npy", "deepmd/npy/mixed", "deepmd/hdf5/mixed"):
        return "deepmd"
    raise InputError(
        f"format is {format!r}; expected 'extxyz', 'deepmd/hdf5', 'deepmd/npy', "
        f"'deepmd/npy/mixed', {', '.join(map(repr, PROGRAMS))}, 'espresso/cp', 'npz', "
        "'ase', 'ase:NAME' or 'dpdata:NAME', such as 'dpdata:gaussian/log'"
    )
