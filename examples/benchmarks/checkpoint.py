"""Size and time of a checkpoint against the same bytes written and synced by a plain program.

    python examples/benchmarks/checkpoint.py

P is that of a [25, 25, 25] × 16 potential of two types with a [50, 50, 50] fitting net, N = 53,102, in
blocks of at most 5,120: about 1 GiB of halves in float64. It is filled with random numbers, which is what a
trained P looks like to a disk. All files are written in the same run, in turn; the fastest of each counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from kalmandp.kalman import RLEKF
from kalmandp.kalman.blocks import covariance_memory, partition
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.potential import Potential
from kalmandp.training.placement.memory import parts_of
from kalmandp.training.state.checkpoint import open_checkpoint, save_checkpoint


def filter_of(small: bool, dtype: str) -> tuple[Potential, RLEKF]:
    """A potential with random weights and its filter, no number of P being zero."""
    widths = ((10, 10), (10, 10)) if small else ((25, 25, 25), (50, 50, 50))
    a = Architecture(
        ("A", "B"), rcut=6.0, rcut_smth=0.5, sel=(50, 50), embedding=widths[0], fitting=widths[1],
        axis_neuron=4 if small else 16, type_one_side=True, fitting_resnet_dt=False,
    )  # fmt: skip
    layout = a.layout()
    rng = np.random.default_rng(0)
    weights = rng.normal(size=layout.size)
    potential = Potential(
        a, weights, davg=np.zeros((2, 4)), dstd=np.ones((2, 4)), bias_atom_e=np.zeros(2), engine="numpy"
    )
    kalman = RLEKF(weights, partition(parts_of(layout)), covariance="tiled", dtype=dtype)
    tiles = kalman.state(copy=False)["P/tiles"]
    for start in range(0, len(tiles), 1024):
        tiles[start : start + 1024] = rng.normal(size=tiles[start : start + 1024].shape)
    return potential, kalman


def plain(path: Path, kalman: RLEKF) -> None:
    """P's bytes into a file, and the file onto the disk."""
    with open(path, "wb", buffering=0) as file:
        view = memoryview(kalman.state(copy=False)["P/tiles"]).cast("B")
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


def timed(action) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a small network, to see that all works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--folder", default=".", help="on the disk that is measured [.]")
    args = parser.parse_args()
    potential, kalman = filter_of(args.small, args.dtype)
    halves = covariance_memory(kalman.blocks, args.dtype).halves
    seconds: dict[str, list[float]] = {"plain": [], "checkpoint": [], "as float32": [], "read": []}
    sizes = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, raw = Path(folder) / "model.ckpt.h5", Path(folder) / "raw"

        def save(dtype=None) -> None:
            save_checkpoint(
                path, potential=potential, source={}, rng=np.random.default_rng(0),
                states={"optimizer": kalman.state(copy=False), "feed": {}, "history": {}},
                step=0, seconds=0.0, covariance_dtype=dtype,
            )  # fmt: skip

        def read() -> None:
            with open_checkpoint(path) as saved:
                RLEKF.from_state(saved["optimizer"])

        for _ in range(args.rounds):
            seconds["plain"].append(timed(lambda: plain(raw, kalman)))
            if args.dtype == "float64":
                seconds["as float32"].append(timed(lambda: save("float32")))
                sizes["as float32"] = path.stat().st_size
            seconds["checkpoint"].append(timed(save))
            sizes["checkpoint"] = path.stat().st_size
            seconds["read"].append(timed(read))
            sizes["plain"] = raw.stat().st_size
    print(f"N = {kalman.blocks.n_weights:,}, P {args.dtype}, halves {halves / 2**20:.1f} MiB")
    for name, times in seconds.items():
        if times:
            size = sizes.get(name, sizes["checkpoint"])
            print(
                f"{name:<12} {size / 2**20:9.1f} MiB  {size / halves:5.3f} of the halves  "
                f"{min(times):7.3f} s  {min(times) / min(seconds['plain']):5.2f} of the plain write"
            )


if __name__ == "__main__":
    main()
