"""The descriptor D, invariant under translation, rotation and exchange of like atoms.

    T_i = (1/Σsel) Σ_p G_pᵀ R̃_p   (M × 4);        D_i = T_i T_i[:M‹]ᵀ   (M × M‹)

G_p is the embedding of the pair's radial row. Index letters: m runs over M, s over M‹ (see arrays.py).
"""

from __future__ import annotations

from kalmandp.arrays import namespace, segment_sum
from kalmandp.potentials.deep_potential.environment import Environment


def moments(env: Environment, G_pm, G_vm, n_neighbours: int):
    """T_imk = (1/Σsel) [Σ_p G_pm R̃_pk + Σ_v n_iv G_vm R̃_vk], the sum over pairs of centre i.

    Deep Potential, step 3: T = G_iᵀ R̃_i / N_m, the first half of the descriptor. The paper leaves out
    DeePMD-kit's division by N_m = Σsel. The second sum is that over the padding slots.
    """
    xp = namespace(G_pm)
    T_imk = segment_sum(G_pm[:, :, None] * env.Rt_pk[:, None, :], env.geometry.i_p, env.geometry.n_atoms)
    empty_imk = xp.einsum("iv,vm,vk->imk", env.count_iv, G_vm, env.Rt_vk)
    return (T_imk + empty_imk) / n_neighbours


def moments_tangent(env: Environment, G_pm, G_dot_pm, Rt_dot_pk, n_neighbours: int):
    """Ṫ_imk = (1/Σsel) Σ_p (Ġ_pm R̃_pk + G_pm Ṙ̃_pk); padding slots do not move."""
    term_pmk = G_dot_pm[:, :, None] * env.Rt_pk[:, None, :]
    term_pmk = term_pmk + G_pm[:, :, None] * Rt_dot_pk[:, None, :]
    return segment_sum(term_pmk, env.geometry.i_p, env.geometry.n_atoms) / n_neighbours


def moments_adjoint(env: Environment, T_bar_imk, n_neighbours: int):
    """Ḡ from T̄: Ḡ_pm = (1/Σsel) Σ_k T̄_imk R̃_pk for pairs, and the sum over atoms for padding slots."""
    xp = namespace(T_bar_imk)
    T_bar_imk = T_bar_imk / n_neighbours
    G_bar_pm = xp.einsum("pmk,pk->pm", T_bar_imk[env.geometry.i_p], env.Rt_pk)
    G_bar_vm = xp.einsum("iv,imk,vk->vm", env.count_iv, T_bar_imk, env.Rt_vk)
    return G_bar_pm, G_bar_vm


def contract(T_imk, axis_neuron: int):
    """D_ims = Σ_k T_imk T_isk, s < M‹, flattened row by row to (i, M·M‹).

    Deep Potential, step 3: D_i = G_iᵀ R̃_i R̃_iᵀ G_i‹. (Printed without the ‹ in the paper, but of M × M‹.)
    The sum over k is the scalar product of two vectors: a rotation of all neighbours changes nothing.
    """
    xp = namespace(T_imk)
    D_ims = xp.einsum("imk,isk->ims", T_imk, T_imk[:, :axis_neuron])
    return D_ims.reshape(len(T_imk), -1)


def contract_adjoint(T_imk, D_bar_ims):
    """T̄ from D̄: T̄_mk = Σ_s D̄_ms T_sk, and for rows s < M‹ also Σ_m D̄_ms T_mk.

    The first M‹ rows of T enter D twice, as a left factor and as a right one, and get both adjoints.
    """
    xp = namespace(T_imk)
    axis = D_bar_ims.shape[2]
    T_bar_imk = xp.einsum("ims,isk->imk", D_bar_ims, T_imk[:, :axis])
    T_bar_imk[:, :axis] += xp.einsum("ims,imk->isk", D_bar_ims, T_imk)
    return T_bar_imk


def contract_tangent(T_imk, T_dot_imk, axis_neuron: int):
    """Ḋ = Ṫ T‹ᵀ + T Ṫ‹ᵀ, flattened like D."""
    xp = namespace(T_imk)
    D_dot_ims = xp.einsum("imk,isk->ims", T_dot_imk, T_imk[:, :axis_neuron])
    D_dot_ims = D_dot_ims + xp.einsum("imk,isk->ims", T_imk, T_dot_imk[:, :axis_neuron])
    return D_dot_ims.reshape(len(T_imk), -1)


def contract_tangent_adjoint(T_imk, T_dot_imk, D_bar_ims, D_dot_bar_ims):
    """Adjoint of D and Ḋ together. D is bilinear in T, so its own adjoint serves twice::

    T̄ = adj(T, D̄) + adj(Ṫ, Ḋ̄);     Ṫ̄ = adj(T, Ḋ̄)
    """
    T_bar_imk = contract_adjoint(T_imk, D_bar_ims) + contract_adjoint(T_dot_imk, D_dot_bar_ims)
    return T_bar_imk, contract_adjoint(T_imk, D_dot_bar_ims)
