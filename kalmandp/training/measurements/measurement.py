"""What is measured on a frame: H, the error, and the noise that go into one Kalman update.

A measurement y = h(w) + η has m ≥ 1 numbers: H_qw = ∂h_q/∂w, error_q = y_q − h_q(w), noise_q = Var η_q.

One number for a vector. A vector Y of n components is turned into one number by a norm of its error
e = Y − Ŷ, and H is the gradient by which that norm falls::

    "l1"    error = (1/n) Σ |e_i|         H = ∂/∂w (1/n) Σ s_i Ŷ_i,    s_i = sign e_i
    "l2"    error = √((1/n) Σ e_i²)       H = ∂/∂w (1/n) Σ s_i Ŷ_i,    s_i = e_i/error

"l1" is the signed mean, the paper's Algorithm 1, lines 1–7. (As printed, line 6 takes |Y − Ŷ| after Ŷ was
flipped; the authors' code takes it of the raw values, and so does this one.) "l2" weights each component by
its residual, as a root mean square error does. For n = 1 both are the same.

Matrix. Each component is a measurement of its own; S is then an m × m matrix and the components share
one update, with the correlations between them.

Frames, types and components may have weights (`measurements.weights`): R is divided by their squares. Of a
batch in one number the error of each frame counts by its weight.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace, piece_sums
from kalmandp.errors import InputError
from kalmandp.geometry.pairs import force_direction, virial_direction
from kalmandp.potentials.atomic import Numbers
from kalmandp.potentials.potential import Potential
from kalmandp.training.measurements.weights import Weighting, shared_weight, squares

#: Below every error that is not zero.
TINY = np.finfo(float).tiny


class Measurement(NamedTuple):
    """H_qw (m, N), error_q (m,), noise_q (m,); ``kind`` says what was measured.

    kind_q : (m,) what each number is: "energy", "force", "virial" or "atomic_energy"
    square_q : (m,) ω², by which R is divided (`weights`); None where all are 1
    trace_qf : (m, f) tr C_f for a number Σ_f C_f:W_f of the virials of f frames; None for other numbers
    """

    kind: str
    H_qw: np.ndarray
    error_q: np.ndarray
    noise_q: np.ndarray
    kind_q: tuple[str, ...]
    square_q: np.ndarray | None = None
    trace_qf: Any = None

    def weighted(self, noise_q: np.ndarray) -> np.ndarray:
        """R/ω² of an R (m,)."""
        return noise_q if self.square_q is None else noise_q / self.square_q


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
    """Energies of a sample; with ``forces`` its forces and virials, too."""
    engine, env, par = potential.engine, sample.environment, potential.parameters
    E_i, forward = engine.energies(par, env)
    E_f = piece_sums(E_i, sample.first_f)
    if not forces:
        return Prediction(E_f, E_i, None, None, forward)
    f_pc = engine.pair_gradient(par, env, forward)
    return Prediction(E_f, E_i, engine.forces(env, f_pc), engine.virial(env, f_pc), forward)


def labels_f(sample: Sample, name: str) -> list[np.ndarray]:
    """Labels of each frame, an axis of frames or atoms first; an error if a frame has none."""
    values = [getattr(f, name) for f in sample.frames]
    for frame, value in zip(sample.frames, values, strict=True):
        if value is None:
            raise InputError(f"{frame.source} has no {name}; expected one for this measurement")
    return values if name in ("forces", "atomic_energies") else [np.asarray(v)[None] for v in values]


def errors(potential: Potential, sample: Sample, name: str, prediction):
    """Labels of all frames less their prediction, where the engine computes."""
    return potential.engine.labels(sample.environment, name, labels_f(sample, name)) - prediction


#: The norms of an error that a vector may be measured by.
NORMS = ("l1", "l2")


def norm(error, norm_name: str, weight=None):
    """The norm of an error, and s, its components' shares: error = (1/n) Σ s_i e_i.

    With ``weight`` it is the norm of weight·e.

    "l1" is Algorithm 1, l. 1 to 5: the paper flips Ŷ_i where Ŷ_i ≥ Y_i; equality, of measure zero, counts for
    the other sign here. An error of zero has s = 0 in "l2".
    """
    xp = namespace(error)
    if weight is not None:
        size, s = norm(weight * error, norm_name)
        return size, weight * s
    if norm_name == "l1":
        return abs(error).mean(), xp.where(error >= 0.0, 1.0, -1.0)
    rms = xp.sqrt((error * error).mean())
    return rms, error / xp.maximum(rms, TINY)


def energy_signed(
    potential: Potential, sample: Sample, noise, n_blocks: int, now=None, norm_name: str = "l1"
) -> Measurement:
    """The norm ``norm_name`` of the frames' energy errors, one number; for one frame this is its energy.

    Algorithm 2, l. 2 and 3, by Algorithm 1, l. 6 and 7.
    """
    now = predict(potential, sample, forces=False) if now is None else now
    error_f = errors(potential, sample, "energy", now.E_f)
    square, weight_f = _shared(sample, "energy", error_f)
    error, s_f = norm(error_f, norm_name, weight_f)
    E_bar_i = (s_f / len(error_f))[sample.environment.geometry.frame_i]
    H_w = potential.engine.energy_gradient(
        potential.parameters, sample.environment, now.forward, E_bar_i
    )
    R = noise.energy(sample.n_atoms // len(error_f), n_blocks)
    return Measurement("energy", H_w[None], error[None], np.array([R]), ("energy",), square)


def force_signed(
    potential: Potential, sample: Sample, atoms, noise, n_blocks: int, now=None, norm_name: str = "l1"
) -> Measurement:
    """The norm ``norm_name`` of the force errors of ``atoms`` (indices into the sample), one number.

    Algorithm 2, l. 4 and 5, by Algorithm 1, l. 6 and 7: with the shares s of F − F̂ over n = 3·len(atoms)
    components (`norm`), error = (1/n) Σ s (F − F̂),  H = ∂/∂w (1/n) Σ s F̂ = ∂(c·F̂)/∂w,  c = s/n.

    ``atoms`` of shape (2, k) are k atoms and the axis of each: n = k single components.
    """
    now = predict(potential, sample) if now is None else now
    xp = namespace(now.F_ic)
    atoms = xp.asarray(atoms)
    where = atoms if atoms.ndim == 1 else (atoms[0], atoms[1])
    error_ac = errors(potential, sample, "forces", now.F_ic)[where]
    square, weight_f = _shared(sample, "force", error_ac)
    if weight_f is not None:
        weight_f = weight_f[sample.environment.geometry.frame_i][atoms if atoms.ndim == 1 else atoms[0]]
        weight_f = weight_f[:, None] if error_ac.ndim == 2 else weight_f
    error, s_ac = norm(error_ac, norm_name, weight_f)
    c_ic = xp.zeros((sample.n_atoms, 3))
    xp.add.at(c_ic, where, s_ac / error_ac.size)
    H_w = _tangent_gradient(potential, sample, now, force_direction(sample.environment.geometry, c_ic))
    R = noise.force(sample.n_atoms // len(sample.frames), n_blocks)
    return Measurement("force", H_w[None], error[None], np.array([R]), ("force",), square)


def virial_signed(
    potential: Potential, sample: Sample, noise, n_blocks: int, now=None, norm_name: str = "l1"
) -> Measurement:
    """The norm ``norm_name`` of the virial errors of all frames, one number."""
    now = predict(potential, sample) if now is None else now
    error_fcc = errors(potential, sample, "virial", now.W_fcc)
    square, weight_f = _shared(sample, "virial", error_fcc)
    error, s_fcc = norm(error_fcc, norm_name, None if weight_f is None else weight_f[:, None, None])
    C_fcc = s_fcc / error_fcc.size
    H_w = _tangent_gradient(potential, sample, now, virial_direction(sample.environment.geometry, C_fcc))
    R = noise.virial(sample.n_atoms // len(sample.frames), n_blocks)
    trace_f = namespace(C_fcc).einsum("fcc->f", C_fcc)
    return Measurement(
        "virial", H_w[None], error[None], np.array([R]), ("virial",), square, trace_f[None]
    )


def atomic_energy_signed(
    potential: Potential, sample: Sample, noise, n_blocks: int, now=None, norm_name: str = "l1"
) -> Measurement:
    """The norm ``norm_name`` of the errors of all atoms' energies, one number.

    With e_i = E_i(label) − E_i(w) and its shares s_i (`norm`)::

        error = (1/n) Σ_i s_i e_i,      H = ∂/∂w (1/n) Σ_i s_i E_i

    the adjoint Ē_i = s_i/n handed to `atomic.energy_gradient`. Labels are energies of atoms from a
    partitioned calculation; the potential's bias is part of E_i. R is ``noise.atomic_energy``.
    """
    now = predict(potential, sample, forces=False) if now is None else now
    error_i = errors(potential, sample, "atomic_energies", now.E_i)
    square, weight_f = _shared(sample, "atomic_energy", error_i)
    weight_i = None if weight_f is None else weight_f[sample.environment.geometry.frame_i]
    error, s_i = norm(error_i, norm_name, weight_i)
    H_w = potential.engine.energy_gradient(
        potential.parameters, sample.environment, now.forward, s_i / error_i.size
    )
    R = noise.atomic_energy(sample.n_atoms // len(sample.frames), n_blocks)
    what = "atomic_energy"
    return Measurement(what, H_w[None], error[None], np.array([R]), (what,), square)


def _shared(sample: Sample, kind: str, error):
    """ω² (1,) of one number of all frames, and each frame's share in it (f,), of the error's array module."""
    square, weight_f = shared_weight(sample.frames, kind)
    weight = None if weight_f is None else namespace(error).asarray(weight_f)
    return None if square == 1.0 else np.array([square]), weight


#: Measurements that are one number of a frame. Forces are one for each group of atoms.
SIGNED = {
    "energy": energy_signed,
    "atomic_energy": atomic_energy_signed,
    "virial": virial_signed,
}


def joint(
    potential: Potential, sample: Sample, groups, noise, n_blocks: int, order, now=None, norm_name: str = "l1"
) -> Measurement:
    """The numbers of a frame from one prediction, for one update with a small matrix S.

    The same measurements as the paper's sequence, in the same number; the sequence predicts anew
    before each, this one reads P once for all of them.
    """
    now = predict(potential, sample) if now is None else now
    parts = []
    for what in order:
        if what == "force":
            parts += [force_signed(potential, sample, g, noise, n_blocks, now, norm_name) for g in groups]
        else:
            parts.append(SIGNED[what](potential, sample, noise, n_blocks, now, norm_name))
    xp = namespace(now.E_f)
    return Measurement(
        "joint",
        xp.concatenate([m.H_qw for m in parts]),
        xp.concatenate([m.error_q for m in parts]),
        np.concatenate([m.noise_q for m in parts]),
        tuple(what for m in parts for what in m.kind_q),
        None if all(m.square_q is None for m in parts)
        else np.concatenate([np.ones(len(m.noise_q)) if m.square_q is None else m.square_q for m in parts]),
        None if all(m.trace_qf is None for m in parts)
        else xp.concatenate([
            xp.zeros((len(m.noise_q), len(sample.frames))) if m.trace_qf is None else m.trace_qf
            for m in parts
        ]),
    )  # fmt: skip


def combine(measurements) -> Measurement:
    """Early reduction: the same measurement of several frames becomes one, the mean over the frames.

        H = (1/B) Σ_f H_f,      error = (1/B) Σ_f error_f,      R = (1/B) Σ_f R_f

    so that B frames cost one update of P. (FEKF, "Training one DeePMD model in minutes", PPoPP 2024.) With
    the norm "l1" and frames of one size it is the measurement of the frames side by side; with "l2" it is the
    mean of their root mean squares, a little below the one of all together. The sum goes through the frames
    in the order given: its bits do not depend on which rank computed which frame.

    Parameters
    ----------
    measurements : Measurements of one kind and size, one per frame

    Raises
    ------
    InputError
        If there are none, or they differ in kind or size.

    Examples
    --------
    >>> import numpy as np
    >>> one = Measurement("energy", np.array([[1.0, 2.0]]), np.array([0.2]), np.array([0.01]), ("energy",))
    >>> two = one._replace(H_qw=np.array([[3.0, 4.0]]), error_q=np.array([0.4]))
    >>> combine([one, two]).H_qw
    array([[2., 3.]])
    """
    parts = list(measurements)
    forms = sorted({(m.kind, m.H_qw.shape) for m in parts})
    if len(forms) != 1:
        raise InputError(f"measurements have the forms {forms}; expected one kind, of one size")
    mean = lambda arrays: sum(arrays[1:], start=arrays[0]) / len(arrays)
    H, error, noise = (mean([getattr(m, f) for m in parts]) for f in ("H_qw", "error_q", "noise_q"))
    combined = parts[0]._replace(H_qw=H, error_q=error, noise_q=noise)
    if all(m.square_q is None for m in parts):
        return combined
    # R/ω² of the mean is the mean of R/ω²
    return combined._replace(square_q=noise / mean([m.weighted(m.noise_q) for m in parts]))


def matrix(
    potential: Potential, sample: Sample, atoms, noise, n_blocks: int, order, now=None,
    weighting: Weighting | None = None, rows=None,
) -> Measurement:  # fmt: skip
    """Every component a number of its own, in one update.

    Of the kinds in ``order``: the energies of all frames, the force components of ``atoms``, the energies of
    ``atoms``, the virials, one after another; each with its weight. ``rows`` makes H in place of the engine.
    """
    now = predict(potential, sample) if now is None else now
    numbers, per_frame = chosen_numbers(sample, atoms, order), sample.n_atoms // len(sample.frames)
    H_qw = (rows or potential.engine.rows)(potential.parameters, sample.environment, now.forward, numbers)
    error_q, R, kinds = [], [], []

    def add(kind: str, errors_q, R_q) -> None:
        error_q.append(errors_q)
        R.extend(R_q)
        kinds.extend([kind] * len(R_q))

    xp = namespace(now.E_f)
    if len(numbers.energy_f):
        sizes = [len(frame) for frame in sample.frames]
        R_f = [noise.energy(n, n_blocks) for n in sizes]
        add("energy", errors(potential, sample, "energy", now.E_f), R_f)
    if len(k := numbers.force_k):
        F_error_ic = errors(potential, sample, "forces", now.F_ic)
        i_k, c_k = xp.asarray(k.T)
        add("force", F_error_ic[i_k, c_k], [noise.force(per_frame, n_blocks)] * len(k))
    if len(i := numbers.atom_i):
        E_error_i = errors(potential, sample, "atomic_energies", now.E_i)
        add("atomic_energy", E_error_i[xp.asarray(i)], [noise.atomic_energy(per_frame, n_blocks)] * len(i))
    if len(k := numbers.virial_k):
        W = errors(potential, sample, "virial", now.W_fcc)
        f, d, c = xp.asarray(k.T)
        R_q = [noise.virial(len(sample.frames[n]), n_blocks) for n in k[:, 0].tolist()]
        add("virial", 0.5 * (W[f, d, c] + W[f, c, d]), R_q)
    square_q = squares(sample.frames, numbers, weighting or Weighting())
    return Measurement(
        "matrix", H_qw, xp.concatenate(error_q), np.array(R), tuple(kinds), square_q,
        _traces(numbers, len(sample.frames)),
    )  # fmt: skip


def _traces(numbers: Numbers, n_frames: int) -> np.ndarray | None:
    """tr C_f of each number of a matrix: 1 for a diagonal component of the virial of frame f, else 0."""
    if not len(k := numbers.virial_k):
        return None
    trace_qf = np.zeros((numbers.n_rows, n_frames))
    diagonal = np.flatnonzero(k[:, 1] == k[:, 2])
    trace_qf[numbers.n_rows - len(k) + diagonal, k[diagonal, 0]] = 1.0  # virials come last
    return trace_qf


def chosen_numbers(sample: Sample, atoms, order) -> Numbers:
    """The numbers of `matrix`: what is measured of a sample one by one."""
    n_frames, none = len(sample.frames), np.zeros(0, dtype=int)
    atoms = np.asarray(atoms, dtype=int)
    upper = np.stack(np.triu_indices(3), axis=1)
    virial_k = [[f, d, c] for f in range(n_frames) for d, c in upper.tolist()]
    force_k = np.stack([np.repeat(atoms, 3), np.tile(np.arange(3), len(atoms))], axis=1)
    return Numbers(
        energy_f=np.arange(n_frames) if "energy" in order else none,
        force_k=force_k if "force" in order else np.zeros((0, 2), dtype=int),
        atom_i=np.unique(atoms) if "atomic_energy" in order else none,
        virial_k=np.array(virial_k) if "virial" in order else np.zeros((0, 3), dtype=int),
    )


def _tangent_gradient(potential: Potential, sample: Sample, now: Prediction, v_pc):
    none = namespace(v_pc).zeros(sample.n_atoms)
    return potential.engine.weight_gradient(
        potential.parameters, sample.environment, now.forward, none, v_pc
    )
