"""What the section ``model`` of an input says, whatever the kind of potential."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelSettings:
    """The form of a potential as an input states it, before the data are seen.

    Attributes
    ----------
    kind : name of the potential in `kalmandp.registry.KINDS`
    type_map : names of the types; None if the data are to name them
    cutoff : Å, within which neighbours count
    choices : what `Potential.create` takes for this kind, defaults included
    stated : the keys of the input that decide the form: path below ``model`` -> the choice's name
    atom_ener : energy bias per type in eV, None where it is fitted; None if all are
    rcond : of the least squares for the energy bias; None for our default
    seeds : of the initial weights, beside the training seed
    """

    kind: str
    type_map: tuple[str, ...] | None
    cutoff: float
    choices: dict[str, Any] = field(default_factory=dict)
    stated: dict[str, str] = field(default_factory=dict)
    atom_ener: tuple[float | None, ...] | None = None
    rcond: float | None = None
    seeds: tuple[int, ...] = ()
