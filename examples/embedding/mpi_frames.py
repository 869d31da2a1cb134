"""Many ranks, one filter: each rank measures frames of its own, and all of them make the same update.

    mpiexec -n 2 python examples/embedding/mpi_frames.py [--smoke]

The derivatives of a batch are summed before the covariance is updated (early reduction, as in FEKF), so
B frames cost one update of P. The filter is replicated: what goes over the network is H, N numbers per
measurement, never P. All ranks hold the same bits, and so does a run with another number of ranks,
because the mean goes through the frames in their order wherever they were computed.
Without mpi4py, or without mpiexec, the same program runs on one rank.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

import kalmandp
from kalmandp.training.measurements.measurement import Measurement, combine

DATA = Path(__file__).parents[2] / "data" / "si64_lda_train.h5"
ARRAYS = ("H_qw", "error_q", "noise_q")  # of a Measurement
BATCH = 4  # frames per update; a multiple of the number of ranks


class OneRank:
    """What is asked of a communicator, without MPI."""

    rank, size = 0, 1

    @staticmethod
    def Allgather(one, every):
        every[0] = one


def communicator():
    """MPI's world, or `OneRank`."""
    try:
        from mpi4py import MPI
    except ImportError:
        return OneRank()
    return MPI.COMM_WORLD


def gather(comm, own: list[Measurement]) -> list[Measurement]:
    """The measurements of all ranks, in the order of the frames, on every rank."""
    rows = []
    for field in ARRAYS:
        mine = np.stack([getattr(m, field) for m in own])
        every = np.empty((comm.size, *mine.shape))
        comm.Allgather(mine, every)
        rows.append(every.reshape(-1, *mine.shape[1:]))
    return [own[0]._replace(**dict(zip(ARRAYS, row, strict=True))) for row in zip(*rows, strict=True)]


def main(n_steps: int) -> None:
    comm = communicator()
    assert BATCH % comm.size == 0, f"{comm.size} ranks do not divide a batch of {BATCH} frames"
    each = BATCH // comm.size
    with kalmandp.Dataset(DATA) as data:
        rng = np.random.default_rng(1)  # the same on every rank
        potential = kalmandp.Potential.create(
            ("Si",), rcut=5.0, rcut_smth=1.0, frames=data[::20], rng=rng,
            embedding=(10, 20), axis_neuron=8, fitting=(20, 20), fitting_resnet_dt=False,
        )  # fmt: skip
        online = kalmandp.OnlineTrainer(potential, rng=rng, threads=1)
        for step in range(n_steps):
            batch = rng.permutation(len(data))[:BATCH]
            mine = range(comm.rank * each, (comm.rank + 1) * each)
            # a generator for each frame: the atoms drawn do not depend on who draws them
            running = [
                online.measure(data[int(batch[k])], np.random.default_rng([step, k])) for k in mine
            ]
            for own in zip(*running, strict=True):
                online.update(combine(gather(comm, list(own))), BATCH)
        errors = kalmandp.evaluate(online.potential, data[::10])
    bits = hashlib.sha256(online.filter.weights.tobytes()).hexdigest()[:16]
    seen = np.empty((comm.size, 1), dtype=np.uint64)
    comm.Allgather(np.array([int(bits, 16)], dtype=np.uint64), seen)
    if comm.rank == 0:
        agree = "the same on all" if (seen == seen[0]).all() else "DIFFERENT"
        print(
            f"{comm.size} rank{'s' * (comm.size > 1)}, {n_steps} updates of {BATCH} frames: force RMSE "
            f"{1e3 * errors.force_rmse:.1f} meV/Å, weights {bits} ({agree})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few steps only")
    main(2 if parser.parse_args().smoke else 40)
