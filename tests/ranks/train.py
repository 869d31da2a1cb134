"""What the tests start under mpiexec: ``train.py KIND FOLDER RUN JSON``; JSON has options of the run."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

from small_models import tree_of

from kalmandp.ranks.team import Alone, team_of
from kalmandp.training.loop import train


def main(kind: str, folder: str, run: str, text: str) -> None:
    options = json.loads(text)
    team = team_of() or Alone()
    restart = options.pop("restart", None)
    dies = options.pop("dies", None)  # [rank, step]
    stops, calls = options.pop("stops", None), itertools.count(1)  # after so many steps, and saves
    if options.pop("pids", False):
        (Path(folder) / f"{run}.{team.rank}.pid").write_text(str(os.getpid()))
    output = Path(folder) / run
    tree, stop = tree_of(kind, Path(folder), **options), lambda: next(calls) == stops
    for record in train(tree, output=output, restart=restart, stop=stop):
        if dies is not None and [team.rank, record.step] == dies:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
