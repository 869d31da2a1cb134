"""Compare a model with labelled frames: RMSE and MAE of energy and virial per atom and of forces."""

from __future__ import annotations

import json

#: Started by mpiexec it shares the frames out over the ranks.
ON_RANKS = True


def add_arguments(parser) -> None:
    parser.add_argument("-m", "--model", required=True, metavar="MODEL", help="a model file of any kind")
    parser.add_argument(
        "-s", "--system", required=True, nargs="+", metavar="DATA",
        help="data: HDF5 files (file.hdf5, file.hdf5#/group) or deepmd/npy folders",
    )  # fmt: skip
    parser.add_argument(
        "-d", "--detail-file", metavar="PREFIX",
        help="write labels and predictions to PREFIX.e.out, PREFIX.f.out, … in DeePMD-kit's columns",
    )  # fmt: skip
    parser.add_argument(
        "--uncertainty", metavar="CHECKPOINT",
        help="take P from it and print the predicted σ beside the errors; with -d also write PREFIX.std.out",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate", nargs="+", metavar="DATA",
        help="labelled frames, not trained on, from which σ gets its scale",
    )  # fmt: skip
    parser.add_argument("-n", "--numb-test", type=int, default=0, metavar="N", help="only the first N frames")
    parser.add_argument("--json", action="store_true", help="print the errors as JSON")


def run(args) -> int:
    from kalmandp.commands.wording import plural
    from kalmandp.errors import InputError
    from kalmandp.frames.dataset import Dataset
    from kalmandp.potentials.potential import Potential
    from kalmandp.ranks.team import team_of
    from kalmandp.training.report.metrics import compare, summarize
    from kalmandp.training.report.shared import compare_over
    from kalmandp.training.report.summary import error_table, metrics_to_dict, write_details

    if args.numb_test < 0:
        raise InputError(f"-n is {args.numb_test}; expected a number of frames, 0 for all")
    team = team_of()
    potential = Potential.load(args.model)
    with Dataset(args.system, potential.type_map) as data:
        frames = data[: args.numb_test] if args.numb_test else data
        comparison = compare(potential, frames) if team is None else compare_over(team, potential, frames)
        addresses = [system.address for system in frames.systems]
        sure = _uncertainty(args, potential, frames, team)
    if team is not None and team.rank:  # rank 0 writes and speaks
        return 0
    metrics = summarize(comparison)
    data_name = addresses[0] if len(addresses) == 1 else ", ".join(args.system)
    written = []
    if args.detail_file:
        written = write_details(comparison, args.detail_file, data_name)
    if args.json:
        report = {"model": args.model, "data": args.system, **metrics_to_dict(metrics)}
        report |= {} if sure is None else {"uncertainty": sure.summary()}
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return 0
    print(f"{args.model} on {plural(metrics.n_frames, 'frame')} of {data_name}\n")
    print(error_table(metrics))
    if sure is not None:
        print("\n" + sure.table())
        if args.detail_file:
            written.append(sure.write(f"{args.detail_file}.std.out"))
    if written:
        print("\ndetails  " + "  ".join(map(str, written)))
    return 0


def _uncertainty(args, potential, frames, team):
    """σ of all frames beside their errors, if it is asked for."""
    from kalmandp.errors import InputError
    from kalmandp.frames.dataset import Dataset
    from kalmandp.training.report.coverage import coverage_of
    from kalmandp.training.uncertainty import UncertainPotential

    if not args.uncertainty:
        if args.calibrate:
            raise InputError("--calibrate is for --uncertainty CHECKPOINT, which is missing")
        return None
    known = UncertainPotential.from_checkpoint(args.uncertainty, potential)
    if args.calibrate:
        with Dataset(args.calibrate, potential.type_map) as data:
            known.calibrate(data)
    return coverage_of(known, frames, team)
