"""The data of a run, and what the doctor found in them."""

from __future__ import annotations

from html import escape

from kalmandp.report.page import details, facts, place, table, text
from kalmandp.report.run import Run

#: Systems that are listed.
LISTED = 40


def data_section(run: Run, training, validation, gone: str, doctor: bool) -> str:
    """Sets, labels, provenance; findings of the doctor if asked for."""
    if training is None:
        return text(f"The data of this run cannot be read any more: {gone}")
    parts = [_set("Training", training)]
    if validation is not None:
        parts.append(_set("Validation", validation))
    if doctor:
        parts.append("<h3>What the doctor found</h3>" + _doctor(run))
    return "".join(parts)


def _set(name: str, data) -> str:
    from kalmandp.commands.info import _shorten

    systems = data.systems
    atoms = sum(data.natoms(k) for k in range(len(data)))
    lacking = [f"{len(data.lacking(label)):,} frames without {label}" for label in data.labels]
    rows = [
        ("frames", f"{len(data):,}, {atoms:,} atoms"),
        ("elements", ", ".join(data.species)),
        ("labels", ", ".join(data.labels) or "none"),
    ]
    if missing := [words for words in lacking if not words.startswith("0 ")]:
        rows.append(("lacking", ", ".join(missing)))
    cells = [[place(s.address), s.formula, f"{s.n_frames:,}"] for s in systems[:LISTED]]
    if len(systems) > LISTED:
        cells.append([f"… and {len(systems) - LISTED:,} more", "", ""])
    told = ""
    for path, its in data.attributes.items():
        if its:
            rows_of_file = [(key, _shorten(value, 2000)) for key, value in its.items()]
            told += details(f"What {place(path)} says of itself", facts(rows_of_file))
    return f"<h3>{name}</h3>" + facts(rows) + table("Systems", ["where", "formula", "frames"], cells) + told


def _doctor(run: Run) -> str:
    from kalmandp.doctor import examine
    from kalmandp.errors import KalmanDPError

    t = run.settings.training
    try:
        findings = examine([*t.systems, *t.validation_systems], model=run.settings.model)
    except KalmanDPError as error:
        return text(f"The doctor could not look: {error}")
    if not findings:
        return text("Nothing: no wrong units or signs, duplicates, leakage, outliers or missing labels.")
    return "".join(map(_finding, findings))


def _finding(f) -> str:
    from kalmandp.doctor import ranges

    where = f" ({ranges(f.frames)})" if f.frames else ""
    return (
        f'<div class="finding {f.severity}"><p><strong>{f.severity}</strong>: {escape(f.seen + where)}</p>'
        f"<p>{escape(f.advice)}</p><p><small>{escape(f.check)}, {escape(place(f.data))}</small></p></div>"
    )
