"""Going on from somebody's model: ``--init-model`` and ``--finetune``, as DeePMD-kit has them.

Both keep the model's form, weights, davg and dstd; the input's section ``model`` decides nothing more than
the order of the types. ``--finetune`` first fits the energy bias to the new data, so that labels with another
zero of energy do not have to be learnt by the nets.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from kalmandp.errors import InputError
from kalmandp.potentials.adapting import refitted_bias, reordered, with_bias
from kalmandp.potentials.deep_potential.statistics import RCOND
from kalmandp.potentials.potential import Potential
from kalmandp.training.config import keys
from kalmandp.training.config.checks import show
from kalmandp.training.config.settings import Settings


def started_from(init_model, finetune, settings: Settings, frames) -> Potential:
    """The potential that a run begins with.

    Parameters
    ----------
    init_model, finetune : path of a model file; exactly one of them
    settings : of the run; what its section ``model`` states and the file has otherwise is warned about
    frames : the training data; with ``finetune`` the energy bias is fitted to them

    Returns
    -------
    Potential
        Its ``info["started from"]`` says of what.

    Raises
    ------
    InputError
        If both or neither is given, or if the input names a type that the model does not have.
    FileError
        If the model cannot be read.
    """
    if (init_model is None) == (finetune is None):
        raise InputError("init_model and finetune exclude each other; expected one of them")
    path = Path(init_model if finetune is None else finetune)
    potential = Potential.load(path)
    potential = _in_order(potential, settings.model.type_map, path)
    differing = differences(potential, settings)
    if differing:
        warnings.warn(
            f"the model of {path} is kept as it is; the input says otherwise: {'; '.join(differing)}",
            UserWarning,
            stacklevel=2,
        )
    notes = {"file": path.name, "how": "init-model" if finetune is None else "finetune"}
    if finetune is not None:
        old = potential.bias_atom_e + potential.out_bias
        rcond = RCOND if settings.model.rcond is None else settings.model.rcond
        potential = with_bias(potential, refitted_bias(potential, frames, rcond=rcond))
        shift = potential.bias_atom_e - old
        notes["energy bias shifted by (eV)"] = ", ".join(f"{d:.6g}" for d in shift)
    potential.info["started from"] = notes
    return potential


def differences(potential: Potential, settings: Settings) -> list[str]:
    """What the input's section ``model`` states and the model has otherwise, e.g. "rcut 6 (model: 5)"."""
    section, a = settings.source.get("model", {}), potential.architecture
    found = []
    for part, table in (("descriptor", keys.DESCRIPTOR), ("fitting_net", keys.FITTING)):
        stated = section.get(part, {})
        for key in table:
            name = next((n for n in (key.name, *key.aliases) if n in stated), None)
            if name is None or key.field is None or not hasattr(a, key.field):
                continue
            wanted, has = getattr(settings.model, key.field), getattr(a, key.field)
            counted_anew = key.field == "sel" and isinstance(wanted, str)
            # the model of an input in another order of types has been reordered
            if wanted != has and not counted_anew:
                found.append(f"{part}/{name} {show(wanted)} (model: {show(has)})")
    return found


def _in_order(potential: Potential, type_map, path: Path) -> Potential:
    """The types in the input's order where it names them all; a type that is new is an error."""
    if type_map is None:
        return potential
    new = [name for name in type_map if name not in potential.type_map]
    if new:
        raise InputError(
            f"the input's type_map names {', '.join(new)}, which the model of {path} does not have "
            f"({', '.join(potential.type_map)}); a new type would change Σ sel, by which every descriptor is "
            "divided, and so what the model has learnt: train a new one"
        )
    return reordered(potential, type_map) if len(type_map) == len(potential.type_map) else potential
