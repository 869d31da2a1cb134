"""What the filter did: innovations against what it expected, memory, variance, and frames left out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.report.figures import figure
from kalmandp.report.page import Section, number, place, table, text
from kalmandp.report.run import Run

#: The part of the updates at the end whose medians are told.
LAST = 0.1


def filter_sections(run: Run, training) -> Iterator[Section]:
    """What a Kalman filter did; nothing for another optimizer."""
    from kalmandp.errors import InputError
    from kalmandp.plots.filter import filter_health, read_diagnostics

    try:
        columns, _, sizes = read_diagnostics(run.checkpoint)
    except InputError:
        return
    words = (
        "Left: squared innovations (label minus prediction) over the variance that the filter expected; "
        "around 1 noise and covariance are right, far above it the filter is too sure of itself. "
        "Middle: the forgetting factor λ. Right: the mean variance of the weights of each block of P."
    )
    body = figure("filter-figure", words, lambda path, c: filter_health(run.checkpoint, path, column=c))
    yield Section("filter", "The filter", body + _numbers(columns, sizes) + _labels(run))
    yield Section("left-out", "Frames left out", _left_out(run, training))


def _numbers(columns, sizes) -> str:
    """Medians at the beginning and at the end."""
    from kalmandp.training.report.diagnostics import KINDS

    n = len(columns["update"])
    part = max(1, round(LAST * n))
    rows = []
    for kind in KINDS:
        values = columns[f"nis_{kind}"]
        if np.isfinite(values).any():
            rows.append([kind.replace("_", " "), *(_median(v) for v in (values[:part], values[-part:]))])
    rows.append(["λ", number(float(columns["lam"][0]), 6), number(float(columns["lam"][-1]), 6)])
    heads = ["innovation² / expected variance, median", "first tenth", "last tenth"]
    updates, weights = int(columns["update"][-1]), int(np.sum(sizes))
    caption = f"{updates:,} updates of {weights:,} weights in {len(sizes):,} blocks of P"
    return table(caption, heads, rows)


def _labels(run: Run) -> str:
    """σ of each kind of label by the innovations, and which kinds contradict each other."""
    from kalmandp.training.noise.estimates import KINDS, contradictions, sigmas
    from kalmandp.training.state.checkpoint import open_checkpoint

    with open_checkpoint(run.checkpoint) as saved:
        state = dict(saved["optimizer"])
        found, sigma_c = contradictions(state), sigmas(state)
    if not sigma_c:
        return ""
    rows = []
    for kind, sigma in sigma_c.items():
        _, what, unit, size = KINDS[kind]
        usual = float(state[f"noise/rule_{kind}"])
        rows.append([what, f"{number(sigma / size)} {unit}", f"{number(usual / size)} {unit}"])
    heads = ["labels", "estimated σ", "σ of the input"]
    caption = "Errors beyond what the weights can still account for, by the last hundred innovations"
    return table(caption, heads, rows) + "".join(text(f"{str(c)[0].upper()}{str(c)[1:]}.") for c in found)


def _median(values) -> str:
    seen = values[np.isfinite(values)]
    return number(float(np.median(seen))) if len(seen) else "–"


def _left_out(run: Run, training) -> str:
    from kalmandp.training.measurements.gate import LeftOut
    from kalmandp.training.state.checkpoint import open_checkpoint

    with open_checkpoint(run.checkpoint) as saved:
        found = LeftOut(saved["gate"]["left_out"]) if "gate" in saved else None
    if found is None:
        return text('The run had no gate, so no frame was left out ("gate": 100 in optimizer sets one).')
    if not found.rows:
        return text("The gate left nothing out.")
    source = (lambda k: f"frame {k}") if training is None else training.source
    frames: dict[int, list] = {}
    for row in found.rows:
        frames.setdefault(int(row[2]), []).append(row)
    off = lambda its: max(nis / usual for *_, nis, usual in its) ** 0.5
    rows = [
        [f"{k}", place(source(k)), f"{len(its):,}", f"{off(its):.0f} ×"]
        for k, its in sorted(frames.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    heads = ["number", "frame", "measurements", "as far off as usual"]
    numbers = ",".join(str(k) for k in sorted(frames))
    return (
        text(f"{len(frames):,} frames had measurements that were too far from what the filter expected. Look "
             f"at them; `kalmandp convert OLD.h5 NEW.h5 --without {numbers}` takes them out of one file.")
        + table("Frames left out, numbered from 0 in the order of the training data", heads, rows)
    )  # fmt: skip
