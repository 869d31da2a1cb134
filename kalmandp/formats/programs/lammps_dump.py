"""Text dumps of LAMMPS: positions, and forces where ``fx fy fz`` are dumped; no energy is in them.

::

    ITEM: TIMESTEP
    ITEM: UNITS                            (dump_modify units yes)
    ITEM: NUMBER OF ATOMS
    ITEM: BOX BOUNDS [xy xz yz] pp pp pp   or  abc origin pp pp pp
    ITEM: ATOMS id type element x y z fx fy fz

Types are numbers: their elements are the column ``element``, or the names that the user gives in the
order of the numbers. Atoms are put into the order of their ``id``.

Source: https://docs.lammps.org/dump.html, https://docs.lammps.org/units.html
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.errors import InputError
from kalmandp.formats.programs.steps import Lines, Step
from kalmandp.formats.units import BOHR, HARTREE, KCAL_MOL, Units

WHAT = "a text dump of LAMMPS"

#: Name in ``ITEM: UNITS`` -> Å, and eV/Å.
SYSTEMS = {"metal": Units(1.0, 1.0), "real": Units(1.0, KCAL_MOL), "electron": Units(BOHR, HARTREE)}


def read_dump(lines: Lines, ignored: set[str]) -> Iterator[Step]:
    """Go through the snapshots of a dump; see `steps.frames_in`."""
    units = None if lines.units is None else lines.units.whole
    n, cell, origin, pbc = 0, None, np.zeros(3), (True, True, True)
    for line in lines:
        if not line.strip():
            continue
        words = line.split()
        if words[0] != "ITEM:":
            raise ValueError("expected a line that begins with ITEM:")
        item = " ".join(words[1:])
        if item == "UNITS":
            name = lines.take().strip()
            if lines.units is None and name not in SYSTEMS:
                raise InputError(
                    f"{lines.path}: its units are {name!r}; expected metal, real or electron "
                    "(or give them:  --unit length=… --unit force=…)"
                )
            units = SYSTEMS[name].whole if lines.units is None else units
        elif item in ("TIMESTEP", "TIME"):
            lines.take()
        elif item == "NUMBER OF ATOMS":
            n = int(lines.take())
        elif item.startswith("BOX BOUNDS"):
            cell, origin, pbc = _box(lines, words[3:])
        elif item.startswith(("NUMBER OF ENTRIES", "GRID")):
            raise ValueError("a dump of local or of grid quantities; expected ITEM: NUMBER OF ATOMS")
        elif item.startswith("ATOMS"):
            yield _snapshot(lines, words[2:], n, cell, origin, pbc, units, ignored)


def _box(lines: Lines, words: list[str]):
    marks = [w for w in words if len(w) == 2 and set(w) <= set("pfsm")]
    pbc = tuple(mark == "pp" for mark in marks) if len(marks) == 3 else (True, True, True)
    if words[:2] == ["abc", "origin"]:
        table = lines.table(3, 0, 4)
        return table[:, :3], table[:, 3], pbc
    tilted = words[:3] == ["xy", "xz", "yz"]
    table = lines.table(3, 0, 3 if tilted else 2)
    xy, xz, yz = table[:, 2] if tilted else (0.0, 0.0, 0.0)
    low, high = table[:, 0].copy(), table[:, 1].copy()
    # the bounds are those of a box around the tilted cell
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    lx, ly, lz = high - low
    return np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]), low, pbc


def _snapshot(lines: Lines, names: list[str], n: int, cell, origin, pbc, units, ignored) -> Step:
    rows = [lines.take().split() for _ in range(n)]
    if any(len(row) != len(names) for row in rows):
        raise ValueError(f"expected {len(names)} columns: {' '.join(names)}")
    if "id" in names:
        rows.sort(key=lambda row: int(row[names.index("id")]))
    column = lambda *wanted: np.array([[r[names.index(w)] for w in wanted] for r in rows], dtype=np.float64)
    has = lambda *wanted: all(w in names for w in wanted)
    positions = None
    for suffix in ("u", ""):
        if has("x" + suffix, "y" + suffix, "z" + suffix):
            positions = column("x" + suffix, "y" + suffix, "z" + suffix) - origin
        elif has("xs" + suffix, "ys" + suffix, "zs" + suffix):
            positions = column("xs" + suffix, "ys" + suffix, "zs" + suffix) @ cell
        if positions is not None:
            break
    if positions is None:
        raise ValueError("expected the columns x y z, or xs ys zs, or xu yu zu")
    some = [name for name in ("fx", "fy", "fz") if name in names]
    if len(some) not in (0, 3):
        raise ValueError(f"only {', '.join(some)} of the forces; expected fx, fy, fz, or none of them")
    forces = column("fx", "fy", "fz") if some else None
    if units is None:
        if forces is not None:
            lines.told.note(
                "the dump does not state its units: forces are taken as eV/Å (units metal); "
                "--unit force=kcal/mol/angstrom  is for units real"
            )
        units = Units().whole
    known = {"id", "type", "element", *(a + b for a in "xyz" for b in ("", "s", "u", "su")), "fx", "fy", "fz"}
    ignored |= set(names) - known
    return Step(
        symbols=_elements(lines, names, rows), positions=positions * units.length, cell=cell * units.length,
        forces=None if forces is None else forces * units.force, pbc=pbc,
    )  # fmt: skip


def _elements(lines: Lines, names: list[str], rows: list[list[str]]) -> list[str]:
    if "element" in names:
        return [lines.element(row[names.index("element")]) for row in rows]
    if "type" not in names:
        raise ValueError("expected a column element or type")
    types = [row[names.index("type")] for row in rows]
    if not all(t.isdigit() for t in types):
        return [lines.element(t) for t in types]
    numbers = np.array(types, dtype=int)
    if lines.type_map is None or numbers.max() > len(lines.type_map) or numbers.min() < 1:
        raise InputError(
            f"{lines.path}: numbers its types up to {numbers.max()} and names no elements; expected their "
            f"names in this order:  --type-map {' '.join('EL' + str(k + 1) for k in range(numbers.max()))}"
        )
    return [lines.type_map[t - 1] for t in numbers]
