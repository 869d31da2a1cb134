"""A NEP's form and weights as compiled kernels take them: flat arrays whose rows are whole vectors.

Rows are padded with zeros to multiples of eight float64 numbers (suffix p). Letters as in `nep.environment`;
kt stands for k and t together, number k·T + t, as c (n, k, t) lies in w.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cpu.vectors import WIDTH
from kalmandp.potentials.nep.environment import pair_cutoffs
from kalmandp.potentials.nep.form import BIAS, NEPForm
from kalmandp.potentials.nep.invariants import FIVE_BODY, polynomial

#: float64 numbers in a vector.
LANES = WIDTH // 8


def padded(n: int) -> int:
    """The next multiple of a vector's length."""
    return LANES * -(-n // LANES)


class Sizes(NamedTuple):
    """Numbers of things; a suffix p: padded.

    T types; nR, kR, nA, kA functions; L; M components of s; nl invariants; dim of q; neu neurons;
    R = kR·T, A = kA·T; G numbers of one type in an accumulator (`sizes_of`)
    """

    T: int
    nR: int
    kR: int
    nA: int
    kA: int
    L: int
    M: int
    nl: int
    dim: int
    neu: int
    Mp: int
    dimp: int
    neup: int
    nRp: int
    nAp: int
    Rp: int
    Ap: int
    G: int
    gA: int
    gRt: int
    gAt: int
    gW: int
    gb: int
    gw: int


class Constants(NamedTuple):
    """The invariants and cut-offs.

    Z_zx : coefficients of Z_lm, z = l(l+1)/2 + m, lowest power first
    square_m : D_lm of each component;  parity_m : (−1)^l
    cubic_zx, c_z, first_x, lambda_x : terms of the 4-body invariants, where those of each begin, and its λ
    five : λ of q_1111 or −1;  five_body : its constant
    radial_tu, angular_tu : cut-offs of pairs of types, Å
    """

    Z_zx: Any
    square_m: Any
    parity_m: Any
    cubic_zx: Any
    c_z: Any
    first_x: Any
    lambda_x: Any
    five: int
    five_body: float
    radial_tu: Any
    angular_tu: Any


class Places(NamedTuple):
    """Where the pieces of each type begin in w: c^R, c^A, W0, b, w1 and the last bias.

    place_d : where number d of q is in a padded row: radial functions (nRp), then invariants (λ, nAp)
    """

    radial_t: Any
    angular_t: Any
    W_t: Any
    b_t: Any
    w_t: Any
    bias_t: Any
    place_d: Any


class Weights(NamedTuple):
    """w of one model, by type, flat and padded; σ is q_scaler.

    cR (t, n, Rp), cA (t, n, Ap);  cRt (t, u, k, nRp), cAt (t, u, k, nAp): the same with n last
    W (t, neu, dimp): W0 σ;  Wt (t, dimp, neup): its transpose;  b, w1 (t, neup);  bias (t,)
    scaler (dimp,)
    """

    cR: Any
    cA: Any
    cRt: Any
    cAt: Any
    W: Any
    Wt: Any
    b: Any
    w1: Any
    bias: Any
    scaler: Any


def sizes_of(form: NEPForm) -> Sizes:
    """All sizes of a form, and where the pieces of an accumulator begin.

    An accumulator holds, for each type: c̄^R (n, Rp), c̄^A (n, Ap), both again as (u, k, np), W̄0 (neu, dimp),
    b̄, w̄1.
    """
    T, (nR, kR), (nA, kA) = form.n_types, *form.basis
    M, nl, dim, neu = form.invariants.n_components, form.invariants.size, form.size, form.neuron
    Rp, Ap, nRp, nAp, neup = (padded(x) for x in (kR * T, kA * T, nR, nA, neu))
    dimp = nRp + nl * nAp
    pieces = (nR * Rp, nA * Ap, T * kR * nRp, T * kA * nAp, neu * dimp, neup, neup)
    ends = np.cumsum(pieces).tolist()
    return Sizes(
        T, nR, kR, nA, kA, form.l_max[0], M, nl, dim, neu, padded(M), dimp, neup, nRp, nAp, Rp, Ap, ends[-1],
        *ends[:-1],
    )  # fmt: skip


def constants_of(form: NEPForm) -> Constants:
    """The constants of a form, from those of the reference."""
    invariants, L, M = form.invariants, form.l_max[0], form.invariants.n_components
    Z_zx = np.zeros(((L + 1) * (L + 2) // 2, L + 1))
    for l in range(L + 1):
        for m in range(l + 1):
            c = polynomial(l, m)[0]
            Z_zx[l * (l + 1) // 2 + m, : len(c)] = c
    square_m, parity_m = np.zeros((2, padded(M)))
    square_m[:M] = invariants.square_lm.sum(axis=0)
    for l in range(1, L + 1):
        parity_m[l * l - 1 : (l + 1) ** 2 - 1] = (-1) ** l
    cubic = list(invariants.cubic.values())
    first_x = np.cumsum([0, *(len(c.c_z) for c in cubic)])
    return Constants(
        Z_zx,
        square_m,
        parity_m,
        np.concatenate([np.zeros((0, 3), np.int64), *(c.index_zx for c in cubic)]),
        np.concatenate([np.zeros(0), *(c.c_z for c in cubic)]),
        first_x,
        np.array(list(invariants.cubic), dtype=np.int64),
        -1 if invariants.five is None else invariants.five,
        FIVE_BODY,
        pair_cutoffs(form.radial_cutoff),
        pair_cutoffs(form.angular_cutoff),
    )


def places_of(form: NEPForm, layout) -> Places:
    """Where each type's pieces lie in w."""
    start = lambda name: layout[name].start
    nets = layout.fitting_nets
    return Places(
        np.array([start(f"c_radial.{t}") for t in range(form.n_types)]),
        np.array([start(f"c_angular.{t}") for t in range(form.n_types)]),
        np.array([start(f"{net}.layer.0.W") for net in nets]),
        np.array([start(f"{net}.layer.0.b") for net in nets]),
        np.array([start(f"{net}.layer.1.W") for net in nets]),
        np.array([start(BIAS if form.version < 5 else f"{net}.layer.1.b") for net in nets]),
        places_of_q(sizes_of(form)),
    )


def places_of_q(z: Sizes) -> np.ndarray:
    """Where each number of q is in a padded row."""
    angular = z.nRp + z.nAp * np.arange(z.nl)[:, None] + np.arange(z.nA)
    return np.concatenate([np.arange(z.nR), angular.ravel()])


def weights_of(s: Sizes, places: Places, w, scaler) -> Weights:
    """w, sorted into padded pieces."""
    T = s.T
    cR, cA = np.zeros((T, s.nR, s.Rp)), np.zeros((T, s.nA, s.Ap))
    cRt, cAt = np.zeros((T, T, s.kR, s.nRp)), np.zeros((T, T, s.kA, s.nAp))
    W, Wt = np.zeros((T, s.neu, s.dimp)), np.zeros((T, s.dimp, s.neup))
    b, w1, bias = np.zeros((T, s.neup)), np.zeros((T, s.neup)), np.empty(T)
    for t in range(T):
        for c, ct, start, n, k in (
            (cR, cRt, places.radial_t[t], s.nR, s.kR), (cA, cAt, places.angular_t[t], s.nA, s.kA),
        ):  # fmt: skip
            values = w[start : start + n * k * T]
            c[t, :, : k * T] = values.reshape(n, k * T)
            ct[t, :, :, :n] = values.reshape(n, k, T).transpose(2, 1, 0)
        start = places.W_t[t]
        W[t][:, places.place_d] = w[start : start + s.neu * s.dim].reshape(s.neu, s.dim) * scaler
        Wt[t, :, : s.neu] = W[t].T
        b[t, : s.neu] = w[places.b_t[t] : places.b_t[t] + s.neu]
        w1[t, : s.neu] = w[places.w_t[t] : places.w_t[t] + s.neu]
        bias[t] = w[places.bias_t[t]]
    wide = np.zeros(s.dimp)
    wide[places.place_d] = scaler
    return Weights(*(x.reshape(-1) for x in (cR, cA, cRt, cAt, W, Wt, b, w1, bias, wide)))
