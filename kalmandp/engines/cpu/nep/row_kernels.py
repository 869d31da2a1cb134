"""Numba kernels of ∂/∂w: rows of H for energies, for motions of pairs, and for single force components.

A motion v enters an atom's row through ż and through the tangents of its moments::

    q̇ = c^R φ̇, ∂Q/∂s ṡ;     ż = W0 σ q̇;     a = w1 ∘ h″ ∘ ż;     π = σ W0ᵀ a
    W̄0 = a ⊗ q̂ + (w1 ∘ h′) ⊗ σ q̇          b̄ = a          w̄1 = h′ ∘ ż
    c̄^R = π_n φ + γ_n φ̇
    c̄^A = Σ_λ π_λn ∂Q_λn/∂c^A + Σ_m (u_nm S_m + y_nm Ṡ_m),        u = Σ_λ γ_λn ∂²Q_λ/∂s² ṡ

Two things make rows of forces cheap. All this is linear in the motion, so a row is a sum over pairs; and the
pair j → a of a neighbour is the pair a → j of a itself, turned round: r̂ changes sign, f does not, b_m gets (−1)^l.
A pair beyond the angular cut-off moves only φ, and along r̂: its x, y and z rows are one row times r̂_x, r̂_y, r̂_z.

Accumulators (`tables.sizes_of`) are a thread's own and are added into a row at the end of a task, so the bits do
not depend on the number of threads.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.nep.parts import (
    add_scaled,
    clear,
    dot,
    dots,
    invariants_gradient_tangent,
    invariants_tangent,
    mix,
)
from kalmandp.engines.cpu.threads import KERNEL, PART, take
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, zeros

LANES = 8


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
            H[m, at + j * z.dim + d] += G[g0 + z.gW + j * z.dimp + d]
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
                total = multiply_add(splat(G, pi[p0 + z.nR + at]), load(D, d0 + at * z.Ap + v), total)
            store(G, o + v, total)


@njit(**KERNEL)
def energy_rows(counters, me, z, places, chunks, E_bar_i, types_i, phi, fwd, D, space, H):
    """∂(Σ Ē_i E_i)/∂w: row ``chunk`` of H gets the atoms chunks[chunk, 0] … chunks[chunk, 1] − 1."""
    G = space[me]
    while True:
        task = take(counters, me, 0, len(chunks))
        if task >= len(chunks):
            break
        for i in range(chunks[task, 0], chunks[task, 1]):
            e = E_bar_i[i]
            if e == 0.0:
                continue
            t = types_i[i]
            g0, q0, h0 = t * z.G, i * z.dimp, i * z.neup
            for n in range(z.nR):
                add_scaled(G, g0 + n * z.Rp, e * fwd.gamma[q0 + n], phi, i * z.Rp, z.Rp)
            for n in range(z.nA):
                for x in range(z.nl):
                    at = x * z.nA + n
                    f, d0 = e * fwd.gamma[q0 + z.nR + at], (i * z.nl * z.nA + at) * z.Ap
                    add_scaled(G, g0 + z.gA + n * z.Ap, f, D, d0, z.Ap)
            for j in range(z.neu):
                add_scaled(G, g0 + z.gW + j * z.dimp, e * fwd.a1[h0 + j], fwd.q, q0, z.dimp)
            add_scaled(G, g0 + z.gb, e, fwd.a1, h0, z.neup)
            add_scaled(G, g0 + z.gw, e, fwd.h, h0, z.neup)
            H[task, places.bias_t[t]] += e
        for t in range(z.T):
            flush(z, places, G, t * z.G, t, H, task)


@njit(**PART)
def add_motion(z, k, w, fwd, i, t, angular, phi, St, D, B, q_dot, s_dot, G, g0):
    """Add to an accumulator what a motion with q̇ (radial part) and ṡ of atom i gives, pairwise terms aside.

    ``B`` is work space: q̇ (dimp), σ q̇ (dimp), a (neup), π (dimp), u (nA, Mp) from q_dot on.
    """
    scaled, a0, pi = q_dot + z.dimp, q_dot + 2 * z.dimp, q_dot + 2 * z.dimp + z.neup
    u0 = pi + z.dimp
    q0, h0 = i * z.dimp, i * z.neup
    size = z.nR
    if angular:
        invariants_tangent(z, k, fwd.s, i * z.nA * z.Mp, B, s_dot, B, q_dot + z.nR)
        size = z.dim
    wide = LANES * ((size + LANES - 1) // LANES)
    for d in range(size, wide):
        B[q_dot + d] = 0.0
    none = zeros(B)
    for v in range(0, wide, LANES):
        store(B, scaled + v, multiply_add(load(B, q_dot + v), load(w.scaler, v), none))
    # ż = W0 σ q̇;   a = w1 h″ ż;   b̄ += a;   w̄1 += h′ ż
    for v in range(0, z.neup, LANES):
        z_dot = none
        for d in range(size):
            row = load(w.Wt, (t * z.dim + d) * z.neup + v)
            z_dot = multiply_add(splat(B, B[q_dot + d]), row, z_dot)
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
    mix(B, pi, z.dimp, B, a0, z.neu, w.W, t * z.neu * z.dimp, z.dimp)
    add_radial_rows(z, G, g0, B, pi, phi, i * z.Rp)
    add_angular_rows(z, G, g0, B, pi, D, i * z.nl * z.nA * z.Ap)
    if angular:
        invariants_gradient_tangent(
            z, k, fwd.s, i * z.nA * z.Mp, B, s_dot, fwd.gamma, q0 + z.nR, B, u0
        )  # fmt: skip
        # c̄^A_n += Σ_m u_nm S_m
        for n in range(z.nA):
            o = g0 + z.gA + n * z.Ap
            for v in range(0, z.Ap, LANES):
                total = load(G, o + v)
                for m in range(z.M):
                    row = load(St, (i * z.M + m) * z.Ap + v)
                    total = multiply_add(splat(G, B[u0 + n * z.Mp + m]), row, total)
                store(G, o + v, total)


@njit(**PART)
def pair_functions(z, w, t, u, a, f_ak, df_ak, B, g0, h0):
    """g_n and g′_n (nAp) of an angular pair with centre type t and neighbour type u."""
    c0 = (t * z.T + u) * z.kA * z.nAp
    mix(B, g0, z.nAp, f_ak, a * z.kA, z.kA, w.cAt, c0, z.nAp)
    mix(B, h0, z.nAp, df_ak, a * z.kA, z.kA, w.cAt, c0, z.nAp)


@njit(**PART)
def pair_adjoints(z, y, y0, b, b0, d, d0, step, B, o):
    """Σ_m y_nm b_m and Σ_m y_nm ∂b_m/∂r_c: four rows over n (nAp)."""
    for n in range(z.nA):
        B[o + n], B[o + z.nAp + n], B[o + 2 * z.nAp + n], B[o + 3 * z.nAp + n] = dots(
            y, y0 + n * z.Mp, b, b0, d, d0, step, z.Mp
        )


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
def add_moving_s(z, B, g0, h0, along, vx, vy, vz, b, b0, d, d0, step, s_dot):
    """ṡ_nm += g′_n (r̂·v) b_m + g_n Σ_c v_c ∂b_m/∂r_c of one pair."""
    none = zeros(B)
    for v in range(0, z.Mp, LANES):
        one = multiply_add(splat(B, along), load(b, b0 + v), none)
        two = multiply_add(splat(B, vx), load(d, d0 + v), none)
        two = multiply_add(splat(B, vy), load(d, d0 + step + v), two)
        two = multiply_add(splat(B, vz), load(d, d0 + 2 * step + v), two)
        for n in range(z.nA):
            o = s_dot + n * z.Mp + v
            total = multiply_add(splat(B, B[h0 + n]), one, load(B, o))
            store(B, o, multiply_add(splat(B, B[g0 + n]), two, total))


@njit(**KERNEL)
def motion_rows(counters, me, z, k, w, places, chunks, V, first_i, first_a, types_i, j_p, n_pc, df_pk, pairs_a,
                f_ak, df_ak, b, db, phi, fwd, St, D, space, work, H):  # fmt: skip
    """∂(Σ_p f_p·v_p)/∂w for motions V (direction, p, 3): row (chunk, direction) of H gets a chunk's atoms."""
    G, B = space[me], work[me]
    n_dir, T, kA, Mp = len(V), z.T, z.kA, z.Mp
    acc, dphi = (
        0,
        0,
    )  # φ̇ (direction, Rp), ṡ (direction, nA, Mp), g, g′ (nAp), four rows (nAp), and `add_motion`'s
    sdot = dphi + n_dir * z.Rp
    g0 = sdot + n_dir * z.nA * Mp
    h0, o = g0 + z.nAp, g0 + 2 * z.nAp
    q_dot = o + 4 * z.nAp
    while True:
        task = take(counters, me, 0, len(chunks))
        if task >= len(chunks):
            break
        for i in range(chunks[task, 0], chunks[task, 1]):
            t, moves = types_i[i], False
            clear(B, dphi, n_dir * z.Rp)
            for p in range(first_i[i], first_i[i + 1]):
                u = types_i[j_p[p]]
                for d in range(n_dir):
                    along = n_pc[p, 0] * V[d, p, 0] + n_pc[p, 1] * V[d, p, 1] + n_pc[p, 2] * V[d, p, 2]
                    moves = moves or V[d, p, 0] != 0.0 or V[d, p, 1] != 0.0 or V[d, p, 2] != 0.0
                    if along != 0.0:
                        for h in range(z.kR):
                            B[dphi + d * z.Rp + h * T + u] += along * df_pk[p * z.kR + h]
            if not moves:
                continue
            angular = first_a[i + 1] > first_a[i]
            if angular:
                clear(B, sdot, n_dir * z.nA * Mp)
            for a in range(first_a[i], first_a[i + 1]):
                p = pairs_a[a]
                u = types_i[j_p[p]]
                pair_functions(z, w, t, u, a, f_ak, df_ak, B, g0, h0)
                pair_adjoints(z, fwd.y, i * z.nA * Mp, b, a * Mp, db, 3 * a * Mp, Mp, B, o)
                for d in range(n_dir):
                    vx, vy, vz = V[d, p, 0], V[d, p, 1], V[d, p, 2]
                    along = n_pc[p, 0] * vx + n_pc[p, 1] * vy + n_pc[p, 2] * vz
                    add_moving_s(
                        z, B, g0, h0, along, vx, vy, vz, b, a * Mp, db, 3 * a * Mp, Mp, sdot + d * z.nA * Mp
                    )  # fmt: skip
                    add_pair(z, a, u, f_ak, df_ak, along, vx, vy, vz, B, o, G, acc + (d * T + t) * z.G)
            for d in range(n_dir):
                at = acc + (d * T + t) * z.G
                for n in range(z.nR):
                    B[q_dot + n] = dot(w.cR, (t * z.nR + n) * z.Rp, B, dphi + d * z.Rp, z.Rp)
                    add_scaled(G, at + n * z.Rp, fwd.gamma[i * z.dimp + n], B, dphi + d * z.Rp, z.Rp)
                add_motion(
                    z, k, w, fwd, i, t, angular, phi, St, D, B, q_dot, sdot + d * z.nA * Mp, G, at
                )  # fmt: skip
        for d in range(n_dir):
            for t in range(T):
                flush(z, places, G, acc + (d * T + t) * z.G, t, H, task * n_dir + d)


@njit(**PART)
def add_radial_pair(z, w, fwd, j, t, u, p, axes, n_axes, n_pc, df_pk, phi, D, B, q_dot, G, acc):
    """What a pair beyond the angular cut-off adds for its centre j (type t): along r̂, then times r̂_x, r̂_y, r̂_z."""
    T = z.T
    scaled, a0, pi = q_dot + z.dimp, q_dot + 2 * z.dimp, q_dot + 2 * z.dimp + z.neup
    q0, h0 = j * z.dimp, j * z.neup
    none = zeros(B)
    mix(B, q_dot, z.nRp, df_pk, p * z.kR, z.kR, w.cRt, (t * T + u) * z.kR * z.nRp, z.nRp)
    for v in range(0, z.nRp, LANES):
        store(B, scaled + v, multiply_add(load(B, q_dot + v), load(w.scaler, v), none))
    for v in range(0, z.neup, LANES):
        z_dot = none
        for d in range(z.nR):
            row = load(w.Wt, (t * z.dim + d) * z.neup + v)
            z_dot = multiply_add(splat(B, B[q_dot + d]), row, z_dot)
        a = multiply_add(load(fwd.a2, h0 + v), z_dot, none)
        e = multiply_add(load(fwd.d1, h0 + v), z_dot, none)
        store(B, a0 + v, a)
        for x in range(n_axes):
            g0, n = acc + (x * T + t) * z.G, splat(G, n_pc[p, axes[x]])
            store(G, g0 + z.gb + v, multiply_add(n, a, load(G, g0 + z.gb + v)))
            store(G, g0 + z.gw + v, multiply_add(n, e, load(G, g0 + z.gw + v)))
    mix(B, pi, z.dimp, B, a0, z.neu, w.W, t * z.neu * z.dimp, z.dimp)
    n0 = splat(G, n_pc[p, axes[0]])
    n1 = splat(G, n_pc[p, axes[1]]) if n_axes > 1 else none
    n2 = splat(G, n_pc[p, axes[2]]) if n_axes > 2 else none
    x0, step = acc + t * z.G, T * z.G
    for i in range(z.neu):
        o = x0 + z.gW + i * z.dimp
        f, e = splat(G, B[a0 + i]), splat(G, fwd.a1[h0 + i])
        for v in range(0, z.dimp, LANES):
            unit = multiply_add(f, load(fwd.q, q0 + v), none)
            if v < z.nRp:
                unit = multiply_add(e, load(B, scaled + v), unit)
            store(G, o + v, multiply_add(n0, unit, load(G, o + v)))
            if n_axes > 1:
                store(G, o + step + v, multiply_add(n1, unit, load(G, o + step + v)))
            if n_axes > 2:
                store(G, o + 2 * step + v, multiply_add(n2, unit, load(G, o + 2 * step + v)))
    for i in range(z.nR):
        f = splat(G, B[pi + i])
        for v in range(0, z.Rp, LANES):
            unit = multiply_add(f, load(phi, j * z.Rp + v), none)
            for x in range(n_axes):
                o = x0 + x * step + i * z.Rp + v
                store(G, o, multiply_add(splat(G, n_pc[p, axes[x]]), unit, load(G, o)))
    for i in range(z.nA):
        for v in range(0, z.Ap, LANES):
            unit = none
            for x in range(z.nl):
                at = x * z.nA + i
                row = load(D, (j * z.nl * z.nA + at) * z.Ap + v)
                unit = multiply_add(splat(G, B[pi + z.nR + at]), row, unit)
            for x in range(n_axes):
                o = x0 + x * step + z.gA + i * z.Ap + v
                store(G, o, multiply_add(splat(G, n_pc[p, axes[x]]), unit, load(G, o)))


@njit(**PART)
def add_radial_moments(z, fwd, j, t, u, p, f, df_pk, G, g0):
    """c̄^R += γ_n φ̇ of one pair: γ_n f′_k (r̂·v), over n at once; f = r̂·v."""
    at = g0 + z.gRt + u * z.kR * z.nRp
    for v in range(0, z.nRp, LANES):
        gamma = load(fwd.gamma, j * z.dimp + v)
        for h in range(z.kR):
            row = at + h * z.nRp + v
            store(G, row, multiply_add(splat(G, f * df_pk[p * z.kR + h]), gamma, load(G, row)))


@njit(**KERNEL)
def force_rows(counters, me, z, k, w, places, tasks, first_i, first_a, types_i, j_p, n_pc, df_pk, pairs_a, f_ak,
               df_ak, b, db, phi, fwd, St, D, space, work, H):  # fmt: skip
    """Rows of single force components: task (atom, number of axes, 3 axes, 3 rows of H)."""
    G, B = space[me], work[me]
    T, kA, Mp = z.T, z.kA, z.Mp
    acc, base = 0, 0
    sdot = base + 3 * z.nRp
    g0 = sdot + 3 * z.nA * Mp
    h0, o = g0 + z.nAp, g0 + 2 * z.nAp
    q_dot = o + 4 * z.nAp
    turned = q_dot + 3 * z.dimp + z.neup + z.nA * Mp  # b and ∂b/∂r of the pair turned round
    while True:
        task = take(counters, me, 0, len(tasks))
        if task >= len(tasks):
            break
        atom, n_axes, axes = tasks[task, 0], tasks[task, 1], tasks[task, 2:5]
        mine = types_i[atom]
        # e = first pair − 1: the atom itself, as the centre of all its pairs
        first = first_i[atom]
        next_a = first_a[atom]
        for e in range(first - 1, first_i[atom + 1]):
            own = e < first
            angular = first_a[atom + 1] > first_a[atom]
            i = atom
            if not own:
                i = j_p[e]
                angular = next_a < first_a[atom + 1] and pairs_a[next_a] == e
                if angular:
                    next_a += 1
                if i == atom:
                    continue  # an image of the atom moves with it
            t = types_i[i]
            if not (own or angular):
                add_radial_pair(
                    z, w, fwd, i, t, mine, e, axes, n_axes, n_pc, df_pk, phi, D, B, q_dot, G, acc
                )  # fmt: skip
                for x in range(n_axes):
                    add_radial_moments(
                        z, fwd, i, t, mine, e, n_pc[e, axes[x]], df_pk, G, acc + (x * T + t) * z.G
                    )  # fmt: skip
                continue
            # q̇^R of each axis, in place of φ̇
            clear(B, base, 3 * z.nRp)
            clear(B, sdot, 3 * z.nA * Mp)
            p0, p1 = (first, first_i[atom + 1]) if own else (e, e + 1)
            for p in range(p0, p1):
                other = j_p[p] if own else atom
                if other == i:
                    continue
                u = types_i[other]
                mix(B, q_dot, z.nRp, df_pk, p * z.kR, z.kR, w.cRt, (t * T + u) * z.kR * z.nRp, z.nRp)
                for x in range(n_axes):
                    add_scaled(B, base + x * z.nRp, n_pc[p, axes[x]], B, q_dot, z.nRp)
                    add_radial_moments(
                        z, fwd, i, t, u, p, n_pc[p, axes[x]], df_pk, G, acc + (x * T + t) * z.G
                    )  # fmt: skip
            a0, a1 = (first_a[atom], first_a[atom + 1]) if own else (next_a - 1, next_a)
            for a in range(a0, a1):
                p = pairs_a[a]
                other = j_p[p] if own else atom
                if other == i:
                    continue
                u = types_i[other]
                for c in range(4):
                    source = b if c == 0 else db
                    at = a * Mp if c == 0 else (3 * a + c - 1) * Mp
                    for v in range(0, Mp, LANES):
                        row = load(source, at + v)
                        if not own:
                            row = multiply_add(row, load(k.parity_m, v), zeros(B))
                        store(B, turned + c * Mp + v, row)
                pair_functions(z, w, t, u, a, f_ak, df_ak, B, g0, h0)
                pair_adjoints(z, fwd.y, i * z.nA * Mp, B, turned, B, turned + Mp, Mp, B, o)
                for x in range(n_axes):
                    c = axes[x]
                    vx, vy, vz = 1.0 * (c == 0), 1.0 * (c == 1), 1.0 * (c == 2)
                    along = n_pc[p, c]
                    add_moving_s(
                        z, B, g0, h0, along, vx, vy, vz, B, turned, B, turned + Mp, Mp, sdot + x * z.nA * Mp
                    )  # fmt: skip
                    add_pair(z, a, u, f_ak, df_ak, along, vx, vy, vz, B, o, G, acc + (x * T + t) * z.G)
            for x in range(n_axes):
                for n in range(z.nR):
                    B[q_dot + n] = B[base + x * z.nRp + n]
                add_motion(
                    z, k, w, fwd, i, t, angular, phi, St, D, B, q_dot, sdot + x * z.nA * Mp, G,
                    acc + (x * T + t) * z.G,
                )  # fmt: skip
        for x in range(n_axes):
            for t in range(T):
                flush(z, places, G, acc + (x * T + t) * z.G, t, H, tasks[task, 5 + x])
