"""R that follows the errors: the recursion by hand, its floor, its memory in a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp.training.config.presets import PRESETS, resolve
from kalmandp.training.config.settings import OptimizerSettings
from kalmandp.training.noise.variances import AdaptiveNoise

FLOOR = np.array([4.0, 0.01])
KINDS = ("energy", "force")


def test_the_first_errors_count_at_once():
    noise = AdaptiveNoise(0.5)
    # ρ = 100/4 and 0.0004/0.01: the force is better than its floor already, and holds the energy's R there
    assert_allclose(noise.noise(("energy",), FLOOR[:1], np.array([10.0])), [0.5 * 25 * 4], rtol=1e-15)
    assert_allclose(noise.noise(KINDS, FLOOR, np.array([10.0, -0.02])), FLOOR, rtol=0)


def test_no_kind_is_trusted_less_than_the_forces():
    noise = AdaptiveNoise(1.0)
    # ρ = 10⁴/4 for the energy, 0.09/0.01 for the force
    assert_allclose(noise.noise(KINDS, FLOOR, np.array([100.0, 0.3])), 9 * FLOOR, rtol=1e-14)
    assert_allclose(noise.noise(("virial",), [2.0], [1.0]), [2.0], rtol=0)


def test_later_errors_count_from_the_next_step_on_by_one_part_in_fifty():
    noise = AdaptiveNoise(1.0)
    before = noise.noise(KINDS, FLOOR, np.array([10.0, 1.0]))
    noise.see(KINDS, FLOOR, np.array([2.0, 0.1]), np.array([4.0, 0.01]))
    assert (noise.noise(KINDS, FLOOR, np.array([2.0, 0.1])) == before).all()
    noise.begin_step()
    rho = [25 + 0.02 * (1 - 25), 100 + 0.02 * (1 - 100)]
    assert_allclose(noise.noise(KINDS, FLOOR, np.zeros(2)), np.array(rho) * FLOOR, rtol=1e-14)


def test_small_errors_bring_r_down_to_the_rule_and_no_further():
    noise = AdaptiveNoise(1.0)
    noise.noise(KINDS, FLOOR, np.array([10.0, 1.0]))
    for _ in range(2000):
        noise.see(KINDS, FLOOR, np.array([1e-6, 1e-6]), np.zeros(2))
        noise.begin_step()
    assert (noise.noise(KINDS, FLOOR, np.zeros(2)) == FLOOR).all()


def test_several_numbers_of_a_kind_count_as_their_mean_square():
    noise = AdaptiveNoise(1.0)
    R = noise.noise(("force",) * 2, np.array([0.01, 0.01]), np.array([0.3, 0.4]))
    assert_allclose(R, 0.01 * (9 + 16) / 2, rtol=1e-15)


def test_state_goes_on_where_it_was():
    one, other = AdaptiveNoise(1.0), AdaptiveNoise(1.0)
    one.noise(KINDS, FLOOR, np.array([10.0, 1.0]))
    one.see(KINDS, FLOOR, np.array([3.0, 0.3]), np.array([1.0, 0.0]))
    before = one.noise(KINDS, FLOOR, np.ones(2))
    other.restore({"weights": np.zeros(2), **one.state()})
    assert (one.noise(KINDS, FLOOR, np.ones(2)) == before).all()  # to ask changes nothing
    for noise in (one, other):
        noise.begin_step()
    error = np.array([1.0, 1.0])
    assert (one.noise(KINDS, FLOOR, error) == other.noise(KINDS, FLOOR, error)).all()


def test_an_error_that_p_does_not_account_for_is_noise():
    """Energies 10 R⁰ off in square, forces good: R_E stays while H P Hᵀ explains it, and follows if not."""
    error = np.array([np.sqrt(40.0), 0.05])
    for unexplained in (False, True):
        noise = AdaptiveNoise(0.5)
        noise.noise(KINDS, FLOOR, error)
        for _ in range(2000):
            noise.see(KINDS, FLOOR, error, np.zeros(2) if unexplained else error**2)
            noise.begin_step()
        # ρ_E = ι_E = 40/4, times γ; the force's ρ is below 1
        growth = [5.0, 1.0] if unexplained else 1.0
        assert_allclose(noise.noise(KINDS, FLOOR, error), growth * FLOOR, rtol=1e-9)


#: Presets that are not of another code.
OURS = ("default", "v0.6", "matrix")


@pytest.mark.parametrize("name", PRESETS)
def test_only_our_own_presets_adapt(name):
    assert (resolve(OptimizerSettings(type="RLEKF", preset=name)).adapt > 0) == (name in OURS)
    assert resolve(OptimizerSettings(type="RLEKF", preset=name, adapt=0.0)).adapt == 0.0
