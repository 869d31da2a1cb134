"""Train inside a running molecular dynamics code: each frame is learnt when it has been computed.

    python examples/embedding/host_loop.py [--smoke]

The host here is a trajectory of silicon that was computed beforehand and is handed out one frame at a time.
It owns the loop, the arrays, the generator and the HDF5 file. Before a frame is learnt, the potential
predicts it, and the filter says how sure it is: a host would use the two to skip a calculation.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import h5py
import numpy as np

import kalmandp
from kalmandp.kalman import prediction_variance

DATA = Path(__file__).parents[2] / "data" / "si64_lda_train.h5"


def ab_initio(n_frames: int):
    """Stand-in of the host's calculation: a trajectory's (cell, positions, energy, forces), as arrays."""
    with kalmandp.Dataset(DATA) as trajectory:
        for frame in trajectory[:n_frames]:
            yield frame.cell, frame.positions, frame.energy, frame.forces


def start(frames, rng) -> kalmandp.OnlineTrainer:
    """A potential from the first frames: they give the statistics, not the fit."""
    types = np.zeros(64, dtype=np.int32)
    first = [kalmandp.Frame(r, types, ("Si",), cell=cell, energy=E) for cell, r, E, _ in frames]
    potential = kalmandp.Potential.create(
        ("Si",), rcut=5.0, rcut_smth=1.0, sel="auto:1.5", frames=first, rng=rng,
        embedding=(10, 20), axis_neuron=8, fitting=(20, 20), fitting_resnet_dt=False,
    )  # fmt: skip
    return kalmandp.OnlineTrainer(potential, rng=rng, threads=1)


def main(n_frames: int) -> None:
    rng = np.random.default_rng(1)
    online = start(list(ab_initio(4)), rng)
    print(f"{'frame':>6} {'force error before':>19} {'energy error before':>20} {'expected':>9}")
    for k, (cell, positions, energy, forces) in enumerate(ab_initio(n_frames), start=1):
        frame = online.frame(positions, ["Si"] * 64, cell=cell, energy=energy, forces=forces)
        if k == 1 or k % 10 == 0:
            now = online.potential.evaluate(frame)
            H = online.potential.energy_jacobian(frame)
            sigma = np.sqrt(prediction_variance(online.filter, H)[0])
            print(
                f"{k:6d} {np.sqrt(((now.forces - forces) ** 2).mean()):14.3f} eV/Å "
                f"{1e3 * abs(now.energy - energy) / 64:11.2f} meV/atom {1e3 * sigma / 64:9.2f}"
            )
        online.learn(frame)

    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder) / "md.h5", "w") as file:
        file["positions"] = positions  # the host's own restart data
        online.save(file.create_group("force_field"))
        again = kalmandp.OnlineTrainer.restore(file["force_field"])
    before, after = online.learn(frame), again.learn(frame)
    same = (online.filter.weights == again.filter.weights).all() and before.lam == after.lam
    print(f"restored from the host's file; the next step has {'the same' if same else 'OTHER'} bits")

    # the potential to take along: the mean of the weights of late, its energies fitted to this frame
    potential = online.averaged([frame])
    off = np.sqrt(((potential.evaluate(frame).forces - forces) ** 2).mean())
    print(f"averaged weights: force error {off:.3f} eV/Å on the last frame")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few frames only")
    main(10 if parser.parse_args().smoke else 100)
