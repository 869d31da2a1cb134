"""Which labels an optimizer learns from, and whether the data have them: asked before a run begins."""

from __future__ import annotations

from kalmandp.errors import InputError
from kalmandp.training.presets import resolve, resolve_snes
from kalmandp.training.settings import Settings

#: Kind of a measurement -> label of a Frame.
LABEL_OF = {
    "energy": "energy", "force": "forces", "virial": "virial", "atomic_energy": "atomic_energies",
}  # fmt: skip


def needed_labels(settings: Settings) -> tuple[str, ...]:
    """The labels that every frame must have for the optimizer of an input."""
    o = settings.optimizer
    if o.type == "Adam":
        virial = settings.loss.start_pref_v or settings.loss.limit_pref_v
    elif o.type == "SNES":
        virial = resolve_snes(o).lambda_v
    else:
        return tuple(LABEL_OF[kind] for kind in resolve(o).order)
    return ("energy", "forces", "virial") if virial else ("energy", "forces")


def check_labels(data, settings: Settings) -> None:
    """Refuse training data of which a frame lacks a label that it will be asked for.

    Parameters
    ----------
    data : Dataset; only its tables of contents are looked at
    settings : the input

    Raises
    ------
    InputError
        With the number of such frames, and the first of them.
    """
    for label in needed_labels(settings):
        lacking = data.lacking(label)
        if len(lacking):
            raise InputError(
                f"{len(lacking):,} of {len(data):,} training frames have no {label}, the first "
                f"{data.source(lacking[0])}; expected {label} in all of them"
            )
