"""What is measured on a frame: H, the error, and the noise that go into one Kalman update.

A measurement y = h(w) + η has m ≥ 1 numbers: H_qw = ∂h_q/∂w, error_q = y_q − h_q(w), noise_q = Var η_q.

Signed mean (the paper's Algorithm 1, lines 1–7). A vector Y is turned into one number by giving each
component the sign of its own error and taking the mean: then error = mean |Y − Ŷ| and
H = ∂/∂w mean(s Ŷ), s = sign(Y − Ŷ). (As printed, line 6 takes |Y − Ŷ| after Ŷ was flipped; the authors' code
takes it of the raw values, and so does this one.)

Matrix. Each component is a measurement of its own; S is then an m × m matrix and the components share
one update, with the correlations between them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace, piece_sums
from kalmandp.errors import InputError
from kalmandp.potential.jacobian import force_direction, virial_direction
from kalmandp.potential.potential import Potential


class Measurement(NamedTuple):
    """H_qw (m, N), error_q (m,), noise_q (m,); ``kind`` says what was measured."""

    kind: str
    H_qw: np.ndarray
    error_q: np.ndarray
    noise_q: np.ndarray


class Sample(NamedTuple):
    """Frames of one update side by side, with what does not depend on the weights.

    first_f : (f + 1,) atoms of frame f are first_f[f] … first_f[f+1]−1
    """

    frames: list
    environment: Any
    first_f: np.ndarray

    @property
    def n_atoms(self) -> int:
        return int(self.first_f[-1])


class Prediction(NamedTuple):
    """E_f (eV), E_i (eV), F_ic (eV/Å), W_fcc (eV) of a sample, and the pass's cache.

    Without forces F_ic and W_fcc are None.
    """

    E_f: np.ndarray
    E_i: np.ndarray
    F_ic: Any
    W_fcc: Any
    forward: Any


def make_sample(potential: Potential, frames, pairs=None) -> Sample:
    """Put frames side by side and compute their environment."""
    frames = [f.with_type_map(potential.type_map) for f in frames]
    first_f = np.concatenate([[0], np.cumsum([len(f) for f in frames])])
    return Sample(frames, potential.environment(frames, pairs), first_f)


def predict(potential: Potential, sample: Sample, forces: bool = True) -> Prediction:
    """Energies of a sample, and its forces and virials unless they are not wanted."""
    engine, env, par = potential.engine, sample.environment, potential.parameters
    E_i, forward = engine.energies(par, env)
    E_f = piece_sums(E_i, sample.first_f)
    if not forces:
        return Prediction(E_f, E_i, None, None, forward)
    f_pc = engine.pair_gradient(par, env, forward)
    return Prediction(E_f, E_i, engine.forces(env, f_pc), engine.virial(env, f_pc), forward)


def labels(sample: Sample, name: str) -> np.ndarray:
    """Labels of all frames of a sample, joined; an error if a frame has none."""
    values = [getattr(f, name) for f in sample.frames]
    for frame, value in zip(sample.frames, values, strict=True):
        if value is None:
            raise InputError(f"{frame.source} has no {name}; expected one for this measurement")
    if name == "energy":
        return np.array(values)
    return np.concatenate(values) if name == "forces" else np.stack(values)


def errors(sample: Sample, name: str, prediction):
    """Labels of all frames less their prediction, where the prediction is."""
    return namespace(prediction).asarray(labels(sample, name)) - prediction


def signs(error):
    """+1 where the label is above the prediction or equal, else −1 (Algorithm 1, lines 2–4)."""
    return namespace(error).where(error >= 0.0, 1.0, -1.0)


def energy_signed(
    potential: Potential, sample: Sample, noise, n_blocks: int, now=None
) -> Measurement:
    """Mean of the frames' signed energies, one number; for one frame this is its energy."""
    now = predict(potential, sample, forces=False) if now is None else now
    error_f = errors(sample, "energy", now.E_f)
    s_f = signs(error_f) / len(error_f)
    E_bar_i = s_f[sample.environment.frame_i]
    H_w = potential.engine.energy_gradient(
        potential.parameters, sample.environment, now.forward, E_bar_i
    )
    R = noise.energy(sample.n_atoms // len(error_f), n_blocks)
    return Measurement("energy", H_w[None], abs(error_f).mean()[None], np.array([R]))


def force_signed(
    potential: Potential, sample: Sample, atoms, noise, n_blocks: int, now=None
) -> Measurement:
    """Mean of the signed force components of ``atoms`` (indices into the sample), one number."""
    now = predict(potential, sample) if now is None else now
    xp = namespace(now.F_ic)
    atoms = xp.asarray(atoms)
    error_ac = errors(sample, "forces", now.F_ic)[atoms]
    c_ic = xp.zeros((sample.n_atoms, 3))
    xp.add.at(c_ic, atoms, signs(error_ac) / error_ac.size)
    H_w = _tangent_gradient(potential, sample, now, force_direction(sample.environment, c_ic))
    R = noise.force(sample.n_atoms // len(sample.frames), n_blocks)
    return Measurement("force", H_w[None], abs(error_ac).mean()[None], np.array([R]))


def virial_signed(
    potential: Potential, sample: Sample, noise, n_blocks: int, now=None
) -> Measurement:
    """Mean of the signed virial components of all frames, one number."""
    now = predict(potential, sample) if now is None else now
    error_fcc = errors(sample, "virial", now.W_fcc)
    C_fcc = signs(error_fcc) / error_fcc.size
    H_w = _tangent_gradient(potential, sample, now, virial_direction(sample.environment, C_fcc))
    R = noise.virial(sample.n_atoms // len(sample.frames), n_blocks)
    return Measurement("virial", H_w[None], abs(error_fcc).mean()[None], np.array([R]))


def joint(
    potential: Potential, sample: Sample, groups, noise, n_blocks: int, order
) -> Measurement:
    """The signed numbers of a frame from one prediction, for one update with a small matrix S.

    The same measurements as the paper's sequence, in the same number; the sequence predicts anew
    before each, this one reads P once for all of them.
    """
    now = predict(potential, sample)
    parts = []
    for kind in order:
        if kind == "energy":
            parts.append(energy_signed(potential, sample, noise, n_blocks, now))
        elif kind == "force":
            parts += [force_signed(potential, sample, g, noise, n_blocks, now) for g in groups]
        else:
            parts.append(virial_signed(potential, sample, noise, n_blocks, now))
    xp = namespace(now.E_f)
    return Measurement(
        "joint",
        xp.concatenate([m.H_qw for m in parts]),
        xp.concatenate([m.error_q for m in parts]),
        np.concatenate([m.noise_q for m in parts]),
    )


def matrix(
    potential: Potential, sample: Sample, atoms, noise, n_blocks: int, *, virial: bool
) -> Measurement:
    """Energies of all frames, each force component of ``atoms``, and the virials, in one update."""
    now = predict(potential, sample)
    per_frame = sample.n_atoms // len(sample.frames)
    H, error, R = [], [], []
    xp = namespace(now.E_f)
    for f, E_error in enumerate(errors(sample, "energy", now.E_f)):
        E_bar_i = (sample.environment.frame_i == f).astype(float)
        H.append(
            potential.engine.energy_gradient(
                potential.parameters, sample.environment, now.forward, E_bar_i
            )
        )
        error.append(E_error)
        R.append(noise.energy(len(sample.frames[f]), n_blocks))
    F_error_ic = errors(sample, "forces", now.F_ic)
    for i in atoms.tolist():
        for axis in range(3):
            c_ic = xp.zeros((sample.n_atoms, 3))
            c_ic[i, axis] = 1.0
            v_pc = force_direction(sample.environment, c_ic)
            H.append(_tangent_gradient(potential, sample, now, v_pc))
            error.append(F_error_ic[i, axis])
            R.append(noise.force(per_frame, n_blocks))
    if virial:
        W_error_fcc = errors(sample, "virial", now.W_fcc)
        for f, frame in enumerate(sample.frames):
            for d, c in zip(*(k.tolist() for k in np.triu_indices(3)), strict=True):
                C_fcc = xp.zeros_like(W_error_fcc)
                C_fcc[f, d, c] += 0.5
                C_fcc[f, c, d] += 0.5
                v_pc = virial_direction(sample.environment, C_fcc)
                H.append(_tangent_gradient(potential, sample, now, v_pc))
                error.append(0.5 * (W_error_fcc[f, d, c] + W_error_fcc[f, c, d]))
                R.append(noise.virial(len(frame), n_blocks))
    return Measurement("matrix", xp.stack(H), xp.stack(error), np.array(R))


def _tangent_gradient(potential: Potential, sample: Sample, now: Prediction, v_pc):
    none = namespace(v_pc).zeros(sample.n_atoms)
    return potential.engine.weight_gradient(
        potential.parameters, sample.environment, now.forward, none, v_pc
    )
