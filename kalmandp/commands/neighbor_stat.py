"""The closest pair of atoms and the most neighbours of each type within a cut-off, as `dp neighbor-stat`
prints them, and what kinds of potential make of them: the `sel` of a Deep Potential, the MN of a NEP."""

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
    from kalmandp.geometry.neighbours import neighbour_statistics
    from kalmandp.registry import of_neighbours

    with Dataset(args.system, args.type_map) as data:
        seen = neighbour_statistics(data, args.rcut)
    made = [row for kind in of_neighbours() for row in kind.made_of(seen)]
    distance, most = seen.min_distance, seen.most_t.tolist()
    if args.json:
        finite = None if distance == float("inf") else distance
        report = {"type_map": list(seen.type_map), "min_nbor_dist": finite, "max_nbor_size": most}
        report |= {key: value for key, _, value in made}
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return 0
    print(f"type_map: {list(seen.type_map)}")
    print(f"min_nbor_dist: {distance:f}")
    print(f"max_nbor_size: {most}")
    for _, words, value in made:
        print(f"{words}: {value}")
    return 0
