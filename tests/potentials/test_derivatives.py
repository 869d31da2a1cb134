"""Four judges of the Jacobians: Taylor, complex step, mixed identity; the fourth, stored values of
another program, is in tests/bridges."""

from __future__ import annotations

import numpy as np
import pytest
from cases import PAPER, Case, random_architecture, random_form, random_frame
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import FIXTURES
from numpy.testing import assert_allclose

from kalmandp.geometry.pairs import (
    force_direction,
    forces_from_pairs,
    virial_direction,
    virial_from_pairs,
)
from kalmandp.potentials import atomic, network
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.registry import KINDS
from kalmandp.testing import (
    COMPLEX_STEP,
    WrongDerivative,
    check_jacobian,
    complex_step_error,
    taylor_slope,
)

PROFILE = settings(max_examples=25, deadline=None)


def energy(case):
    def of(w):
        E_i, _ = atomic.energies(case.par._replace(weights=w), case.env)
        return E_i.sum()

    return of


def along(case, v_pc):
    """Ė for a motion v of the pairs: c·F or C:W as a function of the weights."""

    def of(w):
        par = case.par._replace(weights=w)
        _, forward = atomic.energies(par, case.env)
        return (atomic.pair_gradient(par, case.env, forward) * v_pc).sum()

    return of


def jacobians(case, rng):
    """(name, function of w, our Jacobian) for energy, a force direction, a virial direction."""
    _, forward = atomic.energies(case.par, case.env)
    n = case.env.geometry.n_atoms
    v_F = force_direction(case.env.geometry, rng.normal(size=(n, 3)))
    v_W = virial_direction(case.env.geometry, rng.normal(size=(1, 3, 3)))
    none = np.zeros(n)
    J_E = atomic.energy_gradient(case.par, case.env, forward, np.ones(n))
    yield "energy", energy(case), J_E
    for name, v in (("force", v_F), ("virial", v_W)):
        J = atomic.weight_gradient(case.par, case.env, forward, none, v)
        yield name, along(case, v), J


@st.composite
def cases(draw, kind):
    """A potential of that kind on a frame, and a generator."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_types = draw(st.integers(1, 3))
    cell = draw(st.sampled_from(["tilted", "cubic", "slab", "open"]))
    frame = random_frame(rng, n_types, draw(st.integers(1, 7)), cell)
    return Case(rng, random_form(kind, rng, n_types), frame, wide=draw(st.booleans())), rng


#: Every judge of this file goes through all kinds of potential.
judged = lambda test: pytest.mark.parametrize("kind", KINDS)(PROFILE(given(data=st.data())(test)))


def test_every_kind_is_judged():
    assert set(KINDS) <= set(FIXTURES), "a kind has no entry in tests/potentials/kinds.py"


def judge(case, rng) -> None:
    """By complex step: the Jacobians of energy, force and virial."""
    for name, function, J in jacobians(case, rng):
        if not np.abs(J).max() > 0:  # one atom, no pairs: no force to differentiate
            continue
        error = complex_step_error(function, J, case.par.weights, rng.normal(size=len(J)))
        # rounding leaves about 1e-15, and 1e-11 where nearly all cancels or saturates (1 case in 1,000)
        assert error < 1e-10, f"∂{name}/∂w: {error:.1e}; expected rounding"


@judged
def test_complex_step_on_random_forms(kind, data):
    judge(*data.draw(cases(kind)))


@judged
def test_taylor_slope_on_random_forms(kind, data):
    case, rng = data.draw(cases(kind))
    for name, function, J in jacobians(case, rng):
        if not np.abs(J).max() > 0:
            continue
        directions = rng.normal(size=(5, len(J)))
        slopes = [taylor_slope(function, J, case.par.weights, d) for d in directions]
        # the median: along one direction the curvature may vanish by chance, and the slope with it
        assert np.median(slopes) > 1.8, f"∂{name}/∂w: slopes {slopes}"


@judged
def test_mixed_identity(kind, data):
    """∂F/∂w = −∂/∂r (∂E/∂w): the Jacobian of the energy moved along r, by complex step."""
    case, rng = data.draw(cases(kind))
    env, n = case.env, case.env.geometry.n_atoms
    _, forward = atomic.energies(case.par, env)
    for v in (
        force_direction(env.geometry, rng.normal(size=(n, 3))),
        virial_direction(env.geometry, rng.normal(size=(1, 3, 3))),
    ):
        direct = atomic.weight_gradient(case.par, env, forward, np.zeros(n), v)
        moved = build_moved(case, v)
        _, moved_forward = atomic.energies(case.par, moved)
        J_E = atomic.energy_gradient(case.par, moved, moved_forward, np.ones(n))
        mixed = J_E.imag / COMPLEX_STEP
        # two orders of the same sums: rounding of the largest entry (3e-13 seen in 1,200 cases), or, where
        # all of them nearly cancel, of a hundredth of ∂E/∂w
        size = max(np.abs(mixed).max(), 0.01 * np.abs(J_E.real).max(), 1e-300)
        assert_allclose(direct, mixed, rtol=0, atol=1e-11 * size)


def build_moved(case, v_pc):
    """The environment after the pairs that count were moved by iεv."""
    r_pc = case.geometry.r_pc
    if len(v_pc) == len(r_pc):
        return case.environment(r_pc + 1j * COMPLEX_STEP * v_pc)
    # excluded pairs are not in the environment: find those that are
    kept = np.isin(
        np.ascontiguousarray(r_pc).view("V24").ravel(),
        np.ascontiguousarray(case.env.geometry.r_pc).view("V24").ravel(),
    )
    full = np.zeros_like(r_pc)
    full[kept] = v_pc
    return case.environment(r_pc + 1j * COMPLEX_STEP * full)


@judged
def test_forces_and_virial_are_derivatives_of_the_energy(kind, data):
    case, rng = data.draw(cases(kind))
    _, forward = atomic.energies(case.par, case.env)
    f_pc = atomic.pair_gradient(case.par, case.env, forward)
    F_ic = forces_from_pairs(case.env.geometry, f_pc)
    W_cc = virial_from_pairs(case.env.geometry, f_pc)[0]
    c, C = rng.normal(size=F_ic.shape), rng.normal(size=(1, 3, 3))
    for value, v in (
        ((c * F_ic).sum(), force_direction(case.env.geometry, c)),
        ((C[0] * W_cc).sum(), virial_direction(case.env.geometry, C)),
    ):
        E_i, _ = atomic.energies(case.par, build_moved(case, v))
        exact = E_i.sum().imag / COMPLEX_STEP
        assert_allclose(value, exact, rtol=1e-9, atol=1e-12)  # sums that nearly cancel


def test_the_papers_network():
    """Embedding [25, 25, 25], M‹ 16, fitting [50, 50, 50]: N = 26,551 for one type."""
    rng = np.random.default_rng(7)
    a = Architecture(("A",), rcut=4.0, rcut_smth=0.5, sel=(120,), **PAPER)
    case = Case(rng, a, random_frame(rng, n_types=1, n_atoms=8))
    assert case.layout.size == 26551
    for name, function, J in jacobians(case, rng):
        d = rng.normal(size=len(J))
        assert complex_step_error(function, J, case.par.weights, d) < 1e-12, name
        assert taylor_slope(function, J, case.par.weights, d) > 1.9, name


def test_a_batch_is_its_frames_side_by_side():
    from kalmandp.potentials.potential import Potential

    rng = np.random.default_rng(3)
    a = random_architecture(rng, 2)
    frames = [random_frame(rng, 2, n, kind) for n, kind in ((5, "tilted"), (1, "open"), (6, "slab"))]
    n_weights = Case(rng, a, frames[0]).layout.size
    potential = Potential(
        a, rng.normal(size=n_weights) * 0.3, davg=np.full((2, 4), 0.1), dstd=np.full((2, 4), 0.5),
        bias_atom_e=[1.0, 2.0], engine="numpy",
    )  # fmt: skip
    c = [rng.normal(size=(len(f), 3)) for f in frames]
    C = [rng.normal(size=(3, 3)) for _ in frames]
    env = potential.environment(frames)
    _, forward = atomic.energies(potential.parameters, env)
    whole = atomic.weight_gradient(
        potential.parameters, env, forward, np.ones(env.geometry.n_atoms),
        force_direction(env.geometry, np.concatenate(c))
        + virial_direction(env.geometry, np.stack(C)),
    )  # fmt: skip
    parts = (
        potential.energy_jacobian(frames)
        + potential.force_jacobian(frames, c)
        + potential.virial_jacobian(frames, C)
    )
    assert parts.shape == (3, n_weights)
    assert_allclose(whole, parts.sum(0), rtol=0, atol=1e-13 * np.abs(whole).max())
    one = potential.force_jacobian(frames[0], np.stack([c[0], -2 * c[0]]))
    assert_allclose(one[1], -2 * one[0], rtol=0, atol=1e-13 * np.abs(one).max())


PLANTED = {
    "φ″ forgotten": lambda cache: cache._replace(d2=0 * cache.d2),
    "φ′ taken for 1": lambda cache: cache._replace(d1=0 * cache.d1 + 1),
    "tangent of the input lost": lambda cache: cache._replace(x_dot=0 * cache.x_dot),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistakes_are_caught(mistake, monkeypatch):
    """Each mistake in the backward pass is seen by both judges."""
    rng = np.random.default_rng(5)
    a = random_architecture(rng, 2, fitting=(6, 6), embedding_activation="tanh", fitting_activation="tanh")
    case = Case(rng, a, random_frame(rng, 2, 6))
    right = network.tangent_backward

    def wrong(layers, caches, *rest):
        return right(layers, [PLANTED[mistake](c) for c in caches], *rest)

    monkeypatch.setattr(network, "tangent_backward", wrong)
    _, function, J = list(jacobians(case, rng))[1]
    d = rng.normal(size=len(J))
    assert complex_step_error(function, J, case.par.weights, d) > 1e-6
    assert taylor_slope(function, J, case.par.weights, d) < 1.5
    with pytest.raises(WrongDerivative):
        check_jacobian(function, J, case.par.weights, rng)


@pytest.mark.parametrize("wrong", ["tangent", "pair_adjoint", "weight_adjoint", "tangent_adjoint"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_pass_of_a_descriptor_is_caught(kind, wrong, monkeypatch):
    """Each pass of each descriptor, off by a thousandth; one that does nothing (no weights) is as it was."""
    rng = np.random.default_rng(6)
    case = Case(rng, random_form(kind, rng, 2), random_frame(rng, 2, 6))
    right, does = getattr(case.par.descriptor, wrong), []

    def planted(*arguments):
        if wrong in ("weight_adjoint", "tangent_adjoint"):  # these add to the gradient that is given
            gradient = arguments[-1]
            own = np.zeros_like(gradient)
            right(*arguments[:-1], own)
            does.append(own.any())
            gradient += 1.001 * own
            return None
        found = right(*arguments)
        does.append(True)
        return (1.001 * found[0], found[1]) if wrong == "tangent" else 1.001 * found

    monkeypatch.setattr(case.par.descriptor, wrong, planted)
    errors = [
        complex_step_error(function, J, case.par.weights, rng.normal(size=len(J)))
        for _, function, J in jacobians(case, rng)
    ]
    # rounding leaves 1e-15; of a Deep Potential little comes through the embedding
    assert does and (max(errors) > 1e-9) == any(does)
