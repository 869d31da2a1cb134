r"""The Deep Potential's descriptor: r → R̃ → G → T → D, and back.

    R̃ = (R(r) − davg)/dstd                        `environment`
    G_p = net(R̃_p0)                               `embed`: one number in, M numbers out
    T_i = (1/Σsel) Σ_p G_pᵀ R̃_p                   `moments`, M × 4
    D_i = T_i T_i[:M‹]ᵀ                           q of this potential, M × M‹

The chain of its passes, each line the adjoint of the one that made it (dots are tangents, bars adjoints;
`potentials.network` explains both):

    forward + tangent                               backward
    g = R̃_p0               ġ = Ṙ̃_p0
    G = net(g)             Ġ = G′(g) ġ              w̄ ← Ḡ ∂G/∂w + ġ Ġ̄ ∂G′/∂w
    T = ΣGᵀR̃/Σsel          Ṫ = Σ(ĠᵀR̃ + GᵀṘ̃)/Σsel   Ḡ = T̄R̃ + Ṫ̄Ṙ̃,   Ġ̄ = Ṫ̄R̃
    D = T T‹ᵀ              Ḋ = Ṫ T‹ᵀ + T Ṫ‹ᵀ        T̄ = adj(T, D̄) + adj(Ṫ, Ḋ̄),   Ṫ̄ = adj(T, Ḋ̄)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kalmandp.arrays import namespace
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import Pairs
from kalmandp.geometry.pairs import Geometry
from kalmandp.potentials import network
from kalmandp.potentials.deep_potential import moments
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.environment import Environment, build_environment, check_sel
from kalmandp.potentials.protocol import Descriptor, Parameters


class Embedded(NamedTuple):
    """Embedding of all rows: G and G′ = dG/dg of pairs and of virtual rows; caches of each net."""

    G_pm: Any
    dG_pm: Any
    G_vm: Any
    caches_e: list


class Cache(NamedTuple):
    """What the passes after `DeepPotential.forward` need: the embedding, and the moments T."""

    embedded: Embedded
    T_imk: Any


class Tangents(NamedTuple):
    """Ṙ̃ and Ṫ along a motion of the pairs."""

    Rt_dot_pk: Any
    T_dot_imk: Any


def embed(par: Parameters, env: Environment) -> Embedded:
    """G(g) of every pair, g = R̃_p0, with its slope: the tangent of the net along ġ = 1.

    Deep Potential, step 2: G_i = G(s(|r_ij|)), a function of one number per pair.
    """
    xp = namespace(env.Rt_pk, par.weights)
    dtype = xp.result_type(env.Rt_pk.dtype, par.weights.dtype)
    M = par.descriptor.form.embedding[-1]
    G_pm = xp.empty((len(env.Rt_pk), M), dtype)
    dG_pm = xp.empty_like(G_pm)
    G_vm = xp.empty((len(env.Rt_vk), M), dtype)
    caches_e = []
    for e, (rows, virtual) in enumerate(zip(env.rows_e, env.virtual_e, strict=True)):
        layers = par.layout.layers(par.weights, f"embedding.{e}")
        g = xp.concatenate([env.Rt_pk[rows, :1], env.Rt_vk[virtual, :1]])
        G, caches = network.forward(layers, g)
        dG, caches = network.tangent(layers, caches, xp.ones_like(g))
        G_pm[rows], G_vm[virtual], dG_pm[rows] = G[: len(rows)], G[len(rows) :], dG[: len(rows)]
        caches_e.append(caches)
    return Embedded(G_pm, dG_pm, G_vm, caches_e)


class DeepPotential(Descriptor):
    """D of `se_e2_a`, with the passes of `potentials.protocol.Descriptor`."""

    def __init__(self, form: Architecture):
        self.form = form
        self.size_t = (form.descriptor_size,) * form.n_types
        self._shape_ims = (-1, form.embedding[-1], form.axis_neuron)

    def check(self, frame: Frame, pairs: Pairs) -> None:
        """Raise if an atom has more neighbours of a type than ``sel`` allows; none is ever dropped."""
        check_sel(self.form, frame, pairs)

    def environment(self, statistics: dict, geometry: Geometry) -> Environment:
        """R̃ and ∂R̃/∂r of all pairs; davg and dstd are the statistics."""
        return build_environment(self.form, statistics["davg"], statistics["dstd"], geometry)

    def forward(self, par: Parameters, env: Environment):
        """D (i, M·M‹). Deep Potential, steps 1 to 3."""
        embedded = embed(par, env)
        T_imk = moments.moments(env, embedded.G_pm, embedded.G_vm, self.form.n_neighbours)
        return moments.contract(T_imk, self.form.axis_neuron), Cache(embedded, T_imk)

    def tangent(self, par: Parameters, env: Environment, cache: Cache, v_pc):
        """Ḋ along a motion of the pairs: R̃ → ġ → Ġ → Ṫ → Ḋ."""
        xp = namespace(cache.T_imk)
        Rt_dot_pk = xp.einsum("pkc,pc->pk", env.dRt_pkc, v_pc)
        G_dot_pm = cache.embedded.dG_pm * Rt_dot_pk[:, 0][:, None]
        T_dot_imk = moments.moments_tangent(
            env, cache.embedded.G_pm, G_dot_pm, Rt_dot_pk, self.form.n_neighbours
        )
        D_dot_ia = moments.contract_tangent(cache.T_imk, T_dot_imk, self.form.axis_neuron)
        return D_dot_ia, Tangents(Rt_dot_pk, T_dot_imk)

    def pair_adjoint(self, par: Parameters, env: Environment, cache: Cache, q_bar_id):
        """From D̄ back to the pairs, each line the adjoint of one of `forward`::

            T̄ = adj(T, D̄)                              `moments.contract_adjoint`
            R̃̄_k = Σ_m T̄_mk G_m / Σsel                  R̃ as itself in T = ΣGᵀR̃/Σsel
            ḡ   = Σ_mk T̄_mk G′_m R̃_k / Σsel            its radial part g = R̃_0, through G(g)
            f_c = Σ_k R̃̄_k ∂R̃_k/∂r_c + ḡ ∂R̃_0/∂r_c
        """
        xp = namespace(cache.T_imk)
        D_bar_ims = q_bar_id.reshape(self._shape_ims)
        T_bar_imk = moments.contract_adjoint(cache.T_imk, D_bar_ims) / self.form.n_neighbours
        # R̃ enters T twice: as itself, and through its radial part g = R̃_p0 in G(g)
        T_bar_pmk = T_bar_imk[env.geometry.i_p]
        Rt_bar_pk = xp.einsum("pmk,pm->pk", T_bar_pmk, cache.embedded.G_pm)
        g_bar_p = xp.einsum("pmk,pm,pk->p", T_bar_pmk, cache.embedded.dG_pm, env.Rt_pk)
        Rt_bar_pk[:, 0] += g_bar_p
        return xp.einsum("pk,pkc->pc", Rt_bar_pk, env.dRt_pkc)

    def weight_adjoint(self, par: Parameters, env: Environment, cache: Cache, q_bar_id, gradient) -> None:
        """D̄ → T̄ → Ḡ → the embedding nets' weights."""
        xp = namespace(cache.T_imk)
        T_bar_imk = moments.contract_adjoint(cache.T_imk, q_bar_id.reshape(self._shape_ims))
        G_bar_pm, G_bar_vm = moments.moments_adjoint(env, T_bar_imk, self.form.n_neighbours)
        for e, (rows, virtual) in enumerate(zip(env.rows_e, env.virtual_e, strict=True)):
            layers = par.layout.layers(par.weights, f"embedding.{e}")
            G_bar = xp.concatenate([G_bar_pm[rows], G_bar_vm[virtual]])
            into = par.layout.layers(gradient, f"embedding.{e}")
            network.backward(layers, cache.embedded.caches_e[e], G_bar, into)

    def tangent_adjoint(
        self, par: Parameters, env: Environment, cache: Cache, tangents: Tangents, q_bar_id, q_dot_bar_id,
        gradient,
    ) -> None:  # fmt: skip
        """The right column of the chain at the top of this module."""
        xp = namespace(cache.T_imk)
        Rt_dot_pk, T_dot_imk = tangents
        T_bar_imk, T_dot_bar_imk = moments.contract_tangent_adjoint(
            cache.T_imk, T_dot_imk, q_bar_id.reshape(self._shape_ims), q_dot_bar_id.reshape(self._shape_ims)
        )
        # Ḡ = T̄R̃ + Ṫ̄Ṙ̃;   Ġ̄ = Ṫ̄R̃, and Ġ = G′ġ makes the adjoint of G′ equal to ġ Ġ̄
        G_bar_pm, G_bar_vm = moments.moments_adjoint(env, T_bar_imk, self.form.n_neighbours)
        T_dot_bar_pmk = T_dot_bar_imk[env.geometry.i_p] / self.form.n_neighbours
        G_bar_pm = G_bar_pm + xp.einsum("pmk,pk->pm", T_dot_bar_pmk, Rt_dot_pk)
        dG_bar_pm = xp.einsum("pmk,pk->pm", T_dot_bar_pmk, env.Rt_pk) * Rt_dot_pk[:, 0][:, None]
        for e, (rows, virtual) in enumerate(zip(env.rows_e, env.virtual_e, strict=True)):
            layers = par.layout.layers(par.weights, f"embedding.{e}")
            G_bar = xp.concatenate([G_bar_pm[rows], G_bar_vm[virtual]])
            dG_bar = xp.concatenate([dG_bar_pm[rows], xp.zeros_like(G_bar_vm[virtual])])
            into = par.layout.layers(gradient, f"embedding.{e}")
            network.tangent_backward(layers, cache.embedded.caches_e[e], G_bar, dG_bar, into)
