"""What NEP's kernels are made of: rows of vectors, Chebyshev functions, directions, invariants.

Arrays are flat; a row is named by its array and where it begins. Twins of functions in `potentials.nep`.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.threads import PART
from kalmandp.engines.cpu.vectors import load, multiply_add, splat, store, totals, zeros

LANES = 8


@njit(**PART)
def clear(out, o, n):
    """out = 0."""
    none = zeros(out)
    for v in range(0, n, LANES):
        store(out, o + v, none)


@njit(**PART)
def add_scaled(out, o, a, x, x0, n):
    """out += a x."""
    f = splat(out, a)
    for v in range(0, n, LANES):
        store(out, o + v, multiply_add(f, load(x, x0 + v), load(out, o + v)))


@njit(**PART)
def dot(a, a0, b, b0, n):
    """Σ a b."""
    none = zeros(a)
    total = none
    for v in range(0, n, LANES):
        total = multiply_add(load(a, a0 + v), load(b, b0 + v), total)
    return totals(total, none, none, none)[0]


@njit(**PART)
def dots(a, a0, b, b0, d, d0, step, n):
    """Σ a b, and Σ a d_c for three rows d that lie ``step`` apart."""
    none = zeros(a)
    t, x, y, z = none, none, none, none
    for v in range(0, n, LANES):
        f = load(a, a0 + v)
        t = multiply_add(f, load(b, b0 + v), t)
        x = multiply_add(f, load(d, d0 + v), x)
        y = multiply_add(f, load(d, d0 + step + v), y)
        z = multiply_add(f, load(d, d0 + 2 * step + v), z)
    return totals(t, x, y, z)


@njit(**PART)
def mix(out, o, n_out, a, a0, rows, x, x0, width):
    """out_v = Σ_r a_r x_rv for r < ``rows``: a row of numbers times a matrix of rows of ``width``."""
    for v in range(0, n_out, LANES):
        total = zeros(out)
        for r in range(rows):
            total = multiply_add(splat(out, a[a0 + r]), load(x, x0 + r * width + v), total)
        store(out, o + v, total)


def _series(first: int, terms: int) -> tuple[float, ...]:
    """(−1)ⁿ/(2n + first)!, the highest power first."""
    out, factorial, n = [], 1.0, 0
    for k in range(2 * terms + first):
        factorial *= max(k, 1)
        if k >= first and (k - first) % 2 == 0:
            out.append((-1.0) ** n / factorial)
            n += 1
    return tuple(reversed(out))


#: Taylor series of sin u/u and cos u in u², for |u| ≤ π/2: the next term is below 1e-18.
SIN, COS = _series(1, 11), _series(0, 12)
PI = 3.141592653589793


@njit(**PART)
def cutoff(r, rc):
    """f_c and f_c′ for r < rc: with u = π(r/rc − ½), cos πr/rc = −sin u and sin πr/rc = cos u."""
    u = PI * (r / rc - 0.5)
    square = u * u
    s = c = 0.0
    for a in SIN:
        s = s * square + a
    for a in COS:
        c = c * square + a
    return 0.5 * (1.0 - u * s), -0.5 * PI / rc * c


@njit(**PART)
def chebyshev(r, rc, size, f, f0, df, df0):
    """f_k and f_k′ of one pair: twin of `nep.environment.chebyshev`."""
    if r >= rc:
        for k in range(size):
            f[f0 + k] = 0.0
            df[df0 + k] = 0.0
        return
    fc, dfc = cutoff(r, rc)
    y = r / rc - 1.0
    x, dx = 2.0 * y * y - 1.0, 4.0 * y / rc
    half, slope, dhalf = 0.5 * fc, 0.5 * dx * fc, 0.5 * dfc
    # T_(k+1) = 2x T_k − T_(k−1);  f_k = ½ (T_k + 1) f_c
    low, high, dlow, dhigh = 1.0, x, 0.0, 1.0
    for k in range(size):
        f[f0 + k] = half * (low + 1.0)
        df[df0 + k] = slope * dlow + dhalf * (low + 1.0)
        low, high, dlow, dhigh = high, 2.0 * x * high - low, dhigh, 2.0 * high + 2.0 * x * dhigh - dlow


@njit(**PART)
def directions(k, L, x, y, z, inverse_r, b, b0, d, d0, step):
    """b_m of a unit vector and ∂b_m/∂r = ∂b_m/∂r̂ (1 − r̂ r̂ᵀ)/r, as three rows ``step`` apart."""
    re, im, low_re, low_im = 1.0, 0.0, 0.0, 0.0
    for m in range(L + 1):
        for l in range(max(m, 1), L + 1):
            Z = dZ = 0.0
            row = l * (l + 1) // 2 + m
            for power in range(l - m, -1, -1):
                dZ = dZ * z + Z
                Z = Z * z + k.Z_zx[row, power]
            at = l * l - 1 + (0 if m == 0 else 2 * m - 1)
            _place(
                b, b0, d, d0, step, at, Z * re, m * Z * low_re, -m * Z * low_im, dZ * re, x, y, z, inverse_r
            )
            if m > 0:
                _place(
                    b, b0, d, d0, step, at + 1, Z * im, m * Z * low_im, m * Z * low_re, dZ * im, x, y, z,
                    inverse_r,
                )  # fmt: skip
        re, im, low_re, low_im = x * re - y * im, x * im + y * re, re, im


@njit(**PART)
def _place(b, b0, d, d0, step, at, value, dx, dy, dz, x, y, z, inverse_r):
    along = dx * x + dy * y + dz * z
    b[b0 + at] = value
    d[d0 + at] = (dx - along * x) * inverse_r
    d[d0 + step + at] = (dy - along * y) * inverse_r
    d[d0 + 2 * step + at] = (dz - along * z) * inverse_r


@njit(**PART)
def invariants(z, k, s, s0, q, q0):
    """q of the angular part from s (n, Mp): q[λ nA + n]. Twin of `Invariants.values`."""
    for n in range(z.nA):
        o = s0 + n * z.Mp
        for l in range(1, z.L + 1):
            total = 0.0
            for m in range(l * l - 1, (l + 1) * (l + 1) - 1):
                total += k.square_m[m] * s[o + m] * s[o + m]
            q[q0 + (l - 1) * z.nA + n] = total
        for x in range(len(k.lambda_x)):
            total = 0.0
            for t in range(k.first_x[x], k.first_x[x + 1]):
                i, j, h = k.cubic_zx[t, 0], k.cubic_zx[t, 1], k.cubic_zx[t, 2]
                total += k.c_z[t] * s[o + i] * s[o + j] * s[o + h]
            q[q0 + k.lambda_x[x] * z.nA + n] = total
        if k.five >= 0:
            q[q0 + k.five * z.nA + n] = k.five_body * q[q0 + n] * q[q0 + n]


@njit(**PART)
def three_body_factor(z, k, s, o, n, l, gamma, c0):
    """What multiplies ∂q_l: γ_l, and for l = 1 also the share of q_1111."""
    g = gamma[c0 + (l - 1) * z.nA + n]
    if l == 1 and k.five >= 0:
        q = 0.0
        for m in range(3):
            q += k.square_m[m] * s[o + m] * s[o + m]
        g += 2.0 * k.five_body * q * gamma[c0 + k.five * z.nA + n]
    return g


@njit(**PART)
def add_cubic_gradient(k, x, s, o, bar, y, y0):
    """y += bar ∂q/∂s of one 4-body invariant."""
    for t in range(k.first_x[x], k.first_x[x + 1]):
        i, j, h = k.cubic_zx[t, 0], k.cubic_zx[t, 1], k.cubic_zx[t, 2]
        c = bar * k.c_z[t]
        a, b, d = s[o + i], s[o + j], s[o + h]
        y[y0 + i] += c * b * d
        y[y0 + j] += c * a * d
        y[y0 + h] += c * a * b


@njit(**PART)
def invariants_gradient(z, k, s, s0, gamma, c0, y, y0):
    """y = Σ_λ γ_λ ∂Q_λ/∂s (n, Mp). Twin of `Invariants.gradient`."""
    for n in range(z.nA):
        o, p = s0 + n * z.Mp, y0 + n * z.Mp
        for l in range(1, z.L + 1):
            g = 2.0 * three_body_factor(z, k, s, o, n, l, gamma, c0)
            for m in range(l * l - 1, (l + 1) * (l + 1) - 1):
                y[p + m] = g * k.square_m[m] * s[o + m]
        for m in range(z.M, z.Mp):
            y[p + m] = 0.0
        for x in range(len(k.lambda_x)):
            add_cubic_gradient(k, x, s, o, gamma[c0 + k.lambda_x[x] * z.nA + n], y, p)


@njit(**PART)
def invariants_tangent(z, k, s, s0, s_dot, d0, q_dot, q0):
    """q̇ = ∂Q/∂s ṡ, [λ nA + n]. Twin of `Invariants.tangent`."""
    for n in range(z.nA):
        o, d = s0 + n * z.Mp, d0 + n * z.Mp
        for l in range(1, z.L + 1):
            total = 0.0
            for m in range(l * l - 1, (l + 1) * (l + 1) - 1):
                total += k.square_m[m] * s[o + m] * s_dot[d + m]
            q_dot[q0 + (l - 1) * z.nA + n] = 2.0 * total
        for x in range(len(k.lambda_x)):
            total = 0.0
            for t in range(k.first_x[x], k.first_x[x + 1]):
                i, j, h = k.cubic_zx[t, 0], k.cubic_zx[t, 1], k.cubic_zx[t, 2]
                a, b, c = s[o + i], s[o + j], s[o + h]
                total += k.c_z[t] * (s_dot[d + i] * b * c + a * s_dot[d + j] * c + a * b * s_dot[d + h])
            q_dot[q0 + k.lambda_x[x] * z.nA + n] = total
        if k.five >= 0:
            q = 0.0
            for m in range(3):
                q += k.square_m[m] * s[o + m] * s[o + m]
            q_dot[q0 + k.five * z.nA + n] = 2.0 * k.five_body * q * q_dot[q0 + n]


@njit(**PART)
def invariants_gradient_tangent(z, k, s, s0, s_dot, d0, gamma, c0, u, u0):
    """u = Σ_λ γ_λ ∂²Q_λ/∂s² ṡ (n, Mp). Twin of `Invariants.gradient_tangent`."""
    for n in range(z.nA):
        o, d, p = s0 + n * z.Mp, d0 + n * z.Mp, u0 + n * z.Mp
        for l in range(1, z.L + 1):
            g = 2.0 * three_body_factor(z, k, s, o, n, l, gamma, c0)
            for m in range(l * l - 1, (l + 1) * (l + 1) - 1):
                u[p + m] = g * k.square_m[m] * s_dot[d + m]
        for m in range(z.M, z.Mp):
            u[p + m] = 0.0
        if k.five >= 0:
            q_dot = 0.0
            for m in range(3):
                q_dot += 2.0 * k.square_m[m] * s[o + m] * s_dot[d + m]
            g = 4.0 * k.five_body * q_dot * gamma[c0 + k.five * z.nA + n]
            for m in range(3):
                u[p + m] += g * k.square_m[m] * s[o + m]
        for x in range(len(k.lambda_x)):
            bar = gamma[c0 + k.lambda_x[x] * z.nA + n]
            for t in range(k.first_x[x], k.first_x[x + 1]):
                i, j, h = k.cubic_zx[t, 0], k.cubic_zx[t, 1], k.cubic_zx[t, 2]
                c = bar * k.c_z[t]
                a, b, e = s[o + i], s[o + j], s[o + h]
                da, db, de = s_dot[d + i], s_dot[d + j], s_dot[d + h]
                u[p + i] += c * (db * e + b * de)
                u[p + j] += c * (da * e + a * de)
                u[p + h] += c * (da * b + a * db)
