"""Make a model ready for DeePMD-kit's `dp compress`. kalmandp itself evaluates every smooth embedding from a
table (relative error about 1e-14, for very sharp nets up to 1e-9), so that there is nothing to compress here;
DeePMD-kit tabulates on demand, and for that the model must know the closest distance of atoms in its data."""

from __future__ import annotations

import shlex
from pathlib import Path


def add_arguments(parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model file (.dp, .yaml)")
    parser.add_argument(
        "-s", "--system", nargs="+", metavar="DATA", help="data to take the closest distance from"
    )
    parser.add_argument("-o", "--output", metavar="MODEL", help="with -s: the model to write [MODEL itself]")


def run(args) -> int:
    from kalmandp.errors import InputError
    from kalmandp.potentials.potential import Potential
    from kalmandp.registry import KINDS, kind_of, load

    if args.output and not args.system:
        raise InputError("-o is given without -s; expected data to take the closest distance from")
    potential = Potential.load(args.model)
    path = Path(args.model)
    compression = load(kind_of(potential.form).files).compression
    if compression is None:
        able = [name for name, kind in KINDS.items() if load(kind.files).compression is not None]
        raise InputError(
            f"{path}: is a model of the kind {potential.form.kind}, in which nothing is tabulated; expected "
            f"one that DeePMD-kit compresses, {', '.join(able)}"
        )
    if args.system:
        potential.info["min_nbor_dist"] = _closest(potential, args.system)
        path = Path(args.output or args.model)
        potential.save(path)
    closest = potential.info.get("min_nbor_dist")
    if closest is None:
        raise InputError(
            f"{path}: does not know the closest distance in its data, which `dp compress` needs; expected "
            f"`kalmandp compress {shlex.quote(str(path))} -s DATA`"
        )
    print(f"{path}: closest pair {closest:.4f} Å. Nothing to do for kalmandp, which always tabulates.")
    print("For DeePMD-kit:")
    for command in compression(path):
        print(f"  {shlex.join(command)}")
    return 0


def _closest(potential, systems) -> float:
    from kalmandp.errors import InputError
    from kalmandp.frames.dataset import Dataset
    from kalmandp.geometry.neighbours import neighbour_statistics

    with Dataset(systems, potential.type_map) as data:
        closest = neighbour_statistics(data, potential.form.cutoff).min_distance
    if closest == float("inf"):
        raise InputError(f"{', '.join(systems)}: no two atoms lie within the cut-off; expected a pair")
    return closest
