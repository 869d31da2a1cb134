"""Numba kernels of the environment: twins of `nep.environment.build_environment`.

Tasks are groups of atoms. ``first_i``: the pairs of atom i are first_i[i] … first_i[i+1]−1; ``first_a`` the
same for pairs within the angular cut-off.
"""

from __future__ import annotations

import math

from numba import njit

from kalmandp.engines.cpu.nep.parts import LANES, add_scaled, chebyshev, clear, directions
from kalmandp.engines.cpu.threads import KERNEL, take

#: Atoms of a task.
ATOMS = 16


@njit(**KERNEL)
def radial(counters, me, z, k, e, r_pc, space, r_p, count_i):
    """r̂, r, f′ of every pair, φ (kt, padded) and the number of angular pairs of every atom."""
    first_i, types_i, j_p, n_pc, df_pk, phi = e.first_i, e.types_i, e.j_p, e.n_pc, e.df_pk, e.phi
    n, T, kR, B = len(types_i), z.T, z.kR, space[me]
    tasks = (n + ATOMS - 1) // ATOMS
    while True:
        task = take(counters, me, 0, tasks)
        if task >= tasks:
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            t, o, count = types_i[i], i * z.Rp, 0
            clear(phi, o, z.Rp)
            for p0 in range(first_i[i], first_i[i + 1], LANES):
                p1 = min(p0 + LANES, first_i[i + 1])
                for p in range(p0, p0 + LANES):
                    at = p - p0
                    if p >= p1:  # fill up
                        B[at], B[LANES + at], B[2 * LANES + at] = 0.0, 1.0, 0.0
                        continue
                    x, y, w = r_pc[p, 0], r_pc[p, 1], r_pc[p, 2]
                    r = math.sqrt(x * x + y * y + w * w)
                    s, u = 1.0 / r, types_i[j_p[p]]
                    r_p[p] = r
                    n_pc[p, 0], n_pc[p, 1], n_pc[p, 2] = x * s, y * s, w * s
                    count += r < k.angular_tu[t, u]
                    rc = k.radial_tu[t, u]
                    B[at], B[LANES + at], B[2 * LANES + at] = r, rc, 1.0 if r < rc else 0.0
                chebyshev(B, kR)
                for p in range(p0, p1):
                    u, at = types_i[j_p[p]], 3 * LANES + p - p0
                    for h in range(kR):
                        phi[o + h * T + u] += B[at + h * LANES]
                        df_pk[p * kR + h] = B[at + (kR + h) * LANES]
            count_i[i] = count


@njit(**KERNEL)
def angular(counters, me, z, k, e, space, r_p):
    """Pairs within the angular cut-off: f, f′, b (Mp), ∂b/∂r (3, Mp); and S (kt, Mp) of every atom."""
    first_i, first_a, types_i, j_p, n_pc = e.first_i, e.first_a, e.types_i, e.j_p, e.n_pc
    pairs_a, f_ak, df_ak, b, db, S = e.pairs_a, e.f_ak, e.df_ak, e.b_am, e.db_acm, e.S
    n, T, kA, Mp, B = len(types_i), z.T, z.kA, z.Mp, space[me]
    tasks = (n + ATOMS - 1) // ATOMS
    while True:
        task = take(counters, me, 0, tasks)
        if task >= tasks:
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            t, o, a = types_i[i], i * kA * T * Mp, first_a[i]
            clear(S, o, kA * T * Mp)
            for p in range(first_i[i], first_i[i + 1]):
                if r_p[p] < k.angular_tu[t, types_i[j_p[p]]]:
                    pairs_a[a] = p
                    a += 1
            for a0 in range(first_a[i], a, LANES):
                a1 = min(a0 + LANES, a)
                for at in range(LANES):
                    p = pairs_a[min(a0 + at, a1 - 1)]
                    B[at], B[LANES + at], B[2 * LANES + at] = r_p[p], k.angular_tu[t, types_i[j_p[p]]], 1.0
                chebyshev(B, kA)
                for c in range(a0, a1):
                    at = 3 * LANES + c - a0
                    for h in range(kA):
                        f_ak[c * kA + h], df_ak[c * kA + h] = B[at + h * LANES], B[at + (kA + h) * LANES]
            for c in range(first_a[i], a):
                p = pairs_a[c]
                x, y, w = n_pc[p, 0], n_pc[p, 1], n_pc[p, 2]
                b0, d0 = c * Mp, 3 * c * Mp
                for m in range(z.M, Mp):
                    b[b0 + m] = db[d0 + m] = db[d0 + Mp + m] = db[d0 + 2 * Mp + m] = 0.0
                directions(k, z.L, x, y, w, 1.0 / r_p[p], b, b0, db, d0, Mp)
                for h in range(kA):
                    add_scaled(S, o + (h * T + types_i[j_p[p]]) * Mp, f_ak[c * kA + h], b, b0, Mp)
