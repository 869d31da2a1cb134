"""Run cases of one reader in this process, with little memory; one line of JSON before and after each."""

from __future__ import annotations

import faulthandler
import json
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from damage import damage_bytes, damage_hdf5, damage_words
from targets import TARGETS

from kalmandp.errors import KalmanDPError

#: Bytes of address space: what the libraries map, and some.
MEMORY = 4 << 30


def prepare(kind: str, good: Path, folder: Path, rng: np.random.Generator) -> Path:
    """A damaged copy of the good file in a folder of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / good.name
    victim = path
    if good.is_dir():
        shutil.copytree(good, path)
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.stat().st_size)
        victim = files[rng.integers(len(files))]
    else:
        shutil.copy(good, path)
        path.chmod(0o600)
    ways = {".raw": "bw", ".json": "bw", ".h5": "bh"} if good.is_dir() else {}
    way = str(rng.choice(list(ways.get(victim.suffix, TARGETS[kind][1]))))
    if way == "h":
        damage_hdf5(victim, rng)
    else:
        victim.write_bytes((damage_words if way == "w" else damage_bytes)(victim.read_bytes(), rng))
    return path


def outcome(kind: str, path: Path) -> tuple[str, str]:
    try:
        TARGETS[kind][0](path)
    except KalmanDPError as error:
        text = str(error)
        # a damaged input may name any file, which is then the one that is missing
        named = path.is_dir() or path.name in text or path.stem in text
        return ("clear", "") if named and len(text) < 3000 else ("unnamed", text[:300])
    except (Exception, SystemExit):
        return "unclear", traceback.format_exc()[-1500:]
    return "accepted", ""


def main() -> None:
    kind, good, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    seed, first, last = map(int, sys.argv[4:])
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for case in range(first, last):
        rng = np.random.default_rng([seed, case])
        path = prepare(kind, good, folder, rng)
        print(json.dumps({"begin": case}), flush=True)
        start = time.perf_counter()
        result, text = outcome(kind, path)
        seconds = time.perf_counter() - start
        print(json.dumps({"case": case, "result": result, "text": text, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
