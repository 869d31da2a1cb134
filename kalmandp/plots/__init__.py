"""Learning curves and parity plots that can go into a paper.

Figures are made as objects; pyplot and its global state are never touched, so that plotting changes
nothing for a host program. matplotlib comes with ``pip install "kalmandp[plot]"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kalmandp.errors import FileError, InputError, MissingPackage
from kalmandp.files import naming, replacing

#: Okabe and Ito's colours, which can be told apart with any kind of colour vision.
BLUE, ORANGE, INK, GREY, NOTE = "#0072B2", "#D55E00", "#222222", "#9A9A9A", "#666666"
#: Beyond this many points a scatter plot shows only its outline; then density is drawn.
MANY = 3000
#: Width of one panel and height, inches: two fill the width of a page.
PANEL, HEIGHT = 3.55, 3.2
SUFFIXES = (".png", ".svg", ".pdf")


def learning_curve(history, path, virial: bool = False, column: bool = False) -> Path:
    """Draw energy and force errors against the passes over the data.

    Parameters
    ----------
    history : a `History`, the path of an ``lcurve.out`` (ours or DeePMD-kit's), or a mapping of its
        columns (``step``, ``rmse_e_val``, ``rmse_e_trn``, ``rmse_f_val``, …)
    path : .png (200 dpi), .svg or .pdf; it is written completely or not at all
    virial : add a panel for the virial
    column : as wide as one column of a journal, the panels one below the other

    Returns
    -------
    The path written.

    Raises
    ------
    MissingPackage
        Without matplotlib.
    FileError, InputError
        If the curve cannot be read, the suffix is another one, or the picture cannot be written.
    """
    columns = _columns(history)
    kinds = [("e", "Energy RMSE (meV/atom)"), ("f", "Force RMSE (meV/Å)")]
    if virial:
        kinds.append(("v", "Virial RMSE (meV/atom)"))
    x, x_label = _abscissa(columns)
    figure, axes = _panels(len(kinds), column)
    for ax, (kind, label) in zip(axes, kinds, strict=True):
        _curve(ax, x, columns, kind)
        ax.xaxis.set_major_locator(_ticks(whole=True))
        _dress(ax, x_label, label)
    return _save(figure, path)


def parity(
    details, path, reference: str = "Reference", model: str = "Model", column: bool = False
) -> Path:
    """Draw predictions against labels: energies per atom and force components.

    Parameters
    ----------
    details : a `Comparison` of `training.report.metrics`, or `Details` of `training.report.summary`
    path : .png (200 dpi), .svg or .pdf; it is written completely or not at all
    reference, model : names for the axes
    column : as wide as one column of a journal, the panels one below the other

    Returns
    -------
    The path written.

    Raises
    ------
    MissingPackage
        Without matplotlib.
    InputError
        If there is nothing to draw, or the suffix is another one.
    """
    energy, force = _pairs_of(details)
    drawn = [kind for kind, values in (("energy", energy), ("force", force)) if len(values)]
    if not drawn:
        raise InputError("no frame has an energy or forces; expected labels to draw")
    figure, axes = _panels(len(drawn), column)
    for ax, kind in zip(axes, drawn, strict=True):
        if kind == "energy":
            values, unit, note = _energy_scale(energy)
            error, error_unit = 1e3 * (energy[:, 1] - energy[:, 0]), "meV/atom"
        else:
            values, unit, note = force, "eV/Å", f"{len(force):,} components"
            error, error_unit = 1e3 * (force[:, 1] - force[:, 0]), "meV/Å"
        _parity_panel(figure, ax, values)
        _errors(ax, error, error_unit)
        _dress(ax, f"{reference} {kind} ({unit})", f"{model} {kind} ({unit})")
        ax.text(0.97, 0.03, note, transform=ax.transAxes, ha="right", va="bottom", fontsize=8,
                color=NOTE, linespacing=1.3)  # fmt: skip
    return _save(figure, path)


def read_lcurve(path) -> dict[str, np.ndarray]:
    """Columns of an ``lcurve.out``, ours or DeePMD-kit's, by name.

    Raises
    ------
    FileError
        If it is missing or is not a learning curve.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8") as file:
            headers = [line for line in file if line.startswith("#")]
        titles = next((h.lstrip("#").split() for h in headers if h.lstrip("#").split()[:1] == ["step"]), None)
        if titles is None:
            raise FileError(f"{path}: no line '# step …' names its columns; expected an lcurve.out")
        table = np.loadtxt(path, ndmin=2) if path.stat().st_size else np.zeros((0, 0))
    except FileNotFoundError:
        raise FileError(f"{path}: no such file; expected a learning curve") from None
    except (OSError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be read as a learning curve ({error})") from None
    if table.size and table.shape[1] != len(titles):
        raise FileError(f"{path}: has {table.shape[1]} columns under {len(titles)} titles")
    return {t: table[:, n] if table.size else np.zeros(0) for n, t in enumerate(titles)}


# --- learning curve -------------------------------------------------------------------------------


def _columns(history) -> dict[str, np.ndarray]:
    """The columns of an lcurve.out, wherever they come from."""
    if isinstance(history, str | Path):
        columns = read_lcurve(history)
    elif isinstance(history, Mapping):
        columns = {name: np.asarray(values, dtype=float) for name, values in history.items()}
    else:  # `training.report.history.History`
        ours = {f"{kind}_{k}": f"rmse_{k}_{which}" for k in "efv"
                for kind, which in (("valid", "val"), ("rmse", "trn"))}  # fmt: skip
        ours |= {"step": "step", "epoch": "epoch", "valid_frames": "frames_val"}
        columns = {title: np.asarray(history[name]) for name, title in ours.items()}
    if not len(columns.get("step", ())):
        which = f"{history}" if isinstance(history, str | Path) else "the learning curve"
        raise InputError(f"{which}: has no lines; expected at least one")
    return columns


def _column(columns, kind: str, which: str) -> np.ndarray:
    """RMSE of e, f or v on "val" or "trn" frames; NaN where there is none."""
    nothing = np.full(len(columns["step"]), np.nan)
    names = [f"rmse_{kind}_{which}"] + ([f"rmse_{kind}"] if which == "trn" else [])
    return next((np.asarray(columns[n], dtype=float) for n in names if n in columns), nothing)


def _abscissa(columns):
    epoch = np.asarray(columns.get("epoch", ()), dtype=float)
    if len(epoch) and np.isfinite(epoch).all() and epoch.max() > 0:
        return epoch, "Epoch"
    return np.asarray(columns["step"], dtype=float), "Step"


def _curve(ax, x, columns, kind: str) -> None:
    """Training frames (one batch at a time, scattered) in grey with their running median, and
    validation frames in blue."""
    train = 1e3 * _positive(_column(columns, kind, "trn"))
    valid = 1e3 * _positive(_column(columns, kind, "val"))
    last = None
    if np.isfinite(train).any():
        ax.plot(x, train, "-", color=GREY, lw=0.7, alpha=0.5, zorder=1)
        last = _line(ax, x, _running_median(train), ORANGE, 1.2, "training batch")
    if np.isfinite(valid).any():
        last = _validation(ax, x, valid, np.asarray(columns.get("frames_val", np.zeros(len(x)))))
    ax.set_yscale("log")
    _log_ticks(ax)
    if last is not None:
        (x_end, y_end), colour = last
        ax.plot(x_end, y_end, "o", color=colour, ms=4.5, mec="white", mew=0.8, zorder=5)
        ax.annotate(
            f"{y_end:.3g}", (x_end, y_end), xytext=(5, 0), textcoords="offset points", ha="left",
            va="center", fontsize=9, color=colour, fontweight="bold", annotation_clip=False,
        )  # fmt: skip
        ax.legend(frameon=False, fontsize=9, loc="upper right", handlelength=1.6, labelcolor=INK)


def _validation(ax, x, values, frames):
    """Errors on validation frames; where lines are of a sample, those of all frames are points of their own.
    Returns the last point and the colour."""
    seen = np.isfinite(values)
    whole = seen & (frames == frames[seen].max())
    n_frames = int(frames[seen].max())
    if (whole == seen).all():
        label = f"validation, {n_frames:,} frames" if n_frames else "validation"
        return _line(ax, x, values, BLUE, 1.8, label)
    sample = seen & ~whole
    label = f"validation, {int(frames[sample].max()):,} of {n_frames:,} frames"
    _line(ax, x, np.where(sample, values, np.nan), BLUE, 1.8, label)
    ax.plot(x[whole], values[whole], "o", ms=5, mec=BLUE, mfc="white", label="all of them", zorder=4)
    last = np.flatnonzero(seen)[-1]
    return (x[last], values[last]), BLUE


def _line(ax, x, values, colour: str, width: float, label: str):
    """Draw the finite values; returns the last point and the colour."""
    seen = np.flatnonzero(np.isfinite(values))
    ax.plot(x[seen], values[seen], "-", color=colour, lw=width, label=label, zorder=3)
    return (x[seen[-1]], values[seen[-1]]), colour


def _positive(values: np.ndarray) -> np.ndarray:
    """Zero and below have no place on a logarithmic axis."""
    return np.where(values > 0, values, np.nan)


def _running_median(values: np.ndarray) -> np.ndarray:
    """Median over a window of about a twentieth of the finite values; NaN stay."""
    seen = np.flatnonzero(np.isfinite(values))
    half = max(1, len(seen) // 40)
    smooth = np.full(len(values), np.nan)
    for k in range(len(seen)):
        smooth[seen[k]] = np.median(values[seen[max(0, k - half) : k + half + 1]])
    return smooth


def _log_ticks(ax) -> None:
    """Plain numbers, also between the decades when the curve spans few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_ylim()
    decades = np.log10(high / low) if low > 0 else 1.0
    steps = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=steps))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


# --- parity ---------------------------------------------------------------------------------------


def _pairs_of(details) -> tuple[np.ndarray, np.ndarray]:
    """(label, prediction) of energies per atom and of force components."""
    from kalmandp.training.report.summary import Details

    if not isinstance(details, Details):
        details = Details.of(details)
    return details.energy, details.force.reshape(-1, 2)


def _energy_scale(energy: np.ndarray) -> tuple[np.ndarray, str, str]:
    """Energies about their mean label, in meV/atom if they lie close together; unit; note."""
    centre = float(energy[:, 0].mean())
    shifted = energy - centre
    note = f"{len(energy):,} frames\nrelative to {centre:.3f} eV/atom".replace("-", "−")
    if np.ptp(shifted[:, 0]) < 0.5:
        return 1e3 * shifted, "meV/atom", note
    return shifted, "eV/atom", note


def _parity_panel(figure, ax, values: np.ndarray) -> None:
    label, predicted = values.T
    low, high = _limits(values)
    ax.plot([low, high], [low, high], "-", color=INK, lw=0.8, zorder=1)
    if len(values) < MANY:
        size = 16 if len(values) < 400 else 7
        ax.plot(label, predicted, "o", ms=np.sqrt(size), color=BLUE, mec="none",
                alpha=0.65 if len(values) < 400 else 0.35, zorder=2)  # fmt: skip
    else:
        _density(figure, ax, label, predicted, (low, high))
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_aspect("equal")
    # the same ticks on both axes
    ax.yaxis.set_major_locator(_ticks())
    ax.xaxis.set_major_locator(_ticks())


def _ticks(whole: bool = False):
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6 if whole else 5, steps=[1, 2, 5, 10], integer=whole)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _density(figure, ax, label, predicted, limits) -> None:
    """Hexagons coloured by the number of points in them, on a logarithmic scale."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    shades = LinearSegmentedColormap.from_list(
        "kalmandp", ["#BBD9EC", "#6BAED6", "#0072B2", "#08306B", "#1A0A2E"]
    )
    hexagons = ax.hexbin(
        label, predicted, gridsize=70, extent=(*limits, *limits), mincnt=1, cmap=shades,
        linewidths=0.1, norm=LogNorm(), zorder=2,
    )  # fmt: skip
    inset = ax.inset_axes([0.60, 0.145, 0.36, 0.028])
    bar = figure.colorbar(hexagons, cax=inset, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2, color=GREY, labelcolor=INK, pad=1.5)
    bar.ax.minorticks_off()
    bar.ax.set_title("count", fontsize=7, color=INK, pad=2)


def _errors(ax, error: np.ndarray, unit: str) -> None:
    rmse, mae = float(np.sqrt(np.mean(error * error))), float(np.mean(np.abs(error)))
    for y, name, value in ((0.92, "RMSE", rmse), (0.85, "MAE", mae)):
        for x, words in ((0.04, name), (0.225, f"{value:.3g} {unit}")):
            ax.text(x, y, words, transform=ax.transAxes, ha="left", va="baseline", fontsize=9.5,
                    color=INK)  # fmt: skip


# --- figures --------------------------------------------------------------------------------------


def _panels(n: int, column: bool = False):
    """A figure and its n axes, side by side, or one below the other at the width of a column."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise MissingPackage("matplotlib", "plot", "drawing a figure") from error
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05, wspace=0.06)
    across, down = (1, n) if column else (n, 1)
    figure = Figure(figsize=(PANEL * across, HEIGHT * down), layout=layout, facecolor="white")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    return figure, axes


def _dress(ax, x_label: str, y_label: str) -> None:
    """Thin axes without a box's upper and right sides, a faint grid behind, readable sizes."""
    ax.set_xlabel(x_label, fontsize=10, color=INK)
    ax.set_ylabel(y_label, fontsize=10, color=INK)
    ax.tick_params(labelsize=9, colors=INK, length=3.5, width=0.8)
    ax.tick_params(which="minor", labelsize=9, colors=INK, length=2, width=0.6)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set(linewidth=0.8, color=INK)
    ax.grid(which="major", color="#E6E6E6", lw=0.6)
    ax.set_axisbelow(True)


def _save(figure, path) -> Path:
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: suffix is {path.suffix!r}; expected {', '.join(SUFFIXES)}")
    with replacing(path) as beside, naming(path):
        figure.savefig(beside, format=path.suffix[1:].lower(), dpi=200)
    return path
