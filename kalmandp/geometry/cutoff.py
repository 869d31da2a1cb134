"""The smooth switch w(r): 1 inside r_s, 0 beyond r_c, twice continuously differentiable between."""

from __future__ import annotations

from kalmandp.arrays import namespace

#: w(u) = u³ (A u² + B u + C) + 1 with A, B, C = −6, 15, −10: the one source of these numbers.
SWITCH_COEFFICIENTS = (-6.0, 15.0, -10.0)


def switch(r, r_s: float, r_c: float):
    """The switch and its slope at distances r.

    Deep Potential, step 1: s(r) = w(r)/r is 1/r within r_s and 0 beyond r_c. How it decays between is
    DeePMD-kit's choice; w, w′ and w″ are continuous at both ends::

        w(u) = u³(−6u² + 15u − 10) + 1,  u = clip((r − r_s)/(r_c − r_s), 0, 1)

    Parameters
    ----------
    r : distances, Å
    r_s, r_c : where the switch begins and the cut-off, Å

    Returns
    -------
    w, dw : w(r) and dw/dr (1/Å), shaped like r
    """
    xp = namespace(r)
    A, B, C = SWITCH_COEFFICIENTS
    u = (r - r_s) / (r_c - r_s)
    between = (u.real > 0) & (u.real < 1)
    u = xp.where(between, u, 1.0 * (u.real >= 1))
    w = u * u * u * (A * u * u + B * u + C) + 1.0
    # dw/du = u² (5A u² + 4B u + 3C)
    dw = u * u * (5 * A * u * u + 4 * B * u + 3 * C) / (r_c - r_s)
    return w, xp.where(between, dw, 0.0)
