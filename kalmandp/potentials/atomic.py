r"""What all potentials have in common: from the descriptor q to energies, forces, and H.

    E = Σ_i E_i,   E_i = net_t(q_i) + b_t        t the type of atom i

A descriptor (`potentials.protocol.Descriptor`) leads from the pair vectors r_p to q and back. All else is
here, once for every potential. Three Jacobians are wanted: ∂E/∂w, and for a direction c over force
components, or C over virial components, ∂(c·F)/∂w and ∂(C:W)/∂w: the H of RLEKF, eq. (2). They are one and
the same thing. ("Tangent" and "adjoint", the dots and bars below, are explained in `network`.)

Why not −∂/∂r (∂E/∂w)? It is the same matrix of second derivatives, but N rows of it would have to be computed
to get one number of each. Along a direction c only one number moves, c·F, and one backward pass has all N.

Move each pair vector by v_p: the energy changes at the rate Ė = Σ_p f_p·v_p. A force is such a rate
(`geometry.pairs`). So ∂(c·F)/∂w = ∂Ė/∂w, and Ė comes from the forward pass carried along with its tangent;
one backward pass through both gives the derivative for all weights at once. With E_bar_i an adjoint of the
atomic energies as well, one function serves everything::

    weight_gradient = ∂/∂w [ Σ_i Ē_i E_i + Ė ]

The chain, each line the adjoint of the one that made it (dots are tangents, bars adjoints):

    forward + tangent                                backward
    q = descriptor(r; w)      q̇ = ∂q/∂r · v          w̄ ← q̄ ∂q/∂w + q̇̄ ∂q̇/∂w      `Descriptor.tangent_adjoint`
    E_i = net_t(q_i) + b_t    Ė_i = net_t′(q_i) q̇_i  q̄, q̇̄, w̄ from `network.tangent_backward`
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace
from kalmandp.geometry.pairs import force_direction, virial_direction
from kalmandp.potentials import network
from kalmandp.potentials.protocol import Parameters


class Forward(NamedTuple):
    """What the passes after the energy need: q, the descriptor's cache, and those of the nets."""

    q_id: Any
    descriptor: Any
    nets_t: list


class Numbers(NamedTuple):
    """Which numbers of the frames are measured one by one: the rows of H, in this order.

    energy_f : numbers of frames
    force_k : (k, 2) atom and axis of single force components
    atom_i : atoms whose energies are measured
    virial_k : (k, 3) frame, d, c of virial components; W_dc and W_cd count half each
    """

    energy_f: np.ndarray
    force_k: np.ndarray
    atom_i: np.ndarray
    virial_k: np.ndarray

    @property
    def n_rows(self) -> int:
        """m, the number of rows."""
        return sum(map(len, self))


def energies(par: Parameters, env):
    """Atomic energies E_i (eV), shape (n_atoms,), and the cache for what follows.

    Deep Potential, step 4: E_i = F(D_i), one fitting net per type of centre, plus the type's bias. Their
    sum is step 5's E.

    Parameters
    ----------
    par : Parameters
    env : the descriptor's environment
    """
    q_id, cache = par.descriptor.forward(par, env)
    xp = namespace(q_id)
    E_i = xp.empty(env.geometry.n_atoms, q_id.dtype)
    nets_t = []
    for t, atoms in enumerate(env.atoms_t):
        E, caches = network.forward(par.layout.fitting(par.weights, t), _rows(par, q_id, t, atoms))
        E_i[atoms] = E[:, 0] + par.bias_t[t]
        nets_t.append(caches)
    fixed = par.descriptor.fixed(env)
    if fixed is not None:
        E_i = E_i + fixed[0]
    return E_i, Forward(q_id, cache, nets_t)


def _rows(par: Parameters, q_id, t: int, atoms):
    """q of the atoms of one type, without the padding to the longest type."""
    q = q_id[atoms]
    size = par.descriptor.size_t[t]
    return q if size == q.shape[1] else q[:, :size]


def descriptor_adjoint(par: Parameters, env, fwd: Forward, E_bar_i, gradient=None):
    """q̄ = ∂L/∂q (i, d) from Ē = ∂L/∂E_i; adds the nets' weight gradients if asked."""
    xp = namespace(fwd.q_id)
    q_bar_id = xp.zeros_like(fwd.q_id)
    for t, atoms in enumerate(env.atoms_t):
        layers = par.layout.fitting(par.weights, t)
        into = None if gradient is None else par.layout.fitting(gradient, t)
        q_bar = network.backward(layers, fwd.nets_t[t], E_bar_i[atoms, None], into)
        _put_rows(q_bar_id, atoms, q_bar)
    return q_bar_id


def _put_rows(q_id, atoms, rows) -> None:
    if rows.shape[1] == q_id.shape[1]:
        q_id[atoms] = rows
    else:
        q_id[atoms, : rows.shape[1]] = rows


def pair_gradient(par: Parameters, env, fwd: Forward, once: bool = False):
    """f_pc = ∂E/∂r_pc (p, 3), eV/Å: the energy's derivative along each pair vector.

    From E back to the pairs, with Ē_i = 1 for every atom::

        q̄   = net_t′(q)ᵀ 1
        f_c = Σ_d q̄_d ∂q_d/∂r_c             `Descriptor.pair_adjoint`

    ``once`` is for engines that keep something for rows of H (`engines.protocol`): it changes nothing here.
    """
    xp = namespace(fwd.q_id)
    q_bar_id = descriptor_adjoint(par, env, fwd, xp.ones(env.geometry.n_atoms, fwd.q_id.dtype))
    f_pc = par.descriptor.pair_adjoint(par, env, fwd.descriptor, q_bar_id)
    fixed = par.descriptor.fixed(env)
    return f_pc if fixed is None else f_pc + fixed[1]


def energy_gradient(par: Parameters, env, fwd: Forward, E_bar_i):
    """∂/∂w Σ_i Ē_i E_i, shape (N,). With Ē = 1 this is ∂E/∂w, the paper's H of an energy.

    RLEKF, eq. (2) and Algorithm 1, l. 7: H = ∂h/∂w of an energy: the backward pass of `energies`.

    Parameters
    ----------
    par, env, fwd : parameters, environment, and the cache that ``energies`` returned
    E_bar_i : (n_atoms,) adjoint of the atomic energies: any weights of a sum of E_i
    """
    xp = namespace(fwd.q_id)
    gradient = xp.zeros(par.layout.size, fwd.q_id.dtype)
    q_bar_id = descriptor_adjoint(par, env, fwd, E_bar_i, gradient)
    par.descriptor.weight_adjoint(par, env, fwd.descriptor, q_bar_id, gradient)
    return gradient


def weight_gradient(par: Parameters, env, fwd: Forward, E_bar_i, v_pc):
    """∂/∂w [Σ_i Ē_i E_i + Σ_p f_p·v_p], shape (N,): every Jacobian of this package.

    RLEKF, eq. (2) and Algorithm 1, l. 7: H = ∂h/∂w of forces and virials. How it comes about is explained at
    the top of this module; the second derivative itself is one layer's, in `network.tangent_backward`.

    Parameters
    ----------
    par, env, fwd : parameters, environment, and the cache that ``energies`` returned
    E_bar_i : (n_atoms,) adjoint of the atomic energies
    v_pc : (p, 3) motion of the pair vectors; from `force_direction` or `virial_direction`
    """
    xp = namespace(fwd.q_id)
    dtype = xp.result_type(fwd.q_id.dtype, v_pc.dtype)
    gradient = xp.zeros(par.layout.size, dtype)
    # tangents, from the pairs up to the descriptor
    q_dot_id, tangents = par.descriptor.tangent(par, env, fwd.descriptor, v_pc)
    # L = Σ Ē E + Σ Ė: the adjoint of every Ė_i is one
    q_bar_id, q_dot_bar_id = xp.zeros_like(q_dot_id), xp.zeros_like(q_dot_id)
    for t, atoms in enumerate(env.atoms_t):
        layers = par.layout.fitting(par.weights, t)
        _, caches = network.tangent(layers, fwd.nets_t[t], _rows(par, q_dot_id, t, atoms))
        E_bar = E_bar_i[atoms, None].astype(dtype)
        q_bar, q_dot_bar = network.tangent_backward(
            layers, caches, E_bar, xp.ones_like(E_bar), par.layout.fitting(gradient, t)
        )
        _put_rows(q_bar_id, atoms, q_bar)
        _put_rows(q_dot_bar_id, atoms, q_dot_bar)
    par.descriptor.tangent_adjoint(par, env, fwd.descriptor, tangents, q_bar_id, q_dot_bar_id, gradient)
    return gradient


def motions(env, numbers: Numbers):
    """Ē (m, i) and v (m, p, 3) of each number: what `weight_gradient` takes for its row of H."""
    g = env.geometry
    xp = namespace(g.r_pc)
    for f in numbers.energy_f:
        yield (g.frame_i == int(f)).astype(float), None
    for i, c in numbers.force_k:
        c_ic = xp.zeros((g.n_atoms, 3))
        c_ic[int(i), int(c)] = 1.0
        yield xp.zeros(g.n_atoms), force_direction(g, c_ic)
    for i in numbers.atom_i:
        E_bar_i = xp.zeros(g.n_atoms)
        E_bar_i[int(i)] = 1.0
        yield E_bar_i, None
    for f, d, c in numbers.virial_k:
        C_fdc = xp.zeros((g.n_frames, 3, 3))
        C_fdc[int(f), int(d), int(c)] += 0.5
        C_fdc[int(f), int(c), int(d)] += 0.5
        yield xp.zeros(g.n_atoms), virial_direction(g, C_fdc)


def rows(par: Parameters, env, fwd: Forward, numbers: Numbers):
    """H (m, N): the derivative of each of ``numbers`` with respect to the weights.

    The reference makes a pass for each; a fused engine shares what they have in common.
    """
    return rows_by(sys.modules[__name__], par, env, fwd, numbers)


def rows_by(passes, par: Parameters, env, fwd, numbers: Numbers):
    """`rows` by the passes ``energy_gradient`` and ``weight_gradient`` of an engine, or of this module."""
    xp = namespace(env.geometry.r_pc)
    H_mw = xp.zeros((numbers.n_rows, par.layout.size))
    for m, (E_bar_i, v_pc) in enumerate(motions(env, numbers)):
        if v_pc is None:
            H_mw[m] = passes.energy_gradient(par, env, fwd, E_bar_i)
        else:
            H_mw[m] = passes.weight_gradient(par, env, fwd, E_bar_i, v_pc)
    return H_mw
