"""Every reader, and how a damaged file is given to it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path


def read_input(path: Path) -> None:
    from kalmandp.training.config.inputs import read_input

    read_input(path)


def extxyz(path: Path) -> None:
    from kalmandp.formats.extxyz import read_extxyz

    for make in read_extxyz(path):
        make()


def dataset(path: Path) -> None:
    from kalmandp.frames.dataset import Dataset

    with Dataset(path) as data:
        for frame in data:
            len(frame)
        _ = data.systems, data.labels, data.attributes, data.ignored, data.natoms(0)


def potential(path: Path) -> None:
    from kalmandp.potentials.potential import Potential

    Potential.load(path)


def checkpoint(path: Path) -> None:
    from kalmandp.training.state.checkpoint import load_checkpoint

    load_checkpoint(path)


def command(*arguments: str) -> Callable[[Path], None]:
    """A command of `kalmandp`; what it refuses it must refuse with a KalmanDPError."""

    def call(path: Path) -> None:
        from kalmandp import cli

        args = cli.make_parser().parse_args([*arguments, str(path)])
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            args.run(args)

    return call


def curve(path: Path) -> None:
    from kalmandp import plots

    plots.learning_curve(path, path.parent / "curve.svg")


def details(path: Path) -> None:
    from kalmandp.training.report.summary import read_details

    read_details(path.parent / path.name.rpartition(".f.out")[0])


def restart(path: Path) -> None:
    """Go on with a run: `path` is a folder with input, data and checkpoint."""
    out = path.parent / "out"
    command("train", str(path / "input.json"), "-o", str(out), "--quiet", "--skip-plots", "--restart")(
        path / "model.ckpt.h5"
    )


def doctor(path: Path) -> None:
    from kalmandp.doctor import examine

    examine(path)


#: kind of `seeds.make` -> reader, and the ways of damage: b bytes, w words, h structure of HDF5
TARGETS: dict[str, tuple[Callable[[Path], None], str]] = {
    "input": (read_input, "bww"),
    "extxyz": (extxyz, "bww"),
    "hdf5": (dataset, "bbh"),
    "theirs": (dataset, "bbh"),
    "npy": (dataset, "b"),
    "dp": (potential, "bbh"),
    "yaml": (potential, "bww"),
    "checkpoint": (checkpoint, "bbh"),
    "info": (command("info"), "bbh"),
    "curve": (curve, "bw"),
    "details": (details, "bww"),
    "restart": (restart, "b"),
    "doctor": (doctor, "bww"),
    "doctor hdf5": (doctor, "hhb"),
}
