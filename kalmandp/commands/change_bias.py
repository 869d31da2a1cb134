"""Fit the energy bias of a model to other data, or set it, as `dp change-bias` does: labels computed by
another program or functional have another zero of energy."""

from __future__ import annotations

from pathlib import Path


def add_arguments(parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model file of any kind")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-s", "--system", nargs="+", metavar="DATA", help="data to fit to: HDF5 or folders")
    source.add_argument(
        "-b", "--bias-value", nargs="+", type=float, metavar="E",
        help="energy per atom of each type (eV), in the model's order of types",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--mode", choices=("change", "set"), default="change",
        help="change: add what fits the model's errors best; set: take what fits the energies best [change]",
    )  # fmt: skip
    parser.add_argument(
        "-n", "--numb-batch", type=int, default=0, metavar="N", help="only the first N frames of each system"
    )
    parser.add_argument(
        "-o", "--output", metavar="MODEL", help="model to write [MODEL_updated beside the old one]"
    )


def run(args) -> int:
    from kalmandp.errors import require
    from kalmandp.potentials.adapting import with_bias
    from kalmandp.potentials.potential import Potential

    require(args.numb_batch >= 0, "-n", args.numb_batch, "a number of frames, 0 for all")
    potential = Potential.load(args.model)
    old = potential.bias_atom_e + potential.out_bias
    if args.bias_value is not None:
        types = ", ".join(potential.type_map)
        wanted = f"{len(old)} numbers, one per type ({types})"
        require(len(args.bias_value) == len(old), "-b", args.bias_value, wanted)
        changed = with_bias(potential, args.bias_value)
    else:
        changed = with_bias(potential, _fitted(potential, args))
    path = Path(args.model)
    output = Path(args.output) if args.output else path.with_stem(f"{path.stem}_updated")
    changed.save(output)
    print(f"{'type':6}{'from (eV)':>16}{'to (eV)':>16}")
    for name, before, after in zip(potential.type_map, old, changed.bias_atom_e, strict=True):
        print(f"{name:6}{before:16.6f}{after:16.6f}")
    print(output)
    return 0


def _fitted(potential, args):
    import numpy as np

    from kalmandp.frames.dataset import Dataset
    from kalmandp.potentials.adapting import refitted_bias

    with Dataset(args.system, potential.type_map) as data:
        if args.numb_batch:
            first = [frames[: args.numb_batch] for frames in data.by_system().values()]
            data = data.subset(np.sort(np.concatenate(first)))
        return refitted_bias(potential, data, args.mode)
