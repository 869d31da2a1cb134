"""The section ``model`` of an input for a Deep Potential: DeePMD-kit's keys of `se_e2_a`, and one of ours.

Each table lists what is read, what is accepted only at DeePMD-kit's default (`fixed`: the option does not
exist here, so stating its default changes nothing), and what changes no result at all (`ignored`).
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from types import SimpleNamespace

from kalmandp.checks import (
    Key,
    SectionReader,
    Unfit,
    anything,
    boolean,
    choice,
    did_you_mean,
    fixed,
    ignored,
    integer,
    number,
    optional,
    sequence,
    show,
    text,
)
from kalmandp.errors import InputError
from kalmandp.potentials.activations import NAMES, activation
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.initial import INITIAL
from kalmandp.potentials.settings import ModelSettings


def _sel(value):
    wanted = '"auto", "auto:1.1" (a factor ≥ 1) or a list of counts, one per type'
    if isinstance(value, str):
        kind, colon, factor = value.partition(":")
        try:
            good = kind == "auto" and (not colon or 1.0 <= float(factor) <= 100.0)
        except ValueError:
            good = False
        if not good:
            raise Unfit(wanted, value)
        return value
    return sequence(integer(0), wanted, at_least=1)(value)


def _activation(value):
    try:
        activation(text(value))
    except InputError:
        hint = did_you_mean(value, NAMES)
        raise Unfit(f"one of {', '.join(NAMES)}{hint}", value) from None
    return value


def _atom_ener(value):
    """DeePMD-kit subtracts fitting(D = 0) as well, TensorFlow for the types that have an energy here, PyTorch
    for those that have none: there is no one meaning to keep to."""
    if isinstance(value, list | tuple) and all(v is None for v in value):
        return None
    if value is not None:
        wanted = (
            "null (atom_ener subtracts the fitting net of an empty descriptor, in DeePMD-kit's TensorFlow "
            "for other types than in its PyTorch; to set the energy bias alone: model/preset_out_bias)"
        )
        raise Unfit(wanted, value)
    return None


def _preset_out_bias(value):
    """{"energy": [null, -3.2]}, a number also as [-3.2]."""
    wanted = '{"energy": [a number (eV) or null, per type]}'
    if value is None:
        return None
    energies = value["energy"] if isinstance(value, dict) and set(value) == {"energy"} else None
    if not isinstance(energies, list | tuple):
        raise Unfit(wanted, value)
    bare = [v[0] if isinstance(v, list | tuple) and len(v) == 1 else v for v in energies]
    return sequence(optional(number(unit="eV")), wanted, at_least=1)(bare)


_types = sequence(text, "a list of names, one per type", at_least=1)
_widths = sequence(integer(1), "a list of layer widths", at_least=1)
_type_pairs = sequence(
    sequence(integer(0), "a pair of type numbers", length=2), "a list of pairs of type numbers"
)
_seed = optional(integer(0))
_precision = choice("default", "float64", "double", why="all numbers here are float64")

MODEL = (
    Key("type_map", _types, "type_map"),
    Key("descriptor", anything, "descriptor"),
    Key("fitting_net", anything, "fitting_net"),
    Key("data_stat_nbatch", integer(1), "data_stat_nbatch", idle=(10,)),
    Key("type", choice("standard"), None),
    fixed("data_stat_protect", 0.01),
    fixed("pair_exclude_types", [], ()),
    fixed("atom_exclude_types", [], ()),
    Key("preset_out_bias", _preset_out_bias, "atom_ener"),
    fixed("bridging_method", "None", "none", None),
    ignored("bridging_r_inner", 0.5),
    ignored("bridging_r_outer", 0.8),
    ignored("data_bias_nsample", 10),
    ignored("srtab_add_bias", True),
    ignored("model_branch_alias", []),
    ignored("info", {}),
)

DESCRIPTOR = (
    Key("type", choice("se_e2_a", "se_a"), None),
    Key("sel", _sel, "sel"),
    Key("rcut", number(above=0.0, unit="Å"), "rcut"),
    Key("rcut_smth", number(at_least=0.0, unit="Å"), "rcut_smth"),
    Key("neuron", _widths, "embedding", ("n_neuron",)),
    Key("axis_neuron", integer(1), "axis_neuron", ("n_axis_neuron",)),
    Key("activation_function", _activation, "embedding_activation"),
    Key("resnet_dt", boolean, "embedding_resnet_dt"),
    Key("type_one_side", boolean, "type_one_side"),
    Key("exclude_types", _type_pairs, "exclude_types"),
    Key("initial_weights", choice(*INITIAL), "initial"),
    Key("seed", _seed, "descriptor_seed"),
    Key("precision", _precision, None),
    fixed("trainable", True),
    fixed("env_protection", 0.0),
    Key("set_davg_zero", boolean, "set_davg_zero"),
)

FITTING = (
    Key("type", choice("ener"), None),
    Key("neuron", _widths, "fitting", ("n_neuron",)),
    Key("activation_function", _activation, "fitting_activation"),
    Key("resnet_dt", boolean, "fitting_resnet_dt"),
    Key("atom_ener", _atom_ener, None),
    Key("seed", _seed, "fitting_seed"),
    Key("precision", _precision, None),
    fixed("trainable", True),
    Key("rcond", optional(number(at_least=0.0)), "rcond"),
    fixed("numb_fparam", 0),
    fixed("numb_aparam", 0),
    fixed("default_fparam", None),
    fixed("dim_case_embd", 0),
    fixed("use_aparam_as_mask", False),
)

#: Defaults of what is chosen beside the form.
BESIDE = {"sel": "auto", "set_davg_zero": False, "initial": "spread"}


def read_section(read: SectionReader, value: dict) -> ModelSettings:
    """The section as `ModelSettings`; absent keys have DeePMD-kit's defaults, those of `Architecture`.

    Parameters
    ----------
    read : of the input
    value : the section, an object

    Raises
    ------
    InputError
        For a key that is not supported, a value of the wrong type or range, or values that contradict
        each other.
    """
    stated = read.section("model", value, MODEL)
    paths: dict[str, str] = {}
    for part, table in (("descriptor", DESCRIPTOR), ("fitting_net", FITTING)):
        path = f"model/{part}"
        section = read.mapping(path, stated.pop(part, {}))
        # the kind first: another kind has other keys, which would be named instead
        if "type" in section:
            read.value(f"{path}/type", section["type"], table[0].check)
        stated |= read.section(path, section, table)
        for key in table:
            name = next((n for n in (key.name, *key.aliases) if n in section), None)
            if name is not None and key.field is not None:
                paths[f"{part}/{name}"] = key.field
    own = {f.name: f.default for f in fields(Architecture) if f.default is not MISSING}
    type_map = stated.pop("type_map", None)
    atom_ener, rcond = stated.pop("atom_ener", None), stated.pop("rcond", None)
    seeds = tuple(stated.pop(f"{part}_seed", None) or 0 for part in ("descriptor", "fitting"))
    stated.pop("data_stat_nbatch", None)
    choices = {**own, **BESIDE, **stated}
    _check_model(read, SimpleNamespace(type_map=type_map, atom_ener=atom_ener, **choices))
    return ModelSettings("se_e2_a", type_map, choices["rcut"], choices, paths, atom_ener, rcond, seeds)


def _check_model(read: SectionReader, m: SimpleNamespace) -> None:
    """The checks that concern several keys."""
    n = None if m.type_map is None else len(m.type_map)
    per_type = f"{n} numbers, one per type of {show(m.type_map)}"
    wrong_pairs = [p for p in m.exclude_types if n is not None and max(p) >= n]
    checks = (
        (len(set(m.type_map or ())) == (n or 0), "type_map", m.type_map, "names that differ"),
        (
            m.rcut_smth < m.rcut,
            "descriptor/rcut_smth",
            m.rcut_smth,
            f"a number < rcut = {m.rcut:g} (Å)",
        ),
        (
            m.axis_neuron <= m.embedding[-1],
            "descriptor/axis_neuron",
            m.axis_neuron,
            f"at most {m.embedding[-1]}, the last width of descriptor/neuron",
        ),
        (n is None or isinstance(m.sel, str) or len(m.sel) == n, "descriptor/sel", m.sel, per_type),
        (isinstance(m.sel, str) or sum(m.sel) > 0, "descriptor/sel", m.sel, "a count > 0"),
        (
            n is None or m.atom_ener is None or len(m.atom_ener) == n,
            "preset_out_bias/energy",
            m.atom_ener,
            per_type.replace("numbers", "numbers or null"),
        ),
        (
            not wrong_pairs,
            "descriptor/exclude_types",
            wrong_pairs,
            f"type numbers below {n}",
        ),
    )
    for good, path, got, wanted in checks:
        if not good:
            raise read.error(f"model/{path}", got, wanted)
