"""How far several models differ on the same frames: the committee's uncertainty of DP-GEN.

With ⟨·⟩ the mean over the models, and quantities as DeePMD-kit's ``model-devi`` has them (σ is the standard
deviation with divisor n_models)::

    ε_F,i = √(⟨|F_i − ⟨F_i⟩|²⟩)         force on atom i, eV/Å
    ε_V,ab = σ(W_ab) / N                virial per atom, eV; the average is √(Σ_ab ε_V,ab² / 9)
    ε_E = σ(E) / N                      energy per atom, eV

Sources: Zhang et al., Comput. Phys. Commun. 253, 107206 (2020); for the relative deviations Zeng et al.,
J. Chem. Phys. 159, 054801 (2023), eqs. 71 and 72.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kalmandp.errors import InputError
from kalmandp.files import naming, replacing
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.potentials.potential import Potential
from kalmandp.training.uncertainty import UncertainPotential

#: Columns after the step, in DeePMD-kit's order.
COLUMNS = ("max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f", "avg_devi_f", "devi_e")


class Deviation(NamedTuple):
    """Of one frame: force_i (n_atoms,) eV/Å;  virial_cc (3, 3) and energy, eV per atom."""

    force_i: np.ndarray
    virial_cc: np.ndarray
    energy: float

    @property
    def row(self) -> list[float]:
        """The numbers of `COLUMNS`."""
        v, f = self.virial_cc, self.force_i
        average_v = np.sqrt((v * v).sum()) / 3.0
        return [v.max(), v.min(), average_v, f.max(), f.min(), f.mean(), self.energy]


def model_deviation(
    potentials: Sequence[Potential], frame, *, real_error: bool = False, relative: float | None = None,
    relative_v: float | None = None,
) -> Deviation:  # fmt: skip
    """Deviation of several models on a frame, or their common error.

    Parameters
    ----------
    potentials : models that know the frame's types, in whatever order
    frame : Frame
    real_error : take the root mean square difference from the frame's labels, not from the models' mean
    relative : level (eV/Å) ν: ε_F,i / (|⟨F_i⟩| + ν), with the label's F_i for ``real_error``
    relative_v : the same for the virial, level in eV per atom and ‖W‖/N

    Raises
    ------
    InputError
        For no model, an empty frame, a type that a model does not know, or a missing label.
    """
    if not potentials or len(frame) == 0:
        what = "the frame has no atoms" if potentials else "there are no models"
        raise InputError(f"{frame.source}: {what}; expected at least one to compare")
    E_k, F_kic, W_kcc = _predictions(potentials, frame)
    E, F_ic, W_cc = E_k.mean(), F_kic.mean(axis=0), W_kcc.mean(axis=0)
    if real_error:
        E, F_ic, W_cc = _labels(frame)
    rms = lambda d_k: np.sqrt((d_k * d_k).mean(axis=0))
    length = lambda d, axes: np.sqrt((d * d).sum(axis=axes))
    # ε_F,i = √(Σ_c ⟨(F_ic − ⟨F_ic⟩)²⟩)
    force_i = length(rms(F_kic - F_ic), -1)
    virial_cc = rms(W_kcc - W_cc)
    if relative is not None:
        force_i = force_i / (length(F_ic, -1) + relative)
    if relative_v is not None:
        virial_cc = virial_cc / (length(W_cc, (0, 1)) + relative_v)
    return Deviation(force_i, virial_cc, float(rms(E_k - E)))


def expected_deviation(
    known: UncertainPotential, frame, relative: float | None = None, relative_v: float | None = None
) -> Deviation:
    """What P of one model says of a frame, as a `Deviation`: ε_F,i = √(Σ_c σ²(F_ic)), and so on.

    Parameters
    ----------
    known : a potential with its P
    frame : Frame
    relative, relative_v : as in `model_deviation`
    """
    result, std = known.predict(frame)
    n = len(frame)
    length = lambda d, axes: np.sqrt((d * d).sum(axis=axes))
    force_i, virial_cc = length(std.forces, -1), std.virial / n
    if relative is not None:
        force_i = force_i / (length(result.forces, -1) + relative)
    if relative_v is not None:
        virial_cc = virial_cc / (length(result.virial / n, (0, 1)) + relative_v)
    return Deviation(force_i, virial_cc, std.energy / n)


def _predictions(potentials, frame):
    """Energies per atom (k,), forces (k, n, 3) and virials per atom (k, 3, 3) of k models."""
    pairs, results = {}, []
    for potential in potentials:
        own = frame.with_type_map(potential.type_map)
        form = potential.form
        # pairs are sorted by the neighbour's type: models of one order of types share them
        key = (form.cutoff, form.type_map)
        if key not in pairs:
            pairs[key] = neighbour_pairs(own, form.cutoff)
        results += potential.evaluate([own], potential.environment([own], [pairs[key]]))
    n = len(frame)
    stack = lambda name: np.stack([getattr(r, name) for r in results])
    return stack("energy") / n, stack("forces"), stack("virial") / n


def _labels(frame):
    missing = [name for name in ("energy", "forces", "virial") if getattr(frame, name) is None]
    if missing:
        raise InputError(f"{frame.source}: has no {', '.join(missing)}; expected labels to compare with")
    return frame.energy / len(frame), frame.forces, frame.virial / len(frame)


def write_deviations(path, systems: dict[str, list[Deviation]], *, frequency: int = 1, atomic: bool = False):
    """Write ``model_devi.out`` in DeePMD-kit's columns, one block for each system.

    Parameters
    ----------
    path : file to write or replace
    systems : name of each system and the deviations of its frames
    frequency : steps between frames, for the first column
    atomic : add the deviation of the force on each atom
    """
    lines = []
    for name, deviations in systems.items():
        titles = "".join(f"{title:19s}" for title in _titles(atomic))
        lines += [f"# {name}", f"# {'step':10s}{titles}"]
        for k, d in enumerate(deviations):
            numbers = [*d.row, *(d.force_i if atomic else ())]
            lines.append(f"{k * frequency:12d}" + "".join(f"{x:19.6e}" for x in numbers))
    with replacing(path) as beside, naming(path):
        Path(beside).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _titles(atomic: bool) -> list[str]:
    return [*COLUMNS, *(["atm_devi_f(N)"] if atomic else [])]
