"""What `gpu.py` measures: copies, Kalman updates, frames, launches, kernels, growth, and learning itself."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kalmandp import Dataset, Frame
from kalmandp.engines.cuda.filter import CudaRLEKF
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.kalman import Blocks, covariance_memory, partition
from kalmandp.kalman.coupled import WINDOW
from kalmandp.training.config.inputs import read_input
from kalmandp.training.config.presets import resolve
from kalmandp.training.config.settings import (
    LearningRateSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    Settings,
    TrainingSettings,
)
from kalmandp.training.loop import Run
from kalmandp.training.measurements.measurement import make_sample
from kalmandp.training.placement.device import Gpu
from kalmandp.training.placement.memory import parts_of
from kalmandp.training.report.metrics import evaluate
from kalmandp.training.trainers.adam import AdamTrainer
from kalmandp.training.trainers.kalman import KalmanTrainer

from . import water
from .gpu_clock import GpuClock, HostClock, TimedDevice, host_and_device, seconds_of
from .stages import ADAM

ROOT = Path(__file__).parents[3]
#: How a frame is measured: the preset, and what is put in the place of its choices.
MANNERS: dict[str, tuple[str, dict]] = {
    "signed (paper), float64": ("paper", {}),
    "paired, coupled (default)": ("default", {}),
    "paired, large blocks, float64": ("default", {"coupled": False}),
    "paired, large blocks, float32": ("default", {"coupled": False, "covariance_dtype": "float32"}),
    "joint, large blocks, float64": ("default", {"coupled": False, "measurement": "joint"}),
}
SIGNED, PAIRED, *_, JOINT = MANNERS
#: Columns that the covariance gathers before it folds them in.
CYCLE = WINDOW
Rows = list[dict[str, Any]]


@dataclass
class Bench:
    """The device, its clock, and the sizes of things.

    rounds : of every timing;  atoms : of a frame;  network : its widths;  copied : bytes
    """

    device: Any
    clock: GpuClock
    rounds: int
    block_size: int
    atoms: int
    network: dict
    copied: int

    @property
    def xp(self):
        return self.device.xp

    def seconds(self, run, count: int) -> float:
        """Of one of ``count`` calls; on the host, whose figures mean nothing, there is one."""
        return seconds_of(self.clock, run, 1 if isinstance(self.clock, HostClock) else count, self.rounds)

    def frame(self, atoms: int | None = None) -> Frame:
        frame = water.water(self.atoms if atoms is None else atoms)
        return water.labelled(frame, device=self.device, **self.network)

    def potential(self, frame: Frame, device=None, **network):
        device = self.device if device is None else device
        return water.potential(frame, device=device, **{**self.network, **network})


class Steps:
    """Training steps on the same frames over and over; their pairs lie on the device."""

    def __init__(
        self, bench: Bench, frames: list[Frame], manner: str, device=None, block_size=None, **network
    ):  # fmt: skip
        device = bench.device if device is None else device
        self.frames, self.potential = frames, bench.potential(frames[0], device, **network)
        self.pairs = [self.potential.engine.upload(frame) for frame in frames]
        if manner == ADAM:
            form = self.potential.form
            settings = Settings(
                ModelSettings(form.kind, form.type_map, form.cutoff), OptimizerSettings(type="Adam"),
                LossSettings(), LearningRateSettings(), TrainingSettings(systems=()),
            )  # fmt: skip
            self.trainer: Any = AdamTrainer(self.potential, settings, 1_000_000)
        else:
            preset, stated = MANNERS[manner]
            choices = resolve(OptimizerSettings(preset=preset, **stated))  # float32: blocks not coupled
            # coupled blocks are the small ones of the preset, unless a size is asked for
            usual = min(bench.block_size, choices.block_size) if choices.coupled else bench.block_size
            choices = replace(choices, block_size=block_size or usual)
            self.trainer = KalmanTrainer(self.potential, choices, np.random.default_rng(3), Gpu(device))

    def __call__(self) -> None:
        """A step as in training: environment, measurements, updates, and how they went."""
        self.trainer.step(make_sample(self.potential, self.frames, self.pairs))

    def without_waiting(self, updates: int):
        """The first updates of a step, which put work into the stream and do not look at it."""
        sample = make_sample(self.potential, self.frames, self.pairs)
        self.trainer.step(sample)  # chooses the table

        def run() -> None:
            for _, measurement in zip(range(updates), self.trainer.measure(sample), strict=False):
                self.trainer.update(measurement)

        return run


def copy_bandwidth(bench: Bench) -> float:
    """Bytes per second of a copy on the device, read and written counted."""
    source = bench.xp.asarray(np.random.default_rng(0).normal(size=bench.copied // 8))
    target = bench.xp.empty_like(source)

    def copy() -> None:
        target[...] = source

    return 2 * source.nbytes / bench.seconds(copy, 20)


def updates(bench: Bench, copied: float, sizes) -> Rows:
    """Kalman updates of m numbers: time, and half of P read once over that time, against the copy.

    A run is as many updates as fill the pending columns, so that folds count as often as they come.
    """
    rng, rows, blocks = np.random.default_rng(2), [], blocks_of(bench)
    for dtype in ("float64", "float32"):
        halves = covariance_memory(blocks, dtype).halves
        for m in sizes:
            seconds = update_seconds(bench, blocks, m, dtype, rng)
            rows.append({
                "P": dtype, "m": m, "ms": 1e3 * seconds, "µs a number": 1e6 * seconds / m,
                "half of P/copy": halves / seconds / copied,
            })  # fmt: skip
    return rows


def blocks_of(bench: Bench) -> Blocks:
    """The paper's blocks of the network's weights."""
    return partition(parts_of(bench.potential(bench.frame()).layout), "RLEKF", bench.block_size)


def update_seconds(bench: Bench, blocks, m: int, dtype: str, rng) -> float:
    """Seconds of an update with random H of m numbers."""
    N = blocks.n_weights
    kalman = CudaRLEKF(np.zeros(N), blocks, dtype=dtype, device=bench.device)
    H = bench.xp.asarray(rng.normal(size=(m, N)) / np.sqrt(N))
    error = bench.xp.asarray(rng.normal(size=m))
    seconds = bench.seconds(lambda: kalman.enqueue(H, error, 1.0), max(CYCLE // m, 4))
    kalman.synchronize()
    return seconds


def frames(bench: Bench) -> Rows:
    """Whole steps on a frame of water."""
    rows = []
    for manner in (*MANNERS, ADAM):
        steps = Steps(bench, [bench.frame()], manner)
        rows.append({"step": manner, "ms": 1e3 * bench.seconds(steps, 5)})
    return rows


def launches(bench: Bench) -> Rows:
    """What the host takes to launch the first updates of a step, and the GPU to do them without a gap.

    Where launching takes longer than the work, the GPU waits for the host, and fewer launches (larger
    kernels, or CUDA graphs) would shorten a step by up to the difference.
    """
    rows = []
    for manner, n in ((SIGNED, 2), (PAIRED, 1), (JOINT, 1)):
        steps = Steps(bench, [bench.frame()], manner)
        host, gpu = host_and_device(bench.clock, steps.without_waiting(n), bench.rounds)
        steps.trainer.synchronize()
        rows.append({
            "updates": n, "of a step": manner, "launching, ms": 1e3 * host, "GPU alone, ms": 1e3 * gpu,
            "GPU idle": max(0.0, 1 - gpu / host),
        })  # fmt: skip
    return rows


def kernels(bench: Bench, manner: str) -> Rows:
    """Time of each of our kernels in a step; matrix products are cuBLAS's and not among them."""
    timed = TimedDevice(bench.device, bench.clock)
    steps = Steps(bench, [bench.frame()], manner, device=timed)
    steps()
    timed.milliseconds()
    for _ in range(bench.rounds):
        steps()
    spent = timed.milliseconds()
    total = sum(map(sum, spent.values()))
    rows = [
        {
            "kernel": name, "a step": len(ms) / bench.rounds, "median µs": 1e3 * float(np.median(ms)),
            "share": sum(ms) / total,
        }
        for name, ms in spent.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["share"])


def uploads(bench: Bench, sizes) -> Rows:
    """A frame brought to the device, its neighbours found there, or by the host beforehand."""
    rows = []
    for n in sizes:
        frame = bench.frame(n)
        engine = bench.potential(frame).engine
        there = lambda frame=frame, engine=engine: engine.upload(frame)
        given = lambda frame=frame, engine=engine: engine.upload(
            frame, neighbour_pairs(frame, engine.form.cutoff)
        )
        rows.append({
            "atoms": n, "ms": 1e3 * bench.seconds(there, 3), "by the host, ms": 1e3 * bench.seconds(given, 3),
            "kB": there().nbytes / 1e3,
        })  # fmt: skip
    return rows


def growth(bench: Bench, name: str, sizes) -> Rows:
    """Milliseconds of a step in the paper's manner and in ours as one thing grows."""
    rows = []
    for x in sizes:
        some, change = [bench.frame()], {}
        if name == "atoms":
            some = [bench.frame(x)]
        elif name == "batch":
            some = x * some
        elif name == "N_b":
            change = {"block_size": x}
        else:
            change = {"fitting": (x,) * len(bench.network["fitting"])}
        runs = {manner: Steps(bench, some, manner, **change) for manner in (SIGNED, PAIRED)}
        times = {f"ms, {manner}": 1e3 * bench.seconds(run, 3) for manner, run in runs.items()}
        N = runs[SIGNED].potential.layout.size
        rows.append(
            {name if name != "N" else "fitting nets": x, **({"N": N} if name == "N" else {}), **times}
        )
    return rows


def learning(bench: Bench, data: Path, test: Path, seconds: float, epochs: int, small: bool) -> Rows:
    """Errors on ``test`` after each pass through ``data`` with the settings of examples/silicon.

    Seconds are those of the steps, evaluation left out. It ends after so many epochs or seconds.
    """
    tree = json.loads((ROOT / "examples/silicon/input.json").read_text(encoding="utf-8"))
    tree["training"] = {
        "training_data": {"systems": str(data)}, "numb_epoch": epochs, "seed": 1, "disp_freq": 10**9,
        "save_freq": 10**9,
    }  # fmt: skip
    if small:
        tree["model"]["descriptor"] |= {"neuron": [4, 8], "axis_neuron": 4, "rcut": 3.0}
        tree["model"]["fitting_net"]["neuron"] = [6, 6]
        tree["optimizer"]["block_size"] = bench.block_size
    rows: Rows = []
    with Dataset(data) as train_on, Dataset(test) as tested, tempfile.TemporaryDirectory() as folder:
        tree["model"]["type_map"] = list(train_on.type_map)
        steps, wanted = (1, tested[:1]) if small else (len(train_on), tested)
        run = Run(read_input(tree), folder, device=bench.device)
        while len(rows) < epochs and run.seconds < seconds:
            for _ in range(steps):
                run.step()
            errors = evaluate(run.potential, wanted)
            rows.append({
                "epoch": len(rows) + 1, "frames": run.step_number, "seconds": run.seconds,
                "meV/atom": 1e3 * errors.energy_rmse, "meV/Å": 1e3 * errors.force_rmse,
            })  # fmt: skip
    return rows
