"""What the doctor says of healthy sets, and of the same sets with planted faults: the tables.

    python tests/doctor/measure.py                     all sets of healthy_sets.py
    python tests/doctor/measure.py --small             six of them, a minute
    python tests/doctor/measure.py --more data/*.h5    these files too, as healthy sets

A false error is an error on a healthy set; a false warning is a warning there. A fault counts as found
if a finding of the check that is for it says so (an error or a warning; "as it should": with the severity
that `defects.py` wants). "left out" counts the pairs of a set and a fault where planting or reading failed
with an error of its own: they are in no other column.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from defects import DEFECTS
from healthy_sets import SETS

from kalmandp.doctor import examine
from kalmandp.errors import InputError
from kalmandp.formats.extxyz import write_extxyz
from kalmandp.formats.sources import Source, guess_format
from kalmandp.frames.frame import Frame

SMALL = (
    "Cu vacancies (EMT)", "Ar crystal (LJ)", "Si 300 K, ten near frames (SW)", "N2 in boxes (EMT)",
    "Mo crystal (FS)", "NaCl (ions)",
)  # fmt: skip


def said_of(frames: list[Frame], folder: str) -> list:
    """Findings on frames, as a file of them gives."""
    path = f"{folder}/set.extxyz"
    write_extxyz(path, frames)
    return examine(path)


def healthy(sets: dict[str, list[Frame]], folder: str) -> dict[str, list]:
    """Name of a set -> errors and warnings on it."""
    return {
        name: [f for f in said_of(frames, folder) if f.severity in ("error", "warning")]
        for name, frames in sets.items()
    }


def applies(defect, frames: list[Frame]) -> bool:
    """Whether a fault can be planted in a set, and whether labels could tell it."""
    have = all(all(getattr(f, label) is not None for f in frames[:5]) for label in defect.needs)
    if not have or len(frames) < 12:
        return False
    if defect.name == "cell too large":
        return all(all(f.pbc) for f in frames)
    if defect.name == "frames repeated":
        return all(f.cell is not None for f in frames)
    return True


def planted(sets: dict[str, list[Frame]], folder: str, seed: int = 1) -> Iterator[tuple[str, tuple]]:
    """Each fault; in how many sets it was planted, found, found as it should; how many were left out."""
    for defect in DEFECTS:
        tried = found = right = left_out = 0
        for frames in sets.values():
            if not applies(defect, frames):
                continue
            try:
                bad, _ = defect.plant(frames, np.random.default_rng(seed))
                findings = said_of(bad, folder)
            except (InputError, ValueError, ZeroDivisionError):
                left_out += 1  # a fault that this set cannot have
                continue
            hits = [f for f in findings if f.check in defect.check.split() and f.severity != "note"]
            tried += 1
            found += bool(hits)
            right += any(f.severity == defect.severity and defect.says in f.seen + f.advice for f in hits)
        yield defect.name, (tried, found, right, left_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="few sets")
    parser.add_argument("--more", nargs="*", default=[], help="files of healthy sets")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="plant in every Nth set")
    parser.add_argument(
        "--part", default="1/1", metavar="K/N", help="sets K, K+N, K+2N, …: the counts of all parts add"
    )
    parser.add_argument("--healthy-only", action="store_true", help="plant nothing")
    args = parser.parse_args()
    part, parts = (int(n) for n in args.part.split("/"))
    names = [name for name in SETS if not args.small or name in SMALL][part - 1 :: parts]
    sets = {name: SETS[name]() for name in names}
    for path in args.more:
        sets[Path(path).name] = list(Source(path, guess_format(path)).frames())
    with tempfile.TemporaryDirectory() as folder:
        said = healthy(sets, folder)
        for name, findings in said.items():
            for f in findings:
                print(f"{name}: {f.severity} {f.check}: {f.seen}")
        errors = sum(any(f.severity == "error" for f in found) for found in said.values())
        warnings = sum(any(f.severity == "warning" for f in found) for found in said.values())
        print(f"healthy sets: {len(sets)}; with errors {errors}, with warnings {warnings}")
        if args.healthy_only:
            return
        chosen = dict(list(sets.items())[:: args.every])
        print(f"\n{'planted':34s} sets  found  as it should  left out")
        for name, (tried, found, right, left_out) in planted(chosen, folder):
            print(f"{name:34s} {tried:4d}  {found:5d}  {right:12d}  {left_out:8d}", flush=True)


if __name__ == "__main__":
    main()
