"""The files that GPUMD's ``nep`` leaves: loss.out, energy_*.out, force_*.out, virial_*.out, stress_*.out.

    loss.out          step, total, L1, L2, RMSE of E, F, W on training frames, and on test frames
    energy_X.out      predicted, reference                               eV/atom
    force_X.out       predicted x y z, reference x y z                   eV/Å
    virial_X.out      predicted xx yy zz xy yz zx, reference             eV/atom, −10⁶ where there is none
    stress_X.out      the same of the stress W/V                         GPa

Lines are in the order of the frames, X is "train" or "test".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kalmandp.constants import GIGAPASCAL
from kalmandp.files import write_lines
from kalmandp.potentials.batches import batches

#: Voigt order of GPUMD's tensors.
VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))
#: What stands for a reference that a frame does not have.
MISSING = -1e6


def write_loss(path, history, sizes) -> None:
    """loss.out from the rows of a learning curve.

    Parameters
    ----------
    path : the file
    history : `training.report.history.History`
    sizes : L1 and L2 of the weights, Σ|w|/N and √(Σw²/N)
    """
    columns = ("rmse_e", "rmse_f", "rmse_v", "valid_e", "valid_f", "valid_v")
    table = np.nan_to_num(np.stack([history[name] for name in columns], axis=1))
    lines = []
    for step, errors in zip(history["step"], table, strict=True):
        total = errors[0] + errors[1] + 0.1 * errors[2]
        lines.append(f"{int(step):<8d}" + "".join(f"{x:16.8f}" for x in (total, *sizes, *errors)))
    write_lines(path, lines)


def write_predictions(folder, potential, frames, name: str) -> None:
    """energy_, force_, virial_ and stress_NAME.out of some frames.

    Parameters
    ----------
    folder : where to
    potential : that predicts
    frames : iterable of Frame
    name : "train" or "test"
    """
    energy, force, virial, stress = [], [], [], []
    for batch, _ in batches(frames):
        for frame, result in zip(batch, potential.evaluate(list(batch)), strict=True):
            n = len(frame)
            reference = MISSING if frame.energy is None else frame.energy / n
            energy.append(_line([result.energy / n, reference]))
            F = np.full((n, 3), MISSING) if frame.forces is None else frame.forces
            force += [_line([*p, *r]) for p, r in zip(result.forces, F, strict=True)]
            W = _voigt(result.virial) / n
            R = np.full(6, MISSING) if frame.virial is None else _voigt(frame.virial) / n
            virial.append(_line([*W, *R]))
            to_stress = n / GIGAPASCAL / abs(np.linalg.det(frame.cell)) if frame.cell is not None else np.nan
            known = R if frame.virial is None else to_stress * R
            stress.append(_line([*(to_stress * W), *known]))
    for kind, lines in (("energy", energy), ("force", force), ("virial", virial), ("stress", stress)):
        write_lines(Path(folder) / f"{kind}_{name}.out", lines)


def _voigt(tensor) -> np.ndarray:
    return np.array([0.5 * (tensor[d, c] + tensor[c, d]) for d, c in VOIGT])


def _line(numbers) -> str:
    return " ".join(f"{x:.10g}" for x in numbers)
