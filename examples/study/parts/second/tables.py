"""The tables of the second study: every pair, what time buys, sweeps, conditioning, published fits."""

from __future__ import annotations

import numpy as np
from runs import Result, Study, markdown
from runs.curves import baseline
from runs.results import read_json

from . import conditioning, published
from .plan import (
    FAMILIES,
    SECONDS,
    SEEDS,
    SWEEP_SHARE,
    TITLES,
    WORDS,
    block_units,
    forms,
    names,
    own,
    sweep,
    swept,
    swept_unit,
    systems,
    unit,
)

#: "Time to a stated error": so many times the best final force error of the model on these data.
STATED = 1.5
#: Shares of the seconds at which the advice is given.
MARKS = (1 / 12, 1 / 4, 1.0)
KINDS = ("energy", "force", "virial")
HOW = ("columns as they are", "columns of one length")


def results(study: Study, system, model: str) -> dict[str, Result]:
    """What is finished of a model and a system, by optimizer."""
    found = {name: study.result(unit(study, system, model, name)) for name in names(study, model)}
    return {name: result for name, result in found.items() if result is not None}


def report(study: Study) -> None:
    """Write tables/second.md, second_sweeps.md, second_own.md and second_published.md."""
    seconds = study.seconds or SECONDS
    text = [f"# Three models, their optimizers: {seconds:g} s of one processor each", "", _words(study)]
    text += ["", "## What to take", "", *_advice(study, seconds), "", "## Every pair", ""]
    text += ["RMSE of test frames; forces of training frames stand beside them. \"to the error\": seconds",
             f"until the force error is below {STATED:g} × the best of the model on these data.",
             "\"state\": what the optimizer keeps, P above all."]  # fmt: skip
    for system in systems(study):
        text += ["", f"### {system.name}", "", _pairs(study, system)]
    if not study.models:
        text += ["", "## Condition numbers", "", *_conditioning(study)]
    if sweep(study):
        text += ["", "## Seeds", "", *_seeds(study)]
    study.table("second", "\n".join(text))
    if sweep(study):
        study.table("second_sweeps", "\n".join(_sweeps(study)))
    if own(study):
        study.table("second_own", "\n".join(_own(study)))
    if any(s.name in published.MAE for s in systems(study)):
        study.table("second_published", "\n".join(_published(study)))


def _words(study: Study) -> str:
    used = dict.fromkeys(name for model in forms(study) for name in names(study, model))
    return "\n".join(f"- `{name}`: {WORDS[name]}" for name in used)


def at_seconds(result: Result, kind: str, seconds: float) -> float:
    """The test error at the last point of the curve within these seconds; NaN before the first."""
    reached = np.flatnonzero(result.cpu_seconds <= seconds)
    return float(result.curve[kind][reached[-1]]) if len(reached) else float("nan")


def seconds_to(result: Result, limit: float) -> float:
    """Seconds of one processor until the force error is below ``limit``; infinite if never."""
    below = np.flatnonzero(result.curve["force"] <= limit)
    return float(result.cpu_seconds[below[0]]) if len(below) else float("inf")


def _advice(study: Study, seconds: float) -> list[str]:
    """You have this model and so much time: the optimizer with the smallest force error."""
    header = ["data", "seconds", *(TITLES[m] for m in forms(study))]
    rows = []
    for system in systems(study):
        by_model = {m: results(study, system, m) for m in forms(study)}
        for mark in MARKS:
            rows.append([system.name, markdown.number(mark * seconds, 2)])
            for of in by_model.values():
                values = {n: at_seconds(r, "force", 1.05 * mark * seconds) for n, r in of.items()}
                known = {n: v for n, v in values.items() if np.isfinite(v)}
                best = min(known, key=known.__getitem__, default=None)
                cell = markdown.MISSING if best is None else f"{best}, {markdown.number(1e3 * known[best])}"
                rows[-1].append(cell)
    return ["The optimizer whose forces are best after these seconds, and their test RMSE in meV/Å.", "",
            markdown.table(header, rows)]  # fmt: skip


def _pairs(study: Study, system) -> str:
    header = ["model", "optimizer", "weights", "E, meV/atom", "F, meV/Å", "W, meV/atom", "F, training",
              "epochs", "updates", "s", "to the error, s", "state, MB"]  # fmt: skip
    rows = []
    for model in forms(study):
        of = results(study, system, model)
        if not of:
            continue
        best = min(r.final["force_test"] for r in of.values())
        limit = baseline([*of.values()], "force", STATED)
        for name, r in of.items():
            milli = [markdown.number(1e3 * r.final[f"{kind}_test"]) for kind in KINDS]
            if r.final["force_test"] == best:
                milli[1] = f"**{milli[1]}**"
            needed = seconds_to(r, limit)
            rows.append([
                TITLES[model], name, f"{r.facts['n_weights']:,}", *milli,
                markdown.number(1e3 * r.final["force_train"]), markdown.number(float(r.curve["epoch"][-1])),
                f"{r.facts['updates']:,}", markdown.number(float(r.cpu_seconds[-1])),
                markdown.number(needed) if np.isfinite(needed) else "not reached",
                markdown.number(r.facts["state_bytes"] / 1e6),
            ])  # fmt: skip
    return markdown.table(header, rows)


def _seeds(study: Study) -> list[str]:
    """Smallest and largest error over the seeds, which are other weights and another order of frames."""
    system, rows = swept(study), []
    for model in forms(study):
        for name in FAMILIES:
            found = [study.result(unit(study, system, model, name, seed)) for seed in SEEDS]
            known = [r for r in found if r is not None]
            spans = []
            for kind in ("energy", "force"):
                values = [1e3 * r.final[f"{kind}_test"] for r in known]
                ends = [markdown.number(end(values)) for end in (min, max)] if values else [markdown.MISSING]
                spans.append(" to ".join(ends))
            rows.append([TITLES[model], name, str(len(known)), *spans])
    header = ["model", "optimizer", "seeds", "E, meV/atom", "F, meV/Å"]
    return [f"{system.name}, test RMSE, from the best seed to the worst.", "", markdown.table(header, rows)]


def _conditioning(study: Study) -> list[str]:
    known, rows = read_json(study.folder / conditioning.FILE) or {}, []
    for system in systems(study):
        for model in forms(study):
            found = known.get(unit(study, system, model, "default").key)
            if found:
                cells = [f"{found[at][how]:.1e}" for at in ("start", "end") for how in ("plain", "scaled")]
                rows.append([system.name, TITLES[model], f"{found['weights']:,}", *cells])
    header = ["data", "model", "weights", *(f"{at}, {how}" for at in ("start", "trained") for how in HOW)]
    text = (
        "σ₁/σ_k of the Jacobian of energies and forces (rows over their noise), the weakest tenth of its\n"
        "directions left out. A plain gradient needs about the square of this number of steps. With columns\n"
        "of one length it is about what Adam makes of it. The filter divides by it."
    )
    return [text, "", markdown.table(header, rows)]


def _sweeps(study: Study) -> list[str]:
    seconds = SWEEP_SHARE * (study.seconds or SECONDS)
    text = [f"# Width, depth, blocks of P on {swept(study).name}: {seconds:g} s of one processor each", "",
            "Test RMSE, meV/atom and meV/Å; milliseconds of a step."]  # fmt: skip
    points = sweep(study)
    for question in dict.fromkeys(p.question for p in points):
        rows = []
        for model, value in dict.fromkeys((p.model, p.value) for p in points if p.question == question):
            of = {p.name: study.result(swept_unit(study, p)) for p in points
                  if (p.question, p.model, p.value) == (question, model, value)}  # fmt: skip
            sizes = [f"{r.facts['n_weights']:,}" for r in of.values() if r is not None]
            size = sizes[0] if sizes else markdown.MISSING
            rows.append([TITLES[model], value, size, *map(_cell, of.values())])
        text += ["", f"## {question.capitalize()}", "",
                 markdown.table(["model", question, "weights", *FAMILIES], rows)]  # fmt: skip
    rows = [
        [TITLES[model], f"{size:,}", *_block_cells(study.result(u))]
        for (model, size), u in block_units(study).items()
    ]
    header = ["model", "N_b", "blocks", "E, F; ms a step", "state, MB"]
    text += ["", "## Blocks of P (preset `matrix`)", "", markdown.table(header, rows), ""]
    return [*text, "## Cost of a step against the number of weights", "", *_slopes(study)]


def _cell(r: Result | None) -> str:
    if r is None:
        return markdown.MISSING
    E, F = (markdown.number(1e3 * r.final[f"{kind}_test"]) for kind in ("energy", "force"))
    return f"{E}, {F}; {markdown.number(1e3 * (r.facts['cpu_per_step'] or np.nan))}"


def _block_cells(r: Result | None) -> list[str]:
    if r is None:
        return [markdown.MISSING] * 3
    return [str(len(r.facts["blocks"])), _cell(r), markdown.number(r.facts["state_bytes"] / 1e6)]


def costs(study: Study, model: str, name: str) -> list[tuple[int, float]]:
    """Weights and seconds of a step of the sweep over width."""
    found = [
        study.result(swept_unit(study, p))
        for p in sweep(study)
        if (p.question, p.model, p.name) == ("width", model, name)
    ]
    return [(r.facts["n_weights"], r.facts["cpu_per_step"]) for r in found if r and r.facts["cpu_per_step"]]


def slope(points: list[tuple[int, float]]) -> float:
    """a of seconds ~ weights^a, by least squares in logarithms; NaN of fewer than two.

    Examples
    --------
    >>> round(slope([(10, 1.0), (100, 100.0)]), 6)
    2.0
    """
    if len(points) < 2:
        return float("nan")
    x, y = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


def _slopes(study: Study) -> list[str]:
    rows = [
        [TITLES[model], *(markdown.number(slope(costs(study, model, name)), 2) for name in FAMILIES)]
        for model in forms(study)
    ]
    return ["Exponent a of seconds ~ weights^a over the widths above.", "",
            markdown.table(["model", *FAMILIES], rows)]  # fmt: skip


def _own(study: Study) -> list[str]:
    """Both errors of energies and forces on the user's own data, model beside model."""
    seconds = study.seconds or SECONDS
    rows = []
    for system in own(study):
        for model in forms(study):
            for name, r in results(study, system, model).items():
                errors = [f"{kind}{how}_test" for kind in ("energy", "force") for how in ("", "_mae")]
                rows.append([
                    system.name, TITLES[model], name, f"{r.facts['n_weights']:,}", f"{r.facts['n_train']:,}",
                    str(r.facts["n_test"]), *(markdown.number(1e3 * r.final[error]) for error in errors),
                    markdown.number(1e3 * r.final["force_train"]),
                    markdown.number(float(r.curve["epoch"][-1])), f"{r.facts['updates']:,}",
                    markdown.number(float(r.cpu_seconds[-1])),
                ])  # fmt: skip
    header = ["data", "model", "optimizer", "weights", "training frames", "test frames", "E RMSE", "E MAE",
              "F RMSE", "F MAE", "F RMSE, training", "epochs", "updates", "s"]  # fmt: skip
    return [f"# Own data: {seconds:g} s of one processor each", "",
            "Test errors, meV/atom and meV/Å.", "", markdown.table(header, rows)]  # fmt: skip


def _published(study: Study) -> list[str]:
    """Mean absolute errors on other people's data beside their own fits."""
    text = ["# Beside published potentials: mean absolute errors on test frames", "",
            "meV/atom, meV/Å. Ours: the filter's default."]  # fmt: skip
    there = [s for s in systems(study) if s.name in published.MAE]
    rows = []
    for model in forms(study):
        cells = []
        for system in there:
            r = study.result(unit(study, system, model, "default"))
            keys = ("energy_mae_test", "force_mae_test")
            cells.append(markdown.MISSING if r is None else
                         ", ".join(markdown.number(1e3 * r.final[key]) for key in keys))  # fmt: skip
        rows.append([f"**{TITLES[model]}, ours**", *cells])
    for name in dict.fromkeys(name for s in there for name in published.MAE[s.name]):
        pairs = [published.MAE[s.name].get(name) for s in there]
        rows.append([name, *(markdown.MISSING if p is None else f"{p[0]:g}, {p[1]:g}" for p in pairs)])
    return [*text, "", markdown.table(["", *(s.name for s in there)], rows)]
