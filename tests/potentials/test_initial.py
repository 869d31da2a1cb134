"""The weights that training begins with: what is spread, over what, and what stays as DeePMD-kit draws it."""

import dataclasses

import numpy as np
import pytest
from cases import random_frame
from numpy.testing import assert_allclose, assert_array_equal

from kalmandp import InputError, Potential
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.initial import initial_weights, span_of
from kalmandp.potentials.deep_potential.statistics import environment_statistics

WIDTH = 400


@pytest.fixture
def frames():
    rng = np.random.default_rng(31)
    return [random_frame(rng, 2, n) for n in (6, 7, 8)]


def architecture(**choices) -> Architecture:
    form = {"sel": (150, 150), "embedding": (WIDTH, 5), "axis_neuron": 3, "fitting": (5,)} | choices
    return Architecture(**{"type_map": ("A", "B"), "rcut": 3.0, "rcut_smth": 0.5} | form)


@pytest.mark.parametrize("one_side", [True, False])
def test_units_are_spread_over_the_span(one_side):
    a = architecture(type_one_side=one_side)
    layout = a.layout()
    w = initial_weights(layout, np.random.default_rng(1), span=(-0.5, 7.0))
    for e in range(a.n_embeddings):
        first = layout.layers(w, f"embedding.{e}")[0]
        centre_n = -first.b / first.W[0]
        assert centre_n.min() >= -0.5 - 1e-12  # rounding of the product and its quotient
        assert centre_n.max() <= 7.0 + 1e-12
        # 400 uniform centres leave no tenth of the span empty, but for a chance of 10·0.9⁴⁰⁰ ≈ 5e-18
        assert np.diff(np.sort([-0.5, *centre_n, 7.0])).max() < 0.75
        # the sample deviation of 400 normal numbers scatters by 1/√800
        assert_allclose(first.W.std(), 1.0, atol=5 / np.sqrt(2 * WIDTH))


def test_few_units_over_a_wide_span_leave_no_gaps():
    layout = architecture().layout()
    w = initial_weights(layout, np.random.default_rng(1), span=(0.0, 2000.0))
    # 400 units, 5 apart, are 10 wide
    assert_allclose(layout.layers(w, f"embedding.{0}")[0].W.std(), 0.1, atol=0.1 * 5 / np.sqrt(2 * WIDTH))


def test_all_other_weights_are_those_of_deepmd():
    layout = architecture(fitting_resnet_dt=True, fitting=(5, 5)).layout()
    spread = initial_weights(layout, np.random.default_rng(2), span=(0.0, 1.0))
    usual = initial_weights(layout, np.random.default_rng(2))
    for tensor in layout.tensors:
        first = tensor.net.startswith("embedding") and tensor.layer.endswith("layer.0")
        piece = slice(tensor.start, tensor.stop)
        assert (spread[piece] == usual[piece]).all() == (not first), tensor.name


def test_the_span_is_that_of_the_data(frames):
    a = architecture()
    seen = environment_statistics(a, frames)
    p = Potential(
        a, np.zeros(a.layout().size), davg=seen.davg_tk, dstd=seen.dstd_tk, bias_atom_e=np.zeros(2),
        engine="numpy",
    )  # fmt: skip
    low, high = span_of(a, seen)
    g_p = np.concatenate([p.environment([f]).Rt_pk[:, 0] for f in frames])
    # a pair may have the other type at its centre, whose davg and dstd make less of it
    assert low <= g_p.min() < g_p.max() <= high
    assert_allclose(low, (-seen.davg_tk[:, 0] / seen.dstd_tk[:, 0]).min(), rtol=1e-15)


def test_of_one_type_the_span_ends_at_the_closest_pair():
    rng = np.random.default_rng(33)
    a = Architecture(("A",), 3.0, 0.5, (300,), embedding=(4, 5), axis_neuron=3, fitting=(5,))
    frame = random_frame(rng, 1, 7)
    seen = environment_statistics(a, [frame])
    p = Potential(
        a, np.zeros(a.layout().size), davg=seen.davg_tk, dstd=seen.dstd_tk, bias_atom_e=[0.0],
        engine="numpy",
    )  # fmt: skip
    assert_allclose(span_of(a, seen)[1], p.environment([frame]).Rt_pk[:, 0].max(), rtol=1e-12)


def test_isolated_atoms_do_not_widen_the_span(frames):
    a = architecture(type_map=("A", "B", "C"), sel=(150, 150, 150))
    named = lambda frame, **change: dataclasses.replace(frame, type_map=("A", "B", "C"), **change)
    others = [named(frame) for frame in frames]
    alone = named(frames[0], positions=np.zeros((1, 3)), types=np.array([2]), cell=20 * np.eye(3))
    without = span_of(a, environment_statistics(a, others))
    assert span_of(a, environment_statistics(a, [alone, *others])) == without
    assert span_of(a, environment_statistics(a, [alone])) is None


def test_without_a_pair_there_is_nothing_to_spread_over():
    a = architecture()
    assert span_of(a, environment_statistics(a, [])) is None
    p, q = (
        Potential.create(
            ("A", "B"), rcut=3.0, sel=[4, 4], rng=np.random.default_rng(3), initial=initial, embedding=(4, 5),
            axis_neuron=2, fitting=(4,),
        )
        for initial in ("spread", "deepmd")
    )  # fmt: skip
    assert_array_equal(p.weights, q.weights)


def test_create_spreads_unless_told_otherwise(frames):
    make = lambda **how: Potential.create(
        ("A", "B"), rcut=3.0, frames=frames, rng=np.random.default_rng(4), embedding=(4, 5), axis_neuron=2,
        fitting=(4,), **how,
    ).weights  # fmt: skip
    assert_array_equal(make(), make(initial="spread"))
    assert (make() != make(initial="deepmd")).any()
    with pytest.raises(InputError, match="initial is xavier; expected spread or deepmd"):
        make(initial="xavier")
