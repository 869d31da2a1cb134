"""The data of the study: thirteen systems by name, and any the user adds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kalmandp.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
THIRTEEN = ("Cu", "Si", "C", "Ag", "Mg", "NaCl", "Li", "Al", "MgAlCu", "H2O", "S", "CuO", "CuC")


class System(NamedTuple):
    """Training and test frames of a system: the former 80 % and the latter 20 % of a trajectory."""

    name: str
    train: Path
    test: Path

    @property
    def is_there(self) -> bool:
        return self.train.is_file() and self.test.is_file()


def find_systems(names, folder=None, stated=()) -> tuple[list[System], list[str]]:
    """The systems asked for that have data, and the names of those that have none.

    Parameters
    ----------
    names : of systems; None for the thirteen and those ``stated``
    folder : where ``<Name>_train.h5`` and ``<Name>_test.h5`` are; by default ``data/thirteen``
    stated : "NAME=train.h5,test.h5" each

    Raises
    ------
    InputError
        For a name that is none of them, or a ``stated`` without its files.
    """
    folder = ROOT / "data" / "thirteen" if folder is None else Path(folder)
    known = {name: System(name, folder / f"{name}_train.h5", folder / f"{name}_test.h5") for name in THIRTEEN}
    known["Si64"] = System("Si64", ROOT / "data" / "si64_lda_train.h5", ROOT / "data" / "si64_lda_test.h5")
    own = [read_stated(text) for text in stated]
    known |= {system.name: system for system in own}
    if names is None:
        names = [*THIRTEEN, *(s.name for s in own)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"--systems has {unknown[0]!r}; expected some of {', '.join(known)}")
    chosen = [known[name] for name in dict.fromkeys(names)]
    return [s for s in chosen if s.is_there], [s.name for s in chosen if not s.is_there]


def read_stated(text: str) -> System:
    """A system from "NAME=train.h5,test.h5"."""
    name, equals, files = text.partition("=")
    train, comma, test = files.partition(",")
    if not (equals and comma and name.replace("-", "").replace("_", "").isalnum()):
        raise InputError(
            f"--data is {text!r}; expected NAME=train.h5,test.h5 with a name of letters and digits"
        )
    system = System(name, Path(train).resolve(), Path(test).resolve())
    for path in (system.train, system.test):
        if not path.is_file():
            raise InputError(f"--data {name}: there is no file {path}")
    return system
