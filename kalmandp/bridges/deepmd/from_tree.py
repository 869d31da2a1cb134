"""DeePMD-kit's model tree → `Potential`.

The tree is what DeePMD-kit 3 calls a serialised model: nested dictionaries with "@class", "@version" and
"@variables" (arrays).
"""

from __future__ import annotations

import reprlib

import numpy as np

from kalmandp.bridges.deepmd.node import MODEL_TYPES, PRECISIONS, Node
from kalmandp.errors import FileError, InputError
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.layout import LayerForm
from kalmandp.potentials.potential import Potential


def from_tree(tree: dict, source: str = "model tree") -> Potential:
    """Build a `Potential` from DeePMD-kit's nested dictionary.

    Parameters
    ----------
    tree : as `load_tree` returns it, or ``{"model": model.serialize()}`` from DeePMD-kit
    source : begins each error, usually the path

    Raises
    ------
    InputError
        For a model that asks for something this package does not compute; the feature and its key
        are named.
    FileError
        For a tree that contradicts itself or lacks what it needs.
    """
    top = Node(tree, "", source)
    model = _model(top)
    descriptor, fitting = model.child("descriptor"), model.child("fitting")
    _check_descriptor(descriptor)
    _check_fitting(fitting)
    _check_type_maps(model, descriptor, fitting)
    architecture = _architecture(model, descriptor, fitting)
    weights = _weights(architecture, descriptor.child("embeddings"), fitting.child("nets"))
    nt = architecture.n_types
    davg, dstd = _statistics(descriptor.child("@variables"), architecture)
    variables = model.child("@variables") if "@variables" in model else Node({}, "", source)
    out_bias = variables.array("out_bias", (nt,)) if _given(variables, "out_bias") else np.zeros(nt)
    constants = fitting.child("@variables")
    return Potential(
        architecture,
        weights,
        davg=davg,
        dstd=dstd,
        bias_atom_e=constants.array("bias_atom_e", (nt,)),
        out_bias=out_bias,
        info=_info(top),
    )


def _given(node: Node, key: str) -> bool:
    return node.value.get(key) is not None


def _model(top: Node) -> Node:
    model = top.child("model")
    if "model_dict" in model:
        raise model.wrong("model_dict", "a model with one task", InputError)
    kind = model.value.get("type", "standard")
    if kind != "standard":
        feature = MODEL_TYPES.get(kind) if isinstance(kind, str) else None
        hint = f"; kalmandp does not support {feature}" if feature else ""
        raise model.wrong("type", f"'standard', a descriptor and a fitting net{hint}", InputError)
    return model.check("Model")


def _check_descriptor(descriptor: Node) -> None:
    if descriptor.value.get("type") not in ("se_e2_a", "se_a"):
        raise descriptor.wrong("type", "'se_e2_a'; other descriptors are not supported", InputError)
    descriptor.check("Descriptor")
    if "env_mat" in descriptor:
        descriptor.child("env_mat").check("env_mat")
    _check_precision(descriptor)


def _check_fitting(fitting: Node) -> None:
    if fitting.value.get("type", "ener") != "ener":
        raise fitting.wrong("type", "'ener'; other fittings are not supported", InputError)
    fitting.check("Fitting")
    if fitting.value.get("var_name", "energy") != "energy":
        raise fitting.wrong("var_name", "'energy'", InputError)
    _check_precision(fitting)
    fitting.child("@variables").check_neutral({"bias_atom_e"})


def _check_precision(node: Node) -> None:
    if str(node.value.get("precision", "float64")).lower() not in PRECISIONS:
        raise node.wrong("precision", "float64 or float32 (which is read as float64)", InputError)


def _check_type_maps(model: Node, *parts: Node) -> None:
    if not _given(model, "type_map"):
        raise model.wrong("type_map", "the names of the types", InputError)
    for part in parts:
        if _given(part, "type_map") and part.value["type_map"] != model.value["type_map"]:
            raise part.wrong("type_map", f"the model's {reprlib.repr(model.value['type_map'])}")


def _architecture(model: Node, descriptor: Node, fitting: Node) -> Architecture:
    d, f = descriptor, fitting
    names = model.get("type_map", list, "a list of names")
    if not all(isinstance(name, str) for name in names):
        raise model.wrong("type_map", "a list of names")
    excluded = d.value.get("exclude_types") or []
    pair = lambda p: isinstance(p, list) and len(p) == 2 and all(isinstance(t, int) for t in p)
    if not isinstance(excluded, list) or not all(pair(p) for p in excluded):
        raise d.wrong("exclude_types", "a list of pairs of type numbers")
    try:
        return Architecture(
            type_map=names,
            rcut=d.number("rcut"),
            rcut_smth=d.number("rcut_smth"),
            sel=d.integers("sel"),
            embedding=d.integers("neuron"),
            axis_neuron=d.integer("axis_neuron"),
            fitting=f.integers("neuron"),
            type_one_side=d.flag("type_one_side"),
            embedding_resnet_dt=d.flag("resnet_dt"),
            fitting_resnet_dt=f.flag("resnet_dt"),
            embedding_activation=d.text("activation_function"),
            fitting_activation=f.text("activation_function"),
            exclude_types=tuple(excluded),
        )
    except InputError as error:
        raise InputError(f"{model.source}: {error}") from None


def _weights(a: Architecture, embeddings: Node, fittings: Node) -> np.ndarray:
    """The flat vector w, net by net in the layout's order."""
    # counted before a layout is made: a damaged file may claim a million types
    nets = [
        *_networks(embeddings, "embedding", a.n_embeddings, 1 if a.type_one_side else 2, a.n_types),
        *_networks(fittings, "fitting", a.n_types, 1, a.n_types),
    ]
    layout = a.layout()
    pieces = []
    for net, forms in zip(nets, layout.nets.values(), strict=True):
        layers = net.children("layers")
        if len(layers) != len(forms):
            raise FileError(f"{net.source}: {net.place('layers')} are {len(layers)}; expected {len(forms)}")
        for layer, form in zip(layers, forms, strict=True):
            pieces += _layer(layer.check("Layer"), form)
    return np.concatenate(pieces)


def _networks(collection: Node, kind: str, number: int, ndim: int, n_types: int) -> list[Node]:
    collection.check("NetworkCollection")
    for key, wanted in (("ndim", ndim), ("ntypes", n_types), ("network_type", f"{kind}_network")):
        if collection.value.get(key) != wanted:
            raise collection.wrong(key, repr(wanted))
    nets = collection.children("networks")
    if len(nets) != number:
        raise FileError(
            f"{collection.source}: {collection.place('networks')} are {len(nets)}; expected {number}"
        )
    return [net.check(f"{kind.capitalize()}Network") for net in nets]


def _layer(layer: Node, form: LayerForm) -> list[np.ndarray]:
    """W, b and idt of a layer, each flat, once it is clear that it computes what ``form`` says."""
    if not layer.flag("bias", True):
        raise layer.wrong("bias", "true; layers without bias are not supported", InputError)
    phi = str(layer.value.get("activation_function") or "linear").lower()
    if (phi if phi != "none" else "linear") != _plain(form.activation):
        raise layer.wrong("activation_function", f"{form.activation!r}, as the net has", InputError)
    wanted = form.skip != "none"
    may_skip = form.n_out in (form.n_in, 2 * form.n_in)  # elsewhere the flag has no effect
    if may_skip and layer.flag("resnet", False) != wanted:
        raise layer.wrong("resnet", f"{wanted} for this layer", InputError)
    variables = layer.child("@variables")
    variables.check_neutral({"w", "b", "idt"})
    if _given(variables, "idt") != form.has_idt:
        what = "an array, as the net has resnet_dt" if form.has_idt else "none in this layer"
        raise variables.wrong("idt", what, InputError)
    pieces = [
        variables.array("w", (form.n_in, form.n_out)).T.ravel(),
        variables.array("b", (form.n_out,)),
    ]
    return pieces + ([variables.array("idt", (form.n_out,))] if form.has_idt else [])


def _plain(activation: str) -> str:
    name = activation.lower()
    return "linear" if name == "none" else name


def _statistics(variables: Node, a: Architecture) -> tuple[np.ndarray, np.ndarray]:
    """davg and dstd, (n_types, 4): DeePMD-kit repeats them for each of Σsel slots."""
    variables.check_neutral({"davg", "dstd"})
    rows = []
    for key in ("davg", "dstd"):
        value_tnk = variables.array(key, (a.n_types, a.n_neighbours, 4))
        if (value_tnk != value_tnk[:, :1]).any():
            raise InputError(
                f"{variables.source}: {variables.place(key)} differs from slot to slot of the "
                "neighbour list; kalmandp supports one row for each centre type"
            )
        rows.append(value_tnk[:, 0])
    if not (rows[1] > 0).all():
        raise InputError(
            f"{variables.source}: {variables.place('dstd')} has the value {rows[1].min():g}; "
            "expected positive numbers"
        )
    return rows[0], rows[1]


def _info(top: Node) -> dict:
    """The notes of a file: kalmandp's own, and what DeePMD-kit keeps beside the model."""
    info = top.value.get("kalmandp")
    info = dict(info) if isinstance(info, dict) else {}
    keep = ("software", "version", "backend", "time")
    info["origin"] = {k: str(top.value[k])[:200] for k in keep if k in top.value}
    if isinstance(top.value.get("model_def_script"), dict):
        info["model_def_script"] = top.value["model_def_script"]
    variables = top.value.get("@variables")
    closest = variables.get("min_nbor_dist") if isinstance(variables, dict) else None
    if isinstance(closest, np.ndarray | float) and np.size(closest) == 1:
        info["min_nbor_dist"] = float(np.ravel(closest)[0])
    return info
