"""RuNNer's and n2p2's ``input.data``, read and written.

A frame stands between ``begin`` and ``end``; a frame without ``lattice`` is an open system. The format
has no units of its own: most files are in bohr, hartree and hartree/bohr, some in Å and eV. A line
``comment units: bohr hartree`` states them; else they follow from the distances in the first frames, with a
note::

    begin                             or  begin set=train, which n2p2 draws anew
    comment …
    lattice  ax ay az                 three lines, or none
    atom  x y z  element  charge  atom-energy  fx fy fz
    energy  E
    charge  Q
    end

ASE and dpdata read this format too; dpdata refuses files of mixed compositions, calls open systems
periodic and writes six decimals, and both take bohr for granted, so this small reader and writer are
ours. Charges are left out and reported. Numbers are converted by CODATA 2018 constants: a round trip
changes the sixteenth digit.

Source: https://compphysvienna.github.io/n2p2/topics/cfg_file.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from kalmandp.errors import FileError, InputError
from kalmandp.files.replacing import naming, replacing
from kalmandp.formats.distances import FRAMES, closest, length_unit
from kalmandp.formats.programs.steps import TRUNCATED, EndOfFile, Lines, Step, opened
from kalmandp.formats.units import BOHR, HARTREE, Units, given_units, words_of
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import path_text, reading

WHAT = "an input.data of RuNNer or n2p2"

FORCE = HARTREE / BOHR
_STATED = re.compile(r"\bunits?\s*[:=]\s*(.+)", re.IGNORECASE)


@dataclass
class RawStep(Step):
    """A frame in the units of the file, with its comments."""

    comments: list[str] = field(default_factory=list)


def read_runner(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the frames of an input.data; see `programs.steps.frames_in`.

    The format has a force for every atom. Where they are 0 for all atoms of the first frames, they stand for
    forces that nobody knows, and frames with such forces are given out without.
    """
    steps = _raw(lines, ignored)
    first = list(islice(steps, FRAMES))
    whole = any(step.problem is None for step in first)  # else there is nothing whose unit counts
    units = _units(lines, first) if whole else Units(1.0, 1.0)
    known = not whole or any(np.any(step.forces) for step in first if step.problem is None)
    if not known:
        lines.told.note("forces are 0 for all atoms; taken as not known")
    for step in chain(first, steps):
        if not known and step.problem is None and not np.any(step.forces):
            step.forces = None
        yield _scaled(step, units.whole)


class Seen(NamedTuple):
    """What the first frames of an input.data say.

    units : "atomic" (bohr, hartree), "metal" (Å, eV) or other units in words, as `read_runner` takes it
    usual, closest : in Å, the median distance of neighbours over a bond's length (NaN without any), and the
        shortest distance
    elements : names of the atoms
    forces : whether one of them is not 0 (`read_runner`)
    """

    units: str
    usual: float
    closest: float
    elements: tuple[str, ...]
    forces: bool


def unit_name(path) -> Seen:
    """In which units an input.data is, by its comments or by its distances.

    Parameters
    ----------
    path : of an input.data

    Raises
    ------
    FileError, InputError
        If it cannot be read, holds no whole structure, or nothing says what its units are.
    """
    path = path_text(path)
    with reading(path):
        file = opened(path)
    with file:
        lines = Lines(path, file)
        first = list(islice(_raw(lines, set()), FRAMES))
    if not any(step.problem is None for step in first):
        seen = "ends before its first structure is complete" if first else "holds no structure"
        raise FileError(f"{path}: {seen}; expected lines from 'begin' to 'end'")
    units = _units(lines, first)
    whole = [step for step in first if step.problem is None]
    forces = any(np.any(step.forces) for step in whole)
    scaled = [_scaled(step, units.whole) for step in whole]
    frames = [frame for step in scaled if (frame := _bare(step)) is not None]
    length, energy = units.whole.length, units.whole.energy
    named = {(BOHR, HARTREE): "atomic", (1.0, 1.0): "metal"}
    name = named.get((length, energy), f"units of {length:g} Å and {energy:g} eV")  # type: ignore[arg-type]
    names = dict.fromkeys(name for step in scaled for name in step.symbols)
    return Seen(name, length_unit(frames)[1], closest(frames), tuple(names), forces)


def _raw(lines: Lines, ignored: set[str]) -> Iterator[RawStep]:
    """The frames in the units of the file."""
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words[0].lower() != "begin":
            raise FileError(f"{lines.path} line {lines.number}: is {line.strip()[:40]!r}; expected 'begin'")
        sets = [word for word in words[1:] if word.startswith("set=")]
        ignored.update(sets)
        if len(words) > 1 + len(sets):
            raise FileError(
                f"{lines.path} line {lines.number}: names columns of its own ({' '.join(words[1:])[:60]}); "
                "expected 'begin' alone, or  --format ase:runnerdata"
            )
        try:
            step = _frame(lines, ignored)
        except EndOfFile:
            yield RawStep(problem=TRUNCATED)
            return
        except ValueError as error:
            told = f"{lines.path} line {lines.number}: is {lines.last.strip()[:60]!r}"
            raise FileError(f"{told}, which is not what {WHAT} holds there ({error})") from None
        yield step


def _units(lines: Lines, first: list[RawStep]) -> Units:
    """The units given, or stated in a comment, or those that the distances of the first frames point to."""
    if lines.units is not None:
        return lines.units
    for step in first:
        for text in step.comments:
            if (found := _STATED.search(text)) and (meant := words_of(found[1])):
                lines.told.note(f"units as the comment states them: {found[1].strip()}")
                return given_units(meant)
    frames = [frame for step in first if (frame := _bare(step)) is not None]
    unit, usual = length_unit(frames)
    if unit is None:
        seen = "no distances tell" if np.isnan(usual) else f"neighbours are {usual:.2f} bond lengths apart"
        raise InputError(
            f"{lines.path}: its units are not stated and {seen} whether they are bohr or Å; expected a line "
            "'comment units: bohr hartree' or 'comment units: angstrom eV' in its first structure; or of "
            "`kalmandp convert`  --unit length=bohr --unit energy=hartree  or  --unit length=angstrom "
            "--unit energy=eV"
        )
    names = ("bohr and hartree", 1 / BOHR) if unit == BOHR else ("Å and eV", 1.0)
    lines.told.note(
        f"units are not stated; taken as {names[0]}, in which neighbours are {usual * unit:.2f} bond lengths "
        "apart  (--unit length=… --unit energy=…  for others)"
    )
    return Units(BOHR, HARTREE) if unit == BOHR else Units(1.0, 1.0)


def _bare(step: Step) -> Frame | None:
    """The atoms of a step whose numbers have any unit, or None if they cannot be used."""
    names = tuple(dict.fromkeys(step.symbols))
    types = [names.index(symbol) for symbol in step.symbols]
    try:
        return Frame(step.positions, np.array(types), names, cell=step.cell, pbc=step.pbc) if types else None
    except InputError:
        return None


def _scaled(step: Step, units: Units) -> Step:
    assert units.length and units.energy and units.force
    if step.problem is None:
        step.positions = step.positions * units.length
        step.forces = None if step.forces is None else step.forces * units.force
        step.cell = None if step.cell is None else step.cell * units.length
        step.energy = None if step.energy is None else step.energy * units.energy
    return step


def _frame(lines: Lines, ignored: set[str]) -> RawStep:
    rows, cell = [], []
    step = RawStep(pbc=(False, False, False))
    while True:
        line = next(lines, None)
        if line is None:
            if lines.tail.strip().lower() == "end":
                break
            raise EndOfFile
        words = line.split()
        key = words[0].lower() if words else "comment"
        if key == "end":
            break
        if key == "atom":
            if len(words) != 10:
                raise ValueError(f"expected an atom with 9 numbers and names, got {len(words) - 1}")
            step.symbols.append(words[4])
            rows.append([float(word) for word in (*words[1:4], *words[5:10])])
        elif key == "lattice":
            cell.append([float(word) for word in words[1:4]])
        elif key == "energy":
            step.energy = float(words[1])
        elif key == "charge":
            _name(ignored, "charge", float(words[1]))
        elif key == "comment":
            step.comments.append(line)
        else:
            raise ValueError("expected lattice, atom, energy, charge, comment or end")
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    _name(ignored, "atomic charges", table[:, 3])
    _name(ignored, "atom energies", table[:, 4])
    step.positions, step.forces = table[:, :3], table[:, 5:]
    if cell:
        step.cell, step.pbc = np.array(cell), (True, True, True)
    return step


def _name(ignored: set[str], name: str, values) -> None:
    if np.any(values):
        ignored.add(name)


def write_runner(path, frames: Iterable[Frame], *, overwrite: bool = True) -> int:
    """Write frames to an input.data; numbers keep all their digits. Returns the number of frames.

    Where no frame has forces, they are 0, as RuNNer has it.

    Raises
    ------
    InputError
        If a frame has no energy, or no forces where others have them, or is periodic along some of its
        vectors only: the format cannot say that.
    FileError
        If the file cannot be written.
    """
    path = path_text(path)
    count, with_forces = 0, None
    with replacing(path, overwrite=overwrite) as beside, naming(path):
        with open(beside, "w", encoding="utf-8") as file:
            for frame in frames:
                with_forces = frame.forces is not None if with_forces is None else with_forces
                file.write(_text(frame, with_forces))
                count += 1
        if not count:
            raise InputError("there are no frames to write; expected at least one")
    return count


def _text(frame: Frame, with_forces: bool) -> str:
    if frame.energy is None:
        raise InputError(f"{frame.source}: has no energy; input.data needs one")
    if (frame.forces is not None) != with_forces:
        has = "has no forces, and others have them" if with_forces else "has forces, and others have none"
        raise InputError(f"{frame.source}: {has}; input.data has them of all frames or of none")
    if any(frame.pbc) != all(frame.pbc):
        raise InputError(f"{frame.source}: pbc is {frame.pbc}; expected all or none for input.data")
    join = lambda values: " ".join(repr(float(v)) for v in values)
    text = ["begin", "comment units: bohr hartree"]
    if frame.cell is not None:
        text += [f"lattice {join(row)}" for row in frame.cell / BOHR]
    positions = frame.positions / BOHR
    forces = np.zeros_like(positions) if frame.forces is None else frame.forces / FORCE
    for symbol, r, f in zip(frame.symbols, positions, forces, strict=True):
        text.append(f"atom {join(r)} {symbol} 0.0 0.0 {join(f)}")
    return "\n".join([*text, f"energy {frame.energy / HARTREE!r}", "charge 0.0", "end", ""])
