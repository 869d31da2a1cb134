"""The invariants of all radial functions at once: twins of `nep.invariants.Invariants`.

s, y, ṡ and u have rows (m, nAp), one vector (or a few) over n for each component m; Q, γ and their tangents
have rows (λ, nAp). Where n is padded s is zero, and so is all that is made of it.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.nep.parts import LANES
from kalmandp.engines.cpu.threads import PART
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, zeros


@njit(**PART)
def times(a, b, like):
    """a b."""
    return multiply_add(a, b, zeros(like))


@njit(**PART)
def square_sum(z, k, a, a0, b, b0, l, v):
    """Σ_m D_m a_m b_m over the components of l."""
    total = zeros(a)
    for m in range(l * l - 1, (l + 1) * (l + 1) - 1):
        f = times(splat(a, k.square_m[m]), load(a, a0 + m * z.nAp + v), a)
        total = multiply_add(f, load(b, b0 + m * z.nAp + v), total)
    return total


@njit(**PART)
def three_factors(z, k, x, s, s0, v):
    """Where the three factors of term x of a 4-body invariant are in a row of s, and themselves."""
    i, j, h = k.cubic_zx[x, 0] * z.nAp + v, k.cubic_zx[x, 1] * z.nAp + v, k.cubic_zx[x, 2] * z.nAp + v
    return i, j, h, load(s, s0 + i), load(s, s0 + j), load(s, s0 + h)


@njit(**PART)
def invariants(z, k, s, s0, q, q0):
    """Q of s."""
    for v in range(0, z.nAp, LANES):
        for l in range(1, z.L + 1):
            store(q, q0 + (l - 1) * z.nAp + v, square_sum(z, k, s, s0, s, s0, l, v))
        for number in range(len(k.lambda_x)):
            total = zeros(s)
            for x in range(k.first_x[number], k.first_x[number + 1]):
                _, _, _, a, b, c = three_factors(z, k, x, s, s0, v)
                total = multiply_add(times(splat(s, k.c_z[x]), a, s), times(b, c, s), total)
            store(q, q0 + k.lambda_x[number] * z.nAp + v, total)
        if k.five >= 0:
            one = load(q, q0 + v)
            store(q, q0 + k.five * z.nAp + v, times(splat(s, k.five_body), times(one, one, s), s))


@njit(**PART)
def three_body_factor(z, k, s, s0, gamma, c0, l, v):
    """What multiplies ∂q_l, twice: γ_l, and for l = 1 also the share of q_1111."""
    two = splat(s, 2.0)
    factor = times(two, load(gamma, c0 + (l - 1) * z.nAp + v), s)
    if l == 1 and k.five >= 0:
        share = times(square_sum(z, k, s, s0, s, s0, 1, v), load(gamma, c0 + k.five * z.nAp + v), s)
        factor = multiply_add(splat(s, 4.0 * k.five_body), share, factor)
    return factor


@njit(**PART)
def invariants_gradient(z, k, s, s0, gamma, c0, y, y0):
    """y = Σ_λ γ_λ ∂Q_λ/∂s."""
    for v in range(0, z.nAp, LANES):
        for l in range(1, z.L + 1):
            factor = three_body_factor(z, k, s, s0, gamma, c0, l, v)
            for m in range(l * l - 1, (l + 1) * (l + 1) - 1):
                o = m * z.nAp + v
                store(y, y0 + o, times(times(splat(s, k.square_m[m]), load(s, s0 + o), s), factor, s))
        for number in range(len(k.lambda_x)):
            bar = load(gamma, c0 + k.lambda_x[number] * z.nAp + v)
            for x in range(k.first_x[number], k.first_x[number + 1]):
                i, j, h, a, b, c = three_factors(z, k, x, s, s0, v)
                f = times(bar, splat(s, k.c_z[x]), s)
                store(y, y0 + i, multiply_add(times(f, b, s), c, load(y, y0 + i)))
                store(y, y0 + j, multiply_add(times(f, a, s), c, load(y, y0 + j)))
                store(y, y0 + h, multiply_add(times(f, a, s), b, load(y, y0 + h)))


@njit(**PART)
def invariants_tangent(z, k, s, s0, s_dot, d0, q_dot, q0):
    """Q̇ = ∂Q/∂s ṡ."""
    two = splat(s, 2.0)
    for v in range(0, z.nAp, LANES):
        for l in range(1, z.L + 1):
            store(q_dot, q0 + (l - 1) * z.nAp + v, times(two, square_sum(z, k, s, s0, s_dot, d0, l, v), s))
        for number in range(len(k.lambda_x)):
            total = zeros(s)
            for x in range(k.first_x[number], k.first_x[number + 1]):
                i, j, h, a, b, c = three_factors(z, k, x, s, s0, v)
                one = times(times(load(s_dot, d0 + i), b, s), c, s)
                one = multiply_add(times(load(s_dot, d0 + j), a, s), c, one)
                one = multiply_add(times(load(s_dot, d0 + h), a, s), b, one)
                total = multiply_add(splat(s, k.c_z[x]), one, total)
            store(q_dot, q0 + k.lambda_x[number] * z.nAp + v, total)
        if k.five >= 0:
            one = times(square_sum(z, k, s, s0, s, s0, 1, v), load(q_dot, q0 + v), s)
            store(q_dot, q0 + k.five * z.nAp + v, times(splat(s, 2.0 * k.five_body), one, s))


@njit(**PART)
def invariants_gradient_tangent(z, k, s, s0, s_dot, d0, gamma, c0, u, u0):
    """u = Σ_λ γ_λ ∂²Q_λ/∂s² ṡ."""
    for v in range(0, z.nAp, LANES):
        for l in range(1, z.L + 1):
            factor = three_body_factor(z, k, s, s0, gamma, c0, l, v)
            for m in range(l * l - 1, (l + 1) * (l + 1) - 1):
                o = m * z.nAp + v
                store(u, u0 + o, times(times(splat(s, k.square_m[m]), load(s_dot, d0 + o), s), factor, s))
        if k.five >= 0:
            # the other share of q_1111: (14/15) q̇_1 ∂q_1
            q_dot = times(splat(s, 2.0), square_sum(z, k, s, s0, s_dot, d0, 1, v), s)
            factor = times(splat(s, 4.0 * k.five_body), load(gamma, c0 + k.five * z.nAp + v), s)
            factor = times(factor, q_dot, s)
            for m in range(3):
                o = m * z.nAp + v
                one = times(splat(s, k.square_m[m]), load(s, s0 + o), s)
                store(u, u0 + o, multiply_add(factor, one, load(u, u0 + o)))
        for number in range(len(k.lambda_x)):
            bar = load(gamma, c0 + k.lambda_x[number] * z.nAp + v)
            for x in range(k.first_x[number], k.first_x[number + 1]):
                i, j, h, a, b, c = three_factors(z, k, x, s, s0, v)
                da, db, dc = load(s_dot, d0 + i), load(s_dot, d0 + j), load(s_dot, d0 + h)
                f = times(bar, splat(s, k.c_z[x]), s)
                one = multiply_add(db, c, times(b, dc, s))
                store(u, u0 + i, multiply_add(f, one, load(u, u0 + i)))
                one = multiply_add(da, c, times(a, dc, s))
                store(u, u0 + j, multiply_add(f, one, load(u, u0 + j)))
                one = multiply_add(da, b, times(a, db, s))
                store(u, u0 + h, multiply_add(f, one, load(u, u0 + h)))
