"""How sure a potential is of a frame: the standard deviation of its energy, each force and its virial.

    var y = H P Hᵀ        y one of E, F_ic, W_dc;  H = ∂y/∂w

All of them together cost one pass for the rows of H and one for P Hᵀ: about what a measurement of all forces
costs the filter. Energies and virials are judged per atom, so that a `Calibration` serves frames of any size.

The σ of an energy is meaningful only with one dense P, which holds what the forces say about all weights
together. A block-diagonal P does not contain that the blocks' shares of an energy add up, and its σ of an
energy is far too large.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.errors import InputError, require
from kalmandp.frames.frame import Frame
from kalmandp.kalman.calibration import Calibration
from kalmandp.kalman.filter import RLEKF
from kalmandp.kalman.uncertainty import padded, prediction_variance
from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.potential import Potential, Result
from kalmandp.training.measurements.measurement import make_sample, predict

#: Kinds of numbers whose uncertainty is given.
KINDS = ("energy", "force", "virial")
#: Numbers of H that are in memory at once, about.
ROW_NUMBERS = 1 << 24
UPPER = np.stack(np.triu_indices(3), axis=1)


class Uncertainty(NamedTuple):
    """Standard deviations of a frame's predictions.

    That of an energy is of use where P is dense, as a NEP's of up to 8,192 weights. Cut into blocks P makes
    it hundreds of times too large: the shares of the blocks in an energy are not known to add up.

    energy : eV, of the whole frame;  forces : (n, 3) eV/Å;  virial : (3, 3) eV
    """

    energy: float
    forces: np.ndarray
    virial: np.ndarray

    @property
    def force_i(self) -> np.ndarray:
        """σ of a force component of each atom, (n,) eV/Å: the root mean square over its three."""
        return np.sqrt((self.forces**2).mean(axis=1))


class Variances(NamedTuple):
    """H P Hᵀ as it is: energy eV², forces (n, 3) (eV/Å)², virial (6,) eV², xx xy xz yy yz zz."""

    energy: float
    forces: np.ndarray
    virial: np.ndarray


def check_weights(potential: Potential, kalman: RLEKF) -> None:
    """Refuse a P of other weights than the potential's; nuisances of its types may stand behind them."""
    N, n = potential.layout.size, len(kalman.weights)
    known = n in (N, N + len(potential.type_map))
    require(known, "the weights of P", n, f"{N}, those of the potential")


def numbers_of(n_atoms: int) -> Numbers:
    """Energy, all force components, and the virial of one frame, in this order."""
    force_k = np.stack([np.repeat(np.arange(n_atoms), 3), np.tile(np.arange(3), n_atoms)], axis=1)
    virial_k = np.concatenate([np.zeros((6, 1), dtype=int), UPPER], axis=1)
    return Numbers(np.zeros(1, dtype=int), force_k, np.zeros(0, dtype=int), virial_k)


def _parts(numbers: Numbers, at_once: int) -> Iterable[Numbers]:
    """The same numbers in pieces of about ``at_once`` forces."""
    none, none_k = np.zeros(0, dtype=int), np.zeros((0, 3), dtype=int)
    for first in range(0, max(1, len(numbers.force_k)), at_once):
        forces = numbers.force_k[first : first + at_once]
        last = first + at_once >= len(numbers.force_k)
        yield Numbers(
            numbers.energy_f if first == 0 else none, forces, none, numbers.virial_k if last else none_k
        )


def variances(
    potential: Potential, kalman: RLEKF, frame: Frame, environment=None
) -> tuple[Result, Variances]:
    """Predict a frame, and H P Hᵀ of all its numbers.

    Parameters
    ----------
    potential : its weights need not be the filter's, as those of an average
    kalman : the filter; P is only read
    frame : Frame
    environment : of the frame, if it is at hand
    """
    N = potential.layout.size
    check_weights(potential, kalman)
    sample = make_sample(potential, [frame])
    if environment is not None:
        sample = sample._replace(environment=environment)
    now = predict(potential, sample)
    var = []
    for part in _parts(numbers_of(len(frame)), max(96, ROW_NUMBERS // N)):
        H_qw = potential.engine.rows(potential.parameters, sample.environment, now.forward, part)
        var.append(to_numpy(prediction_variance(kalman, padded(H_qw, len(kalman.weights)))))
    v, n = np.concatenate(var), len(frame)
    E, E_i, F_ic, W_fcc = map(to_numpy, now[:4])
    result = Result(float(E[0]), F_ic, W_fcc[0], E_i)
    return result, Variances(float(v[0]), v[1 : 1 + 3 * n].reshape(n, 3), v[1 + 3 * n :])


def calibrated(found: Variances, calibration: Calibration) -> Uncertainty:
    """Standard deviations from H P Hᵀ and what is known of its errors."""
    n = max(1, len(found.forces))
    energy = n * np.sqrt(calibration.variance("energy", found.energy / n**2))
    W = np.zeros((3, 3))
    d, c = UPPER.T
    W[d, c] = W[c, d] = n * np.sqrt(calibration.variance("virial", found.virial / n**2))
    return Uncertainty(float(energy), np.sqrt(calibration.variance("force", found.forces)), W)


def errors_of(result: Result, frame: Frame) -> dict[str, np.ndarray]:
    """Prediction − label of the labels that a frame has; energy and virial per atom."""
    n, found = max(1, len(frame)), {}
    if frame.energy is not None:
        found["energy"] = np.array([result.energy - frame.energy]) / n
    if frame.forces is not None:
        found["force"] = result.forces - frame.forces
    if frame.virial is not None:
        d, c = UPPER.T
        W = result.virial - frame.virial
        found["virial"] = 0.5 * (W[d, c] + W[c, d]) / n
    return found


def see(calibration: Calibration, result: Result, found: Variances, frame: Frame) -> None:
    """Calibrate by a labelled frame that the filter has not seen."""
    n = max(1, len(frame))
    of: dict[str, Any] = {"energy": found.energy / n**2, "force": found.forces, "virial": found.virial / n**2}
    for kind, error in errors_of(result, frame).items():
        calibration.see(kind, error, np.broadcast_to(of[kind], error.shape))


def see_residuals(calibration: Calibration, potential: Potential, frames: Iterable[Frame]) -> None:
    """Take in the errors of labelled frames that the filter has learned."""
    squares: dict[str, list[np.ndarray]] = {}
    for frame in frames:
        for kind, error in errors_of(potential.evaluate(frame), frame).items():
            squares.setdefault(kind, []).append(np.square(error).ravel())
    for kind, parts in squares.items():
        calibration.see_residual(kind, float(np.concatenate(parts).mean()))


class UncertainPotential:
    """A potential with the covariance P of its weights: predictions with standard deviations.

    Parameters
    ----------
    potential : Potential
    kalman : RLEKF of as many weights
    calibration : Calibration; by default none is made: σ² = H P Hᵀ

    Notes
    -----
    Whether σ is right is not known before a calibration. `calibrate` it with labelled frames that the
    training did not see.
    """

    def __init__(self, potential: Potential, kalman: RLEKF, calibration: Calibration | None = None):
        self.potential, self.filter = potential, kalman
        # P and the model do not change: no prediction is too old
        self.calibration = Calibration(batches=None) if calibration is None else calibration

    @classmethod
    def from_checkpoint(cls, path, potential: Potential | None = None) -> UncertainPotential:
        """The potential and P of a checkpoint of `kalmandp train`.

        Parameters
        ----------
        path : of ``checkpoint.h5``
        potential : the model of this run, if it is at hand: `kalmandp train` saves averaged weights

        Raises
        ------
        FileError
            If it cannot be read.
        InputError
            If it has no P (Adam's), or belongs to another form of potential.
        """
        from kalmandp.training.placement.device import Cpu
        from kalmandp.training.state.checkpoint import open_checkpoint

        with open_checkpoint(path) as saved:
            own = saved["potential"]
            if "block_sizes" not in saved["optimizer"]:
                raise InputError(f"{path}: has no P; expected a checkpoint of a Kalman filter")
            kalman = Cpu().restored(saved["optimizer"])
        if potential is None:
            potential = own
        elif potential.form.to_dict() != own.form.to_dict():
            raise InputError(f"{path}: is of {own!r}; expected a checkpoint of {potential!r}")
        return cls(potential, kalman)

    def predict(self, frame, environment=None) -> tuple[Result, Uncertainty]:
        """Predict a Frame or ase.Atoms: `Result`, and its `Uncertainty`."""
        frame = self.potential.as_frame(frame)
        result, found = variances(self.potential, self.filter, frame, environment)
        return result, calibrated(found, self.calibration)

    def calibrate(self, frames: Iterable[Any], learned: Iterable[Any] = ()) -> Calibration:
        """Learn f and r from labelled frames that the training has not seen.

        Parameters
        ----------
        frames : some twenty or more, or σ of energies has little to be learned from
        learned : frames that the training has seen: without any others their errors are r
        """
        seen = [self.potential.as_frame(frame) for frame in learned]
        if seen:
            see_residuals(self.calibration, self.potential, seen)
        for frame in map(self.potential.as_frame, frames):
            see(self.calibration, *variances(self.potential, self.filter, frame), frame)
        return self.calibration
