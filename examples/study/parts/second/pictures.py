"""The pictures of the second study: force errors against seconds, sweeps, cost against weights."""

from __future__ import annotations

from runs import Study, figures

from .plan import FAMILIES, TITLES, WORDS, forms, sweep, swept, swept_unit, systems
from .tables import costs, results, slope

COLOURS = dict(zip(WORDS, (*figures.COLOURS, "#882255", "#DDCC77"), strict=False))


def report(study: Study) -> None:
    """Write figures/second.png, second_sweeps.png and second_cost.png."""
    _curves(study)
    if sweep(study):
        _sweeps(study)
        _cost(study)


def _curves(study: Study) -> None:
    there = systems(study)
    figure, axes = figures.panels(len(there), len(forms(study)), width=8.4, height=2.3)
    for row, system in zip(axes, there, strict=True):
        for ax, model in zip(row, forms(study), strict=True):
            for name, r in results(study, system, model).items():
                ax.plot(r.cpu_seconds, 1e3 * r.curve["force"], color=COLOURS[name], lw=1.3, label=name)
            if ax.lines:
                ax.set(xscale="log", yscale="log")
                figures.plain_ticks(ax.yaxis)
                figures.plain_ticks(ax.xaxis)
            figures.dress(ax, f"{system.name}: {TITLES[model]}", "seconds of one processor", "F, meV/Å", 8)
    labels = {t: h for ax in axes.ravel() for h, t in zip(*ax.get_legend_handles_labels(), strict=True)}
    if labels:
        figure.legend(
            [*labels.values()], [*labels], loc="outside lower center", ncols=4, frameon=False, fontsize=8
        )
    figures.save(figure, study.figure("second"))


def _sweeps(study: Study) -> None:
    points = sweep(study)
    questions = list(dict.fromkeys(p.question for p in points))
    figure, axes = figures.panels(len(questions), len(forms(study)), width=8.4)
    for row, question in zip(axes, questions, strict=True):
        for ax, model in zip(row, forms(study), strict=True):
            for name in FAMILIES:
                found = [study.result(swept_unit(study, p)) for p in points
                         if (p.question, p.model, p.name) == (question, model, name)]  # fmt: skip
                line = [(r.facts["n_weights"], 1e3 * r.final["force_test"]) for r in found if r is not None]
                if line:
                    ax.plot(*zip(*line, strict=True), "o-", color=COLOURS[name], lw=1.3, ms=4, label=name)
            if ax.lines:
                ax.set(xscale="log", yscale="log")
                figures.plain_ticks(ax.yaxis)
                _sizes(ax)
            else:
                ax.set_visible(False)
            figures.dress(ax, f"{question}: {TITLES[model]}", "weights", "test F, meV/Å", 8)
    figure.suptitle(swept(study).name, fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figures.save(figure, study.figure("second_sweeps"))


def _cost(study: Study) -> None:
    figure, axes = figures.panels(1, len(forms(study)), width=8.4)
    for ax, model in zip(axes[0], forms(study), strict=True):
        for name in FAMILIES:
            line = costs(study, model, name)
            if line:
                x, y = zip(*line, strict=True)
                label = f"{name}, {slope(line):.2f}"
                ax.plot(x, [1e3 * t for t in y], "o-", color=COLOURS[name], lw=1.3, ms=4, label=label)
        if ax.lines:
            ax.set(xscale="log", yscale="log")
            figures.plain_ticks(ax.yaxis)
            _sizes(ax)
            ax.legend(frameon=False, fontsize=7, title="slope", title_fontsize=7)
        figures.dress(ax, TITLES[model], "weights", "ms of a step", 8)
    figures.save(figure, study.figure("second_cost"))


def _sizes(ax) -> None:
    """The numbers of weights themselves along the x axis."""
    sizes = sorted({int(x) for line in ax.lines for x in line.get_xdata()})
    ax.set_xticks([], minor=True)
    ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
