"""Numba kernels of ∂/∂w for energies and for motions of all pairs: virials, and sums over many numbers."""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.nep.parts import add_scaled, clear, dot
from kalmandp.engines.cpu.nep.prediction_kernels import pair_adjoints, pair_functions
from kalmandp.engines.cpu.nep.row_parts import (
    add_motion,
    add_moving_s,
    add_pair,
    flush,
)
from kalmandp.engines.cpu.threads import KERNEL, take


@njit(**KERNEL)
def energy_rows(counters, me, z, places, chunks, E_bar_i, e, fwd, D, space, H):
    """∂(Σ Ē_i E_i)/∂w: row ``chunk`` of H gets the atoms chunks[chunk, 0] … chunks[chunk, 1] − 1."""
    G = space[me]
    while True:
        task = take(counters, me, 0, len(chunks))
        if task >= len(chunks):
            break
        for i in range(chunks[task, 0], chunks[task, 1]):
            E_bar = E_bar_i[i]
            if E_bar == 0.0:
                continue
            t = e.types_i[i]
            g0, q0, h0 = t * z.G, i * z.dimp, i * z.neup
            for n in range(z.nR):
                add_scaled(G, g0 + n * z.Rp, E_bar * fwd.gamma[q0 + n], e.phi, i * z.Rp, z.Rp)
            for n in range(z.nA):
                for x in range(z.nl):
                    at = x * z.nA + n
                    f, d0 = E_bar * fwd.gamma[q0 + z.nRp + x * z.nAp + n], (i * z.nl * z.nA + at) * z.Ap
                    add_scaled(G, g0 + z.gA + n * z.Ap, f, D, d0, z.Ap)
            for j in range(z.neu):
                add_scaled(G, g0 + z.gW + j * z.dimp, E_bar * fwd.a1[h0 + j], fwd.q, q0, z.dimp)
            add_scaled(G, g0 + z.gb, E_bar, fwd.a1, h0, z.neup)
            add_scaled(G, g0 + z.gw, E_bar, fwd.h, h0, z.neup)
            H[task, places.bias_t[t]] += E_bar
        for t in range(z.T):
            flush(z, places, G, t * z.G, t, H, task)


@njit(**KERNEL)
def motion_rows(counters, me, model, chunks, V, e, known, space, work, H):
    """∂(Σ_p f_p·v_p)/∂w for motions V (direction, p, 3): row (chunk, direction) of H gets a chunk's atoms."""
    z, k, places = model.z, model.k, model.places
    w, St, D, fwd = known.weights, known.St, known.D, known.sums
    first_i, first_a, types_i, j_p, n_pc, df_pk = e.first_i, e.first_a, e.types_i, e.j_p, e.n_pc, e.df_pk
    pairs_a, f_ak, df_ak, b, db, phi = e.pairs_a, e.f_ak, e.df_ak, e.b_am, e.db_acm, e.phi
    G, B = space[me], work[me]
    n_dir, T, Mp = len(V), z.T, z.Mp
    # φ̇ (direction, Rp), ṡ (direction, nA, Mp), g, g′ (nAp), four rows (nAp), and what `add_motion` takes
    acc, dphi = 0, 0
    sdot = dphi + n_dir * z.Rp
    g0 = sdot + n_dir * Mp * z.nAp
    h0, o = g0 + z.nAp, g0 + 2 * z.nAp
    q_dot = o + 4 * z.nAp
    rates = q_dot + 3 * z.dimp + z.neup + Mp * z.nAp
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
                clear(B, sdot, n_dir * Mp * z.nAp)
            for a in range(first_a[i], first_a[i + 1]):
                p = pairs_a[a]
                u = types_i[j_p[p]]
                pair_functions(z, w, t, u, a, f_ak, df_ak, B, g0, h0)
                pair_adjoints(z, fwd.y, i * Mp * z.nAp, b, a * Mp, db, 3 * a * Mp, B, o)
                for d in range(n_dir):
                    vx, vy, vz = V[d, p, 0], V[d, p, 1], V[d, p, 2]
                    along = n_pc[p, 0] * vx + n_pc[p, 1] * vy + n_pc[p, 2] * vz
                    add_moving_s(
                        z, B, g0, h0, along, vx, vy, vz, b, a * Mp, db, 3 * a * Mp, rates,
                        sdot + d * Mp * z.nAp,
                    )  # fmt: skip
                    add_pair(z, a, u, f_ak, df_ak, along, vx, vy, vz, B, o, G, acc + (d * T + t) * z.G)
            for d in range(n_dir):
                at = acc + (d * T + t) * z.G
                clear(B, q_dot, z.nRp)
                for n in range(z.nR):
                    B[q_dot + n] = dot(w.cR, (t * z.nR + n) * z.Rp, B, dphi + d * z.Rp, z.Rp)
                    add_scaled(G, at + n * z.Rp, fwd.gamma[i * z.dimp + n], B, dphi + d * z.Rp, z.Rp)
                add_motion(
                    z, k, w, fwd, i, t, angular, phi, St, D, B, q_dot, sdot + d * Mp * z.nAp, G, at
                )  # fmt: skip
        for d in range(n_dir):
            for t in range(T):
                flush(z, places, G, acc + (d * T + t) * z.G, t, H, task * n_dir + d)
