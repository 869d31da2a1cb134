"""The descriptor of NEP: sums over neighbours, mixed by the weights c, and their invariants.

    q_n   = Σ_tk c^R_nkt φ_tk                      n = 0 … n_R         radial
    s_nm  = Σ_tk c^A_nkt S_tkm,   Q_nλ = Q_λ(s_n)  n = 0 … n_A         angular, see `invariants`
    q     = (q_n; Q_λn with λ first) ∘ q_scaler                        what the net gets

φ and S are the moments of `environment`; c^R and c^A are those of the centre's type. q is linear in c^R, s in
c^A. With γ = ∂L/∂q ∘ q_scaler and y = ∂L/∂s = Σ_λ γ_λn ∂Q_λ/∂s ::

    ∂L/∂c^R_nkt = γ_n φ_tk            ∂L/∂c^A_nkt = Σ_m y_nm S_tkm
    ∂L/∂r_p = r̂ Σ_k f′_k G^R_k + Σ_km G^A_km (f′_k b_m r̂ + f_k ∂b_m/∂r)
              G^R_k = Σ_n γ_n c^R_nkt,   G^A_km = Σ_n y_nm c^A_nkt,   t the type of p's neighbour

Fan et al., Phys. Rev. B 104, 104309 (2021); J. Chem. Phys. 157, 114801 (2022).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kalmandp.arrays import namespace
from kalmandp.geometry.pairs import Geometry
from kalmandp.potentials.nep.environment import Environment, build_environment, by_type
from kalmandp.potentials.nep.form import NEPForm
from kalmandp.potentials.protocol import Descriptor, Parameters


class Cache(NamedTuple):
    """s (i, n, m) of all atoms."""

    s_inm: Any


class Tangents(NamedTuple):
    """φ̇ (i, t, k), Ṡ (i, t, k, m) and ṡ (i, n, m)."""

    phi_itk: Any
    S_itkm: Any
    s_inm: Any


class NEPDescriptor(Descriptor):
    """The passes between pair vectors, weights and q; the contract is `potentials.protocol.Descriptor`.

    Parameters
    ----------
    form : NEPForm
    """

    def __init__(self, form: NEPForm) -> None:
        self.form = form
        self.size_t = (form.size,) * form.n_types

    def environment(self, statistics: dict, geometry: Geometry) -> Environment:
        """What does not depend on the weights; ``statistics`` holds "q_scaler"."""
        return build_environment(self.form, statistics["q_scaler"], geometry)

    def forward(self, par: Parameters, env: Environment):
        """q (i, d) and the cache."""
        s_inm = self._mix(par, env, "c_angular", env.S_itkm)
        Q_inl = self.form.invariants.values(s_inm)
        return self._join(env, self._mix(par, env, "c_radial", env.phi_itk[..., None]), Q_inl), Cache(s_inm)

    def tangent(self, par: Parameters, env: Environment, cache: Cache, v_pc):
        """q̇ (i, d) for a motion v of the pair vectors, and the tangents of the moments.

        φ̇ = Σ_p f′_k r̂·v,      Ṡ = Σ_p (f′_k b r̂·v + f_k ∂b/∂r·v)
        """
        g, T = env.geometry, self.form.n_types
        along_p = (env.n_pc * v_pc).sum(-1)
        phi_dot = by_type(env.df_pk * along_p[:, None], g, g.i_p, g.j_p, T)
        v_ac, along_a = v_pc[env.pairs_a], along_p[env.pairs_a]
        b_dot_am = (env.db_amc * v_ac[:, None, :]).sum(-1)
        term = (env.df_ak * along_a[:, None])[:, :, None] * env.b_am[:, None, :]
        term = term + env.f_ak[:, :, None] * b_dot_am[:, None, :]
        S_dot = by_type(term, g, g.i_p[env.pairs_a], g.j_p[env.pairs_a], T)
        s_dot = self._mix(par, env, "c_angular", S_dot)
        Q_dot = self.form.invariants.tangent(cache.s_inm, s_dot)
        q_dot = self._join(env, self._mix(par, env, "c_radial", phi_dot[..., None]), Q_dot)
        return q_dot, Tangents(phi_dot, S_dot, s_dot)

    def pair_adjoint(self, par: Parameters, env: Environment, cache: Cache, q_bar_id):
        """f_pc = Σ_id q̄_id ∂q_id/∂r_pc, by the last formula above."""
        g, xp = env.geometry, namespace(q_bar_id)
        gamma_in, gamma_inl = self._split(env, q_bar_id)
        t_p, u_p = g.types_i[g.i_p], g.types_i[g.j_p]
        # f_p = r̂ Σ_k f′_k G^R_k
        c_pnk = self._all(par, "c_radial")[t_p, u_p]
        G_pk = xp.einsum("pn,pnk->pk", gamma_in[g.i_p], c_pnk)
        f_pc = (env.df_pk * G_pk).sum(-1)[:, None] * env.n_pc
        # + Σ_km G^A_km (f′_k b_m r̂ + f_k ∂b_m/∂r)
        a = env.pairs_a
        y_inm = self.form.invariants.gradient(cache.s_inm, gamma_inl)
        c_ank = self._all(par, "c_angular")[t_p[a], u_p[a]]
        y_anm = y_inm[g.i_p[a]]
        h_am = xp.einsum("anm,ank,ak->am", y_anm, c_ank, env.f_ak)
        dh_am = xp.einsum("anm,ank,ak->am", y_anm, c_ank, env.df_ak)
        f_pc[a] += (dh_am * env.b_am).sum(-1)[:, None] * env.n_pc[a]
        f_pc[a] += (h_am[:, :, None] * env.db_amc).sum(1)
        return f_pc

    def weight_adjoint(self, par: Parameters, env: Environment, cache: Cache, q_bar_id, gradient) -> None:
        """Adds ∂L/∂c^R = γ φ and ∂L/∂c^A = y S, summed over the atoms of a type."""
        gamma_in, gamma_inl = self._split(env, q_bar_id)
        y_inm = self.form.invariants.gradient(cache.s_inm, gamma_inl)
        self._add(par, env, gradient, "c_radial", gamma_in[..., None], env.phi_itk[..., None])
        self._add(par, env, gradient, "c_angular", y_inm, env.S_itkm)

    def tangent_adjoint(
        self, par: Parameters, env: Environment, cache: Cache, tangents: Tangents, q_bar_id, q_dot_bar_id,
        gradient,
    ) -> None:  # fmt: skip
        """Adds the adjoint of q and q̇ together: with π = q̄ ∘ q_scaler and γ = q̇̄ ∘ q_scaler ::

        ẏ = Σ_λ (π_λn ∂Q_λ/∂s + γ_λn ∂²Q_λ/∂s² ṡ),     y = Σ_λ γ_λn ∂Q_λ/∂s
        ∂L/∂c^R = π φ + γ φ̇,       ∂L/∂c^A = ẏ S + y Ṡ
        """
        pi_in, pi_inl = self._split(env, q_bar_id)
        gamma_in, gamma_inl = self._split(env, q_dot_bar_id)
        invariants, s_inm = self.form.invariants, cache.s_inm
        y_dot = invariants.gradient(s_inm, pi_inl)
        y_dot = y_dot + invariants.gradient_tangent(s_inm, tangents.s_inm, gamma_inl)
        y_inm = invariants.gradient(s_inm, gamma_inl)
        self._add(par, env, gradient, "c_radial", pi_in[..., None], env.phi_itk[..., None])
        self._add(par, env, gradient, "c_radial", gamma_in[..., None], tangents.phi_itk[..., None])
        self._add(par, env, gradient, "c_angular", y_dot, env.S_itkm)
        self._add(par, env, gradient, "c_angular", y_inm, tangents.S_itkm)

    def fixed(self, env: Environment):
        """E_i and f_pc of the repulsion of nuclei; None without one."""
        return env.fixed

    def _all(self, par: Parameters, name: str):
        """c of all types, (t, u, n, k): centre type t, neighbour type u."""
        xp = namespace(par.weights)
        c = [par.layout.view(par.weights, f"{name}.{t}") for t in range(self.form.n_types)]
        return xp.moveaxis(xp.stack(c), 3, 1)

    def _mix(self, par: Parameters, env: Environment, name: str, moments_itkm):
        """Σ_tk c_nkt M_tkm for every atom with the c of its type, (i, n, m)."""
        xp = namespace(par.weights)
        n, M = self.form.basis[name == "c_angular"][0], moments_itkm
        out = xp.zeros((len(M), n, M.shape[-1]), dtype=xp.result_type(M, par.weights))
        for t, atoms in enumerate(env.atoms_t):
            c_nkt = par.layout.view(par.weights, f"{name}.{t}")
            out[atoms] = xp.einsum("nkt,itkm->inm", c_nkt, M[atoms], optimize=True)
        return out

    def _add(self, par: Parameters, env: Environment, gradient, name: str, y_inm, moments_itkm) -> None:
        """c̄_nkt += Σ_im y_nm M_tkm over the atoms of each type."""
        xp = namespace(gradient)
        for t, atoms in enumerate(env.atoms_t):
            target = par.layout.view(gradient, f"{name}.{t}")
            target += xp.einsum("inm,itkm->nkt", y_inm[atoms], moments_itkm[atoms], optimize=True)

    def _join(self, env: Environment, q_in1, Q_inl):
        """q (i, d) from its radial part (i, n, 1) and angular part (i, n, λ): λ first, scaled."""
        xp = namespace(Q_inl)
        Q_iln = xp.swapaxes(Q_inl, 1, 2).reshape(len(Q_inl), -1)
        return xp.concatenate([q_in1[..., 0], Q_iln], axis=1) * env.q_scaler

    def _split(self, env: Environment, q_bar_id):
        """γ = q̄ ∘ q_scaler as its radial part (i, n) and its angular part (i, n, λ): adjoint of `_join`."""
        xp = namespace(q_bar_id)
        gamma_id = q_bar_id * env.q_scaler
        n_radial, n_angular = self.form.n_max[0] + 1, self.form.n_max[1] + 1
        gamma_iln = gamma_id[:, n_radial:].reshape(len(gamma_id), -1, n_angular)
        return gamma_id[:, :n_radial], xp.swapaxes(gamma_iln, 1, 2)
