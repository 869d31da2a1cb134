"""Numba kernels of `cpu_potential`: loops over the pairs of each atom, and over atoms.

Threads run over atoms or over a fixed number of chunks of them; each sum is taken in an order that the
input alone decides. Letters as in `arrays`; ``first_i`` is where the pairs of atom i begin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

_fast: dict[str, Any] = {
    "cache": True,
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    "error_model": "numpy",
}


@njit(parallel=True, **_fast)
def pair_environment(
    types_i, i_p, r_pc, rcut_smth, rcut, switch, davg, dstd, c_na, step,
    Rt_pk, dRt_pkc, node_p, ell_pn, dell_pn,
):  # fmt: skip
    """R̃, ∂R̃/∂r and the place in the table: the equations of `environment.raw_environment`."""
    order = c_na.shape[0]
    A, B, C = switch[0], switch[1], switch[2]
    for p in prange(len(i_p)):
        t = types_i[i_p[p]]
        r = np.sqrt(r_pc[p, 0] ** 2 + r_pc[p, 1] ** 2 + r_pc[p, 2] ** 2)
        u = (r - rcut_smth) / (rcut - rcut_smth)
        w, dw = 1.0, 0.0
        if u >= 1.0:
            w = 0.0
        elif u > 0.0:
            w = u * u * u * (A * u * u + B * u + C) + 1.0
            dw = u * u * (5 * A * u * u + 4 * B * u + 3 * C) / (rcut - rcut_smth)
        s = w / r
        ds = (dw - s) / r
        Rt_pk[p, 0] = (s - davg[t, 0]) / dstd[t, 0]
        for d in range(3):
            n_d = r_pc[p, d] / r
            Rt_pk[p, 1 + d] = (s * n_d - davg[t, 1 + d]) / dstd[t, 1 + d]
            dRt_pkc[p, 0, d] = ds * n_d / dstd[t, 0]
            for c in range(3):
                n_c = r_pc[p, c] / r
                change = (ds - s / r) * n_d * n_c
                if c == d:
                    change += s / r
                dRt_pkc[p, 1 + d, c] = change / dstd[t, 1 + d]
        g = Rt_pk[p, 0] / step
        node = int(np.floor(g)) - (order // 2 - 1)
        x = g - node - 0.5 * (order - 1)
        node_p[p] = node
        for n in range(order):
            value, slope = c_na[n, order - 1], 0.0
            for a in range(order - 2, -1, -1):
                slope = slope * x + value
                value = value * x + c_na[n, a]
            ell_pn[p, n] = value
            dell_pn[p, n] = slope / step


@njit(parallel=True, cache=True)
def match_back(first_i, i_p, j_p, r_pc, back_p):
    """The pair j → i whose vector is −r_p; images of an atom differ by a lattice vector."""
    for p in prange(len(i_p)):
        i, j = i_p[p], j_p[p]
        best, best_q = np.inf, -1
        for q in range(first_i[j], first_i[j + 1]):
            if j_p[q] == i:
                apart = 0.0
                for c in range(3):
                    apart += (r_pc[q, c] + r_pc[p, c]) ** 2
                if apart < best:
                    best, best_q = apart, q
        back_p[p] = best_q


@njit(**_fast)
def _interpolate(G_nm, node, weights, out):
    """out_m = Σ_n weights_n G_nm[node + n]: the polynomial through ORDER nodes."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    w4, w5, w6, w7 = weights[4], weights[5], weights[6], weights[7]
    a0, a1, a2, a3 = G_nm[node], G_nm[node + 1], G_nm[node + 2], G_nm[node + 3]
    a4, a5, a6, a7 = G_nm[node + 4], G_nm[node + 5], G_nm[node + 6], G_nm[node + 7]
    for m in range(out.shape[0]):
        low = (w0 * a0[m] + w1 * a1[m]) + (w2 * a2[m] + w3 * a3[m])
        out[m] = low + ((w4 * a4[m] + w5 * a5[m]) + (w6 * a6[m] + w7 * a7[m]))


@njit(parallel=True, **_fast)
def moments(
    first_i, net_p, node_p, ell_pn, Rt_pk, G_enm, count_iv, G_vm, Rt_vk, scale, T_ikm
):
    """T = (1/Σsel) [Σ_p R̃_p ⊗ G_p + Σ_v n_iv R̃_v ⊗ G_v], stored as (i, 4, M)."""
    M = T_ikm.shape[2]
    for i in prange(T_ikm.shape[0]):
        G = np.empty(M)
        T = np.zeros((4, M))
        for p in range(first_i[i], first_i[i + 1]):
            _interpolate(G_enm[net_p[p]], node_p[p], ell_pn[p], G)
            R0, R1, R2, R3 = Rt_pk[p, 0], Rt_pk[p, 1], Rt_pk[p, 2], Rt_pk[p, 3]
            for m in range(M):
                T[0, m] += R0 * G[m]
                T[1, m] += R1 * G[m]
                T[2, m] += R2 * G[m]
                T[3, m] += R3 * G[m]
        for v in range(count_iv.shape[1]):
            if count_iv[i, v] != 0.0:
                for k in range(4):
                    R = count_iv[i, v] * Rt_vk[v, k]
                    for m in range(M):
                        T[k, m] += R * G_vm[v, m]
        for k in range(4):
            for m in range(M):
                T_ikm[i, k, m] = scale * T[k, m]


@njit(parallel=True, **_fast)
def contract(X_ikm, T_ikm, atoms, axis, scale, D):
    """D_ms = scale Σ_k (X_km T_ks + T_km X_ks): D for X = T and scale ½, Ḋ for X = Ṫ and scale 1."""
    M = T_ikm.shape[2]
    for row in prange(len(atoms)):
        X, T = X_ikm[atoms[row]], T_ikm[atoms[row]]
        for m in range(M):
            out = D[row, m * axis : (m + 1) * axis]
            x0, x1, x2, x3 = scale * X[0, m], scale * X[1, m], scale * X[2, m], scale * X[3, m]
            t0, t1, t2, t3 = scale * T[0, m], scale * T[1, m], scale * T[2, m], scale * T[3, m]
            for s in range(axis):
                first = (x0 * T[0, s] + x1 * T[1, s]) + (x2 * T[2, s] + x3 * T[3, s])
                out[s] = first + ((t0 * X[0, s] + t1 * X[1, s]) + (t2 * X[2, s] + t3 * X[3, s]))


@njit(parallel=True, **_fast)
def contract_adjoint(T_ikm, atoms, axis, D_bar, T_bar_ikm):
    """T̄_km += Σ_s D̄_ms T_ks, and for m < M‹ also Σ_m' D̄_m'm T_km'."""
    M = T_ikm.shape[2]
    for row in prange(len(atoms)):
        T, T_bar = T_ikm[atoms[row]], T_bar_ikm[atoms[row]]
        for m in range(M):
            B = D_bar[row, m * axis : (m + 1) * axis]
            for k in range(4):
                total = 0.0
                t = T[k, m]
                for s in range(axis):
                    total += B[s] * T[k, s]
                    T_bar[k, s] += B[s] * t
                T_bar[k, m] += total


@njit(parallel=True, **_fast)
def pair_gradient(
    first_i, net_p, node_p, ell_pn, dell_pn, Rt_pk, dRt_pkc, G_enm, T_bar_ikm, scale, f_pc
):
    """f_pc = Σ_k R̃̄_k ∂R̃_k/∂r_c with R̃̄_k = Σ_m T̄_km G_m + δ_k0 Σ_m G′_m Σ_k' T̄_k'm R̃_k'."""
    M = T_bar_ikm.shape[2]
    for i in prange(T_bar_ikm.shape[0]):
        G, dG = np.empty(M), np.empty(M)
        T_bar = T_bar_ikm[i]
        for p in range(first_i[i], first_i[i + 1]):
            _interpolate(G_enm[net_p[p]], node_p[p], ell_pn[p], G)
            _interpolate(G_enm[net_p[p]], node_p[p], dell_pn[p], dG)
            R0, R1, R2, R3 = Rt_pk[p, 0], Rt_pk[p, 1], Rt_pk[p, 2], Rt_pk[p, 3]
            b0 = b1 = b2 = b3 = 0.0
            for m in range(M):
                t0, t1, t2, t3 = T_bar[0, m], T_bar[1, m], T_bar[2, m], T_bar[3, m]
                along = (t0 * R0 + t1 * R1) + (t2 * R2 + t3 * R3)
                b0 += t0 * G[m] + along * dG[m]
                b1 += t1 * G[m]
                b2 += t2 * G[m]
                b3 += t3 * G[m]
            for c in range(3):
                f_pc[p, c] = scale * (
                    (b0 * dRt_pkc[p, 0, c] + b1 * dRt_pkc[p, 1, c])
                    + (b2 * dRt_pkc[p, 2, c] + b3 * dRt_pkc[p, 3, c])
                )


@njit(parallel=True, cache=True)
def forces(first_i, back_p, f_pc, F_ic):
    """F_i = Σ_p (f_p − f_back(p)) over the pairs of centre i."""
    for i in prange(F_ic.shape[0]):
        for c in range(3):
            total = 0.0
            for p in range(first_i[i], first_i[i + 1]):
                total += f_pc[p, c] - f_pc[back_p[p], c]
            F_ic[i, c] = total


@njit(parallel=True, cache=True)
def virial(first_i, r_pc, f_pc, W_icc):
    """Share of atom i in W_dc = −Σ_p f_pd r_pc."""
    for i in prange(W_icc.shape[0]):
        W_icc[i] = 0.0
        for p in range(first_i[i], first_i[i + 1]):
            for d in range(3):
                for c in range(3):
                    W_icc[i, d, c] -= f_pc[p, d] * r_pc[p, c]


@njit(parallel=True, **_fast)
def moments_tangent(
    first_i, net_p, node_p, ell_pn, dell_pn, Rt_pk, dRt_pkc, v_pc, G_enm, scale,
    Rt_dot_pk, T_dot_ikm, moved_i,
):  # fmt: skip
    """Ṫ = (1/Σsel) Σ_p (Ṙ̃ ⊗ G + R̃ ⊗ Ġ), Ṙ̃ = ∂R̃/∂r·v, Ġ = G′ Ṙ̃_0; pairs with v = 0 add nothing."""
    M = T_dot_ikm.shape[2]
    for i in prange(T_dot_ikm.shape[0]):
        G, dG = np.empty(M), np.empty(M)
        T = np.zeros((4, M))
        for p in range(first_i[i], first_i[i + 1]):
            v0, v1, v2 = v_pc[p, 0], v_pc[p, 1], v_pc[p, 2]
            if v0 == 0.0 and v1 == 0.0 and v2 == 0.0:
                for k in range(4):
                    Rt_dot_pk[p, k] = 0.0
                continue
            moved_i[i] = True
            for k in range(4):
                Rt_dot_pk[p, k] = (
                    dRt_pkc[p, k, 0] * v0 + dRt_pkc[p, k, 1] * v1 + dRt_pkc[p, k, 2] * v2
                )
            _interpolate(G_enm[net_p[p]], node_p[p], ell_pn[p], G)
            _interpolate(G_enm[net_p[p]], node_p[p], dell_pn[p], dG)
            R0, R1, R2, R3 = Rt_pk[p, 0], Rt_pk[p, 1], Rt_pk[p, 2], Rt_pk[p, 3]
            S0, S1, S2, S3 = Rt_dot_pk[p, 0], Rt_dot_pk[p, 1], Rt_dot_pk[p, 2], Rt_dot_pk[p, 3]
            for m in range(M):
                G_dot = S0 * dG[m]
                T[0, m] += S0 * G[m] + R0 * G_dot
                T[1, m] += S1 * G[m] + R1 * G_dot
                T[2, m] += S2 * G[m] + R2 * G_dot
                T[3, m] += S3 * G[m] + R3 * G_dot
        for k in range(4):
            for m in range(M):
                T_dot_ikm[i, k, m] = scale * T[k, m]


@njit(parallel=True, **_fast)
def node_adjoint(
    first_i, net_p, node_p, ell_pn, dell_pn, Rt_pk, Rt_dot_pk, T_bar_ikm, T_dot_bar_ikm,
    count_iv, Rt_vk, scale, collected, virtual,
):  # fmt: skip
    """Adjoints of node values: Σ_p ℓ_n Ḡ_p + ℓ′_n ġ_p Ġ̄_p, Ḡ = T̄R̃ + Ṫ̄Ṙ̃, Ġ̄ = Ṫ̄R̃."""
    n_atoms, M = T_bar_ikm.shape[0], T_bar_ikm.shape[2]
    chunks = collected.shape[0]
    with_tangent = T_dot_bar_ikm.shape[0] > 0
    for chunk in prange(chunks):
        G_bar, dG_bar = np.empty(M), np.empty(M)
        for i in range(n_atoms * chunk // chunks, n_atoms * (chunk + 1) // chunks):
            T_bar = T_bar_ikm[i]
            silent = True
            for k in range(4):
                for m in range(M):
                    silent = silent and T_bar[k, m] == 0.0
            if silent and not with_tangent:
                continue
            for p in range(first_i[i], first_i[i + 1]):
                R0, R1, R2, R3 = Rt_pk[p, 0], Rt_pk[p, 1], Rt_pk[p, 2], Rt_pk[p, 3]
                for m in range(M):
                    G_bar[m] = (T_bar[0, m] * R0 + T_bar[1, m] * R1) + (
                        T_bar[2, m] * R2 + T_bar[3, m] * R3
                    )
                target = collected[chunk, net_p[p], node_p[p] : node_p[p] + ell_pn.shape[1]]
                S0 = S1 = S2 = S3 = 0.0
                if with_tangent:
                    S0, S1 = Rt_dot_pk[p, 0], Rt_dot_pk[p, 1]
                    S2, S3 = Rt_dot_pk[p, 2], Rt_dot_pk[p, 3]
                if S0 == 0.0 and S1 == 0.0 and S2 == 0.0 and S3 == 0.0:
                    for n in range(ell_pn.shape[1]):
                        ell = scale * ell_pn[p, n]
                        for m in range(M):
                            target[n, m] += ell * G_bar[m]
                    continue
                T_dot = T_dot_bar_ikm[i]
                for m in range(M):
                    t0, t1, t2, t3 = T_dot[0, m], T_dot[1, m], T_dot[2, m], T_dot[3, m]
                    G_bar[m] += (t0 * S0 + t1 * S1) + (t2 * S2 + t3 * S3)
                    dG_bar[m] = S0 * ((t0 * R0 + t1 * R1) + (t2 * R2 + t3 * R3))
                for n in range(ell_pn.shape[1]):
                    ell, dell = scale * ell_pn[p, n], scale * dell_pn[p, n]
                    for m in range(M):
                        target[n, m] += ell * G_bar[m] + dell * dG_bar[m]
            for v in range(count_iv.shape[1]):
                if count_iv[i, v] != 0.0:
                    for k in range(4):
                        R = scale * count_iv[i, v] * Rt_vk[v, k]
                        for m in range(M):
                            virtual[chunk, v, m] += R * T_bar[k, m]


@njit(parallel=True, **_fast)
def sum_chunks(parts):
    """parts[0] += parts[1] + parts[2] + … in that order."""
    for x in prange(parts.shape[1]):
        for chunk in range(1, parts.shape[0]):
            parts[0, x] += parts[chunk, x]
