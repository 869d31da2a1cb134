"""The study's modules, importable while these tests run, and two tiny systems."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from kalmandp import Dataset

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "study"
RUNS = (
    "asked", "budget", "curves", "display", "one", "optimizers", "pool", "results", "study", "systems",
    "unit",
)  # fmt: skip


@pytest.fixture(scope="session")
def study():
    """Modules by their names: ``study.curves``, ``study.table1``, ``study.command`` …"""

    class Modules:
        pass

    sys.path.insert(0, str(FOLDER))
    try:
        for name in RUNS:
            setattr(Modules, name, import_module(f"runs.{name}"))
        Modules.command, Modules.paper = import_module("study"), import_module("paper")
        for name in Modules.command.PARTS:
            setattr(Modules, name, import_module(f"parts.{name}"))
        for name in ("conditioning", "plan", "tables"):
            setattr(Modules, f"second_{name}", import_module(f"parts.second.{name}"))
        yield Modules
    finally:
        sys.path.remove(str(FOLDER))
        for name in [n for n in sys.modules if n.partition(".")[0] in ("runs", "parts", "study", "paper")]:
            del sys.modules[name]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """ "NAME=train.h5,test.h5" of two systems: six and two frames of silicon each."""
    folder, stated = tmp_path_factory.mktemp("data"), []
    with Dataset(ROOT / "data" / "si64_lda_train.h5") as frames:
        for name, first in (("A", 0), ("B", 100)):
            files = [folder / f"{name}_{part}.h5" for part in ("train", "test")]
            Dataset.write(files[0], frames[first : first + 6])
            Dataset.write(files[1], frames[first + 6 : first + 8])
            stated.append(f"{name}={files[0]},{files[1]}")
    return stated
