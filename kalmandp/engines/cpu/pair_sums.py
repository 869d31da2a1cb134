"""Numba twins of `geometry.pairs.forces_from_pairs` and `virial_from_pairs`, for every potential.

Chunks of atoms have sums of their own, added up in their order: no bit depends on the number of threads.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.threads import KERNEL, PART, done, take, wait

#: Atoms of a task.
ATOMS = 16


@njit(**PART)
def tasks(n):
    """How many tasks ``n`` atoms are."""
    return (n + ATOMS - 1) // ATOMS


@njit(**KERNEL)
def forces(counters, me, first_i, j_p, f_pc, parts, F_ic):
    """F_i = Σ_{p: centre i} f_p − Σ_{p: neighbour i} f_p: chunks of atoms into ``parts`` of their own."""
    chunks, n = parts.shape[0], len(F_ic)
    while True:
        chunk = take(counters, me, 0, chunks)
        if chunk >= chunks:
            break
        F = parts[chunk]
        F[:] = 0.0
        for i in range(n * chunk // chunks, n * (chunk + 1) // chunks):
            x = y = z = 0.0
            for p in range(first_i[i], first_i[i + 1]):
                f, back = f_pc[p], F[j_p[p]]
                x, y, z = x + f[0], y + f[1], z + f[2]
                back[0] -= f[0]
                back[1] -= f[1]
                back[2] -= f[2]
            F[i, 0] += x
            F[i, 1] += y
            F[i, 2] += z
        done(counters, 0)
    wait(counters, 0, chunks)
    while True:
        task = take(counters, me, 1, tasks(n))
        if task >= tasks(n):
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            for c in range(3):
                total = 0.0
                for chunk in range(chunks):
                    total += parts[chunk, i, c]
                F_ic[i, c] = total


@njit(**KERNEL)
def virials(counters, me, first_i, r_pc, f_pc, W_icc):
    """Share of atom i in W_dc = −Σ_p f_pd r_pc."""
    n = len(W_icc)
    while True:
        task = take(counters, me, 0, tasks(n))
        if task >= tasks(n):
            break
        for i in range(task * ATOMS, min(n, (task + 1) * ATOMS)):
            W = W_icc[i]
            W[:] = 0.0
            for p in range(first_i[i], first_i[i + 1]):
                for d in range(3):
                    for c in range(3):
                        W[d, c] -= f_pc[p, d] * r_pc[p, c]
