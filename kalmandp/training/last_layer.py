"""The last layer is linear: an exact solve for output weights and biases, after a training.

With all other weights fixed, energies, forces and virials are linear in the weights v of the last layer of
each net, W and b of E_i = W·y_i + b (and so are their sums and derivatives, in any unit)::

    h(v) = h(v₀) + H_v (v − v₀)           exactly, H_v the columns of H = ∂h/∂w that belong to v

so that the rows of H, restricted to these columns, are the features of a linear fit. The trained values are
its prior, and R is the filter's::

    v = argmin  Σ_q (y_q − h_q(v))²/R_q  +  Σ_v (v − v₀)²/P₀_v

Kalman's filter with λ = 1 solves a linear problem exactly (`kalman.filter`), frame after frame, whatever the
number of frames. A filter that learns frame after frame with all weights at once comes near to this minimum,
but its last frames weigh more. An offset of virials (`measurements.virial_offset`) is linear too: it is
solved for beside v, and is no part of the model.

What fits the training frames better need not be better: the solution is kept only if no error of other
frames is larger with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.errors import InputError
from kalmandp.kalman.filter import RLEKF
from kalmandp.potentials.layout import WeightLayout
from kalmandp.potentials.potential import Potential
from kalmandp.training.measurements.labels import LABEL_OF
from kalmandp.training.measurements.measurement import make_sample, matrix, predict
from kalmandp.training.measurements.virial_offset import VirialOffset
from kalmandp.training.measurements.weights import Weighting
from kalmandp.training.report.metrics import Metrics, evaluate

#: Atoms whose forces are taken in at once: what is in memory is three rows of H for each.
ATOMS = 64
#: Without validation frames every so many-th training frame is held back to judge by.
HELD_BACK = 10


class LinearNumbers(NamedTuple):
    """Numbers of a frame that are linear in v: kind_q, H_qv (m, k), error_q = y_q − h_q(v₀), R_q."""

    kind_q: tuple[str, ...]
    H_qv: np.ndarray
    error_q: np.ndarray
    noise_q: np.ndarray


class Solved(NamedTuple):
    """What `solve_last_layer` has found.

    potential : with the solution if that is not worse, otherwise the one that was given
    accepted : which of the two
    before, after : errors on the frames that it was judged by, of the one given and of the solution
    """

    potential: Potential
    accepted: bool
    before: Metrics
    after: Metrics


def last_layer_columns(layout: WeightLayout) -> np.ndarray:
    """Indices (k,) of the weights v in w, each once, though types may share a net or a bias.

    Raises
    ------
    InputError
        If the last layer of a net is not linear.
    """
    names: dict[str, None] = {}
    for net in layout.fitting_nets:
        last, form = len(layout.nets[net]) - 1, layout.nets[net][-1]
        if form.activation != "linear":
            raise InputError(
                f"the activation of the last layer of {net} is {form.activation!r}; expected 'linear' for "
                "an exact solve of the last layer"
            )
        names[f"{net}.layer.{last}.W"] = None
        bias = {"own": f"{net}.layer.{last}.b", "none": None}.get(form.bias, form.bias)
        if bias is not None:
            names[bias] = None
    return np.concatenate([np.arange(layout[name].start, layout[name].stop) for name in names])


def linear_numbers(
    potential: Potential, frame, columns, noise, kinds: Iterable[str] = ("energy", "force"),
    offset: VirialOffset | None = None, weighting: Weighting | None = None,
) -> Iterator[LinearNumbers]:  # fmt: skip
    """The numbers of one frame, its forces in pieces of some atoms.

    Parameters
    ----------
    potential : with v₀
    frame : Frame or ase.Atoms; a kind whose label it lacks is left out: without labels nothing is yielded
    columns : (k,) of `last_layer_columns`
    noise : rule of R (`noise.variances`)
    kinds : of "energy", "atomic_energy", "force", "virial"
    offset : None, or the meaning of further columns o_t of virials behind those of v
    weighting : of single numbers
    """
    sample = make_sample(potential, [potential.as_frame(frame)])
    kinds = [kind for kind in kinds if getattr(sample.frames[0], LABEL_OF[kind]) is not None]
    if not kinds:
        return
    now = predict(potential, sample)
    whole = [kind for kind in kinds if kind in ("energy", "virial")]
    of_atoms = [kind for kind in kinds if kind not in whole]
    parts: list[tuple[list[str], Any]] = [(whole, np.zeros(0, dtype=int))] if whole else []
    if of_atoms:
        parts += [
            (of_atoms, np.arange(first, min(first + ATOMS, sample.n_atoms)))
            for first in range(0, sample.n_atoms, ATOMS)
        ]
    for order, atoms in parts:
        m = matrix(potential, sample, atoms, noise, 1, order, now, weighting)
        H_qv = to_numpy(m.H_qw[:, columns])
        if offset is not None:
            H_qt = to_numpy(offset.extended(m, sample).H_qw)[:, potential.layout.size :]
            H_qv = np.concatenate([H_qv, H_qt], axis=1)
        yield LinearNumbers(m.kind_q, H_qv, to_numpy(m.error_q), m.weighted(m.noise_q))


def solve_last_layer(
    potential: Potential, frames, held: Sequence | None = None, *, noise,
    kinds: Iterable[str] = ("energy", "force"), p0: float = 1.0, virial_offset: bool = False,
    weighting: Weighting | None = None, device: Any = "cpu",
) -> Solved:  # fmt: skip
    """Solve for the last layer's weights on frames; keep them if they are not worse on others.

    v = v₀ + (P₀⁻¹ + Σ H_vᵀ R⁻¹ H_v)⁻¹ Σ H_vᵀ R⁻¹ (y − h(v₀))

    Parameters
    ----------
    potential : a trained one, which stays as it is
    frames : Frames (or ase.Atoms, or a Dataset) with labels: the training frames
    held : the frames that decide (validation frames); None to hold back every tenth of ``frames``
    noise : rule of R, e.g. `training.noise.variances.PhysicalNoise`
    kinds : what is fitted, where a frame has the label: of "energy", "atomic_energy", "force", "virial"
    p0 : variance of v − v₀ beforehand, as of a filter's P₀
    virial_offset : solve for a constant per type between virials and energies, too
    weighting : of single numbers
    device : where the potential computes

    Raises
    ------
    InputError
        If the last layer is not linear, if no frame has a label to fit, or none to judge by.
    FilterError
        For a number that is not finite.

    Examples
    --------
    >>> from kalmandp import Dataset
    >>> from kalmandp.training.noise.variances import PhysicalNoise
    >>> data = Dataset("data/si64_lda_test.h5")[:4]
    >>> rng = np.random.default_rng(1)
    >>> potential = Potential.create(
    ...     ["Si"], rcut=4.0, frames=data, rng=rng, embedding=(4, 8), axis_neuron=2, fitting=(8,)
    ... )
    >>> solved = solve_last_layer(potential, data[:3], data[3:], noise=PhysicalNoise(0.001, 0.03, 0.005))
    >>> solved.accepted, bool(solved.after.force_rmse < solved.before.force_rmse)
    (True, True)
    """
    kinds = tuple(kinds)
    if held is None:
        frames, held = _divided(frames)
    offset = VirialOffset(len(potential.type_map)) if virial_offset and "virial" in kinds else None
    columns = last_layer_columns(potential.layout)
    P0_v = np.broadcast_to(potential.layout.prior(p0), potential.layout.size)[columns]
    if offset is not None:
        P0_v = np.concatenate([P0_v, offset.prior])
    # v − v₀ begins at 0; λ = 1 forgets nothing
    linear = RLEKF(np.zeros(len(P0_v)), [len(P0_v)], P0=P0_v, lam=1.0, nu=1.0, covariance="tiled")
    for frame in frames:
        for m in linear_numbers(potential, frame, columns, noise, kinds, offset, weighting):
            # y − h(v) = y − h(v₀) − H_v (v − v₀), summed in an order that does not depend on the threads
            error_q = m.error_q - (m.H_qv * linear.weights).sum(axis=1)
            linear.update(m.H_qv, error_q, m.noise_q)
    if not linear.updates:
        names = ", ".join(LABEL_OF[kind] for kind in kinds)
        raise InputError(f"no frame has a label to fit; expected {names} of one at least")
    new = potential.with_engine(potential.engine.name, device)
    weights = potential.weights.copy()
    weights[columns] += linear.weights[: len(columns)]
    new.weights = weights
    before, after = evaluate(potential, held), evaluate(new, held)
    accepted = _not_worse(before, after, kinds, offset is not None)
    return Solved(new if accepted else potential, accepted, before, after)


def _divided(frames) -> tuple[list, list]:
    """Frames to fit and frames to judge by; one frame does both."""
    held = range(HELD_BACK // 2, len(frames), HELD_BACK) or range(len(frames) - 1, len(frames))
    rest = [k for k in range(len(frames)) if k not in held] or list(held)
    return [frames[k] for k in rest], [frames[k] for k in held]


def _not_worse(before: Metrics, after: Metrics, kinds: tuple[str, ...], has_offset: bool) -> bool:
    """Whether no error of the fitted kinds has grown; with an offset a constant of virials is no error."""
    names = {
        "energy": "energy_rmse", "force": "force_rmse", "atomic_energy": "atomic_energy_rmse",
        "virial": "virial_rest" if has_offset else "virial_rmse",
    }  # fmt: skip
    errors = np.array([[getattr(m, names[kind]) for m in (before, after)] for kind in kinds])
    known = ~np.isnan(errors[:, 0])
    if not known.any():
        names_of = ", ".join(LABEL_OF[kind] for kind in kinds)
        raise InputError(f"no frame to judge by has a label that is fitted; expected {names_of} of one")
    return bool((errors[known, 1] <= errors[known, 0]).all())
