"""Fig. 4: epochs, updates and wall-clock that Adam needs for 1.2 × the better test RMSE, over the filter's.

The paper writes 1000 where Adam does not reach the baseline in its 30 epochs. Here longer schedules of Adam
may be among the optimizers ("adam-300"): the one that is first at the baseline counts, and if none reaches
it the ratio is a lower bound, "> x".
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


def ratios(study: Study, filter_name: str, kind: str) -> dict[str, dict[str, Span]]:
    """Cost of Adam over that of a filter, by system and `COSTS`; systems without both runs are left out."""
    found = {}
    adams = [name for name in study.optimizers if not optimizer(name).is_kalman]
    for system in study.systems:
        of = {name: study.result(study.unit(system, name)) for name in (filter_name, *adams)}
        theirs = {name: of[name] for name in adams if of[name] is not None}
        if of[filter_name] is None or "adam" not in theirs:
            continue
        limit = curves.baseline([of[filter_name], theirs["adam"]], kind, paper.BASELINE)
        clock = lambda name, system=system: speed.seconds_per_step(study, system.name, name)
        reached = {n: curves.reached(r, kind, limit, clock(n)) for n, r in (theirs | {filter_name: of[filter_name]}).items()}
        slow = curves.soonest([reached[name] for name in theirs])
        found[system.name] = {cost: curves.ratio(slow[cost], reached[filter_name][cost]) for cost in COSTS}
    return found


def report(study: Study) -> None:
    """Write tables/fig4.md, and figures/fig4.png for the first filter."""
    filters = [name for name in study.optimizers if optimizer(name).is_kalman]
    parts = [_heading(study)]
    for name in filters:
        by_kind = {kind: ratios(study, name, kind) for kind in KINDS}
        if not by_kind["force"]:
            parts.append(f"\n{name}: no system has finished runs of it and of adam.")
            continue
        parts += ["", f"## {name}", "", _table(by_kind)]
        if name == filters[0]:
            _draw(study, name, by_kind)
    study.table("fig4", "\n".join(parts))


def _heading(study: Study) -> str:
    clock = (
        "seconds per step as `speed` measured them, times the steps" if speed.measured(study)
        else "the runs' own seconds (the part `speed` has not been run: other work on the machine is in them)"
    )  # fmt: skip
    adams = ", ".join(name for name in study.optimizers if not optimizer(name).is_kalman)
    return (
        f"# Fig. 4: how many times as much Adam needs to reach {paper.BASELINE} × the better test RMSE\n\n"
        f"Baseline of the runs of {study.length}. Adam: {adams}; the first to reach it counts, \"> x\" where none "
        f"does. Wall-clock: {clock}. The paper has for copper's energy epochs × {paper.CLAIMED_CU[0]}, "
        f"wall-clock × {paper.CLAIMED_CU[1]}."
    )


def _table(by_kind) -> str:
    header = ["system"] + [f"{kind}, {TITLES[cost]}" for kind in KINDS for cost in COSTS]
    names = list(by_kind["force"])
    rows = [[name] + [str(by_kind[kind][name][cost]) for kind in KINDS for cost in COSTS] for name in names]
    middle = [str(curves.median([of[cost] for of in by_kind[k].values()])) for k in KINDS for cost in COSTS]
    return markdown.table(header, [*rows, ["median", *middle]])


def _draw(study: Study, name: str, by_kind) -> None:
    figure, axes = figures.panels(2, 1, height=2.5)
    for ax, kind in zip(axes[:, 0], KINDS, strict=True):
        systems = list(by_kind[kind])
        for n, (cost, colour) in enumerate(zip(COSTS, figures.COLOURS, strict=False)):
            spans = [by_kind[kind][system][cost] for system in systems]
            places = [k + 0.27 * (n - 1) for k in range(len(systems))]
            ax.bar(places, [_height(s) for s in spans], 0.25, color=colour, label=TITLES[cost])
            for x, span in zip(places, spans, strict=True):
                _mark(ax, x, span, colour)
        ax.axhline(1.0, color=figures.INK, lw=0.8)
        ax.set_yscale("log")
        ax.set_ylim(bottom=min(0.5, ax.get_ylim()[0]))
        ax.set_xticks(range(len(systems)), systems)
        figures.dress(ax, f"{kind.capitalize()}: Adam's cost over that of RLEKF ({name})", "", "ratio")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.grid(visible=False, axis="x")
        ax.margins(x=0.02)
    axes[0, 0].legend(frameon=False, ncols=3, fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 1.22))
    axes[1, 0].set_xlabel("↑ Adam did not reach the baseline: at least this;  ↓ the filter did not: at most this",
                          fontsize=8, color=figures.NOTE)  # fmt: skip
    figures.save(figure, study.figure("fig4"))


def _height(span: Span) -> float:
    """A known ratio, or the end of a bound that is known."""
    return max(SMALLEST, span.low if span.low > 0 else span.high if span.high < float("inf") else SMALLEST)


def _mark(ax, x: float, span: Span, colour: str) -> None:
    """An arrow on a bar that is only a bound."""
    if not span.is_known:
        sign = "↑" if span.low > 0 else "↓"
        ax.annotate(sign, (x, _height(span)), xytext=(0, 1), textcoords="offset points", ha="center",
                    va="bottom", fontsize=8, color=colour)  # fmt: skip
