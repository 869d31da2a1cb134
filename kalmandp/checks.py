"""Checks of single values of an input file: each takes a value and returns it, or raises `Unfit`.

A check is a function ``value -> value``; the functions here make them. `SectionReader` applies a
table of them to one JSON object and names a key that the table does not have.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from kalmandp.errors import InputError

Check = Callable[[Any], Any]

#: Integers of an input file must fit into 64 bits.
LARGEST = 2**63 - 1


class Unfit(Exception):
    """A value that a check refuses: what was wanted, what was got, and where within the value."""

    def __init__(self, wanted: str, got: object, at: str = ""):
        super().__init__(wanted)
        self.wanted, self.got, self.at = wanted, got, at


def show(value: object) -> str:
    """A value as JSON, cut to a length that fits a message."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "…"


def anything(value):
    return value


def boolean(value):
    if not isinstance(value, bool):
        raise Unfit("true or false", value)
    return value


def text(value):
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise Unfit("a text", value)
    return value


def number(
    at_least: float = -math.inf, above: float = -math.inf, at_most: float = math.inf, unit: str = ""
) -> Check:
    """A finite number in a range; the unit is for the message."""
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in (("≥", at_least), (">", above), ("≤", at_most))
        if math.isfinite(bound)
    ]
    wanted = " ".join(["a number", " and ".join(bounds), f"({unit})" if unit else ""])
    wanted = " ".join(wanted.split())

    def check(value):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfit(wanted, value)
        try:
            x = float(value)
        except OverflowError:
            x = math.inf
        if not (math.isfinite(x) and at_least <= x <= at_most and above < x):
            raise Unfit(wanted, value)
        return x

    return check


def integer(at_least: int) -> Check:
    """An integer, also written as 1e5."""

    def check(value):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not at_least <= value <= LARGEST:
            raise Unfit(f"an integer ≥ {at_least}", value)
        return int(value)

    return check


def choice(*names: str, why: str = "") -> Check:
    """One of several texts."""
    wanted = " or ".join(show(n) for n in names) + (f" ({why})" if why else "")

    def check(value):
        if not isinstance(value, str) or value not in names:
            # where there is a reason, it stands in place of the guess at a misprint
            raise Unfit(wanted if why else wanted + did_you_mean(value, names), value)
        return value

    return check


def optional(check: Check) -> Check:
    """null, or what ``check`` accepts."""
    return lambda value: None if value is None else check(value)


def sequence(check: Check, wanted: str, at_least: int = 0, length: int | None = None) -> Check:
    """A list whose members pass ``check``, as a tuple."""

    def check_all(values):
        fits = isinstance(values, list | tuple) and len(values) >= at_least
        if not fits or (length is not None and len(values) != length):
            raise Unfit(wanted, values)
        return tuple(_member(check, n, value) for n, value in enumerate(values))

    return check_all


def _member(check: Check, n: int, value):
    try:
        return check(value)
    except Unfit as unfit:
        raise Unfit(unfit.wanted, unfit.got, f"[{n}]{unfit.at}") from None


def one_of(wanted: str, *checks: Check) -> Check:
    """The first of several checks that accepts the value."""

    def check(value):
        for one in checks:
            try:
                return one(value)
            except Unfit:
                continue
        raise Unfit(wanted, value)

    return check


def only(*accepted) -> Check:
    """DeePMD-kit's default of an option that is not supported here: stating it changes nothing."""
    wanted = " or ".join(dict.fromkeys(show(a) for a in accepted)) + ", the only value supported here"

    def check(value):
        # True == 1 in Python; a flag and a count are told apart
        if not any(value == a and isinstance(value, bool) == isinstance(a, bool) for a in accepted):
            raise Unfit(wanted, value)
        return value

    return check


class Key(NamedTuple):
    """One key of a section.

    Attributes
    ----------
    name : the key, as DeePMD-kit has it
    check : what its value must pass
    field : the field of the settings it becomes; None to drop the value after the check
    aliases : other names of the key
    idle : (value,) for a key that changes nothing here: DeePMD-kit's default, with which no notice is given
    """

    name: str
    check: Check
    field: str | None
    aliases: tuple[str, ...] = ()
    idle: tuple = ()


def fixed(name: str, *accepted) -> Key:
    """A key that is accepted at the value that changes nothing, and refused at any other."""
    return Key(name, only(*accepted), None)


def ignored(name: str, default=None) -> Key:
    """A key that changes no result here; a value other than its default gives a notice."""
    return Key(name, anything, None, idle=(default,))


#: Names that DeePMD-kit has and this package does not: they are not taken for misprints.
ELSEWHERE = {
    "loss_dict", "model_dict", "data_dict", "shared_dict", "se_e3", "se_at", "se_e2_r", "se_r", "se_e3_tebd",
    "se_atten", "se_atten_v2", "dpa1", "dpa2", "dpa3", "hybrid", "loc_frame", "se_a_tpe", "se_a_ebd_v2",
}  # fmt: skip


def did_you_mean(name: object, known: Iterable[str]) -> str:
    if isinstance(name, str) and name in ELSEWHERE:
        return "; DeePMD-kit has it, this package does not."
    close = difflib.get_close_matches(name, known, n=1) if isinstance(name, str) else []
    return f"; did you mean {close[0]!r}?" if close else ""


class SectionReader:
    """Reads the JSON objects of one input; ``source`` begins every message.

    Attributes
    ----------
    folder : paths of files in the input are relative to it
    ignored : paths of keys that were accepted but change nothing, in the order of reading
    """

    def __init__(self, source: str, folder: Path | None = None):
        self.source, self.folder = source, Path() if folder is None else folder
        self.ignored: list[str] = []

    def error(self, path: str, value: Any, wanted: str) -> InputError:
        return InputError(f"{self.source}: {path} is {show(value)}; expected {wanted}")

    def value(self, path: str, value: Any, check: Check):
        """One value through its check; a refusal becomes an InputError that names the path."""
        try:
            return check(value)
        except Unfit as unfit:
            raise self.error(path + unfit.at, unfit.got, unfit.wanted) from None

    def mapping(self, path: str, value: Any) -> dict[str, Any]:
        """A JSON object without its comments (keys that begin with "_")."""
        if not isinstance(value, dict):
            raise self.error(path, value, "an object { … }")
        return {key: v for key, v in value.items() if not key.startswith("_")}

    def section(self, path: str, value: Any, keys: Iterable[Key]) -> dict[str, Any]:
        """The fields of a section that are stated, checked.

        Raises
        ------
        InputError
            For a value that its check refuses, a key that is not in the table, and a key that
            is given under two of its names.
        """
        left = self.mapping(path, value)
        fields: dict[str, Any] = {}
        names: list[str] = []
        for key in keys:
            names.append(key.name)
            stated = [name for name in (key.name, *key.aliases) if name in left]
            if len(stated) > 1:
                raise InputError(
                    f"{self.source}: {path}/{stated[0]} and {path}/{stated[1]} are the same key; "
                    "expected one of them"
                )
            for name in stated:
                here = _join(path, name)
                got = self.value(here, left.pop(name), key.check)
                if key.field is not None:
                    fields[key.field] = got
                if key.idle and got != key.idle[0]:
                    self.ignored.append(here)
        for name, got in left.items():
            hint = did_you_mean(name, names) or "."
            raise InputError(
                f"{self.source}: {_join(path, name)} is {show(got)}; this key is not supported"
                f"{hint} Supported here: {', '.join(sorted(names))}"
            )
        return fields


def _join(path: str, name: str) -> str:
    name = name if name.isidentifier() else show(name)
    return f"{path}/{name}" if path else name
