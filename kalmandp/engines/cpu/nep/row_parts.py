"""What the kernels of ∂/∂w are made of: what a motion v of pair vectors adds to a row of H, atom by atom.

The motion enters through ż and through the tangents of the moments::

    q̇ = c^R φ̇, ∂Q/∂s ṡ;     ż = W0 σ q̇;     a = w1 ∘ h″ ∘ ż;     π = σ W0ᵀ a
    W̄0 = a ⊗ q̂ + (w1 ∘ h′) ⊗ σ q̇          b̄ = a          w̄1 = h′ ∘ ż
    c̄^R = π_n φ + γ_n φ̇
    c̄^A = Σ_λ π_λn ∂Q_λn/∂c^A + Σ_m (u_nm S_m + y_nm Ṡ_m),        u = Σ_λ γ_λn ∂²Q_λ/∂s² ṡ

Accumulators G (`tables.sizes_of`) are a thread's own and are added into a row of H at the end of a task, so
the bits do not depend on the number of threads. B is a thread's work space.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.nep.invariant_parts import invariants_gradient_tangent, invariants_tangent
from kalmandp.engines.cpu.nep.parts import LANES, add_scaled, clear, mix
from kalmandp.engines.cpu.threads import PART
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, zeros


@njit(**PART)
def flush(z, places, G, g0, t, H, m):
    """Add the accumulator of type t, which begins at g0, to row m of H, and clear it."""
    T = z.T
    at = places.radial_t[t]
    for n in range(z.nR):
        for h in range(z.kR):
            for u in range(T):
                turned = G[g0 + z.gRt + (u * z.kR + h) * z.nRp + n]
                H[m, at + (n * z.kR + h) * T + u] += G[g0 + n * z.Rp + h * T + u] + turned
    at = places.angular_t[t]
    for n in range(z.nA):
        for h in range(z.kA):
            for u in range(T):
                turned = G[g0 + z.gAt + (u * z.kA + h) * z.nAp + n]
                H[m, at + (n * z.kA + h) * T + u] += G[g0 + z.gA + n * z.Ap + h * T + u] + turned
    at = places.W_t[t]
    for j in range(z.neu):
        for d in range(z.dim):
            H[m, at + j * z.dim + d] += G[g0 + z.gW + j * z.dimp + places.place_d[d]]
    for j in range(z.neu):
        H[m, places.b_t[t] + j] += G[g0 + z.gb + j]
        H[m, places.w_t[t] + j] += G[g0 + z.gw + j]
    clear(G, g0, z.G)


@njit(**PART)
def add_radial_rows(z, G, g0, pi, p0, phi, f0):
    """c̄^R += π_n φ."""
    for n in range(z.nR):
        add_scaled(G, g0 + n * z.Rp, pi[p0 + n], phi, f0, z.Rp)


@njit(**PART)
def add_angular_rows(z, G, g0, pi, p0, D, d0):
    """c̄^A += Σ_λ π_λn ∂Q_λn/∂c^A."""
    for n in range(z.nA):
        o = g0 + z.gA + n * z.Ap
        for v in range(0, z.Ap, LANES):
            total = load(G, o + v)
            for x in range(z.nl):
                at = x * z.nA + n
                total = multiply_add(
                    splat(G, pi[p0 + z.nRp + x * z.nAp + n]), load(D, d0 + at * z.Ap + v), total
                )
            store(G, o + v, total)


@njit(**PART)
def add_motion(z, k, w, fwd, i, t, angular, phi, St, D, B, q_dot, s_dot, G, g0):
    """Add to an accumulator what a motion with q̇ (radial part) and ṡ of atom i gives, pairwise terms aside.

    ``B`` is work space: q̇ (dimp), σ q̇ (dimp), a (neup), π (dimp), u (Mp, nAp) from q_dot on.
    """
    scaled, a0, pi = q_dot + z.dimp, q_dot + 2 * z.dimp, q_dot + 2 * z.dimp + z.neup
    u0 = pi + z.dimp
    q0, h0 = i * z.dimp, i * z.neup
    s0, wide = i * z.Mp * z.nAp, z.nRp
    if angular:
        invariants_tangent(z, k, fwd.s, s0, B, s_dot, B, q_dot + z.nRp)
        wide = z.dimp
    none = zeros(B)
    for v in range(0, wide, LANES):
        store(B, scaled + v, multiply_add(load(B, q_dot + v), load(w.scaler, v), none))
    # ż = W0 σ q̇;   a = w1 h″ ż;   b̄ += a;   w̄1 += h′ ż
    mix(B, a0, z.neup, B, q_dot, 1, wide, w.Wt, t * z.dimp * z.neup, z.neup, False)
    for v in range(0, z.neup, LANES):
        z_dot = load(B, a0 + v)
        a = multiply_add(load(fwd.a2, h0 + v), z_dot, none)
        store(B, a0 + v, a)
        store(G, g0 + z.gb + v, multiply_add(a, splat(G, 1.0), load(G, g0 + z.gb + v)))
        store(G, g0 + z.gw + v, multiply_add(load(fwd.d1, h0 + v), z_dot, load(G, g0 + z.gw + v)))
    # W̄0 += a ⊗ q̂ + (w1 h′) ⊗ σ q̇
    for j in range(z.neu):
        o, f, e = g0 + z.gW + j * z.dimp, splat(G, B[a0 + j]), splat(G, fwd.a1[h0 + j])
        for v in range(0, wide, LANES):
            total = multiply_add(f, load(fwd.q, q0 + v), load(G, o + v))
            store(G, o + v, multiply_add(e, load(B, scaled + v), total))
        for v in range(wide, z.dimp, LANES):
            store(G, o + v, multiply_add(f, load(fwd.q, q0 + v), load(G, o + v)))
    # π = σ W0ᵀ a
    mix(B, pi, z.dimp, B, a0, 1, z.neu, w.W, t * z.neu * z.dimp, z.dimp, False)
    add_radial_rows(z, G, g0, B, pi, phi, i * z.Rp)
    add_angular_rows(z, G, g0, B, pi, D, i * z.nl * z.nA * z.Ap)
    if angular:
        invariants_gradient_tangent(z, k, fwd.s, s0, B, s_dot, fwd.gamma, q0 + z.nRp, B, u0)
        # c̄^A_n += Σ_m u_nm S_m
        for n in range(z.nA):
            mix(G, g0 + z.gA + n * z.Ap, z.Ap, B, u0 + n, z.nAp, z.M, St, i * z.M * z.Ap, z.Ap, True)


@njit(**PART)
def add_pair(z, a, u, f_ak, df_ak, along, vx, vy, vz, B, o, G, g0):
    """c̄^A += Σ_m y_nm Ṡ_m of one pair: f′_k (r̂·v) Σ y b + f_k Σ_c v_c Σ y ∂b/∂r_c, over n at once."""
    at = g0 + z.gAt + u * z.kA * z.nAp
    none = zeros(B)
    for v in range(0, z.nAp, LANES):
        one = multiply_add(splat(B, along), load(B, o + v), none)
        two = multiply_add(splat(B, vx), load(B, o + z.nAp + v), none)
        two = multiply_add(splat(B, vy), load(B, o + 2 * z.nAp + v), two)
        two = multiply_add(splat(B, vz), load(B, o + 3 * z.nAp + v), two)
        for h in range(z.kA):
            row = at + h * z.nAp + v
            total = multiply_add(splat(G, df_ak[a * z.kA + h]), one, load(G, row))
            store(G, row, multiply_add(splat(G, f_ak[a * z.kA + h]), two, total))


@njit(**PART)
def add_moving_s(z, B, g0, h0, along, vx, vy, vz, b, b0, d, d0, one, s_dot):
    """ṡ_nm += g′_n (r̂·v) b_m + g_n Σ_c v_c ∂b_m/∂r_c of one pair; scratch: two rows (Mp) from ``one`` on."""
    none, two = zeros(B), one + z.Mp
    for v in range(0, z.Mp, LANES):
        store(B, one + v, multiply_add(splat(B, along), load(b, b0 + v), none))
        rate = multiply_add(splat(B, vx), load(d, d0 + v), none)
        rate = multiply_add(splat(B, vy), load(d, d0 + z.Mp + v), rate)
        store(B, two + v, multiply_add(splat(B, vz), load(d, d0 + 2 * z.Mp + v), rate))
    for v in range(0, z.nAp, LANES):
        g, slope = load(B, g0 + v), load(B, h0 + v)
        for m in range(z.M):
            o = s_dot + m * z.nAp + v
            total = multiply_add(splat(B, B[one + m]), slope, load(B, o))
            store(B, o, multiply_add(splat(B, B[two + m]), g, total))
