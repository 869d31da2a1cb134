"""What NEP's kernels are made of: rows of vectors, Chebyshev functions, directions.

Arrays are flat; a row is named by its array and where it begins. Twins of functions in `potentials.nep`.
"""

from __future__ import annotations

from numba import njit

from kalmandp.engines.cpu.threads import PART
from kalmandp.engines.cpu.vectors import divide, load, multiply_add, splat, store, totals, zeros

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
def mix(out, o, n_out, a, a0, stride, rows, x, x0, width, add):
    """out_v = Σ_r a_r x_rv for r < ``rows``, added to out or not: a row of numbers times a matrix.

    The numbers lie ``stride`` apart, the rows of the matrix ``width``. Two vectors at once: each sum alone
    would wait for its last term.
    """
    none = zeros(out)
    for v in range(0, n_out - LANES, 2 * LANES):
        one, two = (load(out, o + v), load(out, o + v + LANES)) if add else (none, none)
        for r in range(rows):
            f, at = splat(out, a[a0 + r * stride]), x0 + r * width + v
            one, two = multiply_add(f, load(x, at), one), multiply_add(f, load(x, at + LANES), two)
        store(out, o + v, one)
        store(out, o + v + LANES, two)
    if n_out % (2 * LANES) != 0:
        v = n_out - LANES
        one = load(out, o + v) if add else none
        for r in range(rows):
            one = multiply_add(splat(out, a[a0 + r * stride]), load(x, x0 + r * width + v), one)
        store(out, o + v, one)


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
def chebyshev(B, size):
    """f_k and f_k′ of eight pairs at once: twin of `nep.environment.chebyshev`.

    B holds r, r_c, and 1 or 0 for within r_c or not, a vector each; then come f (k, 8) and f′ (k, 8). With
    u = π(r/r_c − ½): cos πr/r_c = −sin u and sin πr/r_c = cos u.
    """
    none, one = zeros(B), splat(B, 1.0)
    inverse, inside = divide(one, load(B, LANES)), load(B, 2 * LANES)
    ratio = multiply_add(load(B, 0), inverse, none)
    u = multiply_add(splat(B, PI), multiply_add(ratio, one, splat(B, -0.5)), none)
    square = multiply_add(u, u, none)
    s = c = none
    for a in SIN:
        s = multiply_add(s, square, splat(B, a))
    for a in COS:
        c = multiply_add(c, square, splat(B, a))
    # ½ f_c = ¼ (1 − sin u) and ½ f_c′ = −¼ π/r_c cos u
    fc = multiply_add(multiply_add(u, splat(B, -0.25), none), s, splat(B, 0.25))
    dfc = multiply_add(multiply_add(inverse, splat(B, -0.25 * PI), none), c, none)
    fc, dfc = multiply_add(fc, inside, none), multiply_add(dfc, inside, none)
    # x = 2 (r/r_c − 1)² − 1;   ½ x′ f_c
    y = multiply_add(ratio, one, splat(B, -1.0))
    x = multiply_add(multiply_add(y, splat(B, 2.0), none), y, splat(B, -1.0))
    slope = multiply_add(multiply_add(multiply_add(y, splat(B, 4.0), none), inverse, none), fc, none)
    # T_(k+1) = 2x T_k − T_(k−1);  f_k = ½ (T_k + 1) f_c
    two_x, two, minus = multiply_add(x, splat(B, 2.0), none), splat(B, 2.0), splat(B, -1.0)
    low, high, dlow, dhigh = one, x, none, one
    for k in range(size):
        f0, d0 = (3 + k) * LANES, (3 + size + k) * LANES
        plus = multiply_add(low, one, one)
        store(B, f0, multiply_add(fc, plus, none))
        store(B, d0, multiply_add(slope, dlow, multiply_add(dfc, plus, none)))
        next_slope = multiply_add(two, high, multiply_add(two_x, dhigh, multiply_add(dlow, minus, none)))
        low, high = high, multiply_add(two_x, high, multiply_add(low, minus, none))
        dlow, dhigh = dhigh, next_slope


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
