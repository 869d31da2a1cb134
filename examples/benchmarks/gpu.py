"""What a GPU does with a Kalman update, a whole frame and a training, in one run of a few minutes.

    python examples/benchmarks/gpu.py [--rounds 7] [--seconds 420] [--deepmd-python PYTHON] [--json FILE]
                                      [--data TRAIN.h5 --test TEST.h5] [--small] [--dry-run]

Water, 192 atoms, the RLEKF paper's network (N = 53,102), blocks of P of at most 5120, medians over the
rounds:

- the Kalman update against the bandwidth of a copy in the same run, half of P counted once;
- whole steps beside DeePMD-kit's LKF and Adam on the same GPU, if DeePMD-kit (PyTorch) is installed;
- how long launching takes against the work itself, and the kernels of a step;
- learning: data/si64 with the settings of examples/silicon, and another data set if one is given;
- how a step grows with N, N_b, atoms and the batch, and a frame's way to the device.

Parts that would begin after ``--seconds`` are left out, and said to be. Without a GPU nothing is measured;
``--dry-run`` goes through everything in small, the kernels run by the host, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from support import gpu_runs, peer, water
from support.gpu_clock import GpuClock, HostClock
from support.gpu_runs import PAIRED, ROOT, SIGNED, Bench, Rows
from support.stages import ADAM
from support.turns import machine, medians, take_turns, write_json

from kalmandp.engines.cuda.launch import CupyDevice
from kalmandp.errors import KalmanDPError

SI64 = ROOT / "data/si64_lda_train.h5", ROOT / "data/si64_lda_test.h5"
#: Passes through a data set at most, and seconds of training for each.
EPOCHS, LEARNING_SECONDS = 14, 60.0


def emulated():
    """The tests' device of g++ and NumPy."""
    sys.path.insert(0, str(ROOT / "tests/engines"))
    from cuda_emulator import EmulatedDevice

    return EmulatedDevice()


def bench_of(options) -> Bench:
    """The device and the sizes that the options ask for."""
    network = {key: water.NETWORK[key] for key in ("embedding", "axis_neuron", "fitting")}
    if options.dry_run:
        device = emulated()
        small = {"embedding": (4, 8), "axis_neuron": 4, "fitting": (6, 6), "rcut": 3.0}
        return Bench(device, HostClock(device.xp), 1, 200, 24, small, 1 << 16)
    device = CupyDevice()
    clock = GpuClock(device.xp)
    if options.small:
        return Bench(device, clock, options.rounds, 512, 24, network, 1 << 24)
    return Bench(device, clock, options.rounds, 5120, 192, network, 1 << 30)


def beside_deepmd(bench: Bench, python: str | None, rounds: int) -> Rows:
    """DeePMD-kit's LKF and Adam steps on the same frame, network and GPU; no rows without DeePMD-kit."""
    if python is None:
        python = sys.executable if find_spec("deepmd") and find_spec("torch") else None
    if python is None:
        print("\nDeePMD-kit is not installed here, and --deepmd-python names none: it is not measured")
        return []
    frame = bench.frame()
    with tempfile.TemporaryDirectory() as folder, peer.Peer(python, 1, Path(folder), gpu=True) as deepmd:
        p = water.potential(frame, engine="numpy", **bench.network)
        clocks = {
            "DeePMD-kit's LKF step": deepmd.trainer(
                {"type": "LKF", "kf_blocksize": bench.block_size}, frame, p
            ).seconds,
            f"DeePMD-kit's {ADAM}": deepmd.trainer({"type": "Adam"}, frame, p).seconds,
        }
        taken = medians(take_turns(clocks, rounds))
    return [{"step": name, "ms": 1e3 * seconds} for name, seconds in taken.items()]


def parts_of(bench: Bench, options, copied: float) -> dict[str, Callable[[], Rows]]:
    """What is measured, by title, the most wanted first."""
    small = options.small or options.dry_run
    sizes = (1, 2, 5, 20) if small else (1, 2, 5, 8, 16, 32, 64, 79)
    n_b = [bench.block_size // n for n in (4, 2, 1)]
    atoms = (24,) if options.dry_run else (24, 192) if small else (192, 648, 1536, 6144)
    batches, widths = ((1, 2), (6, 8)) if small else ((1, 4, 16), (50, 100, 200))
    parts = {
        "Kalman update": lambda: gpu_runs.updates(bench, copied, sizes),
        "a step": lambda: gpu_runs.frames(bench),
        "a step by DeePMD-kit": lambda: beside_deepmd(bench, options.deepmd_python, options.rounds),
        "launches": lambda: gpu_runs.launches(bench),
        "kernels of a step, signed": lambda: gpu_runs.kernels(bench, SIGNED),
        "kernels of a step, paired": lambda: gpu_runs.kernels(bench, PAIRED),
    }
    data = {"si64": SI64} | ({options.data: (options.data, options.test)} if options.data else {})
    for name, (train, test) in data.items():
        parts[f"learning {name}"] = lambda train=train, test=test: gpu_runs.learning(
            bench, train, test, LEARNING_SECONDS, 1 if small else EPOCHS, small
        )
    parts["a frame to the device"] = lambda: gpu_runs.uploads(bench, atoms)
    for name, xs in (("N", widths), ("N_b", n_b), ("atoms", atoms), ("batch", batches)):
        parts[f"growth with {name}"] = lambda name=name, xs=xs: gpu_runs.growth(bench, name, xs)
    return parts


def show(title: str, rows: Rows) -> None:
    """A table with a column for each name of the first row."""
    width = {name: max(len(name), *(len(text(row[name])) for row in rows)) for name in rows[0]}
    print(f"\n{title}")
    print("  ".join(f"{name:>{width[name]}}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{text(value):>{width[name]}}" for name, value in row.items()))


def text(value) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=420.0, help="no part begins later than this")
    parser.add_argument("--deepmd-python", metavar="PYTHON", help="a Python that has DeePMD-kit with PyTorch")
    parser.add_argument("--data", metavar="TRAIN.h5", help="another data set to learn")
    parser.add_argument("--test", metavar="TEST.h5", help="its test frames; required with --data")
    parser.add_argument("--small", action="store_true", help="small sizes: seconds, not minutes")
    parser.add_argument("--dry-run", action="store_true", help="without a GPU: everything once, in small")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if bool(options.data) != bool(options.test):
        parser.error("--data and --test belong together")
    began = time.perf_counter()
    try:
        bench = bench_of(options)
    except KalmanDPError as error:
        print(f"nothing measured: {error}")
        return
    copied = gpu_runs.copy_bandwidth(bench)
    print(f"{bench.clock.name()}: a copy moves {copied / 1e9:.0f} GB/s, read and written")
    results, left_out = {}, []
    for title, run in parts_of(bench, options, copied).items():
        if time.perf_counter() - began > options.seconds:
            left_out.append(title)
        elif rows := run():
            show(title, rows)
            results[title] = rows
    took = time.perf_counter() - began
    print(f"\n{took:.0f} s" + (f"; left out for want of time: {', '.join(left_out)}" if left_out else ""))
    if options.json:
        write_json(options.json, {
            "machine": machine(), "device": bench.clock.name(), "copy, bytes/s": copied,
            "dry run": options.dry_run, "left out": left_out, **results,
        })  # fmt: skip


if __name__ == "__main__":
    main()
