"""What a model file says of itself, in the words of `dp show`. `kalmandp info` says more."""

from __future__ import annotations

from kalmandp.registry import kind_of, load

ATTRIBUTES = ("model-branch", "type-map", "descriptor", "fitting-net", "size")


def add_arguments(parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model file of any kind")
    parser.add_argument("attributes", nargs="+", choices=ATTRIBUTES, metavar="ATTRIBUTE",
                        help=", ".join(ATTRIBUTES))  # fmt: skip


def run(args) -> int:
    from kalmandp.errors import InputError
    from kalmandp.potentials.potential import Potential

    if "model-branch" in args.attributes:
        raise InputError(f"{args.model}: is a model of one task; expected several for model-branch")
    potential = Potential.load(args.model)
    parts = _parts(potential)
    says = {
        "type-map": lambda: f"The type_map is {list(potential.type_map)}",
        "descriptor": lambda: f"The descriptor parameter is {parts[0]}",
        "fitting-net": lambda: f"The fitting_net parameter is {parts[1]}",
        "size": lambda: _size(potential),
    }
    print("This is a singletask model")
    for attribute in args.attributes:
        print(says[attribute]())
    return 0


def _parts(potential) -> tuple[dict, dict]:
    """Sections descriptor and fitting_net, as DeePMD-kit has them for its models; else the form's choices."""
    files = load(kind_of(potential.form).files)
    if files.sections is not None:
        return files.sections(potential)
    nets = {net: [form.n_out for form in forms] for net, forms in potential.layout.nets.items()}
    return {"type": potential.form.kind, **potential.form.to_dict()}, nets


def _size(potential) -> str:
    count, fitting = {"descriptor": 0, "fitting-net": 0}, set(potential.layout.fitting_nets)
    for tensor in potential.layout.tensors:
        count["fitting-net" if tensor.net in fitting else "descriptor"] += tensor.size
    count["total"] = potential.layout.size
    return "\n".join(["Parameter counts:", *(f"Parameters in {k}: {n:,}" for k, n in count.items())])
