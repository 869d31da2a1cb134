"""What a model file says of itself, in the words of `dp show`. `kalmandp info` says more."""

from __future__ import annotations

ATTRIBUTES = ("model-branch", "type-map", "descriptor", "fitting-net", "size")


def add_arguments(parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model file (.dp, .yaml)")
    parser.add_argument("attributes", nargs="+", choices=ATTRIBUTES, metavar="ATTRIBUTE",
                        help=", ".join(ATTRIBUTES))  # fmt: skip


def run(args) -> int:
    from kalmandp.bridges.deepmd.to_tree import script_of
    from kalmandp.errors import InputError
    from kalmandp.potentials.potential import Potential

    if "model-branch" in args.attributes:
        raise InputError(f"{args.model}: is a model of one task; expected several for model-branch")
    potential = Potential.load(args.model)
    script = script_of(potential)
    says = {
        "type-map": lambda: f"The type_map is {script['type_map']}",
        "descriptor": lambda: f"The descriptor parameter is {script['descriptor']}",
        "fitting-net": lambda: f"The fitting_net parameter is {script['fitting_net']}",
        "size": lambda: _size(potential),
    }
    print("This is a singletask model")
    for attribute in args.attributes:
        print(says[attribute]())
    return 0


def _size(potential) -> str:
    count, fitting = {"descriptor": 0, "fitting-net": 0}, set(potential.layout.fitting_nets)
    for tensor in potential.layout.tensors:
        count["fitting-net" if tensor.net in fitting else "descriptor"] += tensor.size
    count["total"] = potential.layout.size
    return "\n".join(["Parameter counts:", *(f"Parameters in {k}: {n:,}" for k, n in count.items())])
