"""The files that n2p2's ``nnp-train`` leaves beside the model.

    learning-curve.out       epoch; energy RMSEpa, RMSE, MAEpa, MAE, force RMSE, MAE, each train and test
    trainpoints.out          structure, reference and predicted energy per atom       (testpoints.out)
    trainforces.out          structure, atom, reference and predicted force component (testforces.out)

In the units of input.data: the form's units of length and energy. "pa" is per atom. Where the form has n2p2's
normalisation the twelve errors of learning-curve.out stand a second time, "_iu", in the net's own units.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kalmandp.files import write_lines
from kalmandp.potentials.batches import batches

#: Columns of learning-curve.out after the epoch, each for training and test structures.
COLUMNS = ("RMSEpa_E", "RMSE_E", "MAEpa_E", "MAE_E", "RMSE_F", "MAE_F")


def errors_of(potential, frames) -> list[float]:
    """The six errors of `COLUMNS`, NaN where no frame has the label."""
    unit_E, unit_F = potential.form.energy_unit, potential.form.energy_unit / potential.form.length_unit
    E, Epa, F = [], [], []
    for batch, _ in batches(frames):
        for frame, result in zip(batch, potential.evaluate(list(batch)), strict=True):
            if frame.energy is not None:
                E.append((result.energy - frame.energy) / unit_E)
                Epa.append(E[-1] / len(frame))
            if frame.forces is not None:
                F.append(((result.forces - frame.forces) / unit_F).ravel())
    rms = lambda x: float(np.sqrt(np.mean(np.square(x)))) if len(x) else float("nan")
    mean = lambda x: float(np.mean(np.abs(x))) if len(x) else float("nan")
    forces = np.concatenate([np.zeros(0), *F])
    return [rms(Epa), rms(E), mean(Epa), mean(E), rms(forces), mean(forces)]


def normalised_errors(form, errors: list[float]) -> list[float]:
    """The six errors of `COLUMNS` in the net's units: E′ = E conv_energy, F′ = F conv_energy/conv_length."""
    of_E, of_F = form.conv_energy, form.conv_energy / form.conv_length
    return [x * (of_F if name.endswith("F") else of_E) for name, x in zip(COLUMNS, errors, strict=True)]


def add_to_learning_curve(path, epoch: int, train: list[float], test: list[float], form=None) -> None:
    """Add a line; one for the same epoch, or a later one, is replaced: a restart goes on where it is.

    Parameters
    ----------
    path : of learning-curve.out
    epoch : that has ended
    train, test : errors of `errors_of`
    form : with a normalisation, for the columns in the net's own units
    """
    path = Path(path)
    names = [f"{name}_{part}" for name in COLUMNS for part in ("train", "test")]
    numbers = [x for pair in zip(train, test, strict=True) for x in pair]
    if form is not None and (form.mean_energy, form.conv_energy, form.conv_length) != (0.0, 1.0, 1.0):
        own = (normalised_errors(form, errors) for errors in (train, test))
        numbers += [x for pair in zip(*own, strict=True) for x in pair]
        names += [f"{name}_iu" for name in names]
    head = ["# " + " ".join(["epoch", *names])]
    old = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = [line for line in old if line and not line.startswith("#") and int(line.split()[0]) < epoch]
    line = f"{epoch:10d} " + " ".join(f"{x:16.8E}" for x in numbers)
    write_lines(path, [*head, *kept, line])


def write_points(folder, potential, frames, name: str) -> None:
    """trainpoints.out and trainforces.out, or those of test structures.

    Parameters
    ----------
    folder : where to
    potential : that predicts
    frames : iterable of Frame
    name : "train" or "test"
    """
    unit_E, unit_F = potential.form.energy_unit, potential.form.energy_unit / potential.form.length_unit
    points, forces = ["# structure Eref Ennp (per atom)"], ["# structure atom Fref Fnnp"]
    number = 0
    for batch, _ in batches(frames):
        for frame, result in zip(batch, potential.evaluate(list(batch)), strict=True):
            n = len(frame)
            if frame.energy is not None:
                E = np.array([frame.energy, result.energy]) / (n * unit_E)
                points.append(f"{number:10d} {E[0]:24.16E} {E[1]:24.16E}")
            if frame.forces is not None:
                for i, (known, predicted) in enumerate(zip(frame.forces, result.forces, strict=True)):
                    forces += [
                        f"{number:10d} {i:10d} {a / unit_F:24.16E} {b / unit_F:24.16E}"
                        for a, b in zip(known, predicted, strict=True)
                    ]
            number += 1
    write_lines(Path(folder) / f"{name}points.out", points)
    write_lines(Path(folder) / f"{name}forces.out", forces)
