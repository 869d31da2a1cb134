"""The fourth judge: energies, forces, virials and Jacobians stored from DeePMD-kit 3.2.

The values are float64 of another program that sums in another order. 1e-10 of the largest component
leaves two digits above the worst rounding seen (6e-12, where forces nearly cancel); the absolute part
is for forces that vanish by symmetry.
"""

from __future__ import annotations

import numpy as np
import pytest
from deepmd_models import load_reference, reference_names
from numpy.testing import assert_allclose

from kalmandp.bridges.deepmd.files import from_tree

RTOL, ATOL = 1e-10, 1e-13
NAMES = reference_names()


def assert_agrees(ours, stored, what):
    largest = np.abs(stored).max(initial=0.0)
    assert_allclose(ours, stored, rtol=0, atol=RTOL * largest + ATOL, err_msg=what)


@pytest.fixture(scope="module", params=[(n, e) for n in NAMES for e in ("numpy", None)], ids=str)
def case(request):
    """Each stored model by the reference, and by the engine that a user gets (None)."""
    name, engine = request.param
    reference = load_reference(name)
    return reference, from_tree(reference.tree).with_engine(engine)


def assert_predictions(potential, reference):
    for f, frame in enumerate(reference.frames):
        result = potential.evaluate(frame)
        for name in ("energy", "atomic_energies", "forces", "virial"):
            assert_agrees(getattr(result, name), getattr(frame, name), f"{name} of frame {f}")


def test_energy_forces_virial(case):
    reference, potential = case
    assert_predictions(potential, reference)


def test_jacobians(case):
    """∂E/∂w, ∂(c·F)/∂w, ∂(C:W)/∂w from autograd through DeePMD-kit's graph."""
    reference, potential = case
    for frame, stored in zip(reference.frames, reference.jacobians, strict=True):
        if stored is None:
            continue
        c, C = stored.force_direction, stored.virial_direction
        assert_agrees(potential.energy_jacobian(frame), stored.energy, "∂E/∂w")
        assert_agrees(potential.force_jacobian(frame, c), stored.force, "∂(c·F)/∂w")
        assert_agrees(potential.virial_jacobian(frame, C), stored.virial, "∂(C:W)/∂w")


def test_every_choice_is_among_the_models():
    """The stored models cover what a model can be made of."""
    all_of = [from_tree(load_reference(name).tree).form for name in NAMES]
    phi = {a.embedding_activation.partition(":")[0] for a in all_of}
    phi |= {a.fitting_activation.partition(":")[0] for a in all_of}
    from kalmandp.potentials.activations import NAMES as KNOWN

    assert phi == set(KNOWN)
    assert {a.type_one_side for a in all_of} == {True, False}
    assert {a.n_types for a in all_of} == {1, 2, 3}
    resnet = {(a.embedding_resnet_dt, a.fitting_resnet_dt) for a in all_of}
    assert resnet == {(x, y) for x in (True, False) for y in (True, False)}
    assert sum(bool(a.exclude_types) for a in all_of) == 3
    frames = [f for name in NAMES for f in load_reference(name).frames]
    assert {f.cell is None for f in frames} == {True, False}
    assert min(len(f) for f in frames) == 1
    assert sum(j is not None for name in NAMES for j in load_reference(name).jacobians) >= 30


@pytest.mark.parametrize("error", ["weight", "padding", "types", "net order", "bias", "rcut_smth"])
def test_planted_error_is_seen(error):
    """Each of these mistakes moves a number beyond the tolerance."""
    reference = load_reference("two_sided_idt")
    tree = reference.tree["model"]
    descriptor = tree["descriptor"]
    if error == "weight":
        w = descriptor["embeddings"]["networks"][4]["layers"][1]["@variables"]["w"]
        w[0, 0] *= 1 + 1e-5
    elif error == "padding":  # one more padding slot
        descriptor["sel"] = [descriptor["sel"][0] + 1, *descriptor["sel"][1:]]
        for key, value in descriptor["@variables"].items():
            descriptor["@variables"][key] = np.repeat(value[:, :1], sum(descriptor["sel"]), axis=1)
    elif error == "types":
        tree["fitting"]["nets"]["networks"].reverse()
    elif error == "net order":  # (centre, neighbour) for (neighbour, centre)
        nets = descriptor["embeddings"]["networks"]
        descriptor["embeddings"]["networks"] = [nets[n // 3 + 3 * (n % 3)] for n in range(9)]
    elif error == "bias":
        tree["@variables"]["out_bias"] = -tree["@variables"]["out_bias"]
    elif error == "rcut_smth":
        descriptor["rcut_smth"] *= 1 + 1e-6
    potential = from_tree(reference.tree).with_engine("numpy")
    with pytest.raises(AssertionError):
        assert_predictions(potential, reference)
