"""Numba kernels of a prediction: q, s, E_i, the adjoints γ and y, and the gradient of every pair.

γ = σ W0ᵀ (w1 ∘ h′),   y = Σ_λ γ_λn ∂Q_λ/∂s,   g_n = Σ_k c_nkt f_k,   g′_n = Σ_k c_nkt f′_k
f_p = r̂ Σ_k f′_k Σ_n γ_n c^R_nkt + r̂ Σ_nm y_nm g′_n b_m + Σ_nm y_nm g_n ∂b_m/∂r
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.activation import apply
from kalmandp.engines.cpu.nep.environment_kernels import ATOMS
from kalmandp.engines.cpu.nep.parts import (
    LANES,
    add_scaled,
    clear,
    dot,
    dots,
    invariants,
    invariants_gradient,
    mix,
)
from kalmandp.engines.cpu.threads import KERNEL, take
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, zeros


@njit(**KERNEL)
def energies(counters, me, z, k, w, bias_t, e, fwd, E_i):
    """E_i, and all that the other kernels need of the weights, atom by atom (`engine.Forward`)."""
    types_i, phi, S = e.types_i, e.phi, e.S
    n = len(types_i)
    tasks = (n + ATOMS - 1) // ATOMS
    while True:
        task = take(counters, me, 0, tasks)
        if task >= tasks:
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            t = types_i[i]
            q0, s0, h0 = i * z.dimp, i * z.nA * z.Mp, i * z.neup
            for d in range(z.dim, z.dimp):
                fwd.q[q0 + d] = 0.0
            # q_n = Σ_kt c^R φ;   s = Σ_kt c^A S;   Q(s)
            for m in range(z.nR):
                fwd.q[q0 + m] = dot(w.cR, (t * z.nR + m) * z.Rp, phi, i * z.Rp, z.Rp)
            A = z.kA * z.T
            for m in range(z.nA):
                mix(fwd.s, s0 + m * z.Mp, z.Mp, w.cA, (t * z.nA + m) * z.Ap, A, S, i * A * z.Mp, z.Mp)
            invariants(z, k, fwd.s, s0, fwd.q, q0 + z.nR)
            # h = tanh(W0 q̂ + b);  E_i = w1 h + b_t
            for v in range(0, z.neup, LANES):
                total = load(w.b, t * z.neup + v)
                for d in range(z.dim):
                    row = load(w.Wt, (t * z.dim + d) * z.neup + v)
                    total = multiply_add(splat(w.b, fwd.q[q0 + d]), row, total)
                store(fwd.h, h0 + v, total)
            h, d1, d2 = fwd.h[h0 : h0 + z.neup], fwd.d1[h0 : h0 + z.neup], fwd.a2[h0 : h0 + z.neup]
            apply(0, 0.0, False, h, h, d1, d2)
            E_i[i] = dot(w.w1, t * z.neup, fwd.h, h0, z.neup) + w.bias[t] + bias_t[t]
            # w1 h′ and w1 h″;  γ = σ W0ᵀ (w1 h′);  y;  q̂ = σ q
            none = zeros(w.b)
            for v in range(0, z.neup, LANES):
                w1 = load(w.w1, t * z.neup + v)
                store(fwd.a1, h0 + v, multiply_add(w1, load(fwd.d1, h0 + v), none))
                store(fwd.a2, h0 + v, multiply_add(w1, load(fwd.a2, h0 + v), none))
            mix(fwd.gamma, q0, z.dimp, fwd.a1, h0, z.neu, w.W, t * z.neu * z.dimp, z.dimp)
            invariants_gradient(z, k, fwd.s, s0, fwd.gamma, q0 + z.nR, fwd.y, s0)
            for v in range(0, z.dimp, LANES):
                store(fwd.q, q0 + v, multiply_add(load(fwd.q, q0 + v), load(w.scaler, v), none))


@njit(**KERNEL)
def pair_gradient(counters, me, z, w, e, fwd, space, f_pc):
    """f_p of every pair; ``space`` (threads, …) is work space of an atom."""
    first_i, first_a, types_i, j_p, n_pc, df_pk = e.first_i, e.first_a, e.types_i, e.j_p, e.n_pc, e.df_pk
    pairs_a, f_ak, df_ak, b, db = e.pairs_a, e.f_ak, e.df_ak, e.b_am, e.db_acm
    n, T, kR, kA, Mp = len(types_i), z.T, z.kR, z.kA, z.Mp
    tasks = (n + ATOMS - 1) // ATOMS
    G0, flat = 0, space[me]
    g0, h0, y0, dy0 = G0 + z.Rp, G0 + z.Rp + z.nAp, G0 + z.Rp + 2 * z.nAp, G0 + z.Rp + 2 * z.nAp + Mp
    while True:
        task = take(counters, me, 0, tasks)
        if task >= tasks:
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            t = types_i[i]
            # Σ_n γ_n c^R_nkt for all kt
            mix(flat, G0, z.Rp, fwd.gamma, i * z.dimp, z.nR, w.cR, t * z.nR * z.Rp, z.Rp)
            for p in range(first_i[i], first_i[i + 1]):
                u, along = types_i[j_p[p]], 0.0
                for h in range(kR):
                    along += df_pk[p * kR + h] * flat[G0 + h * T + u]
                f_pc[p, 0], f_pc[p, 1], f_pc[p, 2] = (
                    along * n_pc[p, 0],
                    along * n_pc[p, 1],
                    along * n_pc[p, 2],
                )
            for a in range(first_a[i], first_a[i + 1]):
                p = pairs_a[a]
                c0 = (t * T + types_i[j_p[p]]) * kA * z.nAp
                mix(flat, g0, z.nAp, f_ak, a * kA, kA, w.cAt, c0, z.nAp)
                mix(flat, h0, z.nAp, df_ak, a * kA, kA, w.cAt, c0, z.nAp)
                # Σ_n g_n y_nm and Σ_n g′_n y_nm
                mix(flat, y0, Mp, flat, g0, z.nA, fwd.y, i * z.nA * Mp, Mp)
                mix(flat, dy0, Mp, flat, h0, z.nA, fwd.y, i * z.nA * Mp, Mp)
                along = dot(flat, dy0, b, a * Mp, Mp)
                _, fx, fy, fz = dots(flat, y0, b, a * Mp, db, 3 * a * Mp, Mp, Mp)
                f_pc[p, 0] += along * n_pc[p, 0] + fx
                f_pc[p, 1] += along * n_pc[p, 1] + fy
                f_pc[p, 2] += along * n_pc[p, 2] + fz


@njit(**KERNEL)
def jacobians(counters, me, z, k, e, fwd, St, D):
    """∂Q_λn/∂c^A_nkt = Σ_m ∂Q_λ/∂s_nm S_ktm as D (i, λ, n, Ap), and S with m before kt as St (i, M, Ap)."""
    n, A, Mp, Ap = len(e.types_i), z.kA * z.T, z.Mp, z.Ap
    tasks = (n + ATOMS - 1) // ATOMS
    while True:
        task = take(counters, me, 0, tasks)
        if task >= tasks:
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            o = i * z.M * Ap
            for m in range(z.M):
                for h in range(A):
                    St[o + m * Ap + h] = e.S[(i * A + h) * Mp + m]
                for h in range(A, Ap):
                    St[o + m * Ap + h] = 0.0
            for j in range(z.nA):
                s0 = (i * z.nA + j) * Mp
                for l in range(1, z.L + 1):
                    at = ((i * z.nl + l - 1) * z.nA + j) * Ap
                    clear(D, at, Ap)
                    for m in range(l * l - 1, (l + 1) * (l + 1) - 1):
                        add_scaled(D, at, 2.0 * k.square_m[m] * fwd.s[s0 + m], St, o + m * Ap, Ap)
                if k.five >= 0:
                    q = 0.0
                    for m in range(3):
                        q += k.square_m[m] * fwd.s[s0 + m] * fwd.s[s0 + m]
                    at = ((i * z.nl + k.five) * z.nA + j) * Ap
                    clear(D, at, Ap)
                    add_scaled(D, at, 2.0 * k.five_body * q, D, (i * z.nl * z.nA + j) * Ap, Ap)
                for x in range(len(k.lambda_x)):
                    at = ((i * z.nl + k.lambda_x[x]) * z.nA + j) * Ap
                    clear(D, at, Ap)
                    for x3 in range(k.first_x[x], k.first_x[x + 1]):
                        m0, m1, m2 = k.cubic_zx[x3, 0], k.cubic_zx[x3, 1], k.cubic_zx[x3, 2]
                        a, b, c = fwd.s[s0 + m0], fwd.s[s0 + m1], fwd.s[s0 + m2]
                        add_scaled(D, at, k.c_z[x3] * b * c, St, o + m0 * Ap, Ap)
                        add_scaled(D, at, k.c_z[x3] * a * c, St, o + m1 * Ap, Ap)
                        add_scaled(D, at, k.c_z[x3] * a * b, St, o + m2 * Ap, Ap)
