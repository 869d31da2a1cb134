"""Fig. 2: the partitions GEKF, SEKF, LEKF, RLEKF: boxplots of test errors over seeds, and P itself.

GEKF's P of the paper's network (26,551 weights for one element) takes 2.8 GB, so the partitions are
compared on a smaller one, [16, 16, 16], M‹ = 8, [32, 32, 32] (6,850 weights), with N_b = 2,048, which cuts
the first layer of the fitting net in pieces as the paper's does. Settings: the preset "paper".
"""

from __future__ import annotations

import numpy as np
from runs import Network, Study, Unit, figures, markdown, with_keys
from runs.optimizers import PARTITIONS

NETWORK, BLOCK_SIZE = Network((16, 16, 16), 8, (32, 32, 32)), 2048
SEEDS, EPOCHS = 5, 10.0
KINDS = (("energy", "meV/atom"), ("force", "meV/Å"))


def _optimizer(partition: str):
    cut = {"block_size": BLOCK_SIZE} if partition in ("RLEKF", "SEKF") else {}
    return with_keys(f"paper-{partition.lower()}", {"type": partition, "preset": "paper", **cut})


def _units_of(study: Study, partition: str) -> list[Unit]:
    system = study.system("Cu")
    changes: dict = {} if study.smoke else {"network": NETWORK}
    if study.frames is None and not study.smoke:
        changes["epochs"] = min(study.epochs, EPOCHS)
    seeds = 1 if study.smoke else max(study.seeds, SEEDS)
    return [study.unit(system, _optimizer(partition), seed, **changes) for seed in range(1, seeds + 1)]


def units(study: Study) -> list[Unit]:
    """Every partition with every seed, seed by seed."""
    of = [_units_of(study, partition) for partition in PARTITIONS]
    return [unit for same_seed in zip(*of, strict=True) for unit in same_seed]


def report(study: Study) -> None:
    """Write tables/fig2.md and figures/fig2.png."""
    found = {p: [r for u in _units_of(study, p) if (r := study.result(u)) is not None] for p in PARTITIONS}
    found = {p: results for p, results in found.items() if results}
    system = study.system("Cu").name
    rows = []
    for partition, results in found.items():
        blocks = results[0].facts["blocks"]
        errors = [f"{_quartiles(results, kind)}" for kind, _ in KINDS]
        per_update = np.median([r.facts["seconds"] / r.facts["updates"] for r in results])
        rows.append([partition, str(len(blocks)), f"{max(blocks):,}", str(len(results)), *errors,
                     markdown.number(1e3 * per_update)])  # fmt: skip
    header = ["partition", "blocks", "largest", "seeds", "energy, meV/atom", "force, meV/Å", "ms per update"]
    missing = [p for p in PARTITIONS if p not in found]
    text = f"# Fig. 2: partitions of P on {system}: median test RMSE (quartiles)\n\n"
    text += f"Network {_units_of(study, 'GEKF')[0].network.name}, N_b {BLOCK_SIZE:,} for SEKF and RLEKF.\n\n"
    text += markdown.table(header, rows) if rows else "No run is finished yet."
    study.table("fig2", text + (f"\n\nNot finished: {', '.join(missing)}." if missing else ""))
    if found:
        _draw(study, found)


def _values(results, kind: str) -> np.ndarray:
    return 1e3 * np.array([result.final[f"{kind}_test"] for result in results])


def _quartiles(results, kind: str) -> str:
    low, middle, high = np.percentile(_values(results, kind), (25, 50, 75))
    return f"{markdown.number(middle)} ({markdown.number(low)}–{markdown.number(high)})"


def _draw(study: Study, found) -> None:
    """Boxplots to the left; |P| on a logarithmic scale, one partition a panel, to the right."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 3.9), layout="constrained", facecolor="white")
    axes = figure.subplot_mosaic(
        [["energy", "GEKF", "SEKF"], ["force", "LEKF", "RLEKF"]], width_ratios=(1.5, 1, 1)
    )
    for kind, unit in KINDS:
        ax = axes[kind]
        drawn = ax.boxplot([_values(r, kind) for r in found.values()], widths=0.5, patch_artist=True,
                           medianprops={"color": figures.INK})  # fmt: skip
        for box, colour in zip(drawn["boxes"], figures.COLOURS, strict=False):
            box.set(facecolor=colour, alpha=0.6, edgecolor=figures.INK)
        ax.set_xticks(range(1, len(found) + 1), list(found))
        figures.dress(ax, f"{kind.capitalize()}, test RMSE ({unit})")
    pictures = {p: results[0].details().get("covariance") for p, results in found.items()}
    known = [picture[picture > 0] for picture in pictures.values() if picture is not None]
    norm = LogNorm(*np.percentile(np.concatenate(known), (1, 99.9))) if known else None
    image = None
    for partition in PARTITIONS:
        ax = axes[partition]
        ax.set_title(partition, fontsize=9, fontweight="bold", loc="left")
        ax.set(xticks=[], yticks=[])
        picture = pictures.get(partition)
        if picture is None:
            ax.text(0.5, 0.5, "not finished", ha="center", transform=ax.transAxes, fontsize=8)
            continue
        image = ax.imshow(
            np.where(picture > 0, picture, np.nan), norm=norm, cmap="cividis", interpolation="nearest"
        )
    if image is not None:
        bar = figure.colorbar(image, ax=[axes["SEKF"], axes["RLEKF"]], shrink=0.7)
        bar.set_label("largest |P| in a cell", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    figures.save(figure, study.figure("fig2"))
