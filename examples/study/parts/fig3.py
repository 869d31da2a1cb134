"""Fig. 3: predictions against labels of the test frames, every system a panel: energy, and force."""

from __future__ import annotations

import numpy as np
from runs import Study, Unit, figures, optimizer
from runs.markdown import number

from . import table1

#: Points drawn in a panel at most; evenly spaced ones are chosen.
POINTS = 4000


def units(study: Study) -> list[Unit]:
    """Those of Table 1."""
    return table1.units(study)


def report(study: Study) -> None:
    """Write figures/fig3_energy.png and fig3_force.png, of the first filter."""
    name = next((n for n in study.optimizers if optimizer(n).is_kalman), study.optimizers[0])
    results = {s.name: study.result(study.unit(s, name)) for s in study.systems}
    details = {system: result.details() for system, result in results.items() if result is not None}
    missing = [system for system in results if system not in details] + study.missing
    if missing:
        print(f"fig3: not finished with {name}: {', '.join(missing)}")
    if not details:
        return
    for kind in ("energy", "force"):
        _draw(study, name, kind, {system: arrays[kind] for system, arrays in details.items()})


def _draw(study: Study, name: str, kind: str, pairs: dict[str, np.ndarray]) -> None:
    """A grid of panels; energies in meV/atom about their mean, force components in eV/Å."""
    figure, axes = figures.grid(len(pairs), 5, width=1.75, height=1.85)
    for ax, (system, values) in zip(axes, pairs.items(), strict=False):
        values = values[np.isfinite(values).all(axis=1)]
        if kind == "energy":
            values = 1e3 * (values - values[:, 0].mean())
        _panel(ax, system, kind, values)
    unit = "energy about its mean (meV/atom)" if kind == "energy" else "force component (eV/Å)"
    figure.supxlabel(f"label: {unit}", fontsize=9)
    figure.supylabel(f"RLEKF ({name})", fontsize=9)
    figures.save(figure, study.figure(f"fig3_{kind}"))


def _panel(ax, system: str, kind: str, values: np.ndarray) -> None:
    error = (1.0 if kind == "energy" else 1e3) * (values[:, 1] - values[:, 0])
    shown = values[:: max(1, len(values) // POINTS)]
    low, high = values.min(), values.max()
    margin = 0.05 * (high - low) or 1.0
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color=figures.GREY, lw=0.8, zorder=1)
    few = len(shown) < 300
    ax.plot(*shown.T, "o", ms=3 if few else 1.5, color=figures.BLUE, mec="none", alpha=0.7 if few else 0.25,
            rasterized=True)  # fmt: skip
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    figures.dress(ax, system, size=8)
    unit = "meV/atom" if kind == "energy" else "meV/Å"
    ax.text(0.05, 0.93, f"{number(float(np.sqrt(np.mean(error * error))))} {unit}", transform=ax.transAxes,
            fontsize=7.5, va="top", color=figures.INK,
            bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.5, "lw": 0})  # fmt: skip
    from matplotlib.ticker import MaxNLocator

    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10]))
