"""``several.py FOLDER JSON``: each case on 1, 2, 3 and 4 ranks, and stopped on 3 and gone on with on 2.

All in one start: four ranks are cut into communicators of so many. JSON has for each name the kind of model
and options of its run; the runs are FOLDER/NAME 1 … 4 and FOLDER/NAME half.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

from mpi4py import MPI
from small_models import tree_of

from kalmandp.training.loop import train

#: What the ranks do at the same time, by rank: how many work together, and at which run.
ROUNDS = (("1", "3", "3", "3"), ("stop", "stop", "stop", ""), ("2", "2", "half", "half"), ("4",) * 4)


def stopped_at(step: int):
    """What stops a run there; 0 for never."""
    calls = itertools.count(1)
    return lambda: next(calls) == step


def main(folder: Path, cases: dict) -> None:
    world = MPI.COMM_WORLD
    for round in ROUNDS:
        what = round[world.rank]
        comm = world.Split(round.index(what), world.rank)
        for name, (kind, options) in cases.items() if what else ():
            tree = tree_of(kind, folder, numb_steps=60, save_freq=60, **options)
            output = folder / f"{name} {'half' if what == 'stop' else what}"
            restart = output / "model.ckpt.h5" if what == "half" else None
            stop = stopped_at(30 if what == "stop" else 0)
            for _ in train(tree, output=output, restart=restart, stop=stop, comm=comm):
                pass
        comm.Free()
        world.Barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
