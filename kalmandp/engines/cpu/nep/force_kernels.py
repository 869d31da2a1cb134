"""Numba kernel of ∂/∂w for single force components: the rows of H that a measured force has.

Two things make them cheap. All is linear in the motion (`row_parts`), so a row is a sum over pairs; and the
pair j → a of a neighbour is the pair a → j of a itself, turned round: r̂ changes sign, f does not, b_m gets
(−1)^l. And a pair beyond the angular cut-off moves only φ, along r̂: its x, y and z rows are one row times
r̂_x, r̂_y, r̂_z.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.nep.parts import LANES, add_scaled, clear, mix
from kalmandp.engines.cpu.nep.prediction_kernels import pair_adjoints, pair_functions
from kalmandp.engines.cpu.nep.row_parts import (
    add_motion,
    add_moving_s,
    add_pair,
    flush,
)
from kalmandp.engines.cpu.threads import KERNEL, PART, take
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, zeros


@njit(**PART)
def add_radial_pair(z, w, fwd, j, t, u, p, axes, n_axes, n_pc, df_pk, phi, D, B, q_dot, G, acc):
    """What a pair beyond the angular cut-off adds for its centre j, of type t: a row along r̂, times r̂_c."""
    T = z.T
    scaled, a0, pi = q_dot + z.dimp, q_dot + 2 * z.dimp, q_dot + 2 * z.dimp + z.neup
    q0, h0 = j * z.dimp, j * z.neup
    none = zeros(B)
    mix(B, q_dot, z.nRp, df_pk, p * z.kR, 1, z.kR, w.cRt, (t * T + u) * z.kR * z.nRp, z.nRp, False)
    for v in range(0, z.nRp, LANES):
        store(B, scaled + v, multiply_add(load(B, q_dot + v), load(w.scaler, v), none))
    mix(B, a0, z.neup, B, q_dot, 1, z.nRp, w.Wt, t * z.dimp * z.neup, z.neup, False)
    for v in range(0, z.neup, LANES):
        z_dot = load(B, a0 + v)
        a = multiply_add(load(fwd.a2, h0 + v), z_dot, none)
        e = multiply_add(load(fwd.d1, h0 + v), z_dot, none)
        store(B, a0 + v, a)
        for x in range(n_axes):
            g0, n = acc + (x * T + t) * z.G, splat(G, n_pc[p, axes[x]])
            store(G, g0 + z.gb + v, multiply_add(n, a, load(G, g0 + z.gb + v)))
            store(G, g0 + z.gw + v, multiply_add(n, e, load(G, g0 + z.gw + v)))
    mix(B, pi, z.dimp, B, a0, 1, z.neu, w.W, t * z.neu * z.dimp, z.dimp, False)
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
                unit = multiply_add(splat(G, B[pi + z.nRp + x * z.nAp + i]), row, unit)
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
def force_rows(counters, me, model, tasks, e, known, space, work, H):
    """Rows of single force components: task (atom, number of axes, 3 axes, 3 rows of H)."""
    z, k, places = model.z, model.k, model.places
    w, St, D, fwd = known.weights, known.St, known.D, known.sums
    first_i, first_a, types_i, j_p, n_pc, df_pk = e.first_i, e.first_a, e.types_i, e.j_p, e.n_pc, e.df_pk
    pairs_a, f_ak, df_ak, b, db, phi = e.pairs_a, e.f_ak, e.df_ak, e.b_am, e.db_acm, e.phi
    G, B = space[me], work[me]
    T, Mp = z.T, z.Mp
    acc, base = 0, 0
    sdot = base + 3 * z.nRp
    g0 = sdot + 3 * Mp * z.nAp
    h0, o = g0 + z.nAp, g0 + 2 * z.nAp
    q_dot = o + 4 * z.nAp
    turned = q_dot + 3 * z.dimp + z.neup + Mp * z.nAp  # b and ∂b/∂r of the pair turned round
    while True:
        task = take(counters, me, 0, len(tasks))
        if task >= len(tasks):
            break
        atom, n_axes, axes = tasks[task, 0], tasks[task, 1], tasks[task, 2:5]
        mine = types_i[atom]
        # at = first − 1: the atom itself, as the centre of all its pairs; then its neighbours, pair by pair
        first = first_i[atom]
        next_a = first_a[atom]
        for at in range(first - 1, first_i[atom + 1]):
            own = at < first
            angular = first_a[atom + 1] > first_a[atom]
            i = atom
            if not own:
                i = j_p[at]
                angular = next_a < first_a[atom + 1] and pairs_a[next_a] == at
                if angular:
                    next_a += 1
                if i == atom:
                    continue  # an image of the atom moves with it
            t = types_i[i]
            if not (own or angular):
                add_radial_pair(
                    z, w, fwd, i, t, mine, at, axes, n_axes, n_pc, df_pk, phi, D, B, q_dot, G, acc
                )  # fmt: skip
                for x in range(n_axes):
                    add_radial_moments(
                        z, fwd, i, t, mine, at, n_pc[at, axes[x]], df_pk, G, acc + (x * T + t) * z.G
                    )  # fmt: skip
                continue
            # q̇^R of each axis, in place of φ̇
            clear(B, base, 3 * z.nRp)
            clear(B, sdot, 3 * Mp * z.nAp)
            p0, p1 = (first, first_i[atom + 1]) if own else (at, at + 1)
            for p in range(p0, p1):
                other = j_p[p] if own else atom
                if other == i:
                    continue
                u = types_i[other]
                mix(
                    B, q_dot, z.nRp, df_pk, p * z.kR, 1, z.kR, w.cRt, (t * T + u) * z.kR * z.nRp, z.nRp, False
                )
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
                    row0 = a * Mp if c == 0 else (3 * a + c - 1) * Mp
                    for v in range(0, Mp, LANES):
                        row = load(source, row0 + v)
                        if not own:
                            row = multiply_add(row, load(k.parity_m, v), zeros(B))
                        store(B, turned + c * Mp + v, row)
                pair_functions(z, w, t, u, a, f_ak, df_ak, B, g0, h0)
                pair_adjoints(z, fwd.y, i * Mp * z.nAp, B, turned, B, turned + Mp, B, o)
                for x in range(n_axes):
                    c = axes[x]
                    vx, vy, vz = 1.0 * (c == 0), 1.0 * (c == 1), 1.0 * (c == 2)
                    along = n_pc[p, c]
                    add_moving_s(
                        z, B, g0, h0, along, vx, vy, vz, B, turned, B, turned + Mp, turned + 4 * Mp,
                        sdot + x * Mp * z.nAp,
                    )  # fmt: skip
                    add_pair(z, a, u, f_ak, df_ak, along, vx, vy, vz, B, o, G, acc + (x * T + t) * z.G)
            for x in range(n_axes):
                for v in range(0, z.nRp, LANES):
                    store(B, q_dot + v, load(B, base + x * z.nRp + v))
                add_motion(
                    z, k, w, fwd, i, t, angular, phi, St, D, B, q_dot, sdot + x * Mp * z.nAp, G,
                    acc + (x * T + t) * z.G,
                )  # fmt: skip
        for x in range(n_axes):
            for t in range(T):
                flush(z, places, G, acc + (x * T + t) * z.G, t, H, tasks[task, 5 + x])
