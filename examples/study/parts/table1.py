"""Table 1: RMSE of energy and force after 30 epochs, training and test frames, beside the paper's numbers."""

from __future__ import annotations

import numpy as np
import paper
from runs import Result, Study, Unit, markdown

TITLES = {
    "energy_test": "Energy, test frames, meV/atom",
    "force_test": "Force, test frames, meV/Å",
    "energy_train": "Energy, training frames, meV/atom",
    "force_train": "Force, training frames, meV/Å",
}


def units(study: Study) -> list[Unit]:
    """Every system with every optimizer and seed, system by system."""
    return [
        study.unit(system, name, seed)
        for system in study.systems for seed in range(1, study.seeds + 1) for name in study.optimizers
    ]  # fmt: skip


def errors(study: Study, system, name: str) -> dict[str, float] | None:
    """Medians over the seeds that are finished, meV/atom and meV/Å; None if none is."""
    found = [study.result(study.unit(system, name, seed)) for seed in range(1, study.seeds + 1)]
    results: list[Result] = [r for r in found if r is not None]
    if not results:
        return None
    return {column: 1e3 * float(np.median([r.final[column] for r in results])) for column in TITLES}


def report(study: Study) -> None:
    """Write tables/table1.md: a table for each kind of error, the test frames first."""
    ours = {s.name: {name: errors(study, s, name) for name in study.optimizers} for s in study.systems}
    parts = [_heading(study), "", *_score(study, ours)]
    for column, title in TITLES.items():
        parts += ["", f"## {title}", "", _table(study, column, ours)]
    study.table("table1", "\n".join([*parts, *_missing(study, ours)]))


def _heading(study: Study) -> str:
    seeds = f"; medians of {study.seeds} seeds" if study.seeds > 1 else ""
    return (
        f"# Table 1: RMSE after {study.length}, meV/atom and meV/Å\n\n"
        f"Ours: {' / '.join(study.labels)}{seeds}. Our thirteen data sets have 40 to 120 snapshots each, "
        "labels by GFN1-xTB. The paper (RLEKF / Adam) has 1,000 to 7,000, labels by PWmat (DFT): compare "
        "optimizer with optimizer, not our errors with the paper's."
    )


def _table(study: Study, column: str, ours) -> str:
    """A line for each system; the best of ours is bold."""
    header = ["system", "frames", *study.labels, "paper: RLEKF", "paper: Adam"]
    rows = []
    for system in study.systems:
        values = [e[column] if e else float("nan") for e in ours[system.name].values()]
        best = min((v for v in values if np.isfinite(v)), default=None)
        cells = [f"**{markdown.number(v)}**" if v == best else markdown.number(v) for v in values]
        printed = paper.TABLE_1.get(system.name)
        pair = getattr(printed, column) if printed else (None, None)
        rows.append([system.name, _frames(study, system), *cells, *(markdown.number(v) for v in pair)])
    return markdown.table(header, rows)


def _frames(study: Study, system) -> str:
    for name in study.optimizers:
        if (result := study.result(study.unit(system, name))) is not None:
            return f"{result.facts['n_train']} + {result.facts['n_test']}"
    return markdown.MISSING


def _score(study: Study, ours) -> list[str]:
    """On how many systems each filter has the smaller test error than Adam."""
    adam = next((n for n in study.optimizers if n.partition("-")[0] == "adam"), None)
    if adam is None:
        return ["No Adam among the optimizers: nothing to compare with."]
    lines = []
    for name in study.optimizers:
        if name.partition("-")[0] == "adam":
            continue
        both = [(e[name], e[adam]) for e in ours.values() if e[name] and e[adam]]
        energy, force = (sum(a[c] < b[c] for a, b in both) for c in ("energy_test", "force_test"))
        lines.append(
            f"{name} against {adam}: better energy on {energy} of {len(both)}, better force on {force} of "
            f"{len(both)} (test)."
        )
    lines.append(
        f"The paper's table, counted the same way: energy {paper.wins('energy_test')}, force "
        f"{paper.wins('force_test')} of 13 (its text: {paper.CLAIMED_ENERGY} and {paper.CLAIMED_FORCE})."
    )  # fmt: skip
    return lines


def _missing(study: Study, ours) -> list[str]:
    lines = [
        f"Not finished: {system} with {name}."
        for system, of in ours.items()
        for name, e in of.items()
        if e is None
    ]
    if study.missing:
        lines.append(f"No data: {', '.join(study.missing)}.")
    return ["", *lines] if lines else []
