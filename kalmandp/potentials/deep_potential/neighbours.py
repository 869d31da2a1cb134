"""``sel``, the numbers of neighbours that a Deep Potential has room for, and those in data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kalmandp.errors import InputError
from kalmandp.geometry.neighbours import NeighbourStatistics
from kalmandp.potentials.protocol import Remark
from kalmandp.potentials.settings import ModelSettings

#: A sel of more than so many times what occurs, and by more places than this, is remarked on.
TOO_MUCH, PLACES = 3, 50


def auto_sel(max_neighbours_t, ratio: float | str = 1.1) -> list[int]:
    """``sel`` for the largest counts: sel_t = ⌈int(ratio · max_t)⌉ to a multiple of 4.

    This is DeePMD-kit's rule (``update_one_sel``), truncation included, so that the same data give
    the same ``sel``.

    Parameters
    ----------
    max_neighbours_t : the most neighbours of each type, `NeighbourStatistics.most_t`
    ratio : a number, or DeePMD-kit's text ``"auto"`` (1.1) or ``"auto:1.2"``

    Returns
    -------
    list of int, one per type
    """
    number = _auto_ratio(ratio)
    return [4 * ((int(count * number) + 3) // 4) for count in map(int, max_neighbours_t)]


def _auto_ratio(ratio: float | str) -> float:
    given = ratio
    if isinstance(ratio, str):
        head, _, tail = ratio.partition(":")
        ratio = (tail or "1.1") if head == "auto" else "nan"
    try:
        number = float(ratio)
    except (TypeError, ValueError):
        number = np.nan
    if not 1.0 <= number < np.inf:
        raise InputError(f'sel is {given!r}; expected "auto" or "auto:RATIO" with a ratio of at least 1')
    return number


def made_of(seen: NeighbourStatistics) -> list[tuple[str, str, object]]:
    """The ``sel`` that "auto" makes of these numbers."""
    return [("sel", 'sel of "auto"', auto_sel(seen.most_t))]


def remarks(seen: NeighbourStatistics, model: ModelSettings | None) -> Iterator[Remark]:
    """Compare the most neighbours of each type with ``sel``; suggest one where the model has none yet."""
    sel: Any = None if model is None else model.choices["sel"]
    auto = f'"sel": [{", ".join(map(str, auto_sel(seen.most_t)))}]'
    within = f"within {seen.cutoff:g} Å"
    # "auto" counts anew, and numbers without names of types are for types that are not known yet
    if sel is None or isinstance(sel, str) or (model is not None and model.type_map is None):
        listed = ", ".join(f"{m} {name}" for m, name in zip(seen.most_t, seen.type_map, strict=True))
        advice = f'{auto} leaves a tenth of room, as "auto" does'
        yield Remark("note", "sel", f"{within} an atom has up to {listed}", advice)
        return
    for most_f, name, limit in zip(seen.most_ft.T, seen.type_map, sel, strict=True):
        most = int(most_f.max())
        if most > limit:
            yield Remark(
                "error", "sel", f"an atom has {most} neighbours {name} {within}; sel allows {limit}",
                f"Training would stop there: {auto} (types {', '.join(seen.type_map)}) suffices",
                np.flatnonzero(most_f > limit),
            )  # fmt: skip
        elif limit > max(TOO_MUCH * most, TOO_MUCH, most + PLACES):
            yield Remark(
                "note", "sel", f"an atom has at most {most} neighbours {name} {within}; sel has {limit}",
                f"Padding weakens the descriptor: {auto} suffices",
            )  # fmt: skip
