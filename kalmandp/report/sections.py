"""The sections of a report, in the order in which one reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from kalmandp.report.data import data_section
from kalmandp.report.errors import Errors, Row, errors_of, some_of
from kalmandp.report.figures import figure
from kalmandp.report.filter import filter_sections
from kalmandp.report.page import Bar, Section, code, details, facts, milli, number, place, table, text, tiles
from kalmandp.report.run import Run, data_of
from kalmandp.report.usage import uses

#: Frames with the largest errors that are listed.
WORST = 10
#: Groups of frames that are listed.
GROUPS = 40


def sections(run: Run, doctor: bool = True) -> list[Section]:
    """All sections of a run's report; ``doctor`` looks through the data, too."""
    with data_of(run) as (training, validation, gone):
        found = None if validation is None else errors_of(run.potential, validation)
        seen = None if training is None else errors_of(run.potential, some_of(training))
        judged, name = (found, "validation") if found is not None else (seen, "training")
        return [
            Section("result", "Result", _result(run, judged, name, gone)),
            Section("learning", "Learning", _learning(run)),
            *_errors(found, seen, training, gone),
            *(() if judged is None else [Section("where", "Where it errs", _where(judged, name))]),
            *filter_sections(run, training),
            Section("data", "Data", data_section(run, training, validation, gone, doctor)),
            Section("settings", "Settings", _settings(run)),
            Section("time", "Time", _time(run, training)),
            Section("use", "Use the model", _use(run)),
            Section("versions", "Versions", _versions(run)),
        ]


def _result(run: Run, judged: Errors | None, name: str, gone: str) -> str:
    from kalmandp.commands.wording import duration

    time = ("Training", duration(run.header.seconds), f"{run.header.step:,} steps")
    if judged is None:
        return tiles([time]) + text(f"The data cannot be read, so no errors are shown: {gone}")
    m = judged.metrics
    share = f", {100 * m.force_rmse / m.rms_force:.1f} % of the RMS force" if m.rms_force > 0 else ""
    of = f"on {m.n_frames:,} {name} frames"
    shown = [
        ("Energy RMSE", f"{milli(m.energy_rmse)} meV/atom", of),
        ("Force RMSE", f"{milli(m.force_rmse)} meV/Å", of + share),
        time,
    ]
    if name == "validation":
        return tiles(shown)
    return tiles(shown) + text(
        "There are no validation frames: these errors are on frames that were trained on, and say little "
        'about others. "validation_fraction": 0.1 in the section training sets a tenth aside.'
    )


def _learning(run: Run) -> str:
    from kalmandp import plots
    from kalmandp.errors import KalmanDPError

    words = (
        "Errors against passes over the data. Grey: the batch about to be learnt; orange: its running "
        "median; blue: validation frames."
    )
    try:
        draw = lambda path, column: plots.learning_curve(run.curve, path, column=column)
        return figure("learning-curve", words, draw)
    except KalmanDPError as error:
        return text(f"There is no learning curve: {error}")


# --- errors ---------------------------------------------------------------------------------------


def _errors(found: Errors | None, seen: Errors | None, training, gone: str) -> Iterator[Section]:
    from kalmandp import plots
    from kalmandp.plots.errors import error_histogram

    judged = found if found is not None else seen
    if judged is None or not np.isfinite([judged.metrics.energy_rmse, judged.metrics.force_rmse]).any():
        return
    rows = []
    if found is not None:
        rows.append(_summary("validation", found))
    if seen is not None:
        n = len(seen.frames.sources)
        of = "" if n == len(training) else f", {n:,} of {len(training):,}"
        rows.append(_summary(f"training{of}", seen))
    heads = ["frames", "number", "energy RMSE", "MAE", "force RMSE", "MAE", "of the RMS force", "virial RMSE",
             "MAE"]  # fmt: skip
    body = table("Errors: energies and virials in meV/atom, forces in meV/Å", heads, rows)
    c = judged.comparison
    body += figure(
        "parity", "Predictions against labels. On the line they agree.",
        lambda path, column: plots.parity(c, path, column=column),
    ) + figure(
        "histogram", "Distribution of the errors.",
        lambda path, column: error_histogram(c, path, column=column),
    )  # fmt: skip
    yield Section("errors", "Errors", body)


def _summary(name: str, e: Errors) -> list[str]:
    m = e.metrics
    share = f"{100 * m.force_rmse / m.rms_force:.1f} %" if m.rms_force > 0 else "–"
    return [
        name, f"{m.n_frames:,}", milli(m.energy_rmse), milli(m.energy_mae), milli(m.force_rmse),
        milli(m.force_mae), share, milli(m.virial_rmse), milli(m.virial_mae),
    ]  # fmt: skip


def _where(e: Errors, name: str) -> str:
    from kalmandp.plots.frames import frame_errors

    f = e.frames
    parts = [
        _groups(f"Forces by element, {name} frames", "element", e.elements, energy=False),
        _groups(f"By configuration, {name} frames", "configuration", e.systems, energy=True),
        _worst(e),
    ]
    if np.isfinite(f.energy_f).any() or np.isfinite(f.force_f).any():
        words = f"Every {name} frame, in the order of the data. One that stands apart deserves a look."
        draw = lambda path, column: frame_errors(f.energy_f, f.force_f, path, column=column)
        parts.insert(2, figure("frames", words, draw))
    return "".join(parts)


def _groups(caption: str, what: str, rows: list[Row], energy: bool) -> str:
    """A table of groups, the largest force error first."""
    known = sorted(rows, key=lambda r: -(r.force if np.isfinite(r.force) else -1.0))
    most = max((r.force for r in rows if np.isfinite(r.force)), default=float("nan"))
    cells: list[list] = [
        [r.name, f"{r.n_frames:,}", f"{r.n_atoms:,}", *([milli(r.energy)] if energy else []),
         Bar(milli(r.force), r.force / most), _share(r.force, r.rms_force)]
        for r in known[:GROUPS]
    ]  # fmt: skip
    heads = [what, "frames", "atoms", *(["energy RMSE, meV/atom"] if energy else []), "force RMSE, meV/Å",
             "of their RMS force"]  # fmt: skip
    left = text(f"… and {len(known) - GROUPS:,} more") if len(known) > GROUPS else ""
    return table(caption, heads, cells) + left


def _share(force: float, rms: float) -> str:
    return f"{100 * force / rms:.1f} %" if np.isfinite(force) and rms > 0 else "–"


def _worst(e: Errors) -> str:
    f = e.frames
    by = f.force_f if np.isfinite(f.force_f).any() else np.abs(f.energy_f)
    order = np.argsort(-np.where(np.isfinite(by), by, -1.0), kind="stable")[:WORST]
    cells: list[list] = [
        [place(f.sources[k]), milli(f.energy_f[k]), Bar(milli(f.force_f[k]), f.force_f[k] / np.nanmax(by)),
         _share(f.force_f[k], f.rms_f[k])]
        for k in order if np.isfinite(by[k])
    ]  # fmt: skip
    heads = ["frame", "energy error, meV/atom", "force RMSE, meV/Å", "of its RMS force"]
    return table("The frames with the largest errors", heads, cells) if cells else ""


# --- the run --------------------------------------------------------------------------------------


def _settings(run: Run) -> str:
    from kalmandp.commands.info import _model

    tree = _compact(json.dumps(run.tree, indent=2, ensure_ascii=False))
    words = facts([("seed used", str(run.seed)), ("input read in", str(run.settings.folder))])
    return (
        words + "<h3>The model</h3>" + code(_model(str(run.model)), "the model")
        + "<h3>The input</h3>" + code(tree, "the input")
        + details("All choices of the optimizer, defaults included", facts(_choices(run.settings)))
    )  # fmt: skip


def _compact(text: str) -> str:
    """Lists of numbers and words on one line."""
    return re.sub(r"\[([^\[\]{}]*)\]", lambda m: f"[{' '.join(m[1].split())}]", text)


def _choices(settings) -> list[tuple[str, str]]:
    from dataclasses import fields

    from kalmandp.training.config import presets

    o = settings.optimizer
    if o.type == "n2p2":
        stated = presets.resolve_n2p2(o)._asdict()
        return [("type", o.type), *((name, str(v)) for name, v in stated.items() if v is not None)]
    resolve: Any = {"Adam": presets.resolve_adam, "SNES": presets.resolve_snes}.get(o.type, presets.resolve)
    chosen = resolve(o)
    return [("type", o.type)] + [(f.name, str(getattr(chosen, f.name))) for f in fields(chosen)]


def _time(run: Run, training) -> str:
    from kalmandp.commands.wording import duration, size

    h = run.header
    rows = [("training", duration(h.seconds)), ("steps", f"{h.step:,}")]
    if h.step:
        rows.append(("per step", f"{number(1e3 * h.seconds / h.step)} ms"))
        last = dict(zip(_columns(), h.history[-1], strict=False)) if h.history else {}
        if last.get("epoch"):
            rows.append(("passes over the data", f"{last['epoch']:.2f}"))
            rows.append(("per pass", duration(h.seconds / last["epoch"])))
        if last.get("updates"):
            rows.append(("updates", f"{int(last['updates']):,}"))
    rows.append(("checkpoint", f"{run.checkpoint.name}, {size(run.checkpoint.stat().st_size)}"))
    return facts(rows)


def _columns() -> tuple[str, ...]:
    from kalmandp.training.report.history import COLUMNS

    return COLUMNS


def _use(run: Run) -> str:
    listed = uses(run.potential.form.kind, str(run.model), run.potential.type_map)
    return "".join(f"<h3>{u.where}</h3>{text(u.words)}{code(u.code, u.where)}" for u in listed)


def _versions(run: Run) -> str:
    import kalmandp

    rows = [(name, str(version)) for name, version in run.versions.items()]
    return text("What the run was made with, when its checkpoint was written:") + facts(
        [*rows, ("this report", f"kalmandp {kalmandp.__version__}")]
    )
