"""Extended XYZ, read and written frame by frame.

ASE's reader would do for most files, but its writer keeps 8 decimals, its errors name no frame, and
a data set in the most common format should open without optional packages.

A frame is a line with the number of atoms, a line of ``key=value`` pairs and a line per atom::

    2
    Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 energy=-3.1 pbc="T T F"
    O 0.0 0.0 0.0   0.1 0.0 0.0
    H 0.0 0.0 0.96 -0.1 0.0 0.0

Å, eV, eV/Å, or the units that ``energy-unit=hartree`` and the like state. ``virial`` (9
numbers) is W = −dE/dε in eV; ``stress`` (9 or 6 numbers; eV/Å³, positive under tension as in
ASE) is read as W = −σV. Both are symmetric; the numbers are taken column by column, as the format has
it for all matrices. If both are there they must agree, and the virial is taken.

Names are looked for as they stand, then without regard to capitals: GPUMD's ``lattice``, ``energy``,
``properties=…:force:R:3``, ``weight`` and ``energy_weight`` have none.

Source: https://github.com/libAtoms/extxyz (specification), https://ase-lib.org (``ase.io.extxyz``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice

import numpy as np

from kalmandp.errors import FileError, InputError
from kalmandp.files.replacing import naming, replacing
from kalmandp.formats.extxyz_parts import (
    Column,
    columns_of,
    cut_columns,
    is_number,
    name_in,
    numbers_of,
    pairs_of,
)
from kalmandp.formats.programs.steps import opened
from kalmandp.formats.told import Told
from kalmandp.formats.units import Units, stated_units
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
#: eV/atom by which a virial and a stress of one frame may differ, and the share of the larger.
VIRIAL_STRESS = (1e-3, 1e-3)


def read_extxyz(
    path, *, keys=None, ignored: set[str] | None = None, units: Units | None = None, told: Told | None = None
) -> Iterator[Callable[[], Frame]]:
    """Go through the frames of an extended XYZ file.

    A frame is handed out as a function that makes it, so that the caller may go on after one whose
    numbers cannot be used: ``for make in read_extxyz(path): frame = make()``.

    Parameters
    ----------
    path : the file, which may be packed by gzip, bzip2 or xz
    keys : dict from energy, forces, virial, stress, atomic_energies to the name in the file, such
        as ``{"energy": "REF_energy"}``, for files with names of their own
    ignored : a set, to which names that are not read are added
    units : units of the numbers, instead of those that the file states
    told : collects notes for the user

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
    told = Told(ignored) if told is None else told
    with reading(path):
        file = opened(path)
    with file:
        lines = _Lines(path, file)
        for number in range(_FOREVER):
            with reading(f"{path} frame {number}"):
                count = lines.next_count(number)
            if count is None:
                if not number:
                    raise FileError(f"{path}: holds no frames; expected at least one")
                return
            with reading(f"{path} frame {number}"):
                comment = lines.take(1, number)[0]
                atoms = lines.take(count, number)
            yield partial(_frame, f"{path} frame {number}", comment, atoms, names, units, told)


def write_extxyz(path, frames: Iterable[Frame], *, overwrite: bool = True) -> int:
    """Write frames to an extended XYZ file; numbers keep all their digits.

    The file is written under another name and then renamed. Returns the number of frames.

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
                f"{count - len(lines)} more lines"
            )
        return lines


def _label_names(keys) -> dict[str, tuple[str, ...]]:
    unknown = set(keys or {}) - set(NAMES)
    if unknown:
        raise InputError(f"keys names {sorted(unknown)}; expected some of {list(NAMES)}")
    given: dict[str, tuple[str, ...]] = {label: (str(name),) for label, name in (keys or {}).items()}
    # a user who names one of virial and stress does not want the other
    for one, other in (("virial", "stress"), ("stress", "virial")):
        if one in given and other not in given:
            given[other] = ()
    return NAMES | given


def _frame(
    source: str, comment: str, atoms: list[str], names, units: Units | None, told: Told
) -> Frame:  # fmt: skip
    info = pairs_of(source, comment)
    properties = name_in(("Properties",), info)
    columns = columns_of(source, "species:S:1:pos:R:3" if properties is None else info[properties])
    table = [line.split() for line in atoms]
    width = max(column.first + column.width for column in columns.values())
    for n, row in enumerate(table):
        if len(row) < width or (len(row) > width and properties is not None):
            raise FileError(f"{source}: atom {n} has {len(row)} columns; expected {width}")
    if properties is None:
        _check_plain(source, comment, info)
        if any(len(row) > width and is_number(row[width]) for row in table):
            told.ignored.add("columns beyond x y z, which no Properties names")

    atomic = ("forces", "atomic_energies")
    labels = {
        label: name_in(known, columns if label in atomic else info) for label, known in names.items()
    }  # fmt: skip
    lattice, pbc_name = name_in(("Lattice",), info), name_in(("pbc",), info)
    places = {name: name_in((name,), columns) for name in ("pos", "species", "Z")}
    stated, stating = stated_units(info, source) if units is None else (Units(), set())
    weights = {label: name_in((label,), info) for label in ("weight", "energy_weight")}
    used = {properties, lattice, pbc_name, *places.values(), *labels.values(), *stating, *weights.values()}
    # not reported: a second name of a label that was read (ASE writes energy beside free_energy)
    others = {n for label, known in names.items() if labels[label] is not None for n in known}
    told.ignored |= (set(info) | set(columns)) - used - others
    for label, name in labels.items():
        if name is not None:
            told.names.setdefault(label, set()).add(name)

    def per_frame(label: str, name: str | None):
        return None if name is None else numbers_of(source, name, info[name].split())

    def per_atom(label: str):
        name = labels[label]
        return None if name is None else cut_columns(source, table, columns, name)

    u = _units_for(source, stated, labels, told) if units is None else units.whole
    assert u.length and u.energy and u.force and u.virial and u.stress
    cell, pbc = _cell(source, info, lattice, pbc_name)
    cell = None if cell is None else cell * u.length
    symbols = _symbols(source, table, columns, places)
    type_map = tuple(dict.fromkeys(symbols))
    number = {name: t for t, name in enumerate(type_map)}
    energy, forces, energies = (
        per_frame("energy", labels["energy"]),
        per_atom("forces"),
        per_atom("atomic_energies"),
    )
    virial, stress = (per_frame(label, labels[label]) for label in ("virial", "stress"))
    weight, energy_weight = (
        _weight(source, label, per_frame(label, name)) for label, name in weights.items()
    )
    if energy is not None and energy.size == 1:
        energy = energy.reshape(())
    return Frame(
        positions=cut_columns(source, table, columns, places["pos"] or "pos").reshape(-1, 3) * u.length,
        types=np.array([number[s] for s in symbols], dtype=np.int32),
        type_map=type_map,
        cell=cell,
        pbc=pbc,
        energy=None if energy is None else energy * u.energy,
        forces=None if forces is None else forces * u.force,
        virial=_virial(
            source, None if virial is None else virial * u.virial,
            None if stress is None else stress * u.stress, cell, pbc, len(table),
        ),
        atomic_energies=None if energies is None else energies[:, 0] * u.energy,
        weight=weight,
        energy_weight=energy_weight,
        source=source,
    )  # fmt: skip


def _units_for(source: str, stated: Units, labels, told: Told) -> Units:
    """The units of each label: stated, or else Å and eV; one left open beside a foreign unit is refused."""
    if stated == Units():
        return stated.whole
    for kind, label in (("force", "forces"), ("stress", "stress"), ("energy", "energy")):
        foreign = [k for k, value in stated._asdict().items() if value not in (None, 1.0)]
        if foreign and getattr(stated, kind) is None and labels[label] is not None and foreign != ["stress"]:
            raise InputError(
                f"{source}: states the unit of {foreign[0]} and not that of {kind}; expected both "
                f"(give  --unit {kind}=…  and the others, or write the key for it into the file)"
            )
    told.note("the units are those that the file states")
    return Units(
        *(1.0 if value is None else value for value in stated._replace(virial=stated.virial or stated.energy))
    )


def _check_plain(source: str, comment: str, info: dict[str, str]) -> None:
    """Refuse comments of other programs that state a cell or units, which would be lost."""
    if "CELL(" in comment or "CELL{" in comment or "positions{" in comment:
        raise InputError(
            f"{source}: is XYZ of i-PI, whose comment states cell and units; expected extended XYZ "
            '(Lattice="…" Properties=…), with the energies and forces of the other files of i-PI'
        )


def _weight(source: str, label: str, value) -> float | None:
    """A weight of the frame, which GPUMD takes between 0 and 100."""
    if value is None:
        return None
    if value.size != 1:
        raise InputError(f"{source}: {label} has {value.size} numbers; expected one")
    return float(value[0])


def _symbols(source: str, table, columns: dict[str, Column], places) -> list[str]:
    if places["species"] is not None:
        return [row[columns[places["species"]].first] for row in table]
    numbers = cut_columns(source, table, columns, places["Z"])[:, 0]
    if not ((numbers >= 0) & (numbers < len(ELEMENTS))).all():
        raise InputError(f"{source}: Z goes up to {numbers.max():g}; expected atomic numbers, 1 to 118")
    return [ELEMENTS[int(z)] for z in numbers]


def _cell(source: str, info: dict[str, str], lattice: str | None, pbc_name: str | None):
    """Lattice vectors as rows, or None; and along which of them it is periodic."""
    cell = None
    if lattice is not None:
        cell = numbers_of(source, "Lattice", info[lattice].split())
        if cell.size != 9:
            raise FileError(f"{source}: Lattice has {cell.size} numbers; expected 9")
        cell = cell.reshape(3, 3)  # column-major in the vectors as columns: vectors as rows
    text = "T T T" if pbc_name is None else info[pbc_name]
    words = text.replace(",", " ").split()
    known = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}
    pbc = [known.get(word.lower()) for word in words]
    if None in pbc or len(pbc) not in (1, 3):
        raise FileError(f"{source}: pbc is {text[:40]!r}; expected three of T and F")
    if cell is None and pbc_name is not None and any(pbc):
        others = [name for name in info if name.lower() in ("cell", "box", "unitcell", "unit_cell")]
        there = f" (there is {others[0]!r})" if others else ""
        raise InputError(
            f"{source}: pbc is {text[:40]!r} and there is no Lattice{there}; expected both, or neither"
        )
    return cell, tuple(pbc if len(pbc) == 3 else pbc * 3)


def _virial(source: str, virial, stress, cell, pbc, n_atoms: int):
    """W = −dE/dε; from a stress W = −σV."""
    W = S = None
    if virial is not None:
        if virial.size != 9:  # six could be in more than one order
            return virial
        W = virial.reshape(3, 3).T
    if stress is not None and cell is not None and any(pbc):
        if W is not None and stress.size not in (6, 9):
            return W
        if W is None or abs(np.linalg.det(cell)) > 0:
            S = -full_stress(stress, source).T * stress_volume(cell, source)
    if W is None or S is None:
        return S if W is None else W
    per_atom, share = VIRIAL_STRESS
    apart = np.abs(W - S).max()
    if not apart <= per_atom * n_atoms + share * np.abs(W).max() and np.isfinite(W).all():
        raise InputError(
            f"{source}: its virial and −V·stress differ by {apart / max(n_atoms, 1):.3g} eV/atom; expected "
            "the same (name the one that is right:  --key virial=virial  or  --key stress=stress)"
        )
    return W


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
    for label in ("weight", "energy_weight"):
        if getattr(frame, label) is not None:
            info.append(f"{label}={getattr(frame, label)!r}")
    info.append(f'pbc="{" ".join("T" if p else "F" for p in frame.pbc)}"')
    rows = np.hstack(columns).tolist()
    atoms = [" ".join([symbol, *map(repr, row)]) for symbol, row in zip(frame.symbols, rows, strict=True)]
    return "\n".join([str(len(frame)), " ".join(info), *atoms, ""])
