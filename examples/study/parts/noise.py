"""The noise, and what else the filter leaves to choose: the default against alternatives, by frames shown.

Every system that is asked for, the user's own too (``--data``): the settings that are best on the data they
were chosen on prove nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from runs import Study, Unit, curves, figures, markdown

from .alternatives import DEEPMD_START, alternatives

FRAMES, AT = 800, (50, 100, 200, 400, 800, 1600)
KINDS = (("energy", "meV/atom"), ("force", "meV/Å"))


def _unit(study: Study, system, which) -> Unit:
    length = {} if study.smoke else {"epochs": None, "frames": study.frames or FRAMES}
    if which.name == DEEPMD_START:
        length["network"] = replace(study.network, initial_weights="deepmd")
    return study.unit(system, which, **length)


def units(study: Study) -> list[Unit]:
    """Every system with every alternative."""
    return [_unit(study, system, o) for system in study.systems for o in alternatives(study)]


def report(study: Study) -> None:
    """Write tables/noise.md and figures/noise_energy.png, noise_force.png."""
    found = {
        (s.name, o.name): r
        for s in study.systems for o in alternatives(study)
        if (r := study.result(_unit(study, s, o))) is not None
    }  # fmt: skip
    if not found:
        print("noise: no run is finished")
        return
    text = ["# The filter's settings by frames shown: test RMSE"]
    for kind, unit in KINDS:
        text += ["", f"## {kind.capitalize()}, {unit}, system by system", "", _table(study, found, kind)]
    study.table("noise", "\n".join([*text, "", *_summary(study, found)]))
    for kind, unit in KINDS:
        _draw(study, found, kind, unit)


def _names(study: Study) -> list[str]:
    return [o.name for o in alternatives(study)]


def _marks(found) -> list[int]:
    last = max(r.curve["step"][-1] for r in found.values())
    return [k for k in AT if k <= last] or [int(last)]


def _table(study: Study, found, kind: str) -> str:
    marks = _marks(found)
    header = ["system", "settings", *(f"{k} frames" for k in marks)]
    rows = []
    for system in study.systems:
        for name in _names(study):
            if (r := found.get((system.name, name))) is not None:
                cells = [markdown.number(1e3 * curves.at_frames(r, kind, k)) for k in marks]
                rows.append([system.name, name, *cells])
    return markdown.table(header, rows)


def _summary(study: Study, found) -> list[str]:
    """Geometric mean over systems of an alternative's error over the default's, by frames."""
    marks, lines = _marks(found), []
    for kind, _ in KINDS:
        rows = []
        for name in _names(study)[1:]:
            cells = []
            for k in marks:
                at = lambda system, name, k=k, kind=kind: curves.at_frames(found[system, name], kind, k)
                both = [s.name for s in study.systems if {(s.name, name), (s.name, "default")} <= set(found)]
                ratios = [at(system, name) / at(system, "default") for system in both]
                known = [r for r in ratios if np.isfinite(r)]
                worse = sum(r > 1 for r in known)
                cells.append(
                    f"{np.exp(np.mean(np.log(known))):.2f} ({worse}/{len(known)})"
                    if known
                    else markdown.MISSING
                )
            rows.append([name, *cells])
        title = (
            f"## {kind.capitalize()}: error over the default's, geometric mean (systems where it is worse)"
        )
        lines += [title, "", markdown.table(["settings", *(f"{k} frames" for k in marks)], rows), ""]
    return lines


def _draw(study: Study, found, kind: str, unit: str) -> None:
    """Error against frames, a panel for each system: the default thick, the others thin."""
    systems = [s.name for s in study.systems if any(key[0] == s.name for key in found)]
    figure, axes = figures.grid(len(systems), 4, width=1.9, beside=1.6)
    for ax, system in zip(axes, systems, strict=False):
        for n, name in enumerate(_names(study)):
            if (r := found.get((system, name))) is None:
                continue
            style = {
                "color": figures.COLOURS[n % 6],
                "lw": 2.2 if n == 0 else 1.0,
                "zorder": 3 if n == 0 else 2,
            }
            ax.plot(r.curve["step"], 1e3 * r.curve[kind], "-" if n < 6 else "--", label=name, **style)
        ax.set(xscale="log", yscale="log")
        figures.plain_ticks(ax.xaxis, room=0.4)
        figures.plain_ticks(ax.yaxis)
        figures.dress(ax, system, size=8)
    figure.supxlabel("frames", fontsize=9)
    figure.supylabel(f"{kind}, test RMSE ({unit})", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=7)
    figures.save(figure, study.figure(f"noise_{kind}"))
