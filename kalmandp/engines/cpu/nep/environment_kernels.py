"""Numba kernels of the environment: twins of `nep.environment.build_environment`.

Tasks are groups of atoms. ``first_i``: the pairs of atom i are first_i[i] … first_i[i+1]−1; ``first_a`` the
same for pairs within the angular cut-off.
"""

from __future__ import annotations

import math

from numba import njit

from kalmandp.engines.cpu.nep.parts import add_scaled, chebyshev, clear, directions
from kalmandp.engines.cpu.threads import KERNEL, take

#: Atoms of a task.
ATOMS = 16


@njit(**KERNEL)
def radial(counters, me, z, k, e, r_pc, f, r_p, count_i):
    """r̂, r, f′ of every pair, φ (kt, padded) and the number of angular pairs of every atom."""
    first_i, types_i, j_p, n_pc, df_pk, phi = e.first_i, e.types_i, e.j_p, e.n_pc, e.df_pk, e.phi
    n, T, kR = len(types_i), z.T, z.kR
    tasks = (n + ATOMS - 1) // ATOMS
    while True:
        task = take(counters, me, 0, tasks)
        if task >= tasks:
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            t, o, count = types_i[i], i * z.Rp, 0
            clear(phi, o, z.Rp)
            for p in range(first_i[i], first_i[i + 1]):
                x, y, w = r_pc[p, 0], r_pc[p, 1], r_pc[p, 2]
                r = math.sqrt(x * x + y * y + w * w)
                s = 1.0 / r
                r_p[p] = r
                n_pc[p, 0], n_pc[p, 1], n_pc[p, 2] = x * s, y * s, w * s
                u = types_i[j_p[p]]
                count += r < k.angular_tu[t, u]
                chebyshev(r, k.radial_tu[t, u], kR, f, me * kR, df_pk, p * kR)
                for h in range(kR):
                    phi[o + h * T + u] += f[me * kR + h]
            count_i[i] = count


@njit(**KERNEL)
def angular(counters, me, z, k, e, r_p):
    """Pairs within the angular cut-off: f, f′, b (Mp), ∂b/∂r (3, Mp); and S (kt, Mp) of every atom."""
    first_i, first_a, types_i, j_p, n_pc = e.first_i, e.first_a, e.types_i, e.j_p, e.n_pc
    pairs_a, f_ak, df_ak, b, db, S = e.pairs_a, e.f_ak, e.df_ak, e.b_am, e.db_acm, e.S
    n, T, kA, Mp = len(types_i), z.T, z.kA, z.Mp
    tasks = (n + ATOMS - 1) // ATOMS
    while True:
        task = take(counters, me, 0, tasks)
        if task >= tasks:
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            t, o, a = types_i[i], i * kA * T * Mp, first_a[i]
            clear(S, o, kA * T * Mp)
            for p in range(first_i[i], first_i[i + 1]):
                u = types_i[j_p[p]]
                r, rc = r_p[p], k.angular_tu[t, u]
                if r >= rc:
                    continue
                pairs_a[a] = p
                chebyshev(r, rc, kA, f_ak, a * kA, df_ak, a * kA)
                x, y, w = n_pc[p, 0], n_pc[p, 1], n_pc[p, 2]
                b0, d0 = a * Mp, 3 * a * Mp
                for m in range(z.M, Mp):
                    b[b0 + m] = db[d0 + m] = db[d0 + Mp + m] = db[d0 + 2 * Mp + m] = 0.0
                directions(k, z.L, x, y, w, 1.0 / r, b, b0, db, d0, Mp)
                for h in range(kA):
                    add_scaled(S, o + (h * T + u) * Mp, f_ak[a * kA + h], b, b0, Mp)
                a += 1
