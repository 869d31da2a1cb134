"""Three ranks: 1 and 2 share a filter over a communicator of the host's, 0 has one of its own beside it.

Rank 0 prints what differs between the two, and ends with status 1 if anything does.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

from small_models import DATA, tree_of

import kalmandp
from kalmandp.errors import InputError
from kalmandp.training.config.inputs import read_input
from kalmandp.training.starting import new_potential

LABELS = ("energy", "forces", "virial", "atomic_energies")


def learnt(comm, folder: Path, name: str, batches: list) -> list:
    """What a trainer knows after these batches, saved and read again half way."""
    frames, model = batches[0], read_input(tree_of("hdnnp", folder)).model
    potential = new_potential(model, frames, np.random.default_rng(0), None, "cpu")
    online = kalmandp.OnlineTrainer(potential, rng=np.random.default_rng(5), comm=comm, preset="default")
    for batch in batches[:2]:
        online.learn(batch)
    path = folder / f"{name}.h5"
    file = h5py.File(path, "w") if comm.rank == 0 else None
    online.save(None if file is None else file.create_group("online"))
    if file is not None:
        file.close()
    comm.Barrier()
    online.close()
    with h5py.File(path, "r") as file:
        online = kalmandp.OnlineTrainer.restore(file["online"], comm=comm)
    for batch in batches[2:]:
        info = online.learn(batch)
    _, sigma = online.predict_with_uncertainty(frames[0])
    P = online.filter.covariance
    done = np.array([info.lam, online.steps])
    found = [online.filter.weights, P.diagonal(), P.dense(0), sigma.forces, done]
    apart = kalmandp.OnlineTrainer(potential, rng=np.random.default_rng(5), comm=comm, preset="default")
    try:
        apart.learn(frames[comm.rank])
        refused = ""
    except InputError as error:
        refused = str(error)
    apart.close()
    assert ("rank 1: the first frame differs" in refused) == (comm.size > 1), refused
    message = None
    try:
        online.learn([frames[0], replace(frames[0], **dict.fromkeys(LABELS)), frames[1]])
    except InputError as error:
        message = str(error)
    online.close()
    return [*found, message]


def main(folder: Path) -> int:
    world = MPI.COMM_WORLD
    with kalmandp.Dataset(DATA / "NaCl_train.h5") as data:
        frames = list(data[:8])
    batches = [frames[:3], frames[3:4], frames[4:8], frames[1:2]]
    ours = world.Split(color=int(world.rank > 0), key=-world.rank)  # rank 2 of the world is rank 0
    note = ours.isend("of the host", dest=(ours.rank + 1) % ours.size, tag=1)  # waits for the host alone
    found = learnt(ours, folder, f"of {ours.size}", batches)
    assert ours.recv(tag=1) == "of the host"
    note.wait()
    told = world.gather(found)
    if world.rank:
        return 0
    alone, *shared = told
    for other in shared:
        for one, two in zip(alone, other, strict=True):
            np.testing.assert_array_equal(one, two)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
