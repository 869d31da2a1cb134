"""`Potential` → DeePMD-kit's model tree.

What is written are the oldest versions of each class that hold all of it, so that every DeePMD-kit 3
reads the file: Layer 1, EmbeddingNetwork 2, FittingNetwork 1, Fitting 1, Descriptor 2, Model 2.
"""

from __future__ import annotations

import datetime
import json

import numpy as np

import kalmandp
from kalmandp.arrays import to_numpy
from kalmandp.errors import InputError
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.potential import Potential


def to_tree(potential: Potential) -> dict:
    """DeePMD-kit's nested dictionary of a `Potential`; the inverse of `from_tree`.

    The section ``model_def_script``, from which ``dp convert-backend`` rebuilds the model, is that
    of ``potential.info`` if there is one, with every option that the model fixes put right.

    Raises
    ------
    InputError
        If ``potential.info`` holds something JSON cannot.
    """
    a, info = potential.form, dict(potential.info)
    script = info.pop("model_def_script", None)
    closest = info.pop("min_nbor_dist", None)
    info.pop("origin", None)
    nt = a.n_types
    return {
        "software": "kalmandp",
        "version": kalmandp.__version__,
        "time": str(datetime.datetime.now(datetime.timezone.utc)),
        "backend": "kalmandp",
        "model": {
            "@class": "Model",
            "type": "standard",
            "@version": 2,
            "type_map": list(a.type_map),
            "atom_exclude_types": [],
            "pair_exclude_types": [],
            "rcond": None,
            "preset_out_bias": None,
            "@variables": {
                # the whole bias, as DeePMD-kit's own files have it: up to 3.1 its TensorFlow backend refuses
                # two that are not zero, and its change-bias replaces this one alone
                "out_bias": _array(potential.bias_atom_e + potential.out_bias).reshape(1, nt, 1),
                # the TensorFlow backend multiplies by it, the others do not: one agrees with all
                "out_std": np.ones((1, nt, 1)),
            },
            "descriptor": _descriptor_tree(potential),
            "fitting": _fitting_tree(potential),
        },
        "model_def_script": _script(a, script),
        # twice: convert-backend reads the array, `dp --dp compress` the number
        "@variables": {} if closest is None else {"min_nbor_dist": np.asarray(float(closest))},
        **({} if closest is None else {"min_nbor_dist": float(closest)}),
        "kalmandp": _json_only(info),
    }


def _descriptor_tree(potential: Potential) -> dict:
    a = potential.form
    repeat = lambda rows_tk: np.repeat(_array(rows_tk)[:, None], a.n_neighbours, axis=1)
    return {
        "@class": "Descriptor",
        "type": "se_e2_a",
        "@version": 2,
        **_descriptor_options(a),
        "trainable": True,
        "set_davg_zero": False,
        "env_protection": 0.0,
        "spin": None,
        "env_mat": {"rcut": a.rcut, "rcut_smth": a.rcut_smth},
        "embeddings": _collection_tree(potential, "embedding", 1 if a.type_one_side else 2),
        "@variables": {name: repeat(rows) for name, rows in potential.statistics.items()},
        "type_map": list(a.type_map),
    }


def _fitting_tree(potential: Potential) -> dict:
    a = potential.form
    unused = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
    return {
        "@class": "Fitting",
        "type": "ener",
        "@version": 1,
        "var_name": "energy",
        "ntypes": a.n_types,
        "dim_descrpt": a.descriptor_size,
        "dim_out": 1,
        **_fitting_options(a),
        "numb_fparam": 0,
        "numb_aparam": 0,
        "rcond": None,
        "mixed_types": False,
        "exclude_types": [],
        "tot_ener_zero": False,
        "trainable": [True] * (len(a.fitting) + 1),
        "atom_ener": None,
        "layer_name": None,
        "use_aparam_as_mask": False,
        "spin": None,
        "nets": _collection_tree(potential, "fitting", 1),
        "@variables": {
            "bias_atom_e": np.zeros((a.n_types, 1)),
            **dict.fromkeys(unused),
        },
        "type_map": list(a.type_map),
    }


def _collection_tree(potential: Potential, kind: str, ndim: int) -> dict:
    a, layout = potential.form, potential.layout
    nets = [name for name in layout.nets if name.startswith(f"{kind}.")]
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": ndim,
        "ntypes": a.n_types,
        "network_type": f"{kind}_network",
        "networks": [_network_tree(potential, kind, net) for net in nets],
    }


def _network_tree(potential: Potential, kind: str, net: str) -> dict:
    a = potential.form
    if kind == "embedding":
        head = {"@class": "EmbeddingNetwork", "@version": 2, "in_dim": 1, "bias": True}
        options = _descriptor_options(a)
    else:
        head = {"@class": "FittingNetwork", "@version": 1, "in_dim": a.descriptor_size}
        head |= {"out_dim": 1, "bias_out": True}
        options = _fitting_options(a)
    shared = ("neuron", "activation_function", "resnet_dt", "precision")
    return {
        **head,
        **{key: options[key] for key in shared},
        "layers": _layer_trees(potential, net, last=kind == "fitting"),
    }


def _layer_trees(potential: Potential, net: str, last: bool) -> list[dict]:
    layers = potential.layout.layers(to_numpy(potential.weights), net)
    trees = []
    for number, layer in enumerate(layers):
        output = last and number == len(layers) - 1
        trees.append(
            {
                "@class": "Layer",
                "@version": 1,
                "bias": True,
                "use_timestep": layer.idt is not None,
                "activation_function": "none" if output else layer.activation,
                "resnet": not output,
                "precision": "float64",
                "@variables": {
                    "w": _array(layer.W),
                    "b": _array(layer.b),
                    "idt": None if layer.idt is None else _array(layer.idt),
                },
            }
        )
    return trees


def _descriptor_options(a: Architecture) -> dict:
    """The descriptor's options under DeePMD-kit's names, as in its input file."""
    return {
        "rcut": a.rcut,
        "rcut_smth": a.rcut_smth,
        "sel": list(a.sel),
        "neuron": list(a.embedding),
        "axis_neuron": a.axis_neuron,
        "resnet_dt": a.embedding_resnet_dt,
        "type_one_side": a.type_one_side,
        "exclude_types": [list(pair) for pair in a.exclude_types],
        "activation_function": a.embedding_activation,
        "precision": "float64",
    }


def _fitting_options(a: Architecture) -> dict:
    """The fitting net's options under DeePMD-kit's names, as in its input file."""
    return {
        "neuron": list(a.fitting),
        "resnet_dt": a.fitting_resnet_dt,
        "activation_function": a.fitting_activation,
        "precision": "float64",
    }


def _script(a: Architecture, given) -> dict:
    """The ``model`` section of an input file that makes this model."""
    given = _json_only(given) if isinstance(given, dict) else {}
    part = lambda key: given[key] if isinstance(given.get(key), dict) else {}
    # DeePMD-kit's backends build the model from this section and refuse a key that they do not know
    descriptor = {key: value for key, value in part("descriptor").items() if key != "initial_weights"}
    return {
        **given,
        "type_map": list(a.type_map),
        "descriptor": {**descriptor, "type": "se_e2_a", **_descriptor_options(a)},
        "fitting_net": {**part("fitting_net"), "type": "ener", **_fitting_options(a)},
    }


def script_of(potential: Potential) -> dict:
    """The section ``model`` of an input file that makes this potential's model."""
    return _script(potential.form, potential.info.get("model_def_script"))


def _array(value) -> np.ndarray:
    return np.ascontiguousarray(to_numpy(value), dtype=np.float64)


def _json_only(value: dict) -> dict:
    plain = lambda v: v.tolist() if isinstance(v, np.ndarray | np.generic) else _refuse(v)
    try:
        return json.loads(json.dumps(value, default=plain))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the potential's info cannot be written ({error}); expected texts, numbers, lists "
            "and dictionaries"
        ) from None


def _refuse(value):
    raise TypeError(f"it holds a {type(value).__name__}")
