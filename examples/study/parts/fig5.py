"""Fig. 5: how far the result depends on the initial weights, drawn from N(μ, σ²).

Two kinds of weights are redrawn. "idt": the factors of the skip connections (resnet_dt of both nets, as
DeePMD-kit has them; its own are N(0.1, 0.001²)), which the paper's figure is about. "W": all matrices, in
units of DeePMD-kit's own deviation 1/√(n_in + n_out). The paper draws eight points without stating them.
"""

from __future__ import annotations

from dataclasses import replace

from runs import Init, Study, Unit, figures, markdown

#: μ and σ; the first of each is DeePMD-kit's own, a star in the figure.
POINTS = {
    "idt": ((0.1, 0.001), (0.1, 0.1), (0.5, 0.1), (1.0, 0.1), (0.0, 0.5), (0.0, 1.0), (1.0, 1.0), (2.0, 2.0)),
    "W": ((0.0, 1.0), (0.0, 0.3), (0.0, 2.0), (0.5, 1.0)),
}
OPTIMIZERS = ("default", "paper", "adam")
EPOCHS = 10.0


def _unit(study: Study, what: str, point, name: str) -> Unit:
    network = replace(study.network, resnet_dt=what == "idt")
    changes: dict = {"network": network, "init": Init(what, *point)}
    if study.frames is None and not study.smoke:
        changes["epochs"] = min(study.epochs, EPOCHS)
    return study.unit(study.system("Cu"), name, **changes)


def _points(study: Study) -> dict:
    return {"idt": POINTS["idt"][:2]} if study.smoke else POINTS


def _names(study: Study) -> list[str]:
    return [name for name in OPTIMIZERS if name in study.optimizers] or [study.optimizers[0]]


def units(study: Study) -> list[Unit]:
    """Every point with every optimizer."""
    return [
        _unit(study, what, point, name)
        for what, points in _points(study).items() for point in points for name in _names(study)
    ]  # fmt: skip


def report(study: Study) -> None:
    """Write tables/fig5.md and figures/fig5.png."""
    names, rows, found = _names(study), [], {}
    for what, points in _points(study).items():
        for point in points:
            results = {n: study.result(_unit(study, what, point, n)) for n in names}
            found |= {(what, point, n): r for n, r in results.items() if r is not None}
            cells = [
                markdown.number(1e3 * r.final[f"{kind}_test"]) if r is not None else markdown.MISSING
                for r in results.values() for kind in ("energy", "force")
            ]  # fmt: skip
            rows.append([f"{what} ~ N({point[0]:g}, {point[1]:g}²)", *cells])
    header = ["initial weights", *(f"{n}, {unit}" for n in names for unit in ("meV/atom", "meV/Å"))]
    text = f"# Fig. 5: test RMSE on {study.system('Cu').name} against the initial weights\n\n"
    study.table("fig5", text + markdown.table(header, rows))
    if found:
        _draw(study, names, found)


def _draw(study: Study, names, found) -> None:
    """Force error against energy error, a point each; DeePMD-kit's initial weights are stars."""
    figure, axes = figures.panels(1, len(names), height=3.1)
    for ax, name in zip(axes[0], names, strict=True):
        for what, marker, colour in (("idt", "o", figures.BLUE), ("W", "s", figures.ORANGE)):
            for (kind, point, by), result in found.items():
                if (kind, by) != (what, name):
                    continue
                x, y = (1e3 * result.final[f"{k}_test"] for k in ("energy", "force"))
                usual = point == POINTS[what][0]
                shape = {"marker": "*", "ms": 13} if usual else {"marker": marker, "ms": 6}
                ax.plot(x, y, color=colour, mec="white", mew=0.6, zorder=3, **shape)
                ax.annotate(f"{point[0]:g}, {point[1]:g}", (x, y), xytext=(5, 3), textcoords="offset points",
                            fontsize=6.5, color=figures.NOTE)  # fmt: skip
        ax.set(xscale="log", yscale="log")
        ax.margins(0.2)
        for axis in (ax.xaxis, ax.yaxis):
            figures.plain_ticks(axis, room=0.6)
        figures.dress(
            ax, name, "energy, test RMSE (meV/atom)", "force, test RMSE (meV/Å)" if name == names[0] else ""
        )
    axes[0, 0].plot([], [], "o", color=figures.BLUE, label="skip factors ~ N(μ, σ²)")
    axes[0, 0].plot([], [], "s", color=figures.ORANGE, label="matrices ~ N(μ, σ²)/√(n_in+n_out)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figures.save(figure, study.figure("fig5"))
