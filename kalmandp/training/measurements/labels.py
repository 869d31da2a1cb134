"""Which labels a batch can be trained on.

A frame is trained on the labels that it has. A kind of number whose label it lacks is left out of its step,
as DeePMD-kit's find_energy, find_force and find_virial leave it out of the loss. A batch is measured as one,
so that it teaches the kinds whose label *all* of its frames have.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import combinations

import numpy as np

from kalmandp.errors import InputError, require
from kalmandp.training.config.presets import resolve, resolve_n2p2, resolve_snes
from kalmandp.training.config.settings import N2P2, Settings

#: Kind of a number -> label of a Frame.
LABEL_OF = {
    "energy": "energy", "force": "forces", "virial": "virial", "atomic_energy": "atomic_energies",
}  # fmt: skip


def taught(frames, kinds: Iterable[str]) -> tuple[str, ...]:
    """The kinds that frames teach together: those of ``kinds`` whose label all of them have.

    Parameters
    ----------
    frames : Frames of one step
    kinds : what the optimizer learns from: "energy", "force", "virial", "atomic_energy"; their order is kept

    Raises
    ------
    InputError
        If there is none, with the names of the frames.
    """
    kinds = tuple(kinds)
    found = tuple(k for k in kinds if all(getattr(f, LABEL_OF[k]) is not None for f in frames))
    if not found:
        names = [LABEL_OF[kind] for kind in kinds]
        if len(frames) == 1:
            raise InputError(f"{frames[0].source} has {_none_of(names)}; expected at least one to learn")
        raise InputError(
            f"{', '.join(f.source for f in frames)}: a batch without a label that all of its frames have; "
            f"expected one of {', '.join(names)}"
        )
    return found


def learnt_kinds(settings: Settings) -> tuple[str, ...]:
    """The kinds that the optimizer of an input learns from, where a frame has their label."""
    o, p = settings.optimizer, settings.loss
    if o.is_kalman:
        return resolve(o).order
    if o.type == N2P2:
        return resolve_n2p2(o).kinds
    if o.type == "SNES":
        c = resolve_snes(o)
        weights = {"energy": c.lambda_e, "force": c.lambda_f, "virial": c.lambda_v}
    else:
        weights = {
            "energy": p.start_pref_e or p.limit_pref_e,
            "force": p.start_pref_f or p.limit_pref_f,
            "virial": p.start_pref_v or p.limit_pref_v,
        }
    kinds = tuple(kind for kind, weight in weights.items() if weight)
    require(bool(kinds), "each weight of the loss", 0, "one at least that is not")
    return kinds


def check_labels(data, settings: Settings) -> None:
    """Warn of training data of which some frames lack a label; refuse those that teach nothing of it.

    Parameters
    ----------
    data : Dataset; only its tables of contents are looked at
    settings : the input

    Raises
    ------
    InputError
        If no frame has a label that the optimizer learns from, if a frame has none of them, or if frames of
        a batch may have none in common; with the number of such frames, and the first of them.

    Warns
    -----
    UserWarning
        One for each label that some frames lack and others have.
    """
    o = settings.optimizer
    optional = resolve(o).optional if o.is_kalman else ()
    if settings.companion:  # inputs of other programs do not say which labels their frames have
        optional = (*optional, "virial", "force")
    kinds = [
        kind for kind in learnt_kinds(settings)
        if kind not in optional or len(data.lacking(LABEL_OF[kind])) < len(data)
    ]  # fmt: skip
    if "force" in learnt_kinds(settings) and "force" not in kinds:
        warnings.warn("no training frame has forces; the other labels are learnt alone", stacklevel=2)
    names = [LABEL_OF[kind] for kind in kinds]
    n, has_fl = len(data), np.ones((len(data), len(names)), dtype=bool)
    batch = settings.frames_per_step(data.natoms(0))
    for has_f, name in zip(has_fl.T, names, strict=True):
        has_f[data.lacking(name)] = False
        if not has_f.any():
            raise InputError(
                f"{n:,} of {n:,} training frames have no {name}, the first {data.source(0)}; expected "
                f"{name} in some of them"
            )
    if len(bare := np.flatnonzero(~has_fl.any(axis=1))):
        raise InputError(
            f"{len(bare):,} of {n:,} training frames have {_none_of(names)}, the first "
            f"{data.source(bare[0])}; expected at least one label in each"
        )
    for together in data.by_system().values() if settings.training.by_system else [np.arange(n)]:
        _check_batches(data, together, has_fl[together], names, batch)
    for has_f, name in zip(has_fl.T, names, strict=True):
        if len(without := np.flatnonzero(~has_f)):
            alone = "" if batch == 1 else f" (a batch of {batch} that has one of them learns no {name})"
            warnings.warn(
                f"{len(without):,} of {n:,} training frames have no {name}, the first "
                f"{data.source(without[0])}; these are trained on with their other labels{alone}",
                stacklevel=2,
            )


def _check_batches(data, together, has_fl: np.ndarray, names: list[str], batch: int) -> None:
    """Refuse batches whose frames may have no label in common: found now, not after hours.

    Parameters
    ----------
    together : numbers of frames that may come in one batch
    has_fl : whether each of them has each of the labels ``names``
    """
    forms, first_k = np.unique(has_fl, axis=0, return_index=True)
    for size in range(2, min(batch, len(names)) + 1):
        for some in combinations(range(len(forms)), size):
            if not forms[list(some)].all(axis=0).any():
                having = lambda k: ", ".join(name for name, has in zip(names, forms[k], strict=True) if has)
                found = [f"{data.source(together[first_k[k]])} with {having(k)}" for k in some]
                raise InputError(
                    f"training frames that may come in one batch of {batch} have no label in common: "
                    f"{'; '.join(found)}; expected training_data/batch_size 1, or one label in all frames"
                )


def _none_of(names: list[str]) -> str:
    return " and ".join(f"no {name}" for name in names)
