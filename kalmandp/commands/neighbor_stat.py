"""The closest pair of atoms and the most neighbours of each type within a cut-off, as `dp neighbor-stat`
prints them, and the `sel` that they make."""

from __future__ import annotations

import json


def add_arguments(parser) -> None:
    parser.add_argument("-s", "--system", required=True, nargs="+", metavar="DATA", help="HDF5 or folders")
    parser.add_argument("-r", "--rcut", required=True, type=float, metavar="R", help="cut-off, Å")
    parser.add_argument(
        "-t", "--type-map", nargs="+", metavar="EL", help="names of the types, in this order"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args) -> int:
    from kalmandp.frames.dataset import Dataset
    from kalmandp.geometry.neighbours import auto_sel, neighbour_statistics

    with Dataset(args.system, args.type_map) as data:
        most_t, closest = neighbour_statistics(data, args.rcut)
        type_map = list(data.type_map)
    sel = auto_sel(most_t)
    if args.json:
        distance = None if closest == float("inf") else closest
        counts = {"max_nbor_size": most_t.tolist(), "sel": sel}
        report = {"type_map": type_map, "min_nbor_dist": distance, **counts}
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return 0
    print(f"type_map: {type_map}")
    print(f"min_nbor_dist: {closest:f}")
    print(f"max_nbor_size: {most_t.tolist()}")
    print(f'sel of "auto": {sel}')
    return 0
