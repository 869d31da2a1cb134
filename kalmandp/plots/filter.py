"""Diagnostics of the filter, from a checkpoint: `kalmandp plot` draws them beside the errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kalmandp.errors import InputError
from kalmandp.plots import BLUE, GREY, INK, NOTE, ORANGE, _dress, _panels, _running_median, _save

#: Colour and name of each kind's n_c.
KINDS = {
    "nis_energy": (ORANGE, "energy"),
    "nis_force": (BLUE, "force"),
    "nis_virial": ("#009E73", "virial"),
    "nis_atomic_energy": ("#CC79A7", "atomic energy"),
}


def read_diagnostics(path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Columns of the table of updates (`diagnostics.COLUMNS`), the traces, the sizes of the blocks.

    Raises
    ------
    FileError
        If the file is missing, damaged, or not a checkpoint.
    InputError
        If it has no diagnostics: a run with Adam, or a checkpoint of an earlier version.
    """
    import h5py

    from kalmandp.training.state import codec
    from kalmandp.training.state.checkpoint import check_format, reading

    with reading(path), h5py.File(path, "r") as file:
        check_format(path, file)
        if "diagnostics" not in file or not len(file["diagnostics/updates"]):
            names = None
        else:
            group = file["diagnostics"]
            names = codec.attribute(group, "columns").split()
            table, traces = codec.array(group["updates"]), codec.array(group["traces"])
            sizes = codec.array(file["optimizer/block_sizes"])
    if names is None:
        raise InputError(f"{path}: has no diagnostics of a filter; expected a run with a Kalman filter")
    return dict(zip(names, table.T, strict=True)), traces, sizes


def filter_health(checkpoint, path, column: bool = False) -> Path:
    """Draw n_c of each kind against 1, the forgetting factor, and the mean variance of each block of P.

    Parameters
    ----------
    checkpoint : path of a checkpoint
    path : .png (200 dpi), .svg or .pdf; it is written completely or not at all
    column : panels one below the other, 3.5 inches wide

    Returns
    -------
    The path written.

    Raises
    ------
    MissingPackage
        Without matplotlib.
    FileError, InputError
        As `read_diagnostics`; if the suffix is another one; if the picture cannot be written.
    """
    columns, traces, sizes = read_diagnostics(checkpoint)
    figure, (innovation, memory, variance) = _panels(3, column)
    _innovation(innovation, columns)
    memory.plot(columns["update"], columns["lam"], "-", color=BLUE, lw=1.5)
    memory.ticklabel_format(axis="y", useOffset=False)
    _dress(memory, "Update", "Forgetting factor λ")
    _variance(variance, traces, sizes)
    return _save(figure, path)


def _innovation(ax, columns) -> None:
    """Every update faint, its running median strong; what was left out as crosses; what is expected."""
    x = columns["update"]
    for name, (colour, label) in KINDS.items():
        seen = np.isfinite(columns[name]) & (columns[name] > 0)
        if seen.any():
            n = np.log10(columns[name][seen])
            ax.plot(x[seen], 10**n, ".", ms=1.5, mec="none", color=colour, alpha=0.25, rasterized=True)
            ax.plot(x[seen], 10 ** _running_median(n), "-", color=colour, lw=1.5, label=label)
    out = columns["left_out"] > 0
    if out.any():
        worst = np.nanmax([columns[name][out] for name in KINDS], axis=0)
        ax.plot(x[out], worst, "x", color=INK, ms=4, mew=0.9, label="left out")
    ax.axhline(1.0, color=GREY, lw=0.9, ls="--", zorder=1)
    ax.set_yscale("log")
    # some labels are met exactly by chance: the axis leaves out the lowest hundredth
    drawn = np.concatenate([columns[name][columns[name] > 0] for name in KINDS])
    if len(drawn):
        ax.set_ylim(bottom=0.5 * min(1.0, np.quantile(drawn, 0.01)))
    ax.legend(frameon=False, fontsize=8, loc="lower left", handlelength=1.4, labelcolor=INK)
    _dress(ax, "Update", "Innovation² / expected variance")


def _variance(ax, traces, sizes) -> None:
    """tr P_l / n_l, from blue for the first block to orange for the last."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("blocks", [BLUE, "#9FB6C9", ORANGE])
    if traces.shape[1] == len(sizes) + 1:
        for l, n in enumerate(sizes):
            colour = shades(l / max(1, len(sizes) - 1))
            ax.plot(traces[:, 0], traces[:, 1 + l] / n, "-", color=colour, lw=1.1)
        ax.set_yscale("log")
        ax.set_title(f"{len(sizes)} blocks, first blue, last orange", fontsize=8, color=NOTE, loc="right")
    _dress(ax, "Update", "Mean variance tr P / n of each block")
