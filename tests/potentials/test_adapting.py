"""Another bias, another order of types: what must stay and what must change."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from systems import frames

from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.potentials.adapting import refitted_bias, reordered, with_bias
from kalmandp.potentials.potential import Potential

CHOICES = dict(
    rcut=4.2, rcut_smth=1.0, sel=[24, 30], embedding=(3, 6), axis_neuron=2, fitting=(5, 5),
    type_one_side=True, fitting_resnet_dt=False,
)  # fmt: skip


def potential(seed=0, **choices) -> Potential:
    rng = np.random.default_rng(seed)
    return Potential.create(("A", "B"), frames=frames(3), rng=rng, **{**CHOICES, **choices})


def mixed_frames() -> list[Frame]:
    """Frames of two compositions, so that two biases are determined."""
    whole = frames(4)
    part = lambda f: Frame(f.positions[:9], f.types[:9], f.type_map, cell=f.cell, energy=f.energy)
    return [*whole, *(part(f) for f in whole)]


def relabelled(model, shift_t) -> list[Frame]:
    """Frames whose energies are the model's, with shift_t (eV) more for every atom of type t."""
    out = []
    for f in mixed_frames():
        energy = model.evaluate(f).energy + shift_t[f.types].sum()
        out.append(Frame(f.positions, f.types, f.type_map, cell=f.cell, energy=energy))
    return out


def test_change_finds_the_shift():
    model, shift_t = potential(), np.array([0.7, -3.2])
    before = model.bias_atom_e + model.out_bias
    bias = refitted_bias(model, relabelled(model, shift_t))
    # least squares of an exact relation: rounding of energies of some 10 eV
    assert_allclose(bias - before, shift_t, atol=1e-11)
    changed = with_bias(model, bias)
    for f in relabelled(model, shift_t):
        assert_allclose(changed.evaluate(f).energy, f.energy, rtol=1e-12)
    assert_array_equal(changed.weights, model.weights)


def test_set_does_not_ask_the_model():
    labelled = relabelled(potential(seed=1), np.zeros(2))
    sets = [refitted_bias(potential(seed), labelled, mode="set") for seed in (2, 3)]
    assert_array_equal(*sets)
    counts = np.array([np.bincount(f.types, minlength=2) for f in labelled])
    best = np.linalg.lstsq(counts.astype(float), np.array([f.energy for f in labelled]), rcond=None)[0]
    assert_allclose(sets[0], best, rtol=1e-12)


def test_a_type_that_does_not_occur_keeps_its_bias():
    model = potential()
    only_a = [Frame(f.positions[::2], f.types[::2], f.type_map, cell=f.cell, energy=1.0) for f in frames(3)]
    bias = refitted_bias(model, only_a)
    assert bias[1] == (model.bias_atom_e + model.out_bias)[1]
    assert abs(bias[0] - model.bias_atom_e[0]) > 1e-3


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: refitted_bias(m, frames(1), mode="shift"), "mode is 'shift'; expected 'change' or 'set'"),
        (lambda m: refitted_bias(m, []), "none of the frames has an energy"),
        (lambda m: with_bias(m, [1.0]), r"bias_atom_e has shape \(1,\)"),
        (lambda m: with_bias(m, [1.0, np.nan]), "not finite"),
        (lambda m: reordered(m, ("A", "B", "C")), "in some order"),
        (lambda m: reordered(m, ("A",)), r"type_map is \['A'\]; expected the model's types .* in some order"),
    ],
    ids=lambda value: None,
)
def test_what_cannot_be_done_is_named(call, says):
    with pytest.raises(InputError, match=says):
        call(potential())


@pytest.mark.parametrize("one_side", [True, False])
@pytest.mark.parametrize("exclude", [(), [(0, 0)], [(0, 1)]])
def test_types_in_another_order_compute_the_same(one_side, exclude):
    rng = np.random.default_rng(5)
    model = potential(type_one_side=one_side, exclude_types=exclude, embedding_resnet_dt=True)
    model.statistics["davg"][:, 0] = rng.normal(size=2)
    turned = reordered(with_bias(model, [0.3, -0.9]), ("B", "A"))
    assert turned.form.sel == (30, 24)
    for f in mixed_frames():
        one, other = with_bias(model, [0.3, -0.9]).evaluate(f), turned.evaluate(f)
        # the same sums in another order
        assert_allclose(other.energy, one.energy, rtol=1e-12)
        assert_allclose(other.forces, one.forces, atol=1e-11 * np.abs(one.forces).max())
        assert_allclose(other.virial, one.virial, atol=1e-11 * np.abs(one.virial).max())
    back = reordered(turned, ("A", "B"))
    assert_array_equal(back.weights, model.weights)
    # a net in the wrong place is seen
    turned.weights = model.weights
    f = mixed_frames()[0]
    assert abs(turned.evaluate(f).energy - with_bias(model, [0.3, -0.9]).evaluate(f).energy) > 1e-6
