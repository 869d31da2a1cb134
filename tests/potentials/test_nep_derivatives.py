"""Three judges of NEP's Jacobians on random forms: complex step, Taylor, mixed identity.

The fourth, stored values of another program, is `test_nep_judges`.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nep_support import Case, predict, random_form, random_frame
from numpy.testing import assert_allclose

from kalmandp.geometry.pairs import force_direction, gather, virial_direction
from kalmandp.potentials.atomic import energies, energy_gradient, pair_gradient, weight_gradient
from kalmandp.potentials.nep.invariants import Invariants, directions
from kalmandp.testing import COMPLEX_STEP, complex_step_error, taylor_slope

PROFILE = settings(max_examples=25, deadline=None)


@st.composite
def cases(draw, kinds=("tilted", "cubic", "slab", "open")):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_types = draw(st.integers(1, 3))
    form = random_form(rng, n_types)
    frame = random_frame(rng, form.type_map, draw(st.integers(1, 7)), draw(st.sampled_from(kinds)))
    return Case(rng, form, frame), rng


def along(case, v_pc):
    """Ė for a motion v of the pairs: c·F or C:W as a function of the weights."""

    def of(w):
        par = case.par._replace(weights=w)
        _, forward = energies(par, case.env)
        return (pair_gradient(par, case.env, forward) * v_pc).sum()

    return of


def jacobians(case, rng):
    """(name, function of w, our Jacobian) for energies, a force direction, a virial direction."""
    _, forward = energies(case.par, case.env)
    n = case.env.geometry.n_atoms
    E_bar = rng.normal(size=n)
    J_E = energy_gradient(case.par, case.env, forward, E_bar)
    yield "energy", lambda w: (E_bar * energies(case.par._replace(weights=w), case.env)[0]).sum(), J_E
    v_F = force_direction(case.env.geometry, rng.normal(size=(n, 3)))
    v_W = virial_direction(case.env.geometry, rng.normal(size=(1, 3, 3)))
    for name, v in (("force", v_F), ("virial", v_W)):
        yield name, along(case, v), weight_gradient(case.par, case.env, forward, np.zeros(n), v)


@PROFILE
@given(cases())
def test_complex_step_over_weights(drawn):
    case, rng = drawn
    for name, function, J in jacobians(case, rng):
        if not np.abs(J).max() > 0:  # one atom, no pairs: no force to differentiate
            continue
        error = complex_step_error(function, J, case.par.weights, rng.normal(size=len(J)))
        assert error < 1e-12, f"∂{name}/∂w: {error:.1e}; rounding alone leaves about 1e-15"


@PROFILE
@given(cases())
def test_taylor_slope_over_weights(drawn):
    case, rng = drawn
    for name, function, J in jacobians(case, rng):
        if not np.abs(J).max() > 0:
            continue
        directions_w = rng.normal(size=(5, len(J)))
        slopes = [taylor_slope(function, J, case.par.weights, d) for d in directions_w]
        # the median: along one direction the curvature may vanish by chance, and the slope with it
        assert np.median(slopes) > 1.8, f"∂{name}/∂w: slopes {slopes}"


@PROFILE
@given(cases())
def test_mixed_identity(drawn):
    """∂F/∂w = −∂/∂r (∂E/∂w): the Jacobian of the energy moved along r, by complex step."""
    case, rng = drawn
    n = case.env.geometry.n_atoms
    _, forward = energies(case.par, case.env)
    for v in (
        force_direction(case.env.geometry, rng.normal(size=(n, 3))),
        virial_direction(case.env.geometry, rng.normal(size=(1, 3, 3))),
    ):
        direct = weight_gradient(case.par, case.env, forward, np.zeros(n), v)
        moved = case.moved(1j * COMPLEX_STEP * v)
        _, moved_forward = energies(case.par, moved)
        mixed = energy_gradient(case.par, moved, moved_forward, np.ones(n)).imag / COMPLEX_STEP
        # two orders of the same sums: rounding of the largest entry
        assert_allclose(direct, mixed, rtol=0, atol=1e-11 * max(np.abs(mixed).max(), 1e-300))


@PROFILE
@given(cases())
def test_pair_gradient_by_complex_step_over_positions(drawn):
    """f·v = dE along v, ZBL included."""
    case, rng = drawn
    _, forward = energies(case.par, case.env)
    f_pc = pair_gradient(case.par, case.env, forward)
    v = rng.normal(size=f_pc.shape)
    E_i, _ = energies(case.par, case.moved(1j * COMPLEX_STEP * v))
    exact = E_i.sum().imag / COMPLEX_STEP
    assert abs((f_pc * v).sum() - exact) <= 1e-12 * max(np.abs(f_pc * v).sum(), 1e-300)


@PROFILE
@given(cases(kinds=("open",)))
def test_rotation_and_exchange_of_atoms_change_nothing(drawn):
    case, rng = drawn
    here = predict(case.par, case.env)
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # an inversion may be in it: NEP is even
    frame = case.frames
    order = rng.permutation(len(frame))
    turned = type(frame)(frame.positions[order] @ Q.T, frame.types[order], frame.type_map)
    env = case.par.descriptor.environment(
        case.statistics, gather(turned, case.form.type_map, case.form.cutoff)
    )
    there = predict(case.par, env)
    scale = 1e-11 * max(np.abs(here.F_ic).max(), np.abs(here.E_i).max(), 1.0)
    assert_allclose(there.E_i, here.E_i[order], rtol=0, atol=scale)
    assert_allclose(there.F_ic, here.F_ic[order] @ Q.T, rtol=0, atol=scale)


@pytest.mark.parametrize("l_max", [(8, 1, 1, 1, 1, 1, 1), (1, 0, 1), (3, 0, 0, 0, 0, 1)])
def test_invariants_by_complex_step(l_max):
    rng, invariants = np.random.default_rng(1), Invariants(l_max)
    s, s_dot = rng.normal(size=(2, 5, 3, invariants.n_components))
    bar = rng.normal(size=(5, 3, invariants.size))
    moved = s + 1j * COMPLEX_STEP * s_dot
    Q_dot = invariants.values(moved).imag / COMPLEX_STEP
    assert_allclose(invariants.tangent(s, s_dot), Q_dot, rtol=1e-12, atol=1e-12)
    assert_allclose((invariants.gradient(s, bar) * s_dot).sum(), (Q_dot * bar).sum(), rtol=1e-12)
    second = invariants.gradient(moved, bar).imag / COMPLEX_STEP
    assert_allclose(invariants.gradient_tangent(s, s_dot, bar), second, rtol=1e-12, atol=1e-12)


def test_invariants_do_not_change_under_rotation():
    """Of moments of random directions: it fails for a wrong constant, sign or 3j symbol."""
    rng, invariants = np.random.default_rng(2), Invariants((8, 1, 1, 1, 1, 1, 1))
    u = rng.normal(size=(7, 3))
    u /= np.sqrt((u * u).sum(-1))[:, None]
    g = rng.normal(size=(4, 7))
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    q = [invariants.values(g @ directions(8, x)[0]) for x in (u, u @ Q.T)]
    assert_allclose(q[1], q[0], rtol=1e-11, atol=1e-11 * np.abs(q[0]).max())


def test_three_body_invariants_are_legendre_polynomials_of_angles():
    """q_l = (2l+1)/4π Σ_jk g_j g_k P_l(cos θ_jk)."""
    rng, invariants = np.random.default_rng(3), Invariants((8,))
    u = rng.normal(size=(6, 3))
    u /= np.sqrt((u * u).sum(-1))[:, None]
    g = rng.normal(size=6)
    got = invariants.values((g @ directions(8, u)[0])[None])[0]
    for l in range(1, 9):
        P = np.polynomial.legendre.Legendre.basis(l)(u @ u.T)
        assert_allclose(got[l - 1], (2 * l + 1) / (4 * np.pi) * (g @ P @ g), rtol=1e-12, atol=1e-12)


def test_directions_by_complex_step():
    rng = np.random.default_rng(4)
    u, v = rng.normal(size=(2, 5, 3))
    b_dot = directions(8, u + 1j * COMPLEX_STEP * v)[0].imag / COMPLEX_STEP
    db = directions(8, u)[1]
    assert_allclose((db * v[:, None]).sum(-1), b_dot, rtol=1e-12, atol=1e-12 * np.abs(b_dot).max())


def test_constants_of_gpumd():
    """The first constants of GPUMD's tables, ten digits or more as it prints them."""
    from kalmandp.potentials.nep.invariants import monomials, norm

    first = [norm(1, 0), norm(1, 1), norm(2, 0), norm(2, 1), norm(2, 2)]
    printed = [0.238732414637843, 0.119366207318922, 0.099471839432435, 0.596831036594608, 0.149207759148652]
    assert_allclose(first, printed, rtol=1e-13)
    q_222 = {key[:3]: key[3] for key in monomials(2, 2, 2)}
    assert_allclose(q_222[3, 3, 3], -0.007499480826664, rtol=1e-12)
    assert_allclose(q_222[4, 5, 7], -0.809943929279723, rtol=1e-12)
    q_112 = {key[:3]: key[3] for key in monomials(1, 1, 2)}
    assert_allclose(q_112[0, 0, 3], 0.027493550848847, rtol=1e-12)
    assert_allclose(q_112[1, 2, 7], 0.082480652546540, rtol=1e-12)
