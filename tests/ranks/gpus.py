"""``gpus.py FOLDER``: batches on the ranks' GPUs, emulated, which share P.

Rank 0 writes the weights to FOLDER/R.npy, and the bytes of P on each rank to FOLDER/R.bytes.npy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "training"), str(TESTS / "engines")]


def main(folder: str) -> None:
    from cuda_emulator import EmulatedDevice
    from small_models import tree_of

    from kalmandp.ranks.team import team_of
    from kalmandp.training.config.inputs import read_input
    from kalmandp.training.loop import Run

    team = team_of()
    optimizer = {"n_groups": 1, "block_size": 64}
    tree = tree_of("se_e2_a", Path(folder), data={"batch_size": 3}, optimizer=optimizer, disp_freq=100)
    tree["model"] |= {"descriptor": {**tree["model"]["descriptor"], "rcut": 3.2, "sel": [8, 8]}}
    run = Run(read_input(tree), Path(folder) / f"run {team.size}", device=EmulatedDevice(), team=team)
    for _ in range(2):
        run.step()
    run.checkpoint()
    held = team.all(run.trainer.filter.covariance.nbytes)
    if team.rank == 0:
        np.save(Path(folder) / f"{team.size}.bytes.npy", held)
        np.save(Path(folder) / f"{team.size}.npy", run.potential.weights)


if __name__ == "__main__":
    main(sys.argv[1])
