"""What a reader of a program's output hands out, and how it becomes frames or a clear error."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from kalmandp.errors import FileError, InputError, KalmanDPError
from kalmandp.formats.told import Told
from kalmandp.formats.units import GIGAPASCAL, KILOBAR, Units
from kalmandp.frames.elements import NUMBER
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import path_text, reading

UNCONVERGED = "its SCF cycle did not converge"
NOT_SAID = "the file does not say whether its SCF cycle converged (--keep-unconverged takes it)"
TRUNCATED = "the file ends before this step is complete"

#: eV/Å³: a pressure is printed with two decimals of a kB, or fewer digits than the stress.
PRESSURE_ROUNDING = 0.02 * KILOBAR

#: What the readers of compressed files raise for damage, beside OSError.
DAMAGED = (EOFError, zlib.error, lzma.LZMAError)

#: First bytes of a file -> how it is opened.
OPENERS: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
#: First bytes of packed files that are not unpacked here.
PACKED = {b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "a zip archive", b"7z\xbc\xaf": "a 7z archive"}


class LeftOut(InputError):
    """A step that is no training data, unconverged or incomplete: left out and reported, never fatal."""


class EndOfFile(Exception):
    """The file ended where more of a step was to come."""


@dataclass
class Step:
    """One ionic step, as a reader finds it.

    Attributes
    ----------
    symbols, positions, cell, energy, forces, virial : as in a Frame: Å, eV, eV/Å, W = −dE/dε
    converged : False if the program says that the SCF cycle ended without convergence; None if a file
        in which that is expected says neither
    problem : why the step cannot be used, or None
    pressure : that the file prints beside the stress, eV/Å³; tr W/3V must agree with it
    pbc : along which lattice vectors it is periodic
    """

    symbols: list[str] = field(default_factory=list)
    positions: Any = None
    cell: Any = None
    energy: float | None = None
    forces: Any = None
    virial: Any = None
    converged: bool | None = True
    problem: str | None = None
    pressure: float | None = None
    pbc: tuple[bool, bool, bool] = (True, True, True)


class Lines:
    """The lines of a text file, one after the other, with the number of the last for messages.

    A last line without its end is kept in ``tail`` and not handed out: in the output of a program that
    was killed it is a part of a line, and half a number reads like a number.

    ``told`` collects notes for the user; ``units`` and ``type_map`` are what the user gives, or None.
    """

    def __init__(
        self, path: str, file, told: Told | None = None, units: Units | None = None,
        type_map: tuple[str, ...] | None = None,
    ):  # fmt: skip
        self.path, self.file, self.number, self.last, self.tail = path, file, 0, "", ""
        self.told = Told() if told is None else told
        self.units, self.type_map = units, type_map
        self._labels: dict[str, set[str]] = {}

    def element(self, label: str, kind: str | None = None) -> str:
        """`element` of an atom's label; that several labels (or kinds) become one element is noted."""
        symbol = element(label)
        labels = self._labels.setdefault(symbol, set())
        labels.add(label if kind is None else f"{label} (kind {kind})")
        if len(labels) > 1:
            for text in [t for t in self.told.notes if t.startswith(f"{symbol} is one type")]:
                del self.told.notes[text]
            self.told.note(f"{symbol} is one type here; the file tells apart {', '.join(sorted(labels))}")
        return symbol

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.file)
        if not line.endswith("\n"):
            self.tail = line
            raise StopIteration
        self.number += 1
        self.last = line
        return line

    def skip(self, count: int) -> None:
        """Pass over lines."""
        for _ in range(count):
            self.take()

    def take(self) -> str:
        """The next line; `EndOfFile` if there is none."""
        line = next(self, None)
        if line is None:
            raise EndOfFile
        return line

    def table(self, rows: int, first: int, columns: int) -> np.ndarray:
        """(rows, columns) numbers of the next lines, from the word ``first`` on."""
        words = [self.take().split()[first : first + columns] for _ in range(rows)]
        if any(len(row) != columns for row in words):
            raise ValueError(f"expected {columns} numbers")
        # ABINIT and CP2K write stars, Fortran's sign for a number too wide, or 1.0D-3
        return np.array([[w.replace("D", "E") for w in row] for row in words], dtype=np.float64)


Reader = Callable[[Lines, set[str]], Iterator[Step]]


def frames_in(
    path,
    read: Reader,
    what: str,
    *,
    keep_unconverged: bool = False,
    ignored: set[str] | None = None,
    told: Told | None = None,
    units: Units | None = None,
    type_map: tuple[str, ...] | None = None,
) -> Iterator[Callable[[], Frame]]:
    """Go through the steps of a text file; each is handed out as a function that makes its frame.

    Parameters
    ----------
    path : the file
    read : takes the lines and a set for names of what is not taken over, yields steps
    what : what the file is to be, for messages: "an OUTCAR of VASP"
    keep_unconverged : make frames of unconverged steps too
    told, units, type_map : for `Lines`

    Raises
    ------
    FileError
        If the file holds no step or makes no sense; the message names file and line.
    LeftOut, InputError
        By the functions handed out: unconverged or incomplete steps, numbers that cannot be used.
    """
    path = path_text(path)
    told = Told(ignored) if told is None else told
    with reading(path):
        file = opened(path)
    with file:
        lines = Lines(path, file, told, units, type_map)
        steps = read(lines, told.ignored)
        yield from step_makers(path, steps, what, keep_unconverged, lambda: _place(lines))


def step_makers(path: str, steps: Iterator[Step], what: str, keep: bool, place: Callable[[], str]):
    """`frames_in` for steps that come from elsewhere; ``place`` says where the reader stands."""
    number = 0
    while True:
        try:
            step = next(steps, None)
        except EndOfFile:
            step = Step(problem=TRUNCATED)
        except KalmanDPError:
            raise
        except (ValueError, LookupError, OSError, *DAMAGED) as error:
            raise FileError(f"{place()}: is not what {what} holds there ({error})") from None
        if step is None:
            break
        yield partial(_frame, step, f"{path} frame {number}", keep)
        number += 1
        if step.problem == TRUNCATED:
            break
    if not number:
        raise FileError(f"{path}: holds no ionic step; expected {what}")


def opened(path: str, binary: bool = False):
    """A file to read, unpacked on the way; its first bytes tell how, whatever its name is.

    Text is UTF-8, or UTF-16 if it begins with that byte order mark; all line ends become ``\\n``.
    """
    head = b""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            head = file.read(8)
    for mark, what in PACKED.items():
        if head.startswith(mark):
            raise FileError(f"{path}: is {what}; expected it unpacked, or packed by gzip, bzip2 or xz")
    opener = next((opener for mark, opener in OPENERS.items() if head.startswith(mark)), open)
    if binary:
        return opener(path, "rb")
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return opener(path, "rt", encoding=encoding, errors="replace")


def _place(lines: Lines) -> str:
    return f"{lines.path} line {lines.number}: {lines.last.strip()[:60]!r}"


def _frame(step: Step, source: str, keep_unconverged: bool) -> Frame:
    if step.problem is None and not step.converged and not keep_unconverged:
        raise LeftOut(f"{source}: {NOT_SAID if step.converged is None else UNCONVERGED}")
    if step.problem is not None:
        raise LeftOut(f"{source}: {step.problem}")
    type_map = tuple(dict.fromkeys(step.symbols))
    number = {name: t for t, name in enumerate(type_map)}
    frame = Frame(
        positions=step.positions,
        types=np.array([number[s] for s in step.symbols], dtype=np.int32),
        type_map=type_map,
        cell=step.cell,
        pbc=step.pbc,
        energy=step.energy,
        forces=step.forces,
        virial=step.virial,
        source=source,
    )
    if step.pressure is not None and frame.virial is not None:
        _check_pressure(step.pressure, frame)
    return frame


def _check_pressure(printed: float, frame: Frame) -> None:
    """P = tr W / 3V: the file's own line says whether sign and unit of its stress are as we take them."""
    assert frame.virial is not None
    found = float(np.trace(frame.virial)) / (3.0 * frame.volume)
    if not abs(found - printed) <= PRESSURE_ROUNDING + 2e-3 * abs(printed):
        raise LeftOut(
            f"{frame.source}: its stress gives a pressure of {found / GIGAPASCAL:.4g} GPa, and the file "
            f"prints {printed / GIGAPASCAL:.4g} GPa; expected the same"
        )


def volume(cell) -> float:
    """|det| of the lattice vectors, Å³."""
    return float(abs(np.linalg.det(cell)))


def element(label: str) -> str:
    """The element of an atom's label: ``Fe``, ``Fe2``, ``fe_pv``, ``O-w``, ``H1`` → Fe, …, O, H.

    Raises
    ------
    ValueError
        If the label does not begin with the symbol of an element.
    """
    letters = "".join(c for c in label[:2] if c.isalpha()) if label[:1].isalpha() else ""
    for symbol in (letters[:2].capitalize(), letters[:1].upper()):
        if symbol in NUMBER:
            return symbol
    raise ValueError(f"the atom {label[:20]!r} is named after no element; expected one such as Si or Fe1")


def beside(path: str, name: str) -> str:
    """A file in the folder of ``path``."""
    return os.path.join(os.path.dirname(path), name)
