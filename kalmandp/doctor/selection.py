"""Neighbours within the cut-off against ``sel``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from kalmandp.doctor.findings import Finding
from kalmandp.doctor.survey import Survey
from kalmandp.geometry.neighbours import auto_sel


def check_selection(s: Survey, rcut: float, sel: Sequence[int] | None, type_map) -> Iterator[Finding]:
    """Compare the most neighbours of each type with ``sel``; without it, suggest one; not if it is empty."""
    if s.most_ft is None or not len(s):
        return
    column = {name: t for t, name in enumerate(s.types)}
    occurs_t = s.counts_ft.sum(axis=0) > 0
    unknown = [name for name in s.types if occurs_t[column[name]] and name not in type_map]
    if unknown:
        yield s.finding(
            "error", "species",
            f"{', '.join(unknown)} is in the data, but not in the type_map {list(type_map)}",
            "Add it to the type_map, or leave these frames out",
            np.flatnonzero(s.counts_ft[:, [column[name] for name in unknown]].any(axis=1)),
        )  # fmt: skip
    if sel is not None and not len(sel):
        return
    most_t = [int(s.most_ft[:, column[name]].max()) if name in column else 0 for name in type_map]
    listed = f"[{', '.join(map(str, auto_sel(most_t)))}]"
    if sel is None:
        yield s.finding(
            "note", "sel", f"within {rcut:g} Å an atom has up to "
            + ", ".join(f"{m} {name}" for m, name in zip(most_t, type_map, strict=True)),
            f'"sel": {listed} leaves a tenth of room, as "auto" does',
        )  # fmt: skip
        return
    for name, most, limit in zip(type_map, most_t, sel, strict=True):
        if most > limit:
            beyond = np.flatnonzero(s.most_ft[:, column[name]] > limit)
            yield s.finding(
                "error", "sel",
                f"an atom has {most} neighbours {name} within {rcut:g} Å; sel allows {limit}",
                f'Training would stop there: "sel": {listed} (types {", ".join(type_map)}) suffices', beyond,
            )  # fmt: skip
        elif limit > 3 * max(most, 1) and limit - most > 50:
            yield s.finding(
                "note", "sel",
                f"an atom has at most {most} neighbours {name} within {rcut:g} Å; sel has {limit}",
                f'Padding weakens the descriptor: "sel": {listed} suffices',
            )  # fmt: skip
