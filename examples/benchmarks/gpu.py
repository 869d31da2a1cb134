"""What a GPU does with a Kalman update and a whole frame, against its own copy bandwidth in the same run.

    python examples/benchmarks/gpu.py [--small] [--rounds 7] [--json FILE]

Four tables: the Kalman update against the bandwidth that a plain copy reaches, half of P counted once;
whole frames; the kernels of a frame; and how a frame grows with weights, block size, atoms and batch. The
network is that of the RLEKF paper for two species (N = 53,102), the frames are jittered lattices at the
density of water. All figures are medians over the rounds. Without a GPU it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import replace

import numpy as np

from kalmandp import Architecture, Frame, Potential
from kalmandp.engines.cuda_filter import CudaRLEKF
from kalmandp.engines.cuda_launch import CupyDevice, Functions
from kalmandp.errors import KalmanDPError
from kalmandp.kalman import Part, covariance_memory, partition
from kalmandp.potential.weights import WeightLayout, initial_weights
from kalmandp.training.device import Gpu
from kalmandp.training.measurements import make_sample
from kalmandp.training.presets import PRESETS
from kalmandp.training.trainers import KalmanTrainer

#: Bytes copied to find the bandwidth: far more than any cache holds.
COPIED = 1 << 30
DENSITY = 0.1  # atoms per Å³, as in water


def lattice_frame(rng: np.random.Generator, n_atoms: int) -> Frame:
    """A jittered cubic lattice of two species with random labels."""
    n = round(n_atoms ** (1 / 3) + 0.5)
    spacing = DENSITY ** (-1 / 3)
    sites = np.stack(np.meshgrid(*[np.arange(n)] * 3), -1).reshape(-1, 3)[:n_atoms]
    positions = spacing * sites + rng.uniform(-0.3, 0.3, (n_atoms, 3))
    return Frame(
        positions, np.arange(n_atoms) % 3 // 2, ("A", "B"), cell=spacing * n * np.eye(3),
        energy=-1.0 * n_atoms, forces=rng.normal(size=(n_atoms, 3)),
    )  # fmt: skip


def potential(device, widths=(25, 25, 25), fitting=(50, 50, 50)) -> Potential:
    """The paper's network, or one with other widths, with random weights and plain statistics."""
    a = Architecture(("A", "B"), 6.0, 0.5, (200, 200), embedding=widths, axis_neuron=16, fitting=fitting)
    weights = initial_weights(WeightLayout(a), np.random.default_rng(1))
    ones = np.ones((2, 4))
    return Potential(a, weights, davg=0.1 * ones, dstd=ones, bias_atom_e=np.zeros(2), device=device)


class TimedDevice:
    """A device that notes the time of every kernel, by events in the stream."""

    def __init__(self, device):
        self.device, self.xp = device, device.xp
        self.events: list[tuple] = []

    def free_bytes(self) -> int:
        return self.device.free_bytes()

    def functions(self, file: str, **constants) -> Functions:
        inner, event = self.device.functions(file, **constants), self.xp.cuda.Event

        def launcher(name: str):
            kernel = getattr(inner, name)

            def launch(grid, block, arguments):
                begin, end = event(), event()
                begin.record()
                kernel(grid, block, *arguments)
                end.record()
                self.events.append((name, begin, end))

            return launch

        return Functions(launcher)

    def milliseconds(self) -> dict[str, list[float]]:
        self.xp.cuda.get_current_stream().synchronize()
        out = defaultdict(list)
        for name, begin, end in self.events:
            out[name].append(self.xp.cuda.get_elapsed_time(begin, end))
        self.events.clear()
        return out


def median_seconds(xp, run, count: int, rounds: int) -> float:
    """Seconds of one of ``count`` calls of ``run``, the stream empty before and after them."""
    stream, seconds = xp.cuda.get_current_stream(), []
    for _ in range(rounds + 1):
        stream.synchronize()
        began = time.perf_counter()
        for _ in range(count):
            run()
        stream.synchronize()
        seconds.append((time.perf_counter() - began) / count)
    return float(np.median(seconds[1:]))


def bandwidth(xp, rounds: int, n_bytes: int) -> float:
    """Bytes per second of a copy on the device, read and written counted."""
    source = xp.asarray(np.random.default_rng(0).normal(size=n_bytes // 8))
    target = xp.empty_like(source)

    def copy() -> None:
        target[...] = source

    return 2 * source.nbytes / median_seconds(xp, copy, 20, rounds)


def updates(device, rounds: int, block_size: int, copied: float) -> list[dict]:
    """Kalman updates of the paper's network: time, and half of P over it against the copy."""
    layout = potential(device).layout
    blocks = partition([Part(t.name, t.size, t.layer) for t in layout.tensors], "RLEKF", block_size)
    rng, rows = np.random.default_rng(2), []
    for dtype in ("float64", "float32"):
        halves = covariance_memory(blocks, dtype).halves
        for m in (1, 2, 5, 72):
            kalman = CudaRLEKF(np.zeros(layout.size), blocks, dtype=dtype, device=device)
            H = device.xp.asarray(rng.normal(size=(m, layout.size)) / np.sqrt(layout.size))
            error = device.xp.asarray(rng.normal(size=m))
            seconds = median_seconds(
                device.xp, lambda k=kalman, H=H, e=error: k.enqueue(H, e, 1.0), 32, rounds
            )
            kalman.settle()
            share = halves / seconds / copied
            rows.append({"P": dtype, "m": m, "ms": 1e3 * seconds, "half of P / copy": share})
    return rows


def frame_seconds(device, rounds: int, frames, n_groups=4, block_size=5120, dtype="float64", **net) -> dict:
    """A step of RLEKF with the paper's sequence of measurements, and with the default one."""
    row = {"atoms": sum(map(len, frames)), "frames": len(frames), "N_b": block_size}
    for preset in ("paper", "default"):
        choices = replace(PRESETS[preset], block_size=block_size, covariance_dtype=dtype, n_groups=n_groups)
        model = potential(device, **net)
        trainer = KalmanTrainer(model, choices, np.random.default_rng(3), Gpu(device))
        pairs = [model.engine.upload(frame) for frame in frames]

        def step(model=model, trainer=trainer, pairs=pairs) -> None:
            trainer.step(make_sample(model, frames, pairs))

        row["N"] = model.layout.size
        row[f"ms ({preset})"] = 1e3 * median_seconds(device.xp, step, 3, rounds)
    return row


def kernels(device, rounds: int, frame: Frame, block_size: int) -> list[dict]:
    """Time of each kernel in a step, and its share of all kernels; matrix products are cuBLAS's, not here."""
    timed = TimedDevice(device)
    frame_seconds(timed, 1, [frame], block_size=block_size)
    timed.milliseconds()
    frame_seconds(timed, rounds, [frame], block_size=block_size)
    spent = timed.milliseconds()
    total = sum(map(sum, spent.values()))
    rows = [
        {
            "kernel": name,
            "launches": len(ms),
            "median µs": 1e3 * float(np.median(ms)),
            "share": sum(ms) / total,
        }
        for name, ms in spent.items()
    ]
    return sorted(rows, key=lambda row: -row["share"])


def show(title: str, rows: list[dict]) -> None:
    print(f"\n{title}")
    print("".join(f"{name:>18}" for name in rows[0]))
    for row in rows:
        print("".join(f"{v:18.3f}" if isinstance(v, float) else f"{v:>18}" for v in row.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--small", action="store_true", help="small blocks and few atoms: seconds, not minutes"
    )
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    try:
        device = CupyDevice()
    except KalmanDPError as error:
        print(f"nothing measured: {error}")
        return
    small, rounds, rng = arguments.small, arguments.rounds, np.random.default_rng(5)
    block_size, atoms = (512, 64) if small else (5120, 192)
    copied = bandwidth(device.xp, rounds, COPIED >> 6 if small else COPIED)
    name = device.xp.cuda.runtime.getDeviceProperties(device.xp.cuda.Device().id)["name"].decode()
    print(f"{name}: a copy moves {copied / 1e9:.0f} GB/s, read and written")
    one = lattice_frame(rng, atoms)
    grow = lambda **change: frame_seconds(
        device, rounds, **{"frames": [one], "block_size": block_size, **change}
    )
    widths = [(10, 20, 20), (25, 25, 25)] + ([] if small else [(25, 50, 100)])
    results = {
        "Kalman update, N = 53,102": updates(device, rounds, block_size, copied),
        "kernels of whole frames (paper's and default sequence)": kernels(device, rounds, one, block_size),
        "growth with the weights N": [grow(widths=w) for w in widths],
        "growth with the block size N_b": [
            grow(block_size=b) for b in (block_size // 4, block_size // 2, block_size)
        ],
        "growth with atoms": [
            grow(frames=[lattice_frame(rng, n * atoms)]) for n in (1, 4, 16)[: 2 if small else 3]
        ],
        "growth with the batch": [grow(frames=[one] * n) for n in (1, 4, 16)[: 2 if small else 3]],
    }
    for title, rows in results.items():
        show(title, rows)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"device": name, "copy": copied, **results}, file, indent=1)


if __name__ == "__main__":
    main()
