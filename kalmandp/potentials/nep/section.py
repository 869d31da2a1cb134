"""The section ``model`` of an input for a NEP: the keywords of ``nep.in``, and what all models have.

"model": {"type": "nep", "type_map": ["Te", "Pb"], "cutoff": [8, 4], "n_max": [6, 6], "neuron": 30}
"""

from __future__ import annotations

from dataclasses import fields

from kalmandp.checks import (
    Key,
    SectionReader,
    Unfit,
    anything,
    boolean,
    choice,
    integer,
    number,
    optional,
    sequence,
    text,
)
from kalmandp.errors import InputError
from kalmandp.potentials.nep.form import NEPForm
from kalmandp.potentials.nep.initial import SCALINGS
from kalmandp.potentials.settings import ModelSettings

#: Factor of R_i + R_j in a typewise ZBL, GPUMD's default.
TYPEWISE = 0.7


def _cutoff(value):
    """[radial, angular], or one of each for every type: [rR0, rA0, rR1, rA1, …]."""
    wanted = "two numbers (radial and angular, Å), or two for each type"
    numbers = sequence(number(above=0.0, unit="Å"), wanted, at_least=2)(value)
    if len(numbers) % 2:
        raise Unfit(wanted, value)
    return numbers


def _typewise(value):
    """false, true (0.7), or the factor."""
    return TYPEWISE if value is True else None if value is False else number(above=0.0)(value)


def _l_max(value):
    wanted = "l_max of the three-body part, then up to six switches (222 1111 112 123 233 134)"
    numbers = sequence(integer(0), wanted, at_least=1)(value)
    if len(numbers) > 7:
        raise Unfit(wanted, value)
    return numbers


def _version(value):
    if value not in (3, 4, 5):
        raise Unfit("3, 4 or 5", value)
    return int(value)


_pair = sequence(integer(0), "two integers ≥ 0 (radial and angular)", length=2)

MODEL = (
    Key("type", choice("nep"), None),
    Key("type_map", sequence(text, "a list of names, one per type", at_least=1), "type_map"),
    Key("version", _version, "version"),
    Key("cutoff", _cutoff, "cutoff"),
    Key("n_max", _pair, "n_max"),
    Key("basis_size", _pair, "basis_size"),
    Key("l_max", _l_max, "l_max"),
    Key("neuron", integer(1), "neuron"),
    Key("zbl", optional(number(above=0.0, unit="Å")), "zbl_outer"),
    Key("use_typewise_cutoff_zbl", _typewise, "zbl_factor"),
    Key("zbl_pairs", optional(sequence(anything, "ten numbers for each pair of types")), "zbl_pairs"),
    Key("q_scaler", choice(*SCALINGS), "scaling"),
    Key("seed", optional(integer(0)), "seed"),
    Key("atom_energies", optional(sequence(optional(number(unit="eV")), "a number (eV) or null per type")),
        "atom_ener"),
    Key("rcond", optional(number(at_least=0.0)), "rcond"),
    Key("trainable_c", boolean, None),
)  # fmt: skip


def read_section(read: SectionReader, value: dict) -> ModelSettings:
    """The section as `ModelSettings`; absent keys have GPUMD's defaults, those of `NEPForm`.

    Parameters
    ----------
    read : of the input
    value : the section, an object

    Raises
    ------
    InputError
        For a key that is not supported, or a value of the wrong type or range.
    """
    stated = read.section("model", value, MODEL)
    form_fields = {f.name for f in fields(NEPForm)}
    paths = {name: name for name in stated if name in form_fields and name != "type_map"}
    paths |= {"cutoff": "radial_cutoff"} if "cutoff" in stated else {}
    type_map, seed = stated.pop("type_map", None), stated.pop("seed", None)
    atom_ener, rcond = stated.pop("atom_ener", None), stated.pop("rcond", None)
    choices = {f.name: f.default for f in fields(NEPForm) if f.name != "type_map"}
    cutoff = stated.pop("cutoff", (choices["radial_cutoff"], choices["angular_cutoff"]))
    if len(cutoff) > 2 and type_map is not None and len(cutoff) != 2 * len(type_map):
        raise read.error("model/cutoff", list(cutoff), f"2 or {2 * len(type_map)} numbers (Å)")
    choices["radial_cutoff"], choices["angular_cutoff"] = cutoff[::2], cutoff[1::2]
    choices["zbl"] = _zbl(read, stated)
    if type_map is not None:
        _check_form(read, type_map, {k: v for k, v in (choices | stated).items() if k != "scaling"})
    return ModelSettings(
        "nep", type_map, max(cutoff[::2]), choices | stated, paths, atom_ener, rcond,
        () if seed is None else (seed,),
    )  # fmt: skip


def _check_form(read: SectionReader, type_map, choices: dict) -> None:
    """Refuse contradictions before data are read."""
    try:
        NEPForm(type_map, **choices)
    except InputError as error:
        raise InputError(f"{read.source}: model: {error}") from None


def _zbl(read: SectionReader, stated: dict) -> dict | None:
    """Settings of `zbl.ZBL` from zbl (its r_out), use_typewise_cutoff_zbl and zbl_pairs."""
    outer, factor = stated.pop("zbl_outer", None), stated.pop("zbl_factor", None)
    pairs = stated.pop("zbl_pairs", None)
    if pairs is not None:
        return {"pairs": pairs}
    if outer is None:
        if factor is not None:
            raise read.error("model/use_typewise_cutoff_zbl", factor, "model/zbl beside it")
        return None
    return {"inner": 0.0 if factor else 0.5 * outer, "outer": outer, "factor": factor}
