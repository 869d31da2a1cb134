"""What the tests start under mpiexec: ``train.py KIND FOLDER RUN JSON``; JSON has options of the run."""

from __future__ import annotations

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
    if options.pop("pids", False):
        (Path(folder) / f"{run}.{team.rank}.pid").write_text(str(os.getpid()))
    output = Path(folder) / run
    for record in train(tree_of(kind, Path(folder), **options), output=output, restart=restart):
        if dies is not None and [team.rank, record.step] == dies:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
