"""Cost against N_b: seconds per update, memory of P, and the errors after so many frames."""

from __future__ import annotations

from runs import Study, Unit, curves, figures, markdown, with_keys

BLOCK_SIZES = (32, 128, 512, 5120)
FRAMES, AT = 400, (100, 200, 400)


def _units(study: Study) -> dict[int, Unit]:
    sizes = (64, 256) if study.smoke else BLOCK_SIZES
    of = lambda size: with_keys(f"default-nb{size}", {"block_size": size})
    length = {} if study.smoke else {"epochs": None, "frames": study.frames or FRAMES}
    return {size: study.unit(study.system("Si", "Cu"), of(size), **length) for size in sizes}


def units(study: Study) -> list[Unit]:
    """One run for each block size."""
    return list(_units(study).values())


def report(study: Study) -> None:
    """Write tables/cost.md and figures/cost.png."""
    results = {size: r for size, unit in _units(study).items() if (r := study.result(unit)) is not None}
    system = study.system("Si", "Cu").name
    rows = []
    for size, r in results.items():
        blocks = r.facts["blocks"]
        errors = [
            markdown.number(1e3 * curves.at_frames(r, kind, frames))
            for frames in AT
            for kind in ("energy", "force")
        ]
        rows.append([f"{size:,}", str(len(blocks)), markdown.number(_gigabytes(blocks)),
                     markdown.number(1e3 * _per_update(r)), *errors])  # fmt: skip
    header = ["N_b", "blocks", "P, GB", "ms per update"]
    header += [f"{unit} after {frames}" for frames in AT for unit in ("meV/atom", "meV/Å")]
    missing = [f"{size:,}" for size in _units(study) if size not in results]
    text = f"# Cost against N_b on {system} (one thread), and test RMSE after so many frames\n\n"
    text += markdown.table(header, rows) if rows else "No run is finished yet."
    study.table("cost", text + (f"\n\nNot finished: N_b {', '.join(missing)}." if missing else ""))
    if len(results) > 1:
        _draw(study, results)


def _gigabytes(blocks) -> float:
    """Half of each block in float64."""
    return sum(n * (n + 1) // 2 for n in blocks) * 8e-9


def _per_update(result) -> float:
    return result.facts["seconds"] / result.facts["updates"]


def _draw(study: Study, results) -> None:
    figure, axes = figures.panels(1, 3)
    sizes = list(results)
    panels = (
        ("Seconds per update", [_per_update(r) for r in results.values()], "s"),
        (
            "Energy at the end",
            [1e3 * r.final["energy_test"] for r in results.values()],
            "test RMSE (meV/atom)",
        ),
        ("Force at the end", [1e3 * r.final["force_test"] for r in results.values()], "test RMSE (meV/Å)"),
    )
    for ax, (title, values, unit) in zip(axes[0], panels, strict=True):
        ax.plot(sizes, values, "o-", color=figures.BLUE, lw=1.6)
        ax.set_xscale("log")
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.minorticks_off()
        ax.set_ylim(0, 1.15 * max(values))
        figures.dress(ax, title, "N_b", unit)
    figures.save(figure, study.figure("cost"))
