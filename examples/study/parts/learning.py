"""Learning curves: the test errors of every optimizer on every system, against epochs and against seconds."""

from __future__ import annotations

from runs import Study, Unit, figures, optimizer

from . import fig4, table1

KINDS = (("energy", "meV/atom"), ("force", "meV/Å"))


def units(study: Study) -> list[Unit]:
    """Those of Table 1."""
    return table1.units(study)


def report(study: Study) -> None:
    """Write figures/learning_energy_epochs.png, …_seconds.png and the same for force, of the first seed."""
    found = {}
    for system in study.systems:
        results = {name: study.result(study.unit(system, name)) for name in study.optimizers}
        known = {name: r for name, r in results.items() if r is not None}
        if known:
            found[system.name] = known
    if not found:
        print("learning: no run is finished")
        return
    for kind, unit in KINDS:
        for x in ("epochs", "seconds"):
            _draw(study, found, kind, unit, x)


def _draw(study: Study, found, kind: str, unit: str, x: str) -> None:
    """A panel for each system, a line for each optimizer; filters are drawn thick."""
    figure, axes = figures.grid(len(found), 4, beside=1.2)
    for ax, (system, results) in zip(axes, found.items(), strict=True):
        _, clocks = fig4.seconds(study, system, results)
        for n, name in enumerate(study.optimizers):
            if (r := results.get(name)) is None:
                continue
            at = r.curve["epoch"]
            if x == "seconds":
                at = r.curve["seconds"] if clocks[name] is None else clocks[name] * r.curve["step"]
            kalman = optimizer(name).is_kalman
            style = {"color": figures.COLOURS[n % len(figures.COLOURS)], "lw": 1.8 if kalman else 1.1}
            ax.plot(at, 1e3 * r.curve[kind], label=optimizer(name).name, **style)
        ax.set(xscale="log", yscale="log")
        figures.plain_ticks(ax.xaxis, room=0.4)
        figures.plain_ticks(ax.yaxis)
        figures.dress(ax, system, size=8)
    figure.supxlabel(x, fontsize=9)
    figure.supylabel(f"{kind}, test RMSE ({unit})", fontsize=9)
    handles = {h.get_label(): h for ax in axes for h in ax.get_legend_handles_labels()[0]}
    figure.legend(handles.values(), handles, loc="outside right upper", frameon=False, fontsize=7)
    figures.save(figure, study.figure(f"learning_{kind}_{x}"))
