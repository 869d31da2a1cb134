"""RuNNer's and n2p2's ``input.data``, read and written.

A frame stands between ``begin`` and ``end``, in bohr, hartree and hartree/bohr; a frame without
``lattice`` is an open system::

    begin
    comment …
    lattice  ax ay az                 three lines, or none
    atom  x y z  element  charge  atom-energy  fx fy fz
    energy  E
    charge  Q
    end

ASE and dpdata read this format too; dpdata refuses files of mixed compositions, calls open systems
periodic and writes six decimals, so this small reader and writer are ours. Charges are left out and
named. Numbers are converted by CODATA 2018 constants: a round trip changes the sixteenth digit.

Source: https://compphysvienna.github.io/n2p2/topics/cfg_file.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from kalmandp.errors import FileError, InputError
from kalmandp.files.replacing import naming, replacing
from kalmandp.formats.programs.constants import BOHR, HARTREE
from kalmandp.formats.programs.steps import EndOfFile, Lines, Step
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import path_text

WHAT = "an input.data of RuNNer or n2p2"

FORCE = HARTREE / BOHR


def read_runner(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the frames of an input.data; see `programs.steps.frames_in`."""
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words[0].lower() != "begin":
            raise FileError(f"{lines.path} line {lines.number}: is {line.strip()[:40]!r}; expected 'begin'")
        if len(words) > 1:
            raise FileError(
                f"{lines.path} line {lines.number}: names columns of its own ({' '.join(words[1:])[:60]}); "
                "expected 'begin' alone, or  --format ase:runnerdata"
            )
        yield _frame(lines, ignored)


def _frame(lines: Lines, ignored: set[str]) -> Step:
    rows, cell = [], []
    step = Step(pbc=(False, False, False))
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
            step.energy = float(words[1]) * HARTREE
        elif key == "charge":
            _name(ignored, "charge", float(words[1]))
        elif key != "comment":
            raise ValueError("expected lattice, atom, energy, charge, comment or end")
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    _name(ignored, "atomic charges", table[:, 3])
    _name(ignored, "atom energies", table[:, 4])
    step.positions, step.forces = table[:, :3] * BOHR, table[:, 5:] * FORCE
    if cell:
        step.cell, step.pbc = np.array(cell) * BOHR, (True, True, True)
    return step


def _name(ignored: set[str], name: str, values) -> None:
    if np.any(values):
        ignored.add(name)


def write_runner(path, frames: Iterable[Frame], *, overwrite: bool = True) -> int:
    """Write frames to an input.data; numbers keep all their digits. Returns the number of frames.

    Raises
    ------
    InputError
        If a frame has no energy or no forces, or is periodic along some of its vectors only: the
        format cannot say that.
    FileError
        If the file cannot be written.
    """
    path = path_text(path)
    count = 0
    with replacing(path, overwrite=overwrite) as beside, naming(path):
        with open(beside, "w", encoding="utf-8") as file:
            for frame in frames:
                file.write(_text(frame))
                count += 1
        if not count:
            raise InputError("there are no frames to write; expected at least one")
    return count


def _text(frame: Frame) -> str:
    if frame.energy is None or frame.forces is None:
        raise InputError(f"{frame.source}: has no energy or no forces; input.data needs both")
    if any(frame.pbc) != all(frame.pbc):
        raise InputError(f"{frame.source}: pbc is {frame.pbc}; input.data knows all or none")
    join = lambda values: " ".join(repr(float(v)) for v in values)
    text = ["begin"]
    if frame.cell is not None:
        text += [f"lattice {join(row)}" for row in frame.cell / BOHR]
    positions, forces = frame.positions / BOHR, frame.forces / FORCE
    for symbol, r, f in zip(frame.symbols, positions, forces, strict=True):
        text.append(f"atom {join(r)} {symbol} 0.0 0.0 {join(f)}")
    return "\n".join([*text, f"energy {frame.energy / HARTREE!r}", "charge 0.0", "end", ""])
