r"""Derivatives with respect to the weights, by hand.

Three Jacobians are wanted: ∂E/∂w, and for a direction c over force components, or C over virial
components, ∂(c·F)/∂w and ∂(C:W)/∂w: the H of RLEKF, eq. (2). They are one and the same thing. ("Tangent" and
"adjoint", the dots and bars below, are explained in `network`.)

Why not −∂/∂r (∂E/∂w)? It is the same matrix of second derivatives, but N rows of it would have to be computed
to get one number of each. Along a direction c only one number moves, c·F, and one backward pass has all N.

Move each pair vector by v_p: the energy changes at the rate Ė = Σ_p f_p·v_p. Therefore::

    c·F = Σ_i c_i·F_i       = Ė  with  v_p = c_i − c_j          (i, j centre and neighbour of p)
    C:W = Σ_dc C_dc W_dc    = Ė  with  v_p = −C r_p

A force is a tangent of the energy. So ∂(c·F)/∂w = ∂Ė/∂w, and Ė comes from the forward pass carried
along with its tangent; one backward pass through both gives the derivative for all weights at once.
With E_bar_i an adjoint of the atomic energies as well, one function serves everything::

    weight_gradient = ∂/∂w [ Σ_i Ē_i E_i + Ė ]

The chain, each line the adjoint of the one that made it (dots are tangents, bars adjoints):

    forward + tangent                               backward
    g = R̃_p0               ġ = Ṙ̃_p0
    G = net(g)             Ġ = G′(g) ġ              w̄ ← Ḡ ∂G/∂w + ġ Ġ̄ ∂G′/∂w
    T = ΣGᵀR̃/Σsel          Ṫ = Σ(ĠᵀR̃ + GᵀṘ̃)/Σsel   Ḡ = T̄R̃ + Ṫ̄Ṙ̃,   Ġ̄ = Ṫ̄R̃
    D = T T‹ᵀ              Ḋ = Ṫ T‹ᵀ + T Ṫ‹ᵀ        T̄ = adj(T, D̄) + adj(Ṫ, Ḋ̄),   Ṫ̄ = adj(T, Ḋ̄)
    E = fitting(D)         Ė = fitting′(D) Ḋ        D̄, Ḋ̄ from `network.tangent_backward`
"""

from __future__ import annotations

from kalmandp.arrays import namespace
from kalmandp.potentials import network
from kalmandp.potentials.deep_potential import descriptor
from kalmandp.potentials.deep_potential.environment import Environment
from kalmandp.potentials.deep_potential.model import Forward, Parameters, descriptor_adjoint


def force_direction(env: Environment, c_ic):
    """v_p = c_i − c_j, the motion of pair vectors for which Ė = c·F."""
    xp = namespace(c_ic)
    return xp.take(c_ic, env.i_p, axis=0) - xp.take(c_ic, env.j_p, axis=0)


def virial_direction(env: Environment, C_fdc):
    """v_p = −C r_p, the motion of pair vectors for which Ė = C:W (C per frame, (f, 3, 3))."""
    xp = namespace(env.r_pc)
    return -xp.einsum("pdc,pc->pd", C_fdc[env.frame_i[env.i_p]], env.r_pc)


def energy_gradient(par: Parameters, env: Environment, fwd: Forward, E_bar_i):
    """∂/∂w Σ_i Ē_i E_i, shape (N,). With Ē = 1 this is ∂E/∂w, the paper's H of an energy.

    RLEKF, eq. (2) and Algorithm 1, l. 7: H = ∂h/∂w of an energy: the backward pass of `model.energies`.

    Parameters
    ----------
    par, env, fwd : parameters, environment, and the cache that ``energies`` returned
    E_bar_i : (n_atoms,) adjoint of the atomic energies: any weights of a sum of E_i
    """
    xp = namespace(fwd.D_ia)
    a = par.architecture
    gradient = xp.zeros(par.layout.size, fwd.D_ia.dtype)
    D_bar_ims = descriptor_adjoint(par, env, fwd, E_bar_i, gradient)
    T_bar_imk = descriptor.contract_adjoint(fwd.T_imk, D_bar_ims)
    G_bar_pm, G_bar_vm = descriptor.moments_adjoint(env, T_bar_imk, a.n_neighbours)
    for e, (rows, virtual) in enumerate(zip(env.rows_e, env.virtual_e, strict=True)):
        layers = par.layout.embedding(par.weights, e)
        G_bar = xp.concatenate([G_bar_pm[rows], G_bar_vm[virtual]])
        into = par.layout.embedding(gradient, e)
        network.backward(layers, fwd.embedded.caches_e[e], G_bar, into)
    return gradient


def weight_gradient(par: Parameters, env: Environment, fwd: Forward, E_bar_i, v_pc):
    """∂/∂w [Σ_i Ē_i E_i + Σ_p f_p·v_p], shape (N,): every Jacobian of this package.

    RLEKF, eq. (2) and Algorithm 1, l. 7: H = ∂h/∂w of forces and virials. How it comes about is told at the
    top of this module; the second derivative itself is one layer's, in `network.tangent_backward`.

    Parameters
    ----------
    par, env, fwd : parameters, environment, and the cache that ``energies`` returned
    E_bar_i : (n_atoms,) adjoint of the atomic energies
    v_pc : (p, 3) motion of the pair vectors; from `force_direction` or `virial_direction`
    """
    xp = namespace(fwd.D_ia)
    a = par.architecture
    emb = fwd.embedded
    dtype = xp.result_type(fwd.D_ia.dtype, v_pc.dtype)
    gradient = xp.zeros(par.layout.size, dtype)

    # tangents, from the pairs up to the descriptor
    Rt_dot_pk = xp.einsum("pkc,pc->pk", env.dRt_pkc, v_pc)
    g_dot_p = Rt_dot_pk[:, 0]
    G_dot_pm = emb.dG_pm * g_dot_p[:, None]
    T_dot_imk = descriptor.moments_tangent(env, emb.G_pm, G_dot_pm, Rt_dot_pk, a.n_neighbours)
    D_dot_ia = descriptor.contract_tangent(fwd.T_imk, T_dot_imk, a.axis_neuron)

    # L = Σ Ē E + Σ Ė: the adjoint of every Ė_i is one
    D_bar_ia = xp.empty_like(D_dot_ia)
    D_dot_bar_ia = xp.empty_like(D_dot_ia)
    for t, atoms in enumerate(env.atoms_t):
        layers = par.layout.fitting(par.weights, t)
        _, caches = network.tangent(layers, fwd.caches_t[t], D_dot_ia[atoms])
        E_bar = E_bar_i[atoms, None].astype(dtype)
        D_bar_ia[atoms], D_dot_bar_ia[atoms] = network.tangent_backward(
            layers, caches, E_bar, xp.ones_like(E_bar), par.layout.fitting(gradient, t)
        )

    shape_ims = (-1, a.embedding[-1], a.axis_neuron)
    T_bar_imk, T_dot_bar_imk = descriptor.contract_tangent_adjoint(
        fwd.T_imk, T_dot_imk, D_bar_ia.reshape(shape_ims), D_dot_bar_ia.reshape(shape_ims)
    )
    # Ḡ = T̄R̃ + Ṫ̄Ṙ̃;   Ġ̄ = Ṫ̄R̃, and Ġ = G′ġ makes the adjoint of G′ equal to ġ Ġ̄
    G_bar_pm, G_bar_vm = descriptor.moments_adjoint(env, T_bar_imk, a.n_neighbours)
    T_dot_bar_pmk = T_dot_bar_imk[env.i_p] / a.n_neighbours
    G_bar_pm = G_bar_pm + xp.einsum("pmk,pk->pm", T_dot_bar_pmk, Rt_dot_pk)
    dG_bar_pm = xp.einsum("pmk,pk->pm", T_dot_bar_pmk, env.Rt_pk) * g_dot_p[:, None]

    for e, (rows, virtual) in enumerate(zip(env.rows_e, env.virtual_e, strict=True)):
        layers = par.layout.embedding(par.weights, e)
        G_bar = xp.concatenate([G_bar_pm[rows], G_bar_vm[virtual]])
        dG_bar = xp.concatenate([dG_bar_pm[rows], xp.zeros_like(G_bar_vm[virtual])])
        into = par.layout.embedding(gradient, e)
        network.tangent_backward(layers, emb.caches_e[e], G_bar, dG_bar, into)
    return gradient
