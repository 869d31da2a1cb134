"""What each part was asked for, so that a report needs no options: ``asked.json`` in the study's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .optimizers import optimizer
from .results import read_json, write_json
from .study import Study
from .systems import find_systems

#: Options that add up from one command to the next; of the others the last one counts.
LISTS = ("systems", "optimizers", "data", "models")
#: A part may have other defaults of these.
STATED = ("systems", "optimizers")
DEFAULTS: dict[str, Any] = {
    "systems": None, "optimizers": ["default", "paper", "adam"], "models": None, "data": [],
    "data_folder": None, "epochs": 30.0, "frames": None, "seconds": None, "seeds": 1, "smoke": False,
}  # fmt: skip


def options(given: dict[str, Any]) -> dict[str, Any]:
    """Options with the defaults for what was not given; "stated" keeps which of two were."""
    stated = given.get("stated", [name for name in STATED if given.get(name) is not None])
    known = {name: default if given.get(name) is None else given[name] for name, default in DEFAULTS.items()}
    return known | {"stated": list(stated)}


def study_of(folder: Path, given: dict[str, Any], processes: int = 2, threads: int = 1) -> Study:
    """The study that these options ask for.

    Raises
    ------
    InputError
        For a system, an optimizer or a file that there is not.
    """
    o = options(given)
    names = o["systems"]
    if o["smoke"] and names is None:  # what lies in the repository, or the user's own
        names = [text.partition("=")[0] for text in o["data"]] or ["Si64"]
    systems, missing = find_systems(names, o["data_folder"], o["data"])
    for name in o["optimizers"]:
        optimizer(name)
    return Study(
        folder, systems, missing, tuple(o["optimizers"]), o["epochs"], o["frames"], o["seeds"], processes,
        threads, o["smoke"], o["seconds"], tuple(o["stated"]), tuple(o.get("models") or ()),
    )  # fmt: skip


def note(folder: Path, parts: list[str], given: dict[str, Any]) -> None:
    """Remember what the parts are asked for now, together with what they were asked for before."""
    known = read(folder)
    for part in parts:
        known[part] = joined(known.get(part), options(given))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "asked.json", known)


def joined(before: dict | None, now: dict[str, Any]) -> dict[str, Any]:
    """Systems, optimizers and data of both; everything else as it is now.

    What was a smoke test and what was not have nothing to do with each other.
    """
    if before is None or before["smoke"] != now["smoke"]:
        return now
    out = dict(now)
    for name in LISTS:
        both = (before[name], now[name])
        out[name] = None if None in both else list(dict.fromkeys([*before[name], *now[name]]))
    return out


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Options by part; none if nothing was asked yet."""
    return read_json(folder / "asked.json") or {}
