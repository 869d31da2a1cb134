"""How far several models differ, frame by frame: model_devi.out in the columns of `dp model-devi`."""

from __future__ import annotations


def add_arguments(parser) -> None:
    parser.add_argument("-m", "--models", required=True, nargs="+", metavar="MODEL", help="model files")
    parser.add_argument("-s", "--system", required=True, nargs="+", metavar="DATA", help="HDF5 or folders")
    parser.add_argument("-o", "--output", default="model_devi.out", metavar="FILE", help="[model_devi.out]")
    parser.add_argument(
        "-f", "--frequency", type=int, default=1, metavar="N", help="steps between frames, for column 1 [1]"
    )
    parser.add_argument(
        "--real_error", "--real-error", action="store_true", help="differences from the labels instead"
    )
    parser.add_argument(
        "--uncertainty", metavar="CHECKPOINT",
        help="σ of one model from the P of its run, in the same columns, instead of a committee",
    )  # fmt: skip
    parser.add_argument("--atomic", action="store_true", help="add a column for the force on each atom")
    parser.add_argument("--relative", type=float, metavar="LEVEL", help="forces over |F| + LEVEL, eV/Å")
    parser.add_argument(
        "--relative_v", "--relative-v", type=float, metavar="LEVEL",
        help="virials relative to ‖W‖/N + LEVEL (eV)",
    )  # fmt: skip


def run(args) -> int:
    import numpy as np

    from kalmandp.commands.wording import plural, table
    from kalmandp.errors import InputError
    from kalmandp.frames.dataset import Dataset
    from kalmandp.potentials.potential import Potential
    from kalmandp.training.report.model_deviation import (
        COLUMNS,
        expected_deviation,
        model_deviation,
        write_deviations,
    )
    from kalmandp.training.uncertainty import UncertainPotential

    if args.uncertainty and (len(args.models) > 1 or args.real_error):
        raise InputError("--uncertainty is for one model; expected one --models, and no --real_error")
    if len(args.models) == 1 and not (args.real_error or args.uncertainty):
        raise InputError(
            "--models names 1 model, which cannot differ from others; expected two or more, or --real_error "
            "for its differences from the labels, or --uncertainty for what its P says"
        )
    potentials = [Potential.load(path) for path in args.models]
    known = None
    if args.uncertainty:
        known = UncertainPotential.from_checkpoint(args.uncertainty, potentials[0])
    options = {"real_error": args.real_error, "relative": args.relative, "relative_v": args.relative_v}
    with Dataset(args.system, potentials[0].type_map) as data:
        systems = {
            address: [
                model_deviation(potentials, data[int(k)], **options)
                if known is None
                else expected_deviation(known, data[int(k)], args.relative, args.relative_v)
                for k in frames
            ]
            for address, frames in data.by_system().items()
        }
    write_deviations(args.output, systems, frequency=args.frequency, atomic=args.atomic)
    rows = np.array([d.row for deviations in systems.values() for d in deviations])
    mean = dict(zip(COLUMNS, rows.mean(axis=0), strict=True))
    print(f"{plural(len(potentials), 'model')} on {plural(len(rows), 'frame')}; mean over the frames:")
    print(table([(name, f"{value:.6e}") for name, value in mean.items()], indent="  "))
    print(args.output)
    return 0
