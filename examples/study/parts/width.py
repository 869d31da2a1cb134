"""The second study's questions: what width, depth and the number of weights do to each optimizer.

E. Li, S. Hu, G. Tan, W. Jia, "Impact and Analysis of Optimizers on the Performance of Neural Network Force
Fields", Computer Science 52 (5), 50 (2025).
"""

from __future__ import annotations

from runs import Network, Study, Unit, figures, markdown

#: What is moved, and the networks from small to large; the paper's is in all of them.
GRID = {
    "width": {
        "narrow": Network((12, 12, 12), 8, (25, 25, 25)),
        "paper": Network(),
        "wide": Network((25, 25, 25), 16, (100, 100, 100)),
    },
    "depth": {
        "shallow": Network(fitting=(50,)),
        "paper": Network(),
        "deep": Network(fitting=(50, 50, 50, 50, 50)),
    },
    "descriptor": {
        "small": Network((25, 25, 25), 4, (50, 50, 50)),
        "paper": Network(),
        "large": Network((50, 50, 50), 16, (50, 50, 50)),
    },
}
TINY = {"width": {"narrow": Network((4, 8), 2, (4,), 4.0), "paper": Network((4, 8), 2, (8, 8), 4.0)}}
NAMES = ("default", "adam", "adam-300")
SYSTEMS = 2
MARKERS = {"width": "o", "depth": "s", "descriptor": "^"}


def _grid(study: Study) -> dict:
    return TINY if study.smoke else GRID


def _names(study: Study) -> list[str]:
    return [name for name in NAMES if name in study.optimizers] or list(study.optimizers)


def _systems(study: Study):
    preferred = ("Cu", "H2O")
    chosen = [s for s in study.systems if s.name in preferred] or study.systems
    return chosen[:1] if study.smoke else chosen[:SYSTEMS]


def units(study: Study) -> list[Unit]:
    """Every network with every optimizer."""
    nets = list(dict.fromkeys(net for of in _grid(study).values() for net in of.values()))
    return [study.unit(s, n, network=net) for s in _systems(study) for net in nets for n in _names(study)]


def report(study: Study) -> None:
    """Write tables/width.md and figures/width.png."""
    text, found = [f"# Width, depth and number of weights; test RMSE after {study.length}"], {}
    names = _names(study)
    for system in _systems(study):
        rows = []
        for question, nets in _grid(study).items():
            for label, net in nets.items():
                results = {n: study.result(study.unit(system, n, network=net)) for n in names}
                found |= {(system.name, question, label, n): r for n, r in results.items() if r is not None}
                known = [r for r in results.values() if r is not None]
                size = f"{known[0].facts['n_weights']:,}" if known else markdown.MISSING
                rows.append([question, label, net.name, size, *(_cell(r) for r in results.values())])
        header = ["moved", "", "network", "weights", *(f"{n}: meV/atom, meV/Å, s" for n in names)]
        text += ["", f"## {system.name}", "", markdown.table(header, rows)]
    study.table("width", "\n".join(text))
    if found:
        _draw(study, names, found)


def _cell(result) -> str:
    if result is None:
        return markdown.MISSING
    errors = [markdown.number(1e3 * result.final[f"{kind}_test"]) for kind in ("energy", "force")]
    return ", ".join([*errors, markdown.number(result.facts["seconds"])])


def _draw(study: Study, names, found) -> None:
    """Force and energy error against the number of weights, one colour an optimizer."""
    systems = list(dict.fromkeys(key[0] for key in found))
    figure, axes = figures.panels(len(systems), 2)
    for row, system in zip(axes, systems, strict=True):
        for ax, (kind, unit) in zip(row, (("energy", "meV/atom"), ("force", "meV/Å")), strict=True):
            for name, colour in zip(names, figures.COLOURS, strict=False):
                for question, marker in MARKERS.items():
                    of = [r for (s, q, _, n), r in found.items() if (s, q, n) == (system, question, name)]
                    points = sorted((r.facts["n_weights"], 1e3 * r.final[f"{kind}_test"]) for r in of)
                    if points:
                        ax.plot(*zip(*points, strict=True), marker + "-", color=colour, lw=1.2, ms=5,
                                label=f"{name}, {question}")  # fmt: skip
            ax.set(xscale="log", yscale="log")
            for axis in (ax.xaxis, ax.yaxis):
                figures.plain_ticks(axis)
            figures.dress(ax, f"{system}: {kind}", "weights", f"test RMSE ({unit})")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    figures.save(figure, study.figure("width"))
