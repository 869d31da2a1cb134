"""Extended XYZ, read and written frame by frame.

ASE's reader would do for most files, but its writer keeps 8 decimals, its errors name no frame, and
a data set in the most common format should open without optional packages.

A frame is a line with the number of atoms, a line of ``key=value`` pairs and a line per atom::

    2
    Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 energy=-3.1 pbc="T T F"
    O 0.0 0.0 0.0   0.1 0.0 0.0
    H 0.0 0.0 0.96 -0.1 0.0 0.0

Å, eV, eV/Å. ``virial`` (9 numbers) is W = −dE/dε in eV; ``stress`` (9 numbers, or 6 in Voigt's
order; eV/Å³, positive under tension as in ASE) is read as W = −σV. Both are symmetric; the numbers
are taken column by column, as the format has it for all matrices.

Source: https://github.com/libAtoms/extxyz (specification), https://ase-lib.org (``ase.io.extxyz``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np

from kalmandp.errors import FileError, InputError
from kalmandp.files.replacing import naming, replacing
from kalmandp.frames.elements import ELEMENTS
from kalmandp.frames.frame import Frame, full_stress, stress_volume
from kalmandp.frames.hdf5.storage import path_text, reading

#: Quantity -> names it goes by, the first that is there is taken.
NAMES = {
    "energy": ("free_energy", "energy"),
    "forces": ("forces", "force"),
    "virial": ("virial",),
    "stress": ("stress",),
    "atomic_energies": ("energies", "atomic_energies"),
}
#: What is read beside labels.
STRUCTURE = {"Lattice", "Properties", "pbc", "species", "pos", "Z"}

# a key, then perhaps "=" and a value: in quotes, in brackets, or a word
_PAIR = re.compile(
    r"""\s*(?P<key>"(?:\\.|[^"\\])*"|[^\s="]+)"""
    r"""(?:\s*=\s*(?:"(?P<quoted>(?:\\.|[^"\\])*)"|'(?P<single>[^']*)'"""
    r"""|\{(?P<braces>[^{}]*)\}|\[(?P<brackets>[^\[\]]*)\]|(?P<word>\S+)))?"""
)


class Column(NamedTuple):
    """A property of the atoms: its type (S, R, I, L) and its columns."""

    kind: str
    first: int
    width: int


def read_extxyz(path, *, keys=None, ignored: set[str] | None = None) -> Iterator[Callable[[], Frame]]:
    """Go through the frames of an extended XYZ file.

    A frame is handed out as a function that makes it, so that the caller may go on after one whose
    numbers cannot be used: ``for make in read_extxyz(path): frame = make()``.

    Parameters
    ----------
    path : the file
    keys : dict from energy, forces, virial, stress, atomic_energies to the name in the file, such
        as ``{"energy": "REF_energy"}``, for files with names of their own
    ignored : a set, to which names that are not read are added

    Yields
    ------
    function without arguments -> Frame, whose type_map are its species in order of appearance

    Raises
    ------
    FileError
        If the file cannot be read or a frame is malformed; the message names file, frame and line.
    InputError
        If numbers cannot be used, e.g. a label that is not finite.
    """
    path = path_text(path)
    names = _label_names(keys)
    ignored = set() if ignored is None else ignored
    with reading(path):
        file = open(path, encoding="utf-8-sig", errors="replace")
    with file:
        lines = _Lines(path, file)
        for number in range(_FOREVER):
            count = lines.next_count(number)
            if count is None:
                if not number:
                    raise FileError(f"{path}: holds no frames; expected at least one")
                return
            with reading(f"{path} frame {number}"):
                comment = lines.take(1, number)[0]
                atoms = lines.take(count, number)
            yield partial(_frame, f"{path} frame {number}", comment, atoms, names, ignored)


def write_extxyz(path, frames: Iterable[Frame], *, overwrite: bool = True) -> int:
    """Write frames to an extended XYZ file; numbers keep all their digits.

    The file is written beside and renamed. Returns the number of frames.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    path = path_text(path)
    count = 0
    with replacing(path, overwrite=overwrite) as beside:
        with naming(path):
            file = open(beside, "w", encoding="utf-8")
        try:
            for frame in frames:
                text = _text(frame)
                with naming(path):
                    file.write(text)
                count += 1
            with naming(path):
                file.close()
        finally:
            with contextlib.suppress(OSError):  # a full disk, a second time
                file.close()
        if not count:
            raise InputError("there are no frames to write; expected at least one")
    return count


_FOREVER = 1 << 62


class _Lines:
    """The lines of a file, with their numbers for messages."""

    def __init__(self, path: str, file):
        self.path, self.file, self.number = path, file, 0

    def next_count(self, frame: int) -> int | None:
        """The number of atoms of the next frame; None at the end of the file."""
        for line in self.file:
            self.number += 1
            text = line.strip()
            if text:
                if not text.isascii() or not text.isdigit():
                    raise FileError(
                        f"{self.path} line {self.number}: frame {frame} begins with {text[:40]!r}; "
                        "expected the number of atoms"
                    )
                return int(text[:18])
        return None

    def take(self, count: int, frame: int) -> list[str]:
        lines = list(islice(self.file, count))
        self.number += len(lines)
        if len(lines) < count:
            raise FileError(
                f"{self.path}: ends within frame {frame}, after line {self.number}; expected "
                f"{count - len(lines)} more"
            )
        return lines


def _label_names(keys) -> dict[str, tuple[str, ...]]:
    unknown = set(keys or {}) - set(NAMES)
    if unknown:
        raise InputError(f"keys names {sorted(unknown)}; expected some of {list(NAMES)}")
    return NAMES | {label: (str(name),) for label, name in (keys or {}).items()}


def _frame(source: str, comment: str, atoms: list[str], names, ignored: set[str]) -> Frame:
    info = _pairs(source, comment)
    columns = _columns(source, info.get("Properties", "species:S:1:pos:R:3"))
    table = [line.split() for line in atoms]
    width = max(column.first + column.width for column in columns.values())
    for n, row in enumerate(table):
        if len(row) < width or (len(row) > width and "Properties" in info):
            raise FileError(f"{source}: atom {n} has {len(row)} columns; expected {width}")

    labels = {label: _found(info, columns, known) for label, known in names.items()}
    ignored |= (set(info) | set(columns)) - STRUCTURE - set(labels.values())

    def per_frame(label: str):
        name = labels[label]
        return None if name not in info else _numbers(source, name, info[name].split())

    def per_atom(label: str):
        return None if labels[label] not in columns else _cut(source, table, columns, labels[label])

    cell, pbc = _cell(source, info)
    symbols = _symbols(source, table, columns)
    type_map = tuple(dict.fromkeys(symbols))
    number = {name: t for t, name in enumerate(type_map)}
    energy, energies = per_frame("energy"), per_atom("atomic_energies")
    return Frame(
        positions=_cut(source, table, columns, "pos").reshape(-1, 3),
        types=np.array([number[s] for s in symbols], dtype=np.int32),
        type_map=type_map,
        cell=cell,
        pbc=pbc,
        energy=energy.reshape(()) if energy is not None and energy.size == 1 else energy,
        forces=per_atom("forces"),
        virial=_virial(source, per_frame("virial"), per_frame("stress"), cell, pbc),
        atomic_energies=None if energies is None else energies[:, 0],
        source=source,
    )


def _pairs(source: str, comment: str) -> dict[str, str]:
    """The ``key=value`` pairs; a key without a value is true, ``T``."""
    pairs: dict[str, str] = {}
    position, text = 0, comment.strip()
    while position < len(text):
        found = _PAIR.match(text, position)
        if found is None and "Properties" not in text:
            break  # the comment of a plain XYZ file may be anything
        if found is None:
            raise FileError(f"{source}: cannot make out {text[position : position + 40]!r}")
        values = [v for name, v in found.groupdict().items() if name != "key" and v is not None]
        pairs[found["key"].strip('"')] = values[0] if values else "T"
        position = found.end()
    return pairs


def _columns(source: str, text: str) -> dict[str, Column]:
    fields = text.split(":")
    columns: dict[str, Column] = {}
    first = 0
    for name, kind, count in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if kind not in ("S", "R", "I", "L") or not count.isdecimal() or not 0 < int(count[:7]) < 10**6:
            columns = {}
            break
        columns[name] = Column(kind, first, int(count))
        first += int(count)
    pos = columns.get("pos")
    if len(fields) % 3 or pos is None or pos.width != 3 or not columns.keys() & {"species", "Z"}:
        raise FileError(f"{source}: Properties is {text[:80]!r}; expected species:S:1:pos:R:3 and more")
    return columns


def _found(info, columns, known) -> str:
    """The first of the names that is there, or the first of all."""
    return next((name for name in known if name in info or name in columns), known[0])


def _numbers(source: str, name: str, words: list[str]) -> np.ndarray:
    try:
        return np.array([word.rstrip(",") for word in words], dtype=np.float64)
    except ValueError:
        raise FileError(f"{source}: {name} is {' '.join(words)[:60]!r}; expected numbers") from None


def _cut(source: str, table, columns: dict[str, Column], name: str) -> np.ndarray:
    """The columns of one property, (n_atoms, count)."""
    kind, first, count = columns[name]
    words = [row[first : first + count] for row in table]
    try:
        if kind not in "RI":
            raise ValueError
        return np.array(words, dtype=np.float64).reshape(len(table), count)
    except ValueError:
        raise FileError(f"{source}: the columns {name} are not all numbers") from None


def _symbols(source: str, table, columns: dict[str, Column]) -> list[str]:
    if "species" in columns:
        return [row[columns["species"].first] for row in table]
    numbers = _cut(source, table, columns, "Z")[:, 0]
    if not ((numbers >= 0) & (numbers < len(ELEMENTS))).all():
        raise InputError(f"{source}: Z goes up to {numbers.max():g}; expected atomic numbers")
    return [ELEMENTS[int(z)] for z in numbers]


def _cell(source: str, info: dict[str, str]):
    """Lattice vectors as rows, or None; and along which of them it is periodic."""
    cell = None
    if "Lattice" in info:
        cell = _numbers(source, "Lattice", info["Lattice"].split())
        if cell.size != 9:
            raise FileError(f"{source}: Lattice has {cell.size} numbers; expected 9")
        cell = cell.reshape(3, 3)  # column-major in the vectors as columns: vectors as rows
    words = info.get("pbc", "T T T").replace(",", " ").split()
    known = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}
    pbc = [known.get(word.lower()) for word in words]
    if None in pbc or len(pbc) not in (1, 3):
        raise FileError(f"{source}: pbc is {info['pbc'][:40]!r}; expected three of T and F")
    return cell, tuple(pbc if len(pbc) == 3 else pbc * 3)


def _virial(source: str, virial, stress, cell, pbc):
    if virial is not None:
        return virial.reshape(3, 3).T if virial.size == 9 else virial
    if stress is None or cell is None or not any(pbc):
        return None
    return -full_stress(stress, source).T * stress_volume(cell, source)


def _text(frame: Frame) -> str:
    """One frame of the file."""
    join = lambda values: " ".join(repr(float(v)) for v in np.ravel(values))
    properties, columns = "species:S:1:pos:R:3", [frame.positions]
    if frame.forces is not None:
        properties, columns = properties + ":forces:R:3", [*columns, frame.forces]
    if frame.atomic_energies is not None:
        properties += ":energies:R:1"
        columns = [*columns, frame.atomic_energies[:, None]]
    info = [f"Properties={properties}"]
    if frame.cell is not None:
        info.insert(0, f'Lattice="{join(frame.cell)}"')
    if frame.energy is not None:
        info.append(f"energy={frame.energy!r}")
    if frame.virial is not None:
        info.append(f'virial="{join(frame.virial.T)}"')
    info.append(f'pbc="{" ".join("T" if p else "F" for p in frame.pbc)}"')
    rows = np.hstack(columns).tolist()
    atoms = [" ".join([symbol, *map(repr, row)]) for symbol, row in zip(frame.symbols, rows, strict=True)]
    return "\n".join([str(len(frame)), " ".join(info), *atoms, ""])
