"""A new NEP: what its first weights and its q_scaler make of the data."""

from __future__ import annotations

import numpy as np
import pytest
from nep_support import environment, parameters, random_frame
from numpy.testing import assert_allclose

from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.potentials import network
from kalmandp.potentials.nep.form import NEPForm
from kalmandp.potentials.nep.initial import SMALLEST_SPREAD, new

CHOICES = {"radial_cutoff": 4.0, "angular_cutoff": 3.0, "n_max": (3, 2), "basis_size": (4, 4)}


def frames_of(rng, count=10):
    return [random_frame(rng, ("Ti", "O"), 14, "tilted") for _ in range(count)]


def described(made, frames):
    """q̂ and types of all atoms."""
    env = environment(made.form, made.statistics, frames)
    par = parameters(made.form, made.weights)
    return par.descriptor.forward(par, env)[0], env.geometry.types_i, par


@pytest.mark.parametrize("version", [3, 4, 5])
def test_every_net_sees_standardised_descriptors(version):
    rng = np.random.default_rng(1)
    frames = frames_of(rng)
    made = new(("Ti", "O"), frames, rng, version=version, **CHOICES)
    q, types, par = described(made, frames)
    groups = [slice(None)] if version == 3 else [types == 0, types == 1]
    variance = sum(len(q[g]) * q[g].var(axis=0) for g in groups) / len(q)
    assert_allclose(variance, 1.0, rtol=1e-10)
    for t, group in enumerate(groups):
        hidden = par.layout.fitting(par.weights, t)[:1]
        mean = network.forward(hidden, q[group])[0]
        at_mean = network.forward(hidden, q[group].mean(axis=0)[None])[0]
        # W0 mean(q̂) + b is what was drawn, N(0, 1): no neuron begins saturated
        assert (np.abs(np.arctanh(at_mean)) < 4).all() and np.abs(mean).min() < 0.999


def test_rows_of_c_are_orthonormal():
    made = new(("Ti", "O"), (), np.random.default_rng(2), **CHOICES)
    for name in ("c_radial.0", "c_angular.1"):
        c = made.form.layout().view(made.weights, name)
        c = c.reshape(len(c), -1)
        assert_allclose(c @ c.T, np.eye(len(c)), atol=1e-14)
    # more rows than dimensions: of length 1 at least
    made = new(("Ti",), (), np.random.default_rng(2), n_max=(7, 0), basis_size=(2, 0))
    c = made.form.layout().view(made.weights, "c_radial.0").reshape(8, 3)
    assert_allclose((c * c).sum(axis=1), 1.0, rtol=1e-14)


def test_minmax_is_gpumds():
    rng = np.random.default_rng(3)
    frames = frames_of(rng)
    made = new(("Ti", "O"), frames, rng, scaling="minmax", rows="uniform", **CHOICES)
    assert_allclose(np.ptp(described(made, frames)[0], axis=0), 1.0, rtol=1e-12)
    c = made.form.layout().view(made.weights, "c_radial.0")
    assert np.abs(c).max() <= 0.5


def test_the_same_seed_gives_the_same_bits():
    frames = frames_of(np.random.default_rng(4))
    a, b = (new(("Ti", "O"), frames, np.random.default_rng(5), **CHOICES) for _ in range(2))
    assert (a.weights == b.weights).all() and (a.statistics["q_scaler"] == b.statistics["q_scaler"]).all()
    other = new(("Ti", "O"), frames, np.random.default_rng(6), **CHOICES)
    assert np.mean(a.weights == other.weights) < 0.01  # the bias is 0 in both


def test_descriptors_that_do_not_change_are_not_blown_up():
    """A perfect crystal, and atoms without neighbours."""
    crystal = Frame(np.zeros((1, 3)), [0], ("Ti",), cell=2.5 * np.eye(3))
    made = new(("Ti",), [crystal, crystal], np.random.default_rng(7), **CHOICES)
    q = described(made, [crystal])[0]
    assert np.isfinite(q).all() and np.abs(q).max() <= 1.0 / SMALLEST_SPREAD * (1 + 1e-12)
    lonely = Frame(np.zeros((1, 3)), [0], ("Ti",))
    made = new(("Ti",), [lonely], np.random.default_rng(7), **CHOICES)
    assert (made.statistics["q_scaler"] == 1.0).all() and np.isfinite(made.weights).all()


def test_neighbours_are_counted():
    rng = np.random.default_rng(8)
    frames = frames_of(rng, 3)
    made = new(("Ti", "O"), frames, rng, **CHOICES)
    env = environment(made.form, made.statistics, frames)
    g = env.geometry
    wanted = [np.bincount(i).max() for i in (g.i_p, g.i_p[env.pairs_a])]
    assert made.info["most neighbours"] == wanted


def test_choices_that_are_not_known():
    with pytest.raises(InputError, match="scaling is 'rms'; expected one of std, minmax"):
        new(("Ti",), (), np.random.default_rng(), scaling="rms")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"version": 2}, "version is 2; expected 3, 4 or 5"),
        ({"radial_cutoff": (4.0, 5.0)}, "radial_cutoff is .*expected one positive length in Å, or 1"),
        ({"radial_cutoff": 4.0, "angular_cutoff": 5.0}, "angular cutoff of Ti is 5.0; expected at most"),
        ({"l_max": (9,)}, "l_max is 9; expected 1 to 8"),
        ({"l_max": (3, 0, 0, 0, 0, 0, 1)}, "l_max with q_134 is 3; expected at least 4"),
        ({"radial_cutoff": "far"}, "radial_cutoff is far; expected one positive length"),
        ({"basis_size": (1.5, 2)}, "basis_size is .*expected 2 whole numbers"),
        ({"n_max": (1,)}, "n_max is .*expected 2 whole numbers"),
        ({"neuron": 0}, "neuron is 0; expected at least 1"),
        ({"zbl": {"inner": 2.0, "outer": 1.0}}, "zbl has r_in 2 and r_out 1"),
        ({"zbl": {"pairs": [[0.0] * 10] * 2}}, "number of pairs of the flexible ZBL is 2; expected 1"),
    ],
)
def test_forms_that_cannot_be(choices, message):
    with pytest.raises(InputError, match=message):
        NEPForm(("Ti",), **choices)


def test_a_type_without_a_nucleus_cannot_have_zbl():
    with pytest.raises(InputError, match="type 'A' has no atomic number"):
        NEPForm(("A",), zbl={"inner": 0.7, "outer": 1.4})


def test_a_form_is_restored_from_its_dictionary():
    zbl = {"pairs": [[0.5, 1.8, *([0.2, 1.0] * 4)]] * 3}
    form = NEPForm(("Ti", "O"), version=5, radial_cutoff=(6.0, 5.0), l_max=(4, 1, 0, 1), zbl=zbl)
    assert NEPForm(**form.to_dict()) == form
