"""Every Python face does for every kind of potential what it does for a Deep Potential."""

from __future__ import annotations

import json

import numpy as np
import pytest
from by_hand import a_run
from numpy.testing import assert_allclose, assert_array_equal

import kalmandp
from kalmandp.errors import InputError

# --- evaluate and its derivatives -----------------------------------------------------------------


def test_numpy_gives_the_same(trained):
    fused, reference = trained.potential, trained.potential.with_engine("numpy")
    assert (fused.engine.name, reference.engine.name) == ("numba", "numpy")
    for frame in trained.frames():
        a, b = fused.evaluate(frame), reference.evaluate(frame)
        # sums in another order; the energy's are of about 2,000 eV
        assert_allclose(a.energy, b.energy, rtol=1e-12)
        assert_allclose(a.forces, b.forces, atol=1e-10)
        assert_allclose(a.virial, b.virial, atol=1e-9)
        assert_allclose(a.atomic_energies, b.atomic_energies, rtol=1e-12)
        assert_allclose(a.atomic_energies.sum(), a.energy, rtol=1e-12)


def test_many_frames_as_one_by_one(trained):
    frames = trained.frames()
    alone = map(trained.potential.evaluate, frames)
    for one, many in zip(alone, trained.potential.evaluate(frames), strict=True):
        assert_allclose(many.forces, one.forces, atol=1e-11)
        assert_allclose(many.energy, one.energy, rtol=1e-13)


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_jacobians_by_differences(trained, engine):
    """Along a direction of the weights, by central differences of `evaluate`."""
    potential, rng = trained.potential.with_engine(engine), np.random.default_rng(5)
    frame = trained.frames()[0]
    c, C = rng.normal(size=(len(frame), 3)), rng.normal(size=(3, 3))
    rows = [
        potential.energy_jacobian(frame), potential.force_jacobian(frame, c),
        potential.virial_jacobian(frame, C),
    ]  # fmt: skip
    w, step = potential.weights, 2e-5 * rng.normal(size=potential.layout.size)

    def measured(weights):
        potential.weights = weights
        r = potential.evaluate(frame)
        return np.array([r.energy, (c * r.forces).sum(), (C * r.virial).sum()])

    difference = (measured(w + step) - measured(w - step)) / 2
    # the third derivative, and rounding of an energy of 2,000 eV, leave less than this
    assert_allclose([H @ step for H in rows], difference, rtol=2e-5, atol=1e-9)
    assert (np.abs(difference) > 1e-6).all()
    many = potential.force_jacobian([frame, frame], [c[None], 2 * c[None]])
    assert_allclose(many[1, 0], 2 * many[0, 0], rtol=1e-9, atol=1e-12)


def test_a_file_gives_back_the_model(trained, tmp_path):
    first = a_run(trained, tmp_path / "run", 2).result()
    path = tmp_path / f"saved{trained.model.suffix}"
    first.save(path)
    second = kalmandp.Potential.load(path)
    for frame in trained.frames():
        a, b = first.evaluate(frame), second.evaluate(frame)
        assert_allclose(b.energy, a.energy, rtol=1e-13)
        assert_allclose(b.forces, a.forces, atol=1e-12)
    # and once more nothing changes: 17 digits
    second.save(tmp_path / f"again{trained.model.suffix}")
    third = kalmandp.Potential.load(tmp_path / f"again{trained.model.suffix}")
    assert_array_equal(third.weights, second.weights)
    assert_array_equal(third.bias_atom_e, second.bias_atom_e)


def test_state_gives_back_the_model(trained):
    potential = trained.potential
    again = kalmandp.Potential.from_state(json_like(potential.state()))
    frame = trained.frames()[0]
    assert_array_equal(again.evaluate(frame).forces, potential.evaluate(frame).forces)


def json_like(state: dict) -> dict:
    """A state whose form has been through JSON, as in a checkpoint."""
    return {**state, "form": json.loads(json.dumps(state["form"]))}


def test_an_unknown_species_is_named(trained):
    frame = kalmandp.Frame([[0, 0, 0], [0, 0, 2.0]], [0, 1], ("Na", "Xe"))
    with pytest.raises(InputError, match="Xe"):
        trained.potential.evaluate(frame)
