"""Theorem 1 seen: the step ‖ε·K‖ of every update against t, beside 1/S(t), which tends to 1/t."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from runs import Result, Study, Unit, figures, markdown

from kalmandp.kalman.theorem import effective_measurements

NAMES = ("paper", "default")
#: The slope is fitted to the updates from this one to the last.
FIRST = 1000


def _units(study: Study) -> dict[str, Unit]:
    return {name: study.unit(study.system("Cu"), name) for name in NAMES}


def units(study: Study) -> list[Unit]:
    """The runs of Table 1 with the paper's and our settings, on copper."""
    return list(_units(study).values())


def report(study: Study) -> None:
    """Write tables/theorem1.md and figures/theorem1.png."""
    found = {name: r for name, unit in _units(study).items() if (r := study.result(unit)) is not None}
    if not found:
        print(f"theorem1: no run of {', '.join(NAMES)} on {study.system('Cu').name} is finished")
        return
    rows = []
    for name, result in found.items():
        t, step = _steps(result)
        gain = result.details()["gain_norm"]
        slopes = [f"{_slope(t, values):.2f}" for values in (step, gain)]
        lam, nu = _factors(result)
        S = effective_measurements(int(t[-1]), lam, nu)
        rows.append([name, f"{int(t[-1]):,}", f"{lam:g}", f"{nu:g}", f"{S:,.0f}", *slopes])
    header = ["settings", "updates", "λ₁", "ν", "S(t) at the end", "slope of ‖ε·K‖", "slope of ‖K‖"]
    text = (
        f"# Theorem 1 on {study.system('Cu').name}: d log ‖ε·K‖ / d log t\n\n"
        f"Fitted from update {FIRST:,} on (or the last half). The theorem says −1 once S(t) grows as t; "
        "while λ is still below 1 it grows more slowly.\n\n"
    )
    study.table("theorem1", text + markdown.table(header, rows))
    _draw(study, found)


def _steps(result: Result) -> tuple[np.ndarray, np.ndarray]:
    details = result.details()
    return details["update"], details["step_norm"]


def _factors(result: Result) -> tuple[float, float]:
    choices = result.unit["choices"]
    return choices["lam"], choices["nu"]


def _slope(t: np.ndarray, values: np.ndarray) -> float:
    """Of log values against log t, medians of 20 bins that are even in log t."""
    t, values = _binned(t, values, min(FIRST, t[-1] / 2), 20)
    return float(np.polyfit(np.log(t), np.log(values), 1)[0]) if len(t) > 2 else float("nan")


def _binned(t: np.ndarray, values: np.ndarray, first: float, bins: int):
    """Medians of values in bins even in log t."""
    edges = np.geomspace(first, t[-1] + 1, bins + 1)
    inside = [(t >= low) & (t < high) & (values > 0) for low, high in pairwise(edges)]
    inside = [mask for mask in inside if mask.any()]
    return np.array([np.median(t[m]) for m in inside]), np.array([np.median(values[m]) for m in inside])


def _draw(study: Study, found) -> None:
    figure, axes = figures.panels(1, len(found), height=3.0, sharey=True)
    for ax, (name, result) in zip(axes[0], found.items(), strict=True):
        t, step = _steps(result)
        lam, nu = _factors(result)
        ax.plot(
            t, step, ".", ms=1.5, color=figures.GREY, alpha=0.4, rasterized=True, label="‖ε·K‖ of each update"
        )
        middle = _binned(t, step, 1, 40)
        ax.plot(*middle, color=figures.BLUE, lw=1.8, label="median")
        grid = np.unique(np.geomspace(1, t[-1], 40).astype(int))
        S = np.array([effective_measurements(int(k), lam, nu) for k in grid])
        at = np.argmin(np.abs(middle[0] - t[-1] / 2))
        scale = middle[1][at] * np.interp(middle[0][at], grid, S)
        ax.plot(grid, scale / S, "--", color=figures.ORANGE, lw=1.4, label="∝ 1/S(t)")
        ax.plot(grid, middle[1][at] * middle[0][at] / grid, ":", color=figures.INK, lw=1.2, label="∝ 1/t")
        ax.set(xscale="log", yscale="log", ylim=(np.percentile(step[step > 0], 0.1), 3 * step.max()))
        lam_nu = f"λ₁ = {lam:g}, ν = {nu:g}"
        figures.dress(ax, f"{name}: {lam_nu}", "update t", "‖ε·K‖" if ax is axes[0, 0] else "")
    axes[0, -1].legend(frameon=False, fontsize=7.5, loc="lower left")
    figures.save(figure, study.figure("theorem1"))
