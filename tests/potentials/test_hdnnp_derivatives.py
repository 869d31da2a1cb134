"""Judges of the HDNNP's derivatives on random forms: complex step, Taylor, mixed identity, closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hdnnp_cases import Case, random_case, random_form, random_frame
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.testing import assert_allclose

from kalmandp.engines.cpu.hdnnp.nets import _activate, activation_code
from kalmandp.frames.frame import Frame
from kalmandp.geometry.pairs import force_direction, virial_direction
from kalmandp.potentials.activations import N2P2_NAMES, activation
from kalmandp.potentials.hdnnp.cutoffs import CURVES, POLYNOMIALS, Cutoff, curve, cutoff_function, window
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.hdnnp.symmetry_functions import SymmetryFunction, angular_term
from kalmandp.testing import COMPLEX_STEP, complex_step_error, taylor_slope

PROFILE = settings(max_examples=25, deadline=None)


@njit
def in_place(code, phi, d1, d2):
    """φ, φ′, φ″ of a row of numbers by the fused engine."""
    _activate(code, 1.0, 1.0, phi, d1, d2)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    form = random_form(rng, draw(st.integers(1, 3)))
    kinds = st.sampled_from(["tilted", "slab", "open"])
    sizes = st.lists(st.tuples(st.integers(1, 6), kinds), min_size=1, max_size=2)
    return random_case(rng, form, [random_frame(rng, form, n, kind) for n, kind in draw(sizes)]), rng


def directions(case, rng):
    g = case.geometry
    yield "force", force_direction(g, rng.normal(size=(g.n_atoms, 3)))
    yield "virial", virial_direction(g, rng.normal(size=(g.n_frames, 3, 3)))


@PROFILE
@given(cases())
def test_weights(drawn):
    """∂E/∂w, ∂(c·F)/∂w and ∂(C:W)/∂w by complex step and by Taylor's slope."""
    case, rng = drawn
    w, n = case.par.weights, case.geometry.n_atoms
    E_bar_i, none = rng.normal(size=n), np.zeros(n)
    checks = [("energy", lambda x: E_bar_i @ case.energies(x), case.energy_gradient(E_bar_i))]
    for name, v in directions(case, rng):
        of = lambda x, v=v: (case.pair_gradient(x) * v).sum()
        checks.append((name, of, case.weight_gradient(none, v)))
    for name, function, J in checks:
        if not np.abs(J).max() > 0:  # one atom, no pairs: no force to differentiate
            continue
        d = rng.normal(size=(5, len(w)))
        assert complex_step_error(function, J, w, d[0]) < 1e-12, name
        # the median: along one direction the curvature may vanish by chance, and the slope with it
        assert np.median([taylor_slope(function, J, w, x) for x in d]) > 1.8, name


@PROFILE
@given(cases())
def test_pair_vectors_and_mixed_identity(drawn):
    """Ė along v is f·v, and ∂Ė/∂w is the derivative along v of ∂E/∂w."""
    case, rng = drawn
    n = case.geometry.n_atoms
    for name, v in directions(case, rng):
        moved = case.moved(1j * COMPLEX_STEP * v)
        value, exact = (case.pair_gradient() * v).sum(), moved.energies().sum().imag / COMPLEX_STEP
        # rounding of the sum, of ∂q/∂r (triples of a pair may cancel), and of polynomials near their end
        size = np.abs(case.pair_gradient() * v).sum()
        inner = max((np.abs(c.dq_bnc).max() for c in case.env.classes), default=0.0)
        assert_allclose(value, exact, rtol=0, atol=1e-11 * size + 1e-12 * inner + 1e-14, err_msg=name)
        direct = case.weight_gradient(np.zeros(n), v)
        mixed = moved.energy_gradient(np.ones(n)).imag / COMPLEX_STEP
        assert_allclose(
            direct, mixed, rtol=0, atol=1e-10 * np.abs(mixed).max() + 1e-12 * inner + 1e-14, err_msg=name
        )


@PROFILE
@given(cases())
def test_invariances(drawn):
    """Rotation, reflection, and another order of atoms leave E as it is; forces turn with the atoms."""
    case, rng = drawn
    form, frame = case.form, random_frame(rng, case.form, 5, "open")
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(5)
    turned = Frame(frame.positions[order] @ Q.T + 1.0, frame.types[order], form.type_map, pbc=False)
    one, other = (Case(form, case.par.weights, case.statistics, case.par.bias_t, f) for f in (frame, turned))
    size = max(1.0, np.abs(one.energies()).max())
    assert_allclose(other.energies(), one.energies()[order], rtol=0, atol=1e-9 * size)
    F = one.forces()
    assert_allclose(other.forces(), F[order] @ Q.T, rtol=0, atol=1e-8 * max(1.0, np.abs(F).max()))
    # a product of all equal atoms does not depend on where they are: ΣF = 0
    assert_allclose(F.sum(0), 0.0, rtol=0, atol=1e-10 * max(1.0, np.abs(F).max()))


def test_strain_directions():
    rng = np.random.default_rng(3)
    form = random_form(rng, 2)
    case = random_case(rng, form, [random_frame(rng, form, 6), random_frame(rng, form, 4)])
    C = rng.normal(size=(3, 3))
    C = C + C.T
    v = virial_direction(case.geometry, np.stack([C, C]))
    whole, _ = case.descriptor.tangent(case.par, case.env, None, v)
    six = case.descriptor.strain_directions(case.env)
    # C:W = C_xx … + 2 C_xy … of a symmetric C
    factors = np.array([C[0, 0], C[1, 1], C[2, 2], 2 * C[0, 1], 2 * C[1, 2], 2 * C[2, 0]])
    assert_allclose(np.einsum("k,kid->id", factors, six), whole, rtol=0, atol=1e-12 * np.abs(whole).max())


@pytest.mark.parametrize("kind", range(9))
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_cutoff_functions(kind, alpha):
    r = np.linspace(0.01, 4.5, 181)
    cutoff = Cutoff(kind, 0.0 if kind in (2, 3) else alpha)
    f, df = cutoff_function(cutoff, r, 4.0)
    exact = cutoff_function(cutoff, r + 1j * COMPLEX_STEP, 4.0)[0].imag / COMPLEX_STEP
    assert_allclose(df, exact, rtol=0, atol=1e-13 * 20)
    assert (f[r >= 4.0] == 0).all() and (np.diff(f) <= 0).all()
    if kind not in (2, 3):
        assert (f[r < alpha * 4.0] == 1.0).all()
    if kind not in (0, 2, 3):  # flat at the end
        assert abs(cutoff_function(cutoff, np.array([4.0 - 1e-7]), 4.0)[0][0]) < 1e-6


@pytest.mark.parametrize("name", [*POLYNOMIALS, "cos", "exp"])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_windows(name, asymmetric):
    x = np.linspace(-0.5, 5.0, 200)
    f, df = window(name, x, 1.0, 4.0, asymmetric)
    exact = window(name, x + 1j * COMPLEX_STEP, 1.0, 4.0, asymmetric)[0].imag / COMPLEX_STEP
    assert_allclose(df, exact, rtol=0, atol=1e-12)
    assert_allclose(f, window(name, 5.0 - x, 1.0, 4.0, asymmetric)[0], rtol=0, atol=1e-13)
    assert (f[(x <= 1) | (x >= 4)] == 0).all()
    assert_allclose(window(name, np.array([2.5]), 1.0, 4.0)[0], 1.0)


def test_every_curve_is_a_curve():
    for name in CURVES:
        value, slope = curve(name, np.array([0.0, 0.5]))
        assert value[0] == pytest.approx(math.tanh(1) ** 3 if name == "tanh3" else 1.0)
        assert (slope <= 0).all()


@pytest.mark.parametrize("name", ["sigmoid", "complement", "softplus", "silu"])
def test_the_ends_of_logistic_functions_keep_their_digits(name):
    """At ±30 as e^−30 has them; ½(1 + tanh ½a) has three of its digits left there."""
    e = math.exp(-30.0)
    s, d, dd = e / (1 + e), e / (1 + e) ** 2, e * (1 - e) / (1 + e) ** 3  # at −30
    left = {
        "sigmoid": (s, d, dd),
        "complement": (1 - s, -d, -dd),
        "softplus": (math.log1p(e), s, d),
        "silu": (-30 * s, s - 30 * d, 2 * d - 30 * dd),
    }[name]
    right = {
        "sigmoid": (1 - s, d, -dd),
        "complement": (s, -d, dd),
        "softplus": (30 + math.log1p(e), 1 - s, d),
        "silu": (30 * (1 - s), 1 - s + 30 * d, 2 * d - 30 * dd),
    }[name]
    found = np.array(activation(name)(np.array([-30.0, 30.0])))
    assert_allclose(found.T, [left, right], rtol=1e-14)
    twin = np.array([[-30.0, 30.0], [0.0, 0.0], [0.0, 0.0]])
    in_place(activation_code(name), *twin)
    assert_allclose(twin.T, [left, right], rtol=1e-14)


@pytest.mark.parametrize("name", N2P2_NAMES)
def test_activations(name):
    a = np.linspace(-4, 4, 33)
    f, d, dd = activation(name)(a)
    c, dc, _ = activation(name)(a + 1j * COMPLEX_STEP)
    assert_allclose(c.imag / COMPLEX_STEP, d, rtol=1e-13, atol=1e-13)
    assert_allclose(dc.imag / COMPLEX_STEP, dd, rtol=1e-13, atol=1e-13)


def test_three_atoms_by_hand():
    """Right angle, sides 1, 1, √2: type 9 with λ = −1, ζ = 2, η = 0 and f_c = ½(cos πr/r_c + 1)."""
    frame = Frame([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [0, 0, 0], ("Si",), pbc=False)
    f = SymmetryFunction(9, ("Si", "Si"), 2.0, zeta=2.0, lam=-1.0)
    form = HDNNPForm(("Si",), [[f]], hidden=(), activations=("linear",), cutoff_kind=1, scaling="none")
    zeros = {name: np.zeros((1, 1)) for name in form.statistics_shapes()}
    case = Case(form, np.array([1.0, 0.0]), zeros, [0.0], frame)
    corner = 0.5 * 1.0 * 0.5 * 0.5
    end = 0.5 * (1 - 1 / math.sqrt(2)) ** 2 * 0.5 * 0.5 * (1 + math.cos(math.pi / math.sqrt(2)))
    assert_allclose(case.env.q_id[:, 0], [corner, end, end], rtol=1e-13)


def test_atoms_in_line():
    """A window centred at 180° has its value there, and neither E nor F jumps."""
    f = SymmetryFunction(22, ("Si", "Si"), 3.0, rl=0.0, left=90.0, right=270.0, sub="p2")
    a = np.array([1.2, 1.0, 1.5])

    def term(x, bend):
        c = np.sqrt(a[0] ** 2 + a[1] ** 2 + 2 * a[0] * a[1] * math.cos(bend))
        return np.array([g[0] for g in angular_term(f, Cutoff(1, 0.0), *np.array([[a[0]], [a[1]], [c]]))])

    line, nearly = term(a, 0.0), term(a, 1e-4)
    assert_allclose(nearly[0], line[0], rtol=1e-7)
    # the forces: ∂g/∂r_ij = g_a û_ij − g_c û_jk; in line û_jk = −û_ij
    assert_allclose(nearly[1] + nearly[3], line[1] + line[3], rtol=1e-6)
    mirror = SymmetryFunction(22, ("Si", "Si"), 3.0, rl=0.0, left=0.0, right=180.0, sub="p2")
    assert angular_term(mirror, Cutoff(1, 0.0), *np.array([[1.2], [1.0], [2.2]]))[0] == 0.0


@pytest.mark.parametrize("mistake", ["G_c", "swap"])
def test_planted_mistakes_are_caught(mistake, monkeypatch):
    from kalmandp.potentials.hdnnp import environment

    right = environment.angular_term

    def wrong(*args):
        g, a, b, c = right(*args)
        return (g, a, b, 0 * c) if mistake == "G_c" else (g, b, a, c)

    rng = np.random.default_rng(1)
    functions = [[SymmetryFunction(3, ("C", "C"), 4.0, eta=0.02, zeta=2.0)]]
    form = HDNNPForm(("C",), functions, hidden=(3,), activations=("tanh", "linear"), scaling="none")
    case = random_case(rng, form, random_frame(rng, form, 5))
    _, v = next(directions(case, rng))
    exact = case.moved(1j * COMPLEX_STEP * v).energies().sum().imag / COMPLEX_STEP
    monkeypatch.setattr(environment, "angular_term", wrong)
    planted = case.moved(0 * v)
    assert abs((planted.pair_gradient() * v).sum() - exact) > 1e-6 * abs(exact)
