"""Numbers of neighbours within a cut-off against what a model, or each kind of model, makes of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.doctor.findings import Finding
from kalmandp.doctor.survey import Survey
from kalmandp.potentials.settings import ModelSettings
from kalmandp.registry import of_neighbours


def check_neighbours(s: Survey, model: ModelSettings | None) -> Iterator[Finding]:
    """Types that the model does not know; then what its kind, or without a model each kind, remarks."""
    if s.neighbours is None:
        return
    type_map = s.types if model is None or model.type_map is None else model.type_map
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
    seen = s.neighbours.of_types(type_map)
    for kind in of_neighbours(None if model is None else model.kind):
        for remark in kind.remarks(seen, model):
            yield s.finding(*remark)
