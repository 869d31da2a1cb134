"""The last layer is linear: an exact solve for output weights and biases, after a training.

With all other weights fixed, energies, forces and virials are linear in the weights v of the last layer of
each net, W and b of E_i = W·y_i + b (and so are their sums and derivatives, in any unit)::

    h(v) = h(v₀) + H_v (v − v₀)           exactly, H_v the columns of H = ∂h/∂w that belong to v

so that the columns of H are what the model gives with one of these weights at 1 and the others at 0, less
what it gives with all at 0: the features of a linear fit. The trained values are its prior::

    v = argmin  Σ_q (y_q − h_q(v))²/R_q  +  Σ_v (v − v₀)²/P₀_v

Kalman's filter with λ = 1 solves a linear problem exactly (`kalman.filter`), frame after frame, whatever the
number of frames. A filter that learns frame after frame with all weights at once comes near to this minimum,
but its last frames weigh more. An offset of virials (`measurements.virial_offset`) is linear too: it is
solved for beside v, and is no part of the model.

R is the square of the errors that the trained model makes, kind by kind, times `TIGHTER`: so the solution
trades one kind for another as the training has left them, whatever σ the filter had. Virials cost the filter
much and this solve little: a training that does not measure them has them from here.

What fits the training frames better need not be better: a solution is kept only if it is so on other frames,
on the whole, with no error larger by more than `WORSE`. Virials are tried with a small R first, then with a
larger one, then left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.errors import InputError
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.kalman.filter import RLEKF
from kalmandp.potentials.atomic import Numbers, rows_by
from kalmandp.potentials.layout import WeightLayout
from kalmandp.potentials.potential import Potential
from kalmandp.training.measurements.labels import LABEL_OF
from kalmandp.training.measurements.measurement import (
    TINY,
    Prediction,
    chosen_numbers,
    make_sample,
    matrix,
    predict,
)
from kalmandp.training.measurements.virial_offset import VirialOffset
from kalmandp.training.measurements.weights import Weighting
from kalmandp.training.noise.variances import PhysicalNoise
from kalmandp.training.report.metrics import Metrics, evaluate

#: What says so in a potential's ``info``.
LAST_LAYER = "last layer"
#: Atoms whose forces are taken in at once: what is in memory is three rows of H for each.
ATOMS = 64
#: Without validation frames every so many-th training frame is held back to judge by.
HELD_BACK = 10
#: Frames, evenly spaced, that are fitted and judged by at most.
FITTED, JUDGED = 1000, 200
#: Force components that are fitted for each weight of v, if there are as many; evaluations for them at most.
FORCES_OF_A_WEIGHT, EVALUATIONS = 200, 20_000
#: Training frames for each weight of v, for `are_enough`.
FRAMES_OF_A_WEIGHT = 2
#: σ of a kind as a multiple of the model's RMSE. There is one energy for the 3N forces of a frame.
TIGHTER = {"energy": 0.3}
#: … of virials, one after another until a solution is kept; None leaves them out.
VIRIALS = (0.3, 1.0, None)
#: What an error of held-back frames may grow by where others fall by more; another seed changes it as much.
WORSE = 1.02
#: R = ω⁻² of the unit of each kind: σ = 1, of energies and virials an eV per atom.
UNIT = PhysicalNoise(1.0, 1.0, 1.0, 1.0)


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
    before, after : errors on the frames that it was judged by, of the one given and of the solution (the
        last that was tried)
    kinds : what was fitted
    """

    potential: Potential
    accepted: bool
    before: Metrics
    after: Metrics
    kinds: tuple[str, ...]


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


def are_enough(frames, layout: WeightLayout) -> bool:
    """Whether there are so many frames (`FRAMES_OF_A_WEIGHT`) that their energies do not fit by chance.

    Frames held back from among the others do not tell: with trajectories of 26 to 77 frames those got better,
    and for half of thirteen systems energies of later frames got worse, by up to a factor of 2.4.
    """
    try:
        return len(frames) >= FRAMES_OF_A_WEIGHT * len(last_layer_columns(layout))
    except InputError:  # a last layer that is not linear
        return False


def linear_numbers(
    potential: Potential, frame, columns, noise, kinds: Iterable[str] = ("energy", "force"),
    offset: VirialOffset | None = None, weighting: Weighting | None = None, rows=None,
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
    rows : makes H in place of the engine (`measurement.matrix`)
    """
    sample = make_sample(potential, [potential.as_frame(frame)])
    kinds = _labelled(sample, kinds)
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
    for order, some in parts:
        m = matrix(potential, sample, some, noise, 1, order, now, weighting, rows)
        H_qv = to_numpy(m.H_qw[:, columns])
        if offset is not None:
            H_qt = to_numpy(offset.extended(m, sample).H_qw)[:, potential.layout.size :]
            H_qv = np.concatenate([H_qv, H_qt], axis=1)
        yield LinearNumbers(m.kind_q, H_qv, to_numpy(m.error_q), m.weighted(m.noise_q))


def all_numbers(
    potential: Potential, frames: Iterable, columns, noise, kinds: Iterable[str],
    offset: VirialOffset | None = None, weighting: Weighting | None = None, device: Any = "cpu",
) -> Iterator[LinearNumbers]:  # fmt: skip
    """The numbers of each frame that has some, from k + 1 evaluations of all frames: H_v e_v = h(e_v) − h(0).

    They are those of `linear_numbers`, whose rows take a pass for each number, or a kernel of their own.

    Parameters
    ----------
    frames : Frames or ase.Atoms; all of them, and H_qv (m, k) of each, are in memory at once
    device : where the potential computes
    potential, columns, noise, kinds, offset, weighting : as in `linear_numbers`
    """
    samples, orders, numbers = [], [], []
    for frame in frames:
        sample = make_sample(potential, [potential.as_frame(frame)])
        if order := _labelled(sample, kinds):
            samples.append(sample)
            orders.append(order)
            numbers.append(chosen_numbers(sample, np.arange(sample.n_atoms), order))
    weights = potential.weights.copy()
    weights[columns] = 0.0

    def h() -> list[np.ndarray]:
        """The numbers of all frames, as a model with these weights has them."""
        model = potential.replace(weights=weights, device=device)
        return [_values(predict(model, s), chosen) for s, chosen in zip(samples, numbers, strict=True)]

    nothing = h()
    H = [np.empty((len(values), len(columns))) for values in nothing]
    for v, w in enumerate(columns):
        weights[w] = 1.0
        for H_qv, values_q, nothing_q in zip(H, h(), nothing, strict=True):
            H_qv[:, v] = values_q - nothing_q
        weights[w] = 0.0
    asarray = namespace(potential.parameters.weights).asarray
    for H_qv, s, order in zip(H, samples, orders, strict=True):
        known = lambda *_, H_qv=H_qv: asarray(H_qv)
        m = matrix(potential, s, np.arange(s.n_atoms), noise, 1, order, None, weighting, known)
        H_all = (m if offset is None else offset.extended(m, s)).H_qw
        yield LinearNumbers(m.kind_q, to_numpy(H_all), to_numpy(m.error_q), m.weighted(m.noise_q))


def _labelled(sample, kinds: Iterable[str]) -> list[str]:
    return [kind for kind in kinds if getattr(sample.frames[0], LABEL_OF[kind]) is not None]


def _values(found: Prediction, numbers: Numbers) -> np.ndarray:
    """The numbers in the order of `measurement.matrix`."""
    E_f, E_i, F_ic, W_fcc = (to_numpy(value) for value in found[:4])
    f, d, c = numbers.virial_k.T
    W_q = 0.5 * (W_fcc[f, d, c] + W_fcc[f, c, d])
    return np.concatenate([E_f[numbers.energy_f], F_ic[tuple(numbers.force_k.T)], E_i[numbers.atom_i], W_q])


def solve_last_layer(
    potential: Potential, frames, held: Sequence | None = None, *, noise=None,
    kinds: Iterable[str] = ("energy", "force", "virial"), p0: float = 1.0, virial_offset: bool = False,
    weighting: Weighting | None = None, device: Any = "cpu",
) -> Solved:  # fmt: skip
    """The last layer, exactly: solve for its weights on frames, keep them if they are not worse on others.

    v = v₀ + (P₀⁻¹ + Σ H_vᵀ R⁻¹ H_v)⁻¹ Σ H_vᵀ R⁻¹ (y − h(v₀))

    Of many frames `FITTED` are taken, and the forces of so many that each weight of v has
    `FORCES_OF_A_WEIGHT` components; with a rule ``noise`` all.

    Parameters
    ----------
    potential : a trained one, which stays as it is
    frames : Frames (or ase.Atoms, or a Dataset) with labels: the training frames
    held : the frames that decide (validation frames); None to hold back every tenth of ``frames``
    noise : None for the model's own errors, else a rule of R, e.g. `training.noise.variances.PhysicalNoise`
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
    >>> data = Dataset("data/si64_lda_test.h5")[:4]
    >>> rng = np.random.default_rng(1)
    >>> potential = Potential.create(
    ...     ["Si"], rcut=4.0, frames=data, rng=rng, embedding=(4, 8), axis_neuron=2, fitting=(8,)
    ... )
    >>> solved = solve_last_layer(potential, data[:3], data[3:])
    >>> solved.accepted, bool(solved.after.force_rmse < solved.before.force_rmse)
    (True, True)
    """
    kinds = tuple(kinds)
    fitted_f, judged_f = (range(len(frames)), range(len(held))) if held is not None else _divided(len(frames))
    if noise is None:
        fitted_f, judged_f = _evenly(fitted_f, FITTED), _evenly(judged_f, JUDGED)
    judges = [potential.as_frame((frames if held is None else held)[f]) for f in judged_f]
    pairs = [neighbour_pairs(frame, potential.form.cutoff) for frame in judges]  # of all evaluations
    offset = VirialOffset(len(potential.type_map)) if virial_offset and "virial" in kinds else None
    columns = last_layer_columns(potential.layout)
    P0_v = np.broadcast_to(potential.layout.prior(p0), potential.layout.size)[columns]
    if offset is not None:
        P0_v = np.concatenate([P0_v, offset.prior])
    with_forces = fitted_f if noise is not None else _with_forces(frames, fitted_f, len(columns))
    rule, whole = UNIT if noise is None else noise, [kind for kind in kinds if kind in ("energy", "virial")]
    chosen = (frames[f] for f in with_forces)
    numbers = list(all_numbers(potential, chosen, columns, rule, kinds, offset, weighting, device))
    for f in sorted(set(fitted_f) - set(with_forces)) if whole else ():
        rows = partial(rows_by, potential.engine)
        numbers += linear_numbers(potential, frames[f], columns, rule, whole, offset, weighting, rows)
    if not numbers:
        names = ", ".join(LABEL_OF[kind] for kind in kinds)
        raise InputError(f"no frame has a label to fit; expected {names} of one at least")
    before = evaluate(potential, judges, pairs)
    solved = None
    for fitted, scale in _balances(numbers, kinds, len(columns)) if noise is None else [(kinds, None)]:
        new = potential.with_engine(potential.engine.name, device)
        weights = potential.weights.copy()
        weights[columns] += _minimum(numbers, P0_v, scale)[: len(columns)]
        new.weights = weights
        after = evaluate(new, judges, pairs)
        accepted = _not_worse(before, after, fitted, offset is not None)
        solved = Solved(new if accepted else potential, accepted, before, after, fitted)
        if accepted:
            break
    assert solved is not None  # there is one balance at least
    return solved


def _minimum(numbers: Sequence[LinearNumbers], P0_v, scale: dict[str, float] | None) -> np.ndarray:
    """v − v₀ of the minimum; with ``scale`` R is multiplied by that of its kind, and other kinds left out."""
    # v − v₀ begins at 0; λ = 1 forgets nothing
    linear = RLEKF(np.zeros(len(P0_v)), [len(P0_v)], P0=P0_v, lam=1.0, nu=1.0, covariance="tiled")
    for m in numbers:
        H_qv, error_q, noise_q = m.H_qv, m.error_q, m.noise_q
        if scale is not None:
            taken_q = np.isin(m.kind_q, list(scale))
            if not taken_q.any():
                continue
            R_q = np.array([scale.get(kind, np.nan) for kind in m.kind_q])
            H_qv, error_q, noise_q = H_qv[taken_q], error_q[taken_q], (R_q * noise_q)[taken_q]
        # y − h(v) = y − h(v₀) − H_v (v − v₀), summed in an order that does not depend on the threads
        linear.update(H_qv, error_q - (H_qv * linear.weights).sum(axis=1), noise_q)
    return linear.weights


def _balances(numbers: Sequence[LinearNumbers], kinds: tuple[str, ...], k: int):
    """What is fitted, and by which R in the unit of its numbers, one after another.

    A constant of virials, where it is solved for (columns of H behind those of the k weights), is no error.
    """
    kind_q, error_q, noise_q = (
        np.concatenate([getattr(m, name) for m in numbers]) for name in ("kind_q", "error_q", "noise_q")
    )
    counts_qt = np.concatenate([m.H_qv[:, k:] for m in numbers])
    if counts_qt.any():  # least squares by sums in one order, whatever the number of threads
        A_ts = np.einsum("qt,qs->ts", counts_qt, counts_qt)
        o_t = np.linalg.lstsq(A_ts, np.einsum("qt,q->t", counts_qt, error_q), rcond=None)[0]
        error_q = error_q - np.einsum("qt,t->q", counts_qt, o_t)
    square_q = error_q**2 / noise_q
    scale = {
        kind: max(TIGHTER.get(kind, 1.0) ** 2 * float(square_q[kind_q == kind].mean()), TINY)
        for kind in kinds if kind in kind_q
    }  # fmt: skip
    for factor in VIRIALS if "virial" in scale else (None,):
        R = dict(scale)
        if factor is None:
            R.pop("virial", None)
        elif "virial" in R:
            R["virial"] *= factor**2
        if R:
            yield tuple(R), R


def _with_forces(frames, fitted_f: Sequence[int], k: int) -> list[int]:
    """The frames whose forces are fitted: by `FORCES_OF_A_WEIGHT` and `EVALUATIONS`; at least one."""
    size = int(np.mean([len(frames[f]) for f in _evenly(fitted_f, 10)]))
    n = -(-FORCES_OF_A_WEIGHT * k // (3 * size))
    return _evenly(fitted_f, max(1, min(n, EVALUATIONS // k)))


def _evenly(numbers: Sequence[int], n: int) -> list[int]:
    """At most ``n`` of the numbers."""
    chosen = np.linspace(0, len(numbers) - 1, min(n, len(numbers))).astype(int)
    return [numbers[int(place)] for place in chosen]


def _divided(n: int) -> tuple[Sequence[int], Sequence[int]]:
    """Of ``n`` frames those to fit and those to judge by; one frame does both."""
    held = range(HELD_BACK // 2, n, HELD_BACK) or range(n - 1, n)
    return [f for f in range(n) if f not in held] or held, held


def _not_worse(was: Metrics, now: Metrics, kinds: tuple[str, ...], has_offset: bool) -> bool:
    """Whether the errors of the fitted kinds are smaller on the whole, and none has grown by much (`WORSE`).

    With an offset a constant of virials is no error.
    """
    names = {
        "energy": "energy_rmse", "force": "force_rmse", "atomic_energy": "atomic_energy_rmse",
        "virial": "virial_rest" if has_offset else "virial_rmse",
    }  # fmt: skip
    errors = np.array([[getattr(m, names[kind]) for m in (was, now)] for kind in kinds])
    known = ~np.isnan(errors[:, 0])
    if not known.any():
        names_of = ", ".join(LABEL_OF[kind] for kind in kinds)
        raise InputError(f"no frame to judge by has a label that is fitted; expected {names_of} of one")
    before, after = np.maximum(errors[known].T, TINY)
    return bool((after <= WORSE * before).all() and np.log(after / before).sum() <= 0.0)
