"""Checks of frames that ASE or dpdata read: their readers assume what the files do not say."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np

from kalmandp.errors import FileError, InputError
from kalmandp.formats.programs.steps import LeftOut, opened
from kalmandp.formats.told import Told
from kalmandp.frames.elements import ELEMENTS
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import reading

#: Formats of ASE's in which users store frames: they are no program's output, and have no SCF cycle.
STORES = {
    "traj", "db", "json", "bundletrajectory", "extxyz", "netcdftrajectory", "mysql", "postgresql", "xyz",
    "cfg", "lammps-data", "vasp", "cif", "espresso-in", "gen", "res", "xsf", "runnerdata", "gpumd",
}  # fmt: skip
#: What programs print where an SCF cycle ended without convergence.
UNCONVERGED = re.compile(
    r"Convergence criterion not met|Convergence failure|SCF NOT CONVERGED|SCF not converged|"
    r"SCF has not converged|not fully converged|"  # Gaussian, ORCA
    r"Calculation failed to converge|SCF failed to converge|"  # NWChem, Q-Chem
    r"has not reached the groundstate|SCF cycles performed but system|"  # CASTEP
    r"SCF_NOT_CONV|SCC is NOT converged|Did not converge|"  # SIESTA, DFTB+, GPAW
    r"Failed to converge|FAILED TO ACHIEVE|FAILED TO CONVERGE|NOT CONVERGED|"  # Psi4, MOPAC, GAMESS, CRYSTAL
    r"convergence has NOT been achieved|[Ss]elf-consistency cycle not converged|"  # ABACUS, FHI-aims
    r"scf_conv=\s*0\b"  # OpenMX
)
#: How programs announce labels in their output, to see which of them a reader does not return.
MENTIONS = {
    "forces": re.compile(
        r"Forces \(Hartrees|Cartesian Forces|CARTESIAN GRADIENT|DFT ENERGY GRADIENTS|Total atomic forces|"
        r"TOTAL-FORCE|Atomic forces|ATOMIC FORCES|siesta: Atomic forces|Total Forces|dE/dx"
    ),
    "virial": re.compile(r"TOTAL-STRESS|[Ss]tress tensor|STRESS TENSOR|siesta: Stress"),
}
#: Å, below which two geometries are the same; eV, above which two energies differ.
SAME_PLACE, OTHER_ENERGY = 1e-6, 1e-6


def checked(
    makers: Iterator[Callable[[], Frame]], path: str, whose: str, told: Told, *, stores: bool, keep: bool,
    files: Iterable[str] | None = None,
) -> Iterator[Callable[[], Frame]]:  # fmt: skip
    """Pass on frames that another reader made, each checked.

    Parameters
    ----------
    makers : a function for each frame
    path : the file or folder
    whose : the reader, for messages
    told : takes notes
    stores : whether the format stores frames, rather than what a program prints
    keep : take the frames of a file that reports cycles without convergence
    files : what the frames are read from, where ``path`` is no file but what their names begin with

    Raises
    ------
    FileError
        If cells vanish within the file, or a geometry comes twice with other labels.
    InputError
        By the functions: elements that the file does not name.
    LeftOut
        By the functions: cycles that did not converge.
    """
    text = "" if stores else "".join(map(_text, [path] if files is None else files))
    bad = UNCONVERGED.search(text) if text and not keep else None
    seen = _Seen(path, whose)
    for number, make in enumerate(makers):

        def look(make=make, number=number) -> Frame:
            if bad is not None:
                raise LeftOut(
                    f"{path} frame {number}: the file says {bad[0]!r}, and {whose} does not tell for which "
                    "frame: all are left out (--keep-unconverged takes them)"
                )
            frame = make()
            _named_elements(frame, whose, path)
            frame = _without_zero_energy(frame, told, whose)
            if not stores:
                if not keep and (frame.energy is not None or frame.forces is not None):
                    told.note(f"whether every SCF cycle converged is not known: {whose} does not say")
                seen.compare(frame, number)
                _mentioned(frame, text, told, whose)
            return frame

        yield look


class _Seen:
    """Periodicity, geometries and energies of the frames so far."""

    def __init__(self, path: str, whose: str):
        self.path, self.whose = path, whose
        self.periodic: bool | None = None
        self.first: dict[bytes, tuple[int, float | None]] = {}

    def compare(self, frame: Frame, number: int) -> None:
        periodic = any(frame.pbc)
        if self.periodic is not None and periodic != self.periodic:
            raise FileError(
                f"{self.path} frame {number}: has {'a' if periodic else 'no'} cell, and frames before have "
                f"{'none' if periodic else 'one'}, as {self.whose} reads them; expected the same of all"
            )
        self.periodic = periodic
        key = np.round(frame.positions / SAME_PLACE).tobytes()
        key += b"" if frame.cell is None else np.round(frame.cell / SAME_PLACE).tobytes()
        first, energy = self.first.setdefault(key, (number, frame.energy))
        if energy is not None and frame.energy is not None and abs(energy - frame.energy) > OTHER_ENERGY:
            raise FileError(
                f"{self.path} frame {number}: {self.whose} gives it the same positions as frame {first}, "
                "with another energy; expected the positions to which the energy belongs (another --format?)"
            )


def _named_elements(frame: Frame, whose: str, path: str) -> None:
    """Refuse types 1, 2, 3 that were read as atomic numbers."""
    names = sorted(set(frame.symbols), key=lambda s: ELEMENTS.index(s) if s in ELEMENTS else 999)
    if len(names) > 1 and names == ELEMENTS[1 : 1 + len(names)]:
        raise InputError(
            f"{frame.source}: its elements are {', '.join(names)}, which {whose} makes of types numbered 1 "
            f"to {len(names)}; expected names of elements in the file (another --format, or another file)"
        )


def _without_zero_energy(frame: Frame, told: Told, whose: str) -> Frame:
    """An energy of exactly 0 is what a reader puts where a file has none."""
    if frame.energy != 0.0:
        return frame
    told.note(f"energies of exactly 0 are not taken: {whose} writes 0 where a file has no energy")
    told.ignored.add("energy (exactly 0)")
    return Frame(
        frame.positions, frame.types, frame.type_map, frame.cell, frame.pbc, None, frame.forces, frame.virial,
        frame.atomic_energies, frame.source,
    )  # fmt: skip


def _mentioned(frame: Frame, text: str, told: Told, whose: str) -> None:
    for label, pattern in MENTIONS.items():
        if getattr(frame, label) is None and pattern.search(text):
            told.note(
                f"the file mentions {label if label == 'forces' else 'a stress'}, and {whose} returns none"
            )


def _text(path: str) -> str:
    """What a file prints (its first 64 MiB), for marks; empty for folders and binary files."""
    if not os.path.isfile(path):
        return ""
    with reading(path), opened(path) as file:
        head = file.read(4096)
        if "\0" in head:
            return ""
        return head + "".join(islice(iter(lambda: file.read(1 << 20), ""), 64))
