"""Units: the one place that states them, for all readers and for the doctor."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from kalmandp.constants import BAR, BOHR, GIGAPASCAL, HARTREE, KCAL_MOL, KILOBAR, KJ_MOL, RYDBERG
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame

#: Names of units in small letters, without blanks, "^" and brackets -> Å, eV, eV/Å³.
LENGTHS = {
    **dict.fromkeys(("å", "a", "ang", "angs", "angst", "angstrom", "angstroms", "ångström", "ångstrom"), 1.0),
    **dict.fromkeys(("bohr", "bohrs", "au", "a.u.", "a0", "atomic_unit", "bohrradius"), BOHR),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 10.0),
    **dict.fromkeys(("pm", "picometer", "picometre"), 0.01),
    **dict.fromkeys(("m", "meter", "metre"), 1e10),
}
ENERGIES = {
    **dict.fromkeys(("ev", "electronvolt"), 1.0),
    **dict.fromkeys(("mev", "millielectronvolt"), 1e-3),
    **dict.fromkeys(("hartree", "hartrees", "ha", "eh", "e_h", "au", "a.u.", "atomic_unit"), HARTREE),
    **dict.fromkeys(("mhartree", "mha", "millihartree"), 1e-3 * HARTREE),
    **dict.fromkeys(("rydberg", "rydbergs", "ry", "ryd"), RYDBERG),
    **dict.fromkeys(("kcal/mol", "kcalmol-1", "kcal/mole", "kcal_mol"), KCAL_MOL),
    **dict.fromkeys(("kj/mol", "kjmol-1", "kj/mole", "kj_mol"), KJ_MOL),
    **dict.fromkeys(("j", "joule"), 1.0 / 1.602176634e-19),
}
PRESSURES = {
    **dict.fromkeys(("gpa", "gigapascal"), GIGAPASCAL),
    **dict.fromkeys(("mpa", "megapascal"), 1e-3 * GIGAPASCAL),
    **dict.fromkeys(("pa", "pascal"), 1e-9 * GIGAPASCAL),
    **dict.fromkeys(("kbar", "kb", "kilobar"), KILOBAR),
    "bar": BAR,
    **dict.fromkeys(("atm", "atmosphere"), 1.01325 * BAR),
    **dict.fromkeys(("au", "a.u.", "atomic_unit"), HARTREE / BOHR**3),
}
#: What a label is -> what its unit may be, for messages.
EXAMPLES = {
    "length": "angstrom, bohr or nm",
    "energy": "eV, hartree, Ry or kcal/mol",
    "force": "eV/angstrom or hartree/bohr",
    "virial": "eV or hartree",
    "stress": "eV/angstrom^3, GPa or kbar",
}


class Units(NamedTuple):
    """What one of a file's numbers is in Å, eV, eV/Å, eV and eV/Å³; None where nothing is known."""

    length: float | None = None
    energy: float | None = None
    force: float | None = None
    virial: float | None = None
    stress: float | None = None

    @property
    def whole(self) -> Units:
        """With units that follow from the others: F in E/l, W in E, σ in E/l³; Å and eV by default."""
        length, energy = self.length or 1.0, self.energy or 1.0
        return Units(
            length, energy, self.force or energy / length, self.virial or energy,
            self.stress or energy / length**3,
        )  # fmt: skip


def factor(kind: str, text: str, where: str = "unit") -> float:
    """What one of the unit ``text`` is in ours.

    Parameters
    ----------
    kind : length, energy, force, virial or stress
    text : such as "hartree/bohr", "kcal/mol/Å", "GPa"; "-eV" turns the sign
    where : begins the message of an error

    Raises
    ------
    InputError
        If the unit is not known.
    """
    name = _plain(text)
    sign = -1.0 if name.startswith("-") else 1.0
    found = _FACTORS[kind](name.lstrip("-+"))
    if found is None:
        raise InputError(f"{where}: the unit of {kind} is {text[:40]!r}; expected {EXAMPLES[kind]}")
    return sign * found


def given_units(units: dict[str, str] | None) -> Units:
    """The units that a user gives, ``{"energy": "hartree", "length": "bohr"}``.

    Raises
    ------
    InputError
        For a label or a unit that is not known.
    """
    unknown = sorted(set(units or {}) - set(Units._fields))
    if unknown:
        raise InputError(f"units names {', '.join(unknown)}; expected some of {', '.join(Units._fields)}")
    return Units(**{kind: factor(kind, text) for kind, text in (units or {}).items()})


def in_our_units(frame: Frame, units: Units) -> Frame:
    """A frame whose numbers have other units, in Å and eV; with ``stress`` its virial is −σV of that unit."""
    u = units.whole
    assert u.length and u.energy and u.force and u.virial and u.stress
    times = lambda values, by: None if values is None else values * by
    return replace(
        frame,
        positions=frame.positions * u.length,
        cell=times(frame.cell, u.length),
        energy=times(frame.energy, u.energy),
        forces=times(frame.forces, u.force),
        virial=times(frame.virial, u.virial if units.stress is None else u.stress * u.length**3),
        atomic_energies=times(frame.atomic_energies, u.energy),
    )


def stated_units(info: dict[str, str], where: str) -> tuple[Units, set[str]]:
    """The units that a file states beside its labels, as ``energy-unit=hartree`` or ``units="eV, bohr"``.

    Returns
    -------
    Units, and the keys that stated them

    Raises
    ------
    InputError
        If a stated unit is not known, or two of them contradict each other.
    """
    found: dict[str, float] = {}
    keys = set()
    for key, text in info.items():
        if not (match := _STATES.fullmatch(key.lower())):
            continue
        keys.add(key)
        about = match[1] or match[2]
        meant = words_of(text) if about is None else {_ABOUT.get(about, about): text}
        if not meant:
            raise InputError(
                f"{where}: {key} is {text[:40]!r}, which is not understood; expected the name of a unit "
                "(give the units by  --unit energy=… --unit length=…)"
            )
        for kind, name in meant.items():
            value = factor(kind, name, f"{where}: {key}")
            if abs(found.setdefault(kind, value) / value - 1.0) > 1e-6:
                raise InputError(f"{where}: {key} is {text[:40]!r}, where another key states another {kind}")
    return Units(**found), keys


#: How a key names the unit of a label.
_WHAT = "energy|energies|free_energy|forces?|stress|virials?|lengths?|distances?|pos|positions?|lattice|cell"
_STATES = re.compile(rf"(?:({_WHAT})[-_. ]?units?|units?(?:[-_. ]({_WHAT}))?)")
_ABOUT = {
    "energies": "energy", "free_energy": "energy", "forces": "force", "virials": "virial",
    **dict.fromkeys(
        ("lengths", "distance", "distances", "pos", "position", "positions", "lattice", "cell"), "length"
    ),
}  # fmt: skip
_ATOMIC = {
    "length": "bohr", "energy": "hartree", "force": "hartree/bohr", "virial": "hartree", "stress": "au",
}  # fmt: skip
#: Systems of units by one name.
_SYSTEMS = {
    "metal": {"length": "angstrom", "energy": "ev"},
    "real": {"length": "angstrom", "energy": "kcal/mol", "force": "kcal/mol/angstrom"},
    "electron": {"length": "bohr", "energy": "hartree", "force": "hartree/bohr"},
    "atomic": _ATOMIC, "atomicunits": _ATOMIC, "au": _ATOMIC, "a.u.": _ATOMIC,
}  # fmt: skip


def words_of(text: str) -> dict[str, str]:
    """What a text such as "eV, Angstrom, eV/Angstrom" says of each label; empty if that is not clear."""
    if _plain(text) in _SYSTEMS:
        return _SYSTEMS[_plain(text)]
    meant: dict[str, str] = {}
    for word in re.split(r"[,;\s]+", text.strip()):
        kinds = [k for k in ("length", "energy", "force", "stress") if _FACTORS[k](_plain(word)) is not None]
        if len(kinds) != 1 or kinds[0] in meant:
            return {}
        meant[kinds[0]] = word
    return meant


def _plain(text: str) -> str:
    text = text.strip().strip("\"'").lower()
    for old, new in (("**", ""), ("^", ""), ("³", "3"), (" per ", "/"), (" ", ""), ("(", ""), (")", "")):
        text = text.replace(old, new)
    return text


def _force(name: str) -> float | None:
    if name in ("au", "a.u.", "atomic_unit"):
        return HARTREE / BOHR
    energy, slash, length = name.rpartition("/")
    if not slash or energy not in ENERGIES or length not in LENGTHS:
        return None
    return ENERGIES[energy] / LENGTHS[length]


def _stress(name: str) -> float | None:
    energy, slash, volume = name.rpartition("/")
    if slash and energy in ENERGIES and volume[-1:] == "3" and volume[:-1] in LENGTHS:
        return ENERGIES[energy] / LENGTHS[volume[:-1]] ** 3
    return PRESSURES.get(name)


_FACTORS: dict[str, Callable[[str], float | None]] = {
    "length": LENGTHS.get, "energy": ENERGIES.get, "virial": ENERGIES.get, "force": _force, "stress": _stress,
}  # fmt: skip
