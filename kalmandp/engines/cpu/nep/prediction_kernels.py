"""Numba kernels of a prediction: q, s, E_i, the adjoints γ and y, and the gradient of every pair.

γ = σ W0ᵀ (w1 ∘ h′),   y = Σ_λ γ_λn ∂Q_λ/∂s,   g_n = Σ_k c_nkt f_k,   g′_n = Σ_k c_nkt f′_k
f_p = r̂ Σ_k f′_k Σ_n γ_n c^R_nkt + r̂ Σ_nm y_nm g′_n b_m + Σ_nm y_nm g_n ∂b_m/∂r
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.activation import apply
from kalmandp.engines.cpu.nep.environment_kernels import ATOMS
from kalmandp.engines.cpu.nep.invariant_parts import invariants, invariants_gradient
from kalmandp.engines.cpu.nep.parts import LANES, add_scaled, clear, dot, mix
from kalmandp.engines.cpu.threads import KERNEL, PART, take
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, totals, zeros


@njit(**PART)
def moments(z, w, t, S, S0, s, s0):
    """s_m = Σ_kt c^A_kt S_ktm over n at once, four components at a time."""
    for v in range(0, z.nAp, LANES):
        for m in range(0, z.Mp, 4):
            a = b = c = d = zeros(s)
            for u in range(z.T):
                for h in range(z.kA):
                    f, o = load(w.cAt, ((t * z.T + u) * z.kA + h) * z.nAp + v), S0 + (h * z.T + u) * z.Mp + m
                    a, b = multiply_add(splat(s, S[o]), f, a), multiply_add(splat(s, S[o + 1]), f, b)
                    c, d = multiply_add(splat(s, S[o + 2]), f, c), multiply_add(splat(s, S[o + 3]), f, d)
            o = s0 + m * z.nAp + v
            store(s, o, a)
            store(s, o + z.nAp, b)
            store(s, o + 2 * z.nAp, c)
            store(s, o + 3 * z.nAp, d)


@njit(**PART)
def pair_functions(z, w, t, u, a, f_ak, df_ak, B, g0, h0):
    """g_n and g′_n (nAp) of an angular pair with centre type t and neighbour type u."""
    c0 = (t * z.T + u) * z.kA * z.nAp
    mix(B, g0, z.nAp, f_ak, a * z.kA, 1, z.kA, w.cAt, c0, z.nAp, False)
    mix(B, h0, z.nAp, df_ak, a * z.kA, 1, z.kA, w.cAt, c0, z.nAp, False)


@njit(**PART)
def pair_adjoints(z, y, y0, b, b0, d, d0, B, o):
    """Σ_m y_nm b_m and Σ_m y_nm ∂b_m/∂r_c: four rows over n (nAp)."""
    for v in range(0, z.nAp, LANES):
        t = x = e = f = zeros(y)
        for m in range(z.M):
            row = load(y, y0 + m * z.nAp + v)
            t, x = multiply_add(splat(y, b[b0 + m]), row, t), multiply_add(splat(y, d[d0 + m]), row, x)
            e = multiply_add(splat(y, d[d0 + z.Mp + m]), row, e)
            f = multiply_add(splat(y, d[d0 + 2 * z.Mp + m]), row, f)
        store(B, o + v, t)
        store(B, o + z.nAp + v, x)
        store(B, o + 2 * z.nAp + v, e)
        store(B, o + 3 * z.nAp + v, f)


@njit(**KERNEL)
def energies(counters, me, z, k, w, bias_t, e, fwd, E_i):
    """E_i, and all that the other kernels need of the weights, atom by atom (`engine.Sums`)."""
    types_i, phi, S = e.types_i, e.phi, e.S
    n = len(types_i)
    tasks = (n + ATOMS - 1) // ATOMS
    while True:
        task = take(counters, me, 0, tasks)
        if task >= tasks:
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            t = types_i[i]
            q0, s0, h0 = i * z.dimp, i * z.Mp * z.nAp, i * z.neup
            # q_n = Σ_kt c^R φ;   s = Σ_kt c^A S;   Q(s)
            clear(fwd.q, q0, z.nRp)
            for m in range(z.nR):
                fwd.q[q0 + m] = dot(w.cR, (t * z.nR + m) * z.Rp, phi, i * z.Rp, z.Rp)
            moments(z, w, t, S, i * z.kA * z.T * z.Mp, fwd.s, s0)
            invariants(z, k, fwd.s, s0, fwd.q, q0 + z.nRp)
            # h = tanh(W0 q̂ + b);  E_i = w1 h + b_t
            for v in range(0, z.neup, LANES):
                store(fwd.h, h0 + v, load(w.b, t * z.neup + v))
            mix(fwd.h, h0, z.neup, fwd.q, q0, 1, z.dimp, w.Wt, t * z.dimp * z.neup, z.neup, True)
            h, d1, d2 = fwd.h[h0 : h0 + z.neup], fwd.d1[h0 : h0 + z.neup], fwd.a2[h0 : h0 + z.neup]
            apply(0, 0.0, False, h, h, d1, d2)
            E_i[i] = dot(w.w1, t * z.neup, fwd.h, h0, z.neup) + w.bias[t] + bias_t[t]
            # w1 h′ and w1 h″;  γ = σ W0ᵀ (w1 h′);  y;  q̂ = σ q
            none = zeros(w.b)
            for v in range(0, z.neup, LANES):
                w1 = load(w.w1, t * z.neup + v)
                store(fwd.a1, h0 + v, multiply_add(w1, load(fwd.d1, h0 + v), none))
                store(fwd.a2, h0 + v, multiply_add(w1, load(fwd.a2, h0 + v), none))
            mix(fwd.gamma, q0, z.dimp, fwd.a1, h0, 1, z.neu, w.W, t * z.neu * z.dimp, z.dimp, False)
            invariants_gradient(z, k, fwd.s, s0, fwd.gamma, q0 + z.nRp, fwd.y, s0)
            for v in range(0, z.dimp, LANES):
                store(fwd.q, q0 + v, multiply_add(load(fwd.q, q0 + v), load(w.scaler, v), none))


@njit(**KERNEL)
def pair_gradient(counters, me, z, w, e, fwd, space, f_pc):
    """f_p of every pair; ``space`` (threads, …) is work space of an atom."""
    first_i, first_a, types_i, j_p, n_pc, df_pk = e.first_i, e.first_a, e.types_i, e.j_p, e.n_pc, e.df_pk
    pairs_a, f_ak, df_ak, b, db = e.pairs_a, e.f_ak, e.df_ak, e.b_am, e.db_acm
    n, T, kR, Mp = len(types_i), z.T, z.kR, z.Mp
    tasks = (n + ATOMS - 1) // ATOMS
    flat = space[me]  # Σ_n γ_n c^R_nkt; g, g′, and four rows of `pair_adjoints`
    g0, h0, o = z.Rp, z.Rp + z.nAp, z.Rp + 2 * z.nAp
    none = zeros(flat)
    while True:
        task = take(counters, me, 0, tasks)
        if task >= tasks:
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            t = types_i[i]
            # Σ_n γ_n c^R_nkt for all kt
            mix(flat, 0, z.Rp, fwd.gamma, i * z.dimp, 1, z.nR, w.cR, t * z.nR * z.Rp, z.Rp, False)
            for p in range(first_i[i], first_i[i + 1]):
                u, along = types_i[j_p[p]], 0.0
                for h in range(kR):
                    along += df_pk[p * kR + h] * flat[h * T + u]
                f_pc[p, 0], f_pc[p, 1], f_pc[p, 2] = (
                    along * n_pc[p, 0],
                    along * n_pc[p, 1],
                    along * n_pc[p, 2],
                )
            for a in range(first_a[i], first_a[i + 1]):
                p = pairs_a[a]
                pair_functions(z, w, t, types_i[j_p[p]], a, f_ak, df_ak, flat, g0, h0)
                pair_adjoints(z, fwd.y, i * Mp * z.nAp, b, a * Mp, db, 3 * a * Mp, flat, o)
                ab = ax = ay = az = none
                for v in range(0, z.nAp, LANES):
                    g, slope = load(flat, g0 + v), load(flat, h0 + v)
                    ab = multiply_add(slope, load(flat, o + v), ab)
                    ax = multiply_add(g, load(flat, o + z.nAp + v), ax)
                    ay = multiply_add(g, load(flat, o + 2 * z.nAp + v), ay)
                    az = multiply_add(g, load(flat, o + 3 * z.nAp + v), az)
                along, fx, fy, fz = totals(ab, ax, ay, az)
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
            s0 = i * Mp * z.nAp
            for j in range(z.nA):
                for l in range(1, z.L + 1):
                    at = ((i * z.nl + l - 1) * z.nA + j) * Ap
                    clear(D, at, Ap)
                    for m in range(l * l - 1, (l + 1) * (l + 1) - 1):
                        f = 2.0 * k.square_m[m] * fwd.s[s0 + m * z.nAp + j]
                        add_scaled(D, at, f, St, o + m * Ap, Ap)
                if k.five >= 0:
                    q = 0.0
                    for m in range(3):
                        q += k.square_m[m] * fwd.s[s0 + m * z.nAp + j] ** 2
                    at = ((i * z.nl + k.five) * z.nA + j) * Ap
                    clear(D, at, Ap)
                    add_scaled(D, at, 2.0 * k.five_body * q, D, (i * z.nl * z.nA + j) * Ap, Ap)
                for number in range(len(k.lambda_x)):
                    at = ((i * z.nl + k.lambda_x[number]) * z.nA + j) * Ap
                    clear(D, at, Ap)
                    for x in range(k.first_x[number], k.first_x[number + 1]):
                        m0, m1, m2 = k.cubic_zx[x, 0], k.cubic_zx[x, 1], k.cubic_zx[x, 2]
                        a, b = fwd.s[s0 + m0 * z.nAp + j], fwd.s[s0 + m1 * z.nAp + j]
                        c = fwd.s[s0 + m2 * z.nAp + j]
                        add_scaled(D, at, k.c_z[x] * b * c, St, o + m0 * Ap, Ap)
                        add_scaled(D, at, k.c_z[x] * a * c, St, o + m1 * Ap, Ap)
                        add_scaled(D, at, k.c_z[x] * a * b, St, o + m2 * Ap, Ap)
