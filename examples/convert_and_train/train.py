#!/usr/bin/env python3
"""From a folder of DFT outputs to a trained potential.

    python examples/convert_and_train/train.py                     # the outputs that come with it
    python examples/convert_and_train/train.py ~/my-vasp-runs -o run

Any folder will do that holds OUTCAR or vasprun.xml files of VASP, outputs of pw.x, CP2K or ABINIT, at any
depth and mixed: every file is recognised by how it begins. The same by hand, for OUTCARs::

    kalmandp convert runs/0[0-7]/OUTCAR train.h5      # steps without SCF convergence are left out
    kalmandp convert runs/0[89]/OUTCAR valid.h5
    kalmandp train input.json -o run                  # input.json names train.h5, valid.h5, the elements
    kalmandp test -m run/model.dp -s valid.h5

Whole files go to training or to validation, never single frames: the frames of one trajectory resemble
each other. If a folder holds OUTCAR and vasprun.xml of the same run, the latter is taken: its positions
have more decimals.

The outputs that come with it are four short runs of eight silicon atoms (Quantum ESPRESSO, Γ point, 12 Ry,
0.1 to 0.3 ps): enough to see that it works, not enough for physics. They were computed by
``tests/frames/outputs/make_outputs.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import kalmandp
from kalmandp.cli import main as kalmandp_command
from kalmandp.formats.programs.registry import PROGRAMS, recognise

HERE = Path(__file__).parent


def outputs(folder: Path) -> list[Path]:
    """The files of a folder that a reader knows, in the order of their names."""
    found = {path: recognise(str(path)) for path in sorted(folder.rglob("*")) if path.is_file()}
    with_xml = {path.parent for path, format in found.items() if format == "vasp/xml"}
    return [
        path
        for path, format in found.items()
        # dumps of LAMMPS and .cfg of MLIP do not name their elements: by hand, with --type-map
        if format in PROGRAMS
        and format not in ("lammps/dump", "mtp")
        and not (format == "vasp/outcar" and path.parent in with_xml)
    ]


def split(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Every fourth file for validation, the others for training."""
    if len(paths) < 2:
        sys.exit(f"found {len(paths)} outputs; expected at least two, one for validation")
    valid = paths[2::4] or paths[-1:]
    return [path for path in paths if path not in valid], valid


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / "outputs", help="of DFT outputs")
    parser.add_argument("-o", "--output", type=Path, default=Path("run"), help="folder for the results [run]")
    parser.add_argument("--smoke", action="store_true", help="only a few steps, to see that all works")
    args = parser.parse_args()

    args.output.mkdir(parents=True, exist_ok=True)
    parts = dict(zip(("train", "valid"), split(outputs(args.folder)), strict=True))
    for name, paths in parts.items():
        done = kalmandp.convert(paths, args.output / f"{name}.h5")
        print(f"{name}: {done.frames} frames of {len(paths)} files, {len(done.skipped)} left out")
        for message in done.skipped:
            print(f"  {message}")

    settings = json.loads((HERE / "input.json").read_text())
    with kalmandp.Dataset([args.output / "train.h5", args.output / "valid.h5"]) as data:
        settings["model"]["type_map"] = list(data.type_map)
        settings["optimizer"]["with_virial"] = all(frame.virial is not None for frame in data)
    (args.output / "input.json").write_text(json.dumps(settings, indent=4))

    smoke = ["--smoke"] if args.smoke else []
    command = ["train", str(args.output / "input.json"), "-o", str(args.output), "--skip-plots", *smoke]
    if status := kalmandp_command(command):
        return status
    model, valid = args.output / "model.dp", args.output / "valid.h5"
    return kalmandp_command(["test", "-m", str(model), "-s", str(valid)])


if __name__ == "__main__":
    sys.exit(main())
