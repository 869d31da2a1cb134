"""The way of one frame through the potential: R̃ → G → T → D → E, and back to forces and virial.

    E = Σ_i E_i,   E_i = fitting[t_i](D_i) + bias[t_i]
    F_i = −∂E/∂r_i,   W = −∂E/∂ε

With f_p = ∂E/∂r_p for the pair vector r_p = r_j − r_i, both are sums over pairs::

    F_i = Σ_{p: centre i} f_p − Σ_{p: neighbour i} f_p,      W_dc = −Σ_p f_pd r_pc
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kalmandp.arrays import namespace, segment_sum
from kalmandp.potentials import network
from kalmandp.potentials.deep_potential import descriptor
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.environment import Environment
from kalmandp.potentials.layout import WeightLayout


class Parameters(NamedTuple):
    """All that a prediction needs besides the frame.

    weights : (N,) w;  bias_t : (n_types,) energy added to each atom of a type, eV
    """

    architecture: Architecture
    layout: WeightLayout
    weights: Any
    bias_t: Any


class Embedded(NamedTuple):
    """Embedding of all rows: G and G′ = dG/dg of pairs and of virtual rows; caches of each net."""

    G_pm: Any
    dG_pm: Any
    G_vm: Any
    caches_e: list


class Forward(NamedTuple):
    """What the passes after the energy need: embedding, moments T, and caches of the fitting nets."""

    embedded: Embedded
    T_imk: Any
    D_ia: Any
    caches_t: list


def embed(par: Parameters, env: Environment) -> Embedded:
    """G(g) of every pair, g = R̃_p0, with its slope: the tangent of the net along ġ = 1.

    Deep Potential, step 2: G_i = G(s(|r_ij|)), a function of one number per pair.
    """
    xp = namespace(env.Rt_pk, par.weights)
    dtype = xp.result_type(env.Rt_pk.dtype, par.weights.dtype)
    M = par.architecture.embedding[-1]
    G_pm = xp.empty((len(env.i_p), M), dtype)
    dG_pm = xp.empty_like(G_pm)
    G_vm = xp.empty((len(env.Rt_vk), M), dtype)
    caches_e = []
    for e, (rows, virtual) in enumerate(zip(env.rows_e, env.virtual_e, strict=True)):
        layers = par.layout.embedding(par.weights, e)
        g = xp.concatenate([env.Rt_pk[rows, :1], env.Rt_vk[virtual, :1]])
        G, caches = network.forward(layers, g)
        dG, caches = network.tangent(layers, caches, xp.ones_like(g))
        G_pm[rows], G_vm[virtual], dG_pm[rows] = G[: len(rows)], G[len(rows) :], dG[: len(rows)]
        caches_e.append(caches)
    return Embedded(G_pm, dG_pm, G_vm, caches_e)


def energies(par: Parameters, env: Environment):
    """Atomic energies E_i (eV), shape (n_atoms,), and the cache for what follows.

    Deep Potential, step 4: E_i = F(D_i), one fitting net per type of centre, plus the type's bias. Their
    sum is step 5's E.

    Parameters
    ----------
    par : Parameters
    env : Environment
    """
    a = par.architecture
    embedded = embed(par, env)
    T_imk = descriptor.moments(env, embedded.G_pm, embedded.G_vm, a.n_neighbours)
    D_ia = descriptor.contract(T_imk, a.axis_neuron)
    xp = namespace(D_ia)
    E_i = xp.empty(env.n_atoms, D_ia.dtype)
    caches_t = []
    for t, atoms in enumerate(env.atoms_t):
        E, caches = network.forward(par.layout.fitting(par.weights, t), D_ia[atoms])
        E_i[atoms] = E[:, 0] + par.bias_t[t]
        caches_t.append(caches)
    return E_i, Forward(embedded, T_imk, D_ia, caches_t)


def descriptor_adjoint(par: Parameters, env: Environment, fwd: Forward, E_bar_i, gradient=None):
    """D̄ = ∂L/∂D (i, M, M‹) from Ē = ∂L/∂E_i; adds the fitting nets' weight gradients if asked."""
    xp = namespace(fwd.D_ia)
    a = par.architecture
    D_bar_ia = xp.zeros_like(fwd.D_ia)
    for t, atoms in enumerate(env.atoms_t):
        layers = par.layout.fitting(par.weights, t)
        into = None if gradient is None else par.layout.fitting(gradient, t)
        D_bar_ia[atoms] = network.backward(layers, fwd.caches_t[t], E_bar_i[atoms, None], into)
    return D_bar_ia.reshape(-1, a.embedding[-1], a.axis_neuron)


def pair_gradient(par: Parameters, env: Environment, fwd: Forward):
    """f_pc = ∂E/∂r_pc (p, 3), eV/Å: the energy's derivative along each pair vector.

    From E back to the pairs, with Ē_i = 1 for every atom (each line is the adjoint of one of `energies`)::

        D̄ = fitting′(D)ᵀ 1
        T̄ = adj(T, D̄)                              `descriptor.contract_adjoint`
        R̃̄_k = Σ_m T̄_mk G_m / Σsel                  R̃ as itself in T = ΣGᵀR̃/Σsel
        ḡ   = Σ_mk T̄_mk G′_m R̃_k / Σsel            its radial part g = R̃_0, through G(g)
        f_c = Σ_k R̃̄_k ∂R̃_k/∂r_c + ḡ ∂R̃_0/∂r_c
    """
    xp = namespace(fwd.T_imk)
    E_bar_i = xp.ones(env.n_atoms, fwd.D_ia.dtype)
    D_bar_ims = descriptor_adjoint(par, env, fwd, E_bar_i)
    T_bar_imk = descriptor.contract_adjoint(fwd.T_imk, D_bar_ims) / par.architecture.n_neighbours
    # R̃ enters T twice: as itself, and through its radial part g = R̃_p0 in G(g)
    T_bar_pmk = T_bar_imk[env.i_p]
    Rt_bar_pk = xp.einsum("pmk,pm->pk", T_bar_pmk, fwd.embedded.G_pm)
    g_bar_p = xp.einsum("pmk,pm,pk->p", T_bar_pmk, fwd.embedded.dG_pm, env.Rt_pk)
    Rt_bar_pk[:, 0] += g_bar_p
    return xp.einsum("pk,pkc->pc", Rt_bar_pk, env.dRt_pkc)


def forces_from_pairs(env: Environment, f_pc):
    """F_i = Σ_{p: centre i} f_p − Σ_{p: neighbour i} f_p, shape (n_atoms, 3), eV/Å.

    Deep Potential, step 5: F_i = −∂E/∂r_i. An atom is in r_p = r_j − r_i as the centre, ∂r_p/∂r_i = −1, and
    as the neighbour of others, ∂r_p/∂r_j = +1; the minus of the force turns both signs.
    """
    return segment_sum(f_pc, env.i_p, env.n_atoms) - segment_sum(f_pc, env.j_p, env.n_atoms)


def virial_from_pairs(env: Environment, f_pc):
    """W_dc = −Σ_p f_pd r_pc for each frame, shape (n_frames, 3, 3), eV.

    Not in the paper: W = −∂E/∂ε for a strain that takes every r_p to (1 + ε) r_p, so ∂r_pd/∂ε_dc = r_pc.
    """
    return -segment_sum(f_pc[:, :, None] * env.r_pc[:, None, :], env.frame_i[env.i_p], env.n_frames)
