"""Going on from a given model: ``--init-model`` and ``--finetune``, as DeePMD-kit has them.

Both keep the model's form, weights, davg and dstd; the input's section ``model`` decides nothing more than
the order of the types, and a larger ``sel`` where atoms of the new data have more neighbours. ``--finetune``
first fits the energy bias to the new data, so that labels with another zero of energy do not have to be
learnt by the nets.
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np

from kalmandp.checks import show
from kalmandp.errors import InputError
from kalmandp.potentials.adapting import refitted_bias, reordered, with_bias
from kalmandp.potentials.energy_bias import RCOND
from kalmandp.potentials.potential import Potential
from kalmandp.potentials.settings import ModelSettings
from kalmandp.registry import KINDS, kind_of, load
from kalmandp.training.config.settings import Settings
from kalmandp.training.last_layer import LAST_LAYER

#: Frames that the statistics, the energy bias and an automatic sel of a new model are taken from at most.
STATISTICS_FRAMES = 2048
#: Of a larger data set sel is also counted in the frames with the smallest cells: of each system, and in all.
DENSEST, MOST_DENSEST = 16, 512


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
        Its ``info["started from"]`` names the model.

    Raises
    ------
    InputError
        If both or neither is given, if the model is of another kind than the input's, or if the input names
        a type that the model does not have.
    FileError
        If the model cannot be read.
    """
    if (init_model is None) == (finetune is None):
        raise InputError("init_model and finetune exclude each other; expected one of them")
    path = Path(init_model if finetune is None else finetune)
    potential = Potential.load(path)
    if potential.form.kind != settings.model.kind:
        raise InputError(
            f"{path}: is a model of the kind {potential.form.kind}; expected one of the kind "
            f"{settings.model.kind}, as the input's section model says"
        )
    potential = _in_order(potential, settings.model.type_map, path)
    notes = {"file": path.name, "how": "init-model" if finetune is None else "finetune"}
    potential = _wide_enough(potential, settings.model, frames, path, notes)
    differing = differences(potential, settings)
    if differing:
        warnings.warn(
            f"the model of {path} is kept as it is; the input says otherwise: {'; '.join(differing)}",
            UserWarning,
            stacklevel=2,
        )
    if finetune is not None:
        old = potential.bias_atom_e + potential.out_bias
        rcond = RCOND if settings.model.rcond is None else settings.model.rcond
        potential = with_bias(potential, refitted_bias(potential, _evenly(frames), rcond=rcond))
        shift = potential.bias_atom_e - old
        notes["energy bias shifted by (eV)"] = ", ".join(f"{d:.6g}" for d in shift)
    potential.info.pop(LAST_LAYER, None)  # so it was; what is trained on is no longer
    potential.info["started from"] = notes
    return potential


def new_potential(model: ModelSettings, frames, rng: np.random.Generator, engine, device) -> Potential:
    """The potential that the section ``model`` of an input asks for, its statistics taken from frames.

    Of a larger data set they are taken from `STATISTICS_FRAMES` frames, evenly chosen, so that a run on any
    number of frames begins soon. Where a model takes so many neighbours and no more, they are counted also in
    the frames with the smallest cells (`_crowded`): in all of a small data set.
    """
    more = {}
    if len(frames) > STATISTICS_FRAMES and KINDS[model.kind].widened:
        more["crowded"] = _crowded(frames)
    some = _evenly(frames)
    return Potential.create(
        model.type_map or frames.type_map, kind=model.kind, frames=some, rng=rng,
        atom_ener=model.atom_ener, rcond=model.rcond, engine=engine, device=device, **model.choices, **more,
    )  # fmt: skip


def _evenly(frames):
    """The frames, or `STATISTICS_FRAMES` of a larger data set, evenly chosen."""
    n = len(frames)
    return frames if n <= STATISTICS_FRAMES else frames.subset(_spread(n, STATISTICS_FRAMES))


def _crowded(frames):
    """The frames with the smallest cells of each system, `MOST_DENSEST` at most."""
    found = frames.densest(DENSEST)
    return frames.subset(found[_spread(len(found), MOST_DENSEST)])


def _spread(n: int, most: int) -> np.ndarray:
    """Up to ``most`` numbers below n, evenly."""
    return np.linspace(0, n - 1, min(n, most)).astype(int)


def differences(potential: Potential, settings: Settings) -> list[str]:
    """What the input's section ``model`` states and the model has otherwise, e.g. "rcut 6 (model: 5)".

    Of what is too long for a message the name alone.
    """
    model, form = settings.model, potential.form
    found = []
    for path, name in model.stated.items():
        if not hasattr(form, name):
            continue
        wanted, has = model.choices[name], getattr(form, name)
        if isinstance(wanted, str) and not isinstance(has, str):  # sel "auto": counted anew
            continue
        # the form writes a choice as it writes its own: one cut-off becomes one for each type
        with contextlib.suppress(InputError):
            wanted = getattr(type(form)(**{**form.to_dict(), name: wanted}), name)
        # the model of an input in another order of types has been reordered
        if wanted != has:
            said = f"{path} {show(wanted)} (model: {show(has)})"
            found.append(path if show(wanted).endswith("…") else said)
    return found


def _in_order(potential: Potential, type_map, path: Path) -> Potential:
    """The types in the input's order where it names them all; a type that is new is an error."""
    if type_map is None:
        return potential
    new = [name for name in type_map if name not in potential.type_map]
    if new:
        raise InputError(
            f"the input's type_map names {', '.join(new)}, which the model of {path} does not have "
            f"({', '.join(potential.type_map)}); what a new type adds would change what the others have "
            "learnt: train a new one"
        )
    whole = len(type_map) == len(potential.type_map)
    return reordered(potential, type_map) if whole or kind_of(potential.form).cuts else potential


def _wide_enough(potential: Potential, model: ModelSettings, frames, path: Path, notes: dict) -> Potential:
    """The potential made fit for the numbers of neighbours in the training data; said, and noted."""
    place = kind_of(potential.form).widened
    if len(frames) > STATISTICS_FRAMES:
        densest = frames.densest(DENSEST)
        some = densest[_spread(len(densest), MOST_DENSEST)]
        frames = frames.subset(np.union1d(some, _spread(len(frames), STATISTICS_FRAMES)))
    parts = potential.form, potential.weights, potential.statistics, frames, model.choices
    done = load(place)(*parts) if place else None
    if done is None:
        return potential
    warnings.warn(f"the model of {path}: {done.said}", UserWarning, stacklevel=3)
    notes["changed"] = done.said
    return potential.replace(form=done.form, weights=done.weights)
