"""Which frames of a pool are worth labelling: greedy choice, each choice updating P without a label.

An update of P does not need the label: P ← P − P Hᵀ(H P Hᵀ + R)⁻¹H P. So frames can be chosen one after
another, each as if those before it were labelled already, and a batch is not fifty times the same frame::

    next frame = the one with the largest score;   score = mean over its force components of H P Hᵀ
    then P is updated with the H of all its forces, energy and virial, and R

To score each frame of the pool anew after each choice would cost a measurement per frame and choice. A
variance never grows when something is measured, so the score of an earlier round is a bound: frames are
looked at in the order of their bounds until one is found whose fresh score is above all other bounds (lazy
greedy). The choice is exactly the greedy one.

P comes from a checkpoint, or from a pass over labelled frames at the weights of a trained model, which gives
the same as a Laplace approximation of the posterior (P⁻¹ = 1/P₀ + Σ Hᵀ R⁻¹ H).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.errors import require
from kalmandp.kalman.blocks import Blocks, partition
from kalmandp.kalman.filter import RLEKF
from kalmandp.kalman.uncertainty import padded, prediction_variance
from kalmandp.potentials.potential import Potential
from kalmandp.ranks.team import Alone, Team, in_turn
from kalmandp.training.measurements.measurement import make_sample, predict
from kalmandp.training.placement.memory import parts_of
from kalmandp.training.uncertainty import check_weights, numbers_of

#: σ of labels where P is made here: errors that remain in a small model, eV/Å and eV per atom.
SIGMA_F, SIGMA_E, SIGMA_W = 0.05, 5e-4, 2.5e-3
#: Largest block of P where it is made here, and P₀.
BLOCK_SIZE, P0 = 8192, 1.0
#: Forces that enter one update at most: atoms are drawn evenly from larger frames.
ATOMS = 128


class Chosen(NamedTuple):
    """A frame that was chosen.

    frame : its number in the pool
    sigma : eV/Å, √score when it was chosen: the RMS of its forces' σ, the frames before it being known
    first : eV/Å, the same before anything was chosen
    atom : the atom with the largest σ, and ``largest``, eV/Å, that σ
    """

    frame: int
    sigma: float
    first: float
    atom: int
    largest: float


def rows_of(potential: Potential, frame: Any, atoms: np.ndarray | None = None):
    """H of energy, forces (of ``atoms``) and virial of a frame, and the number of atoms in it."""
    frame = potential.as_frame(frame)
    sample = make_sample(potential, [frame])
    now = predict(potential, sample, forces=False)
    numbers = numbers_of(len(frame))
    if atoms is not None:
        numbers = numbers._replace(force_k=numbers.force_k.reshape(-1, 3, 2)[atoms].reshape(-1, 2))
    return potential.engine.rows(potential.parameters, sample.environment, now.forward, numbers), len(frame)


def noise_of(n_atoms: int, n_rows: int, sigma_f=SIGMA_F, sigma_e=SIGMA_E, sigma_w=SIGMA_W) -> np.ndarray:
    """R (m,) of the rows of `rows_of`."""
    R = np.full(n_rows, sigma_f**2)
    R[0], R[-6:] = (sigma_e * n_atoms) ** 2, (sigma_w * n_atoms) ** 2
    return R


def know(potential: Potential, kalman: RLEKF, frame: Any) -> None:
    """Update P as if the frame were labelled with what the model predicts: the weights stay.

    Of a frame with more than `ATOMS` atoms the forces of so many, evenly chosen, are taken.
    """
    n = len(potential.as_frame(frame))
    atoms = None if n <= ATOMS else np.linspace(0, n - 1, ATOMS).astype(int)
    H_qw, n_atoms = rows_of(potential, frame, atoms)
    H_qw = padded(H_qw, len(kalman.weights))
    kalman.update(H_qw, np.zeros(len(H_qw)), noise_of(n_atoms, len(H_qw)))


def laplace(
    potential: Potential, frames: Iterable[Any], p0: float = P0, block_size: int = BLOCK_SIZE
) -> RLEKF:
    """P of a trained model from the frames that it was trained with; their labels are not used.

    Parameters
    ----------
    potential : the trained model
    frames : the frames that it was trained with
    p0 : P₀;  block_size : N_b, above the number of weights for one dense P
    """
    blocks: Blocks = partition(parts_of(potential.layout), "RLEKF", block_size)
    kalman = RLEKF(
        to_numpy(potential.weights), blocks, P0=p0, lam=1.0, nu=1.0, covariance="tiled"
    )  # fmt: skip
    for frame in frames:
        know(potential, kalman, frame)
    return kalman


class _Score(NamedTuple):
    mean: float
    atom: int
    largest: float


def _score(potential: Potential, kalman: RLEKF, frame: Any) -> _Score:
    """Mean H P Hᵀ of the force components; the atom that is largest, and its mean."""
    H_qw, n = rows_of(potential, frame)
    H_qw = padded(H_qw[1:-6], len(kalman.weights))
    v_i = to_numpy(prediction_variance(kalman, H_qw)).reshape(n, 3).mean(axis=1)
    atom = int(np.argmax(v_i))
    return _Score(float(v_i.mean()), atom, float(v_i[atom]))


def choose(
    potential: Potential, kalman: RLEKF, pool: Sequence[Any], n: int, team: Team | None = None
) -> Iterator[Chosen]:
    """Choose ``n`` frames of a pool, one after another; P is changed.

    Parameters
    ----------
    potential : the model
    kalman : its P, which is updated; the weights stay. λ and ν are set to 1 and the process noise to 0, so
        that nothing is forgotten
    pool : frames or ase.Atoms without labels (labels are not used)
    n : how many, at most all
    team : ranks that share the first look at the pool, each with the whole P; all choose alike

    Yields
    ------
    Chosen

    Raises
    ------
    InputError
        For n below 1, a P of other weights than the potential's, or a species that it does not know.
    """
    require(n > 0, "the number of frames to choose", n, "at least 1")
    check_weights(potential, kalman)
    kalman.lam = kalman.nu = 1.0
    kalman.process_noise = 0.0
    ranks: Team = Alone() if team is None else team
    scores = dict(enumerate(in_turn(ranks, len(pool), lambda k: _score(potential, kalman, pool[k]))))
    first = {k: score.mean for k, score in scores.items()}
    # a heap of bounds; fresh: the round that a score was made in
    heap = [(-score.mean, k) for k, score in scores.items()]
    heapq.heapify(heap)
    fresh = dict.fromkeys(scores, 0)
    for made in range(min(n, len(pool))):
        while True:
            _, k = heap[0]
            if fresh[k] == made:
                break
            scores[k], fresh[k] = _score(potential, kalman, pool[k]), made
            heapq.heapreplace(heap, (-scores[k].mean, k))
        heapq.heappop(heap)
        s = scores[k]
        yield Chosen(k, s.mean**0.5, first[k] ** 0.5, s.atom, s.largest**0.5)
        know(potential, kalman, pool[k])
