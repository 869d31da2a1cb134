"""What a run or a test leaves for people: tables of errors, and DeePMD-kit's detail files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from kalmandp.errors import FileError
from kalmandp.files import naming, replacing
from kalmandp.training.report.metrics import Comparison, Metrics

_VOIGT = [f"{d}{c}" for d in "xyz" for c in "xyz"]

#: Columns of each detail file, as `dp test -d` names them: labels first, then predictions.
DETAIL_COLUMNS = {
    "e": "data_e pred_e",
    "e_peratom": "data_e pred_e",
    "f": "data_fx data_fy data_fz pred_fx pred_fy pred_fz",
    "v": " ".join(f"{kind}_v{component}" for kind in ("data", "pred") for component in _VOIGT),
    "v_peratom": " ".join(f"{kind}_v{component}" for kind in ("data", "pred") for component in _VOIGT),
}


class Details(NamedTuple):
    """Labels and predictions side by side on the last axis, of everything that has a label.

    energy (f, 2) eV/atom;  force (i, 3, 2) eV/Å;  virial (f, 3, 3, 2) eV/atom
    """

    energy: np.ndarray
    force: np.ndarray
    virial: np.ndarray

    @classmethod
    def of(cls, comparison: Comparison) -> Details:
        """The details of a comparison, whose energies and virials are totals."""
        sized = lambda values: zip(values, comparison.n_atoms, strict=True)
        energy = [e / n for e, n in sized(comparison.energy) if e is not None]
        virial = [v / n for v, n in sized(comparison.virial) if v is not None]
        force = [f for f in comparison.forces if f is not None]
        return cls(
            np.array(energy).reshape(-1, 2),
            np.concatenate(force) if force else np.zeros((0, 3, 2)),
            np.array(virial).reshape(-1, 3, 3, 2),
        )


def error_table(metrics: Metrics) -> str:
    """Errors as a small table; lines of labels that no frame has are left out.

    Energies and virials in meV/atom, forces in meV/Å; the force RMSE also as a share of the labels'
    own RMS, below which a potential has learnt something. Where not all frames have a label it says how
    many have.
    """
    m = metrics
    rows = [
        ("energy", m.energy_rmse, m.energy_mae, "meV/atom", ""),
        ("force", m.force_rmse, m.force_mae, "meV/Å", _share(m)),
        ("virial", m.virial_rmse, m.virial_mae, "meV/atom", _constant(m)),
        ("atomic", m.atomic_energy_rmse, m.atomic_energy_mae, "meV", "   energies of single atoms"),
    ]
    labelled = (m.energies, m.forces, m.virials, m.atomic_energies)
    lines = [f"{'':8}{'RMSE':>10}{'MAE':>10}"]
    lines += [
        f"{name:8}{1e3 * rmse:10.3f} {1e3 * mae:9.3f}  {unit}{note}{_of(n, m.n_frames)}"
        for (name, rmse, mae, unit, note), n in zip(rows, labelled, strict=True)
        if np.isfinite(rmse)
    ]
    if len(lines) == 1:
        lines.append("none of the frames has a label")
    return "\n".join(lines)


def _of(labelled: int, n_frames: int) -> str:
    return f"   of {labelled:,} of {n_frames:,} frames" if labelled < n_frames else ""


def _constant(m: Metrics) -> str:
    """A mean error on the diagonal, where it is most of the RMSE: then labels and energies disagree."""
    if not m.virial_mean**2 / 3.0 > 0.5 * m.virial_rmse**2:
        return ""
    mean, rest = 1e3 * m.virial_mean, 1e3 * m.virial_rest
    return f"   mean {mean:+.1f} on the diagonal; RMSE without it {rest:.1f}"


def _share(m: Metrics) -> str:
    if not (np.isfinite(m.force_rmse) and m.rms_force > 0):
        return ""
    share = 100 * m.force_rmse / m.rms_force
    return f"   RMSE is {share:.1f} % of the RMS force, {1e3 * m.rms_force:.0f} meV/Å"


def metrics_to_dict(metrics: Metrics) -> dict:
    """The errors under their names and units, for machines; None where there is no label."""
    units = {
        "energy": "eV_per_atom", "force": "eV_per_angstrom", "virial": "eV_per_atom", "atomic_energy": "eV",
    }  # fmt: skip
    plain = {
        f"{what}_{kind}_{unit}": getattr(metrics, f"{what}_{kind}")
        for what, unit in units.items()
        for kind in ("rmse", "mae")
    }
    plain["rms_force_eV_per_angstrom"] = metrics.rms_force
    plain["virial_mean_eV_per_atom"] = metrics.virial_mean
    errors = {name: value if np.isfinite(value) else None for name, value in plain.items()}
    return {"frames": metrics.n_frames, "atoms": metrics.n_atoms, **errors}


def write_details(comparison: Comparison, prefix, system: str) -> list[Path]:
    """Write DeePMD-kit's detail files ``PREFIX.e.out``, ``.e_peratom.out``, ``.f.out``, ….

    One line per frame (energy, virial) or atom (force) with the label: labels, then predictions,
    in eV, eV/Å and eV; ``_peratom`` divided by the number of atoms. Files without lines are not
    written. ``prefix`` is kept as it is, dots included.

    Parameters
    ----------
    comparison : from `metrics.compare`
    prefix : folder and beginning of the names
    system : name of the data, for the header

    Returns
    -------
    The paths written.
    """
    c = comparison
    per_atom = Details.of(c)
    energy = np.array([e for e in c.energy if e is not None])
    virial = np.array([v for v in c.virial if v is not None]).reshape(-1, 3, 3, 2)
    tables = {
        "e": energy.reshape(-1, 2),
        "e_peratom": per_atom.energy,
        "f": _columns(per_atom.force),
        "v": _columns(virial),
        "v_peratom": _columns(per_atom.virial),
    }
    written = []
    for kind, table in tables.items():
        if len(table):
            path = Path(f"{prefix}.{kind}.out")
            with replacing(path) as beside, naming(path):
                np.savetxt(beside, table, header=f"{system}: {DETAIL_COLUMNS[kind]}")
            written.append(path)
    return written


def _columns(values: np.ndarray) -> np.ndarray:
    """(n, …, 2) → (n, labels then predictions)."""
    return np.moveaxis(values, -1, 1).reshape(len(values), -1) if len(values) else np.zeros((0, 2))


def read_details(prefix) -> Details:
    """Read what `write_details`, or ``dp test -d``, has written; missing kinds are empty.

    Raises
    ------
    FileError
        If none of the files is there, or one is damaged.
    """
    paths = {kind: Path(f"{prefix}.{kind}.out") for kind in ("e_peratom", "f", "v_peratom")}
    if not any(path.is_file() for path in paths.values()):
        raise FileError(f"{prefix}: no detail files ({prefix}.e_peratom.out, {prefix}.f.out, …)")
    shapes = {"e_peratom": (), "f": (3,), "v_peratom": (3, 3)}
    read = {
        kind: _read_table(path, shapes[kind]) if path.is_file() else np.zeros((0, *shapes[kind], 2))
        for kind, path in paths.items()
    }
    return Details(read["e_peratom"], read["f"], read["v_peratom"])


def _read_table(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    n = int(np.prod(shape, dtype=int))
    try:
        table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read as a detail file ({error})") from None
    if table.shape[1] != 2 * n:
        raise FileError(f"{path}: has {table.shape[1]} columns; expected {2 * n}")
    return np.moveaxis(table.reshape(-1, 2, *shape), 1, -1)
