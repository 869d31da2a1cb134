"""Fig. 4: epochs, updates and wall-clock that Adam needs for 1.2 × the better test RMSE, over the filter's.

The paper writes 1000 where Adam does not reach the baseline in its 30 epochs. Here longer schedules of Adam
may be among the optimizers ("adam-300"): the one that is first at the baseline counts, and if none reaches
it the ratio is a lower bound, "> x". Where most ratios are bounds, a second table has both run to what Adam
does reach: 1.2 × the final error of its longest schedule.
"""

from __future__ import annotations

import paper
from runs import Study, Unit, curves, figures, markdown, optimizer
from runs.curves import COSTS, Span

from . import speed, table1

KINDS = ("energy", "force")
TITLES = {"epoch": "epochs", "updates": "updates", "seconds": "wall-clock"}
#: No bar is drawn for less; a bound without its other end ends here.
SMALLEST = 0.02


def units(study: Study) -> list[Unit]:
    """Those of Table 1."""
    return table1.units(study)


def ratios(
    study: Study, filter_name: str, kind: str, hold: int = curves.HOLD, aim: str = "better"
) -> dict[str, dict[str, Span]]:
    """Cost of Adam over that of a filter, by system and `COSTS`; medians over the seeds.

    Systems on which no seed has finished both the filter and Adam are left out.

    Parameters
    ----------
    study, filter_name : of what, of whom
    kind : "energy" or "force"
    hold : evaluations in a row that have to be at the baseline
    aim : "better", the paper's: the smaller error of the filter and of Adam with as many epochs; or "adam",
        that of Adam's longest schedule
    """
    found = {}
    for system in study.systems:
        numbers = range(1, study.seeds + 1)
        seeds = [_of_seed(study, system, filter_name, kind, seed, hold, aim) for seed in numbers]
        known = [of for of in seeds if of is not None]
        if known:
            found[system.name] = {cost: curves.median([of[cost] for of in known]) for cost in COSTS}
    return found


def _adams(study: Study) -> list[str]:
    """Adam and its longer schedules."""
    return [name for name in study.optimizers if optimizer(name).base == "adam"]


def _of_seed(
    study: Study, system, filter_name: str, kind: str, seed: int, hold: int, aim: str
) -> dict[str, Span] | None:
    """The ratios of one seed; None if the filter's run or Adam's is not finished."""
    adams = _adams(study)
    found = {name: study.result(study.unit(system, name, seed)) for name in (filter_name, *adams)}
    results = {name: result for name, result in found.items() if result is not None}
    if filter_name not in results or "adam" not in results:
        return None
    longest = max((results[name] for name in adams if name in results), key=lambda r: r.curve["step"][-1])
    aims = {"better": [results[filter_name], results["adam"]], "adam": [longest]}
    limit = curves.baseline(aims[aim], kind, paper.BASELINE)
    _, clocks = seconds(study, system.name, results)
    cost_of = {name: curves.reached(r, kind, limit, clocks[name], hold) for name, r in results.items()}
    fast = cost_of.pop(filter_name)
    slow = curves.soonest(list(cost_of.values()))
    return {cost: curves.ratio(slow[cost], fast[cost]) for cost in COSTS}


def seconds(study: Study, system: str, results) -> tuple[str, dict[str, float | None]]:
    """Where seconds per step of these runs come from, and what they are: the same source for all of them.

    First those of the part `speed`; then the runs' own processor time, if they had one thread; then
    their own clock (None).
    """
    measured = {name: speed.seconds_per_step(study, system, name) for name in results}
    if None not in measured.values():
        return "speed", measured
    own = {
        name: r.facts["cpu_per_step"] if r.facts.get("threads") == 1 else None for name, r in results.items()
    }
    if None not in own.values():
        return "processor", own
    return "clock", dict.fromkeys(results)


#: Words for the sources of seconds.
SOURCES = {
    "speed": "steps × seconds per step as the part `speed` measured them",
    "processor": "steps × the runs' own processor time per step, one thread (the part `speed` was not run)",
    "clock": "the runs' own clock, which other work on the machine is part of",
}


def report(study: Study) -> None:
    """Write tables/fig4.md, and figures/fig4.png for the first filter."""
    filters = [name for name in study.optimizers if optimizer(name).is_kalman]
    parts = [_heading(study)]
    for name in filters:
        by_kind = {kind: ratios(study, name, kind) for kind in KINDS}
        if not by_kind["force"]:
            parts.append(f"\n{name}: no system has finished runs of it and of adam.")
            continue
        touched = {kind: ratios(study, name, kind, hold=1) for kind in KINDS}
        parts += ["", f"## {name}", "", _table(by_kind, touched)]
        to_adam = {kind: ratios(study, name, kind, aim="adam") for kind in KINDS}
        to_touch = {kind: ratios(study, name, kind, hold=1, aim="adam") for kind in KINDS}
        words = f"### {name}, to {paper.BASELINE} × the final error of Adam's longest schedule"
        parts += ["", words, "", _table(to_adam, to_touch)]
        if name == filters[0]:
            _draw(study, name, by_kind)
    study.table("fig4", "\n".join(parts))


def _heading(study: Study) -> str:
    sources: dict[str, list[str]] = {}
    for system in study.systems:
        found = {name: study.result(study.unit(system, name)) for name in study.optimizers}
        known = {name: r for name, r in found.items() if r is not None}
        if known:
            sources.setdefault(seconds(study, system.name, known)[0], []).append(system.name)
    clock = "; ".join(f"{SOURCES[source]} ({', '.join(names)})" for source, names in sources.items())
    adams = ", ".join(_adams(study))
    return (
        f"# Fig. 4: how many times as much Adam needs to reach {paper.BASELINE} × the better test RMSE\n\n"
        f"Baseline of the runs of {study.length}. Adam: {adams}; the first to reach it counts, "
        f'"> x" where none does. Wall-clock: {clock}. '
        f"The paper has {paper.CLAIMED_CU[0]} in epochs and {paper.CLAIMED_CU[1]} in wall-clock for copper."
    )


def _table(by_kind, touched) -> str:
    """A line for each system, the medians, and the medians at the first touch of the baseline."""
    header = ["system"] + [f"{kind}, {TITLES[cost]}" for kind in KINDS for cost in COSTS]
    names = list(by_kind["force"])
    rows = [[name] + [str(by_kind[kind][name][cost]) for kind in KINDS for cost in COSTS] for name in names]
    middle = lambda of: [
        str(curves.median([s[cost] for s in of[k].values()])) for k in KINDS for cost in COSTS
    ]
    return markdown.table(
        header, [*rows, ["median", *middle(by_kind)], ["median, first touch", *middle(touched)]]
    )


def _draw(study: Study, name: str, by_kind) -> None:
    figure, axes = figures.panels(2, 1, height=2.5)
    for ax, kind in zip(axes[:, 0], KINDS, strict=True):
        systems = list(by_kind[kind])
        for n, (cost, colour) in enumerate(zip(COSTS, figures.COLOURS, strict=False)):
            spans = [by_kind[kind][system][cost] for system in systems]
            places = [k + 0.27 * (n - 1) for k in range(len(systems))]
            ax.bar(places, [_height(s) - 1 for s in spans], 0.25, bottom=1, color=colour, label=TITLES[cost])
            for x, span in zip(places, spans, strict=True):
                _mark(ax, x, span, colour)
        ax.axhline(1.0, color=figures.INK, lw=0.8)
        ax.set_yscale("log")
        low, high = (
            pick(_height(s[c]) for s in by_kind[kind].values() for c in COSTS) for pick in (min, max)
        )
        ax.set_ylim(min(0.5, low / 2), 2 * max(high, 2))
        ax.set_xticks(range(len(systems)), systems)
        figures.dress(ax, f"{kind.capitalize()}: Adam's cost over that of RLEKF ({name})", "", "ratio")
        figures.plain_ticks(ax.yaxis)
        ax.grid(visible=False, axis="x")
        ax.margins(x=0.02)
    axes[0, 0].legend(frameon=False, ncols=3, fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 1.22))
    words = "↑ Adam did not reach the baseline: at least this;  ↓ the filter did not: at most this"
    axes[1, 0].set_xlabel(words, fontsize=8, color=figures.NOTE)
    figures.save(figure, study.figure("fig4"))


def _height(span: Span) -> float:
    """A known ratio, or the end of a bound that is known."""
    return max(SMALLEST, span.low if span.low > 0 else span.high if span.high < float("inf") else SMALLEST)


def _mark(ax, x: float, span: Span, colour: str) -> None:
    """An arrow on a bar that is only a bound."""
    if not span.is_known:
        sign, up = ("↑" if span.low > 0 else "↓"), _height(span) >= 1
        ax.annotate(sign, (x, _height(span)), xytext=(0, 1 if up else -1), textcoords="offset points",
                    ha="center", va="bottom" if up else "top", fontsize=8, color=colour)  # fmt: skip
