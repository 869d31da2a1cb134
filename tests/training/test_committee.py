"""A committee taught in one pass has the members that as many trainers alone would have, to the last bit."""

from pathlib import Path

import numpy as np
import pytest

import kalmandp
from kalmandp.errors import InputError
from kalmandp.training.committee import Committee
from kalmandp.training.report.model_deviation import model_deviation

FORMS = {
    "nep": {
        "kind": "nep", "radial_cutoff": 4.0, "angular_cutoff": 3.5, "n_max": (2, 2), "basis_size": (3, 3),
        "l_max": (2,), "neuron": 4,
    },
    "se_e2_a": {"rcut": 4.0, "embedding": (4, 8), "axis_neuron": 2, "fitting": (6,)},
}  # fmt: skip
DATA = kalmandp.Dataset(Path(__file__).resolve().parents[2] / "data" / "si64_lda_train.h5")[:4]


def members(form, n=3):
    rngs = [np.random.default_rng(seed) for seed in range(n)]
    return [kalmandp.Potential.create(("Si",), frames=DATA, rng=rng, **form) for rng in rngs], rngs


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_members_are_those_of_trainers_alone(form):
    committee = Committee(*members(form))
    for frame in DATA:
        infos = committee.learn(frame)
    assert [info.step for info in infos] == [4, 4, 4]
    for potential, rng, member in zip(*members(form), committee.members, strict=True):
        alone = kalmandp.OnlineTrainer(potential, rng=rng)
        for frame in DATA:
            alone.learn(frame)
        assert (alone.filter.weights == member.filter.weights).all()
        assert (alone.filter.covariance.diagonal() == member.filter.covariance.diagonal()).all()


def test_neighbours_are_found_once_for_one_cutoff(monkeypatch):
    from kalmandp.training import committee as module

    found, search = [], module.neighbour_pairs
    monkeypatch.setattr(module, "neighbour_pairs", lambda *a: found.append(a[1]) or search(*a))
    potentials, rngs = members(FORMS["nep"], 2)
    other, more = members({**FORMS["nep"], "radial_cutoff": 4.5}, 1)
    Committee([*potentials, *other], [*rngs, *more]).learn(DATA[0])
    assert found == [4.0, 4.5]


def test_the_deviation_is_that_of_the_models():
    committee = Committee(*members(FORMS["nep"]))
    expected = model_deviation(committee.potentials, DATA[0])
    assert (committee.deviation(DATA[0]).force_i == expected.force_i).all()
    assert expected.force_i.min() > 0


def test_what_does_not_go_together_is_named():
    potentials, rngs = members(FORMS["nep"])
    with pytest.raises(InputError, match=r"rngs is 2; expected 3, one for each potential"):
        Committee(potentials, rngs[:2])
    with pytest.raises(InputError, match="potentials is 0; expected at least one"):
        Committee([], [])
    other = kalmandp.Potential.create(("C",), rng=rngs[0], **FORMS["nep"])
    with pytest.raises(InputError, match="a type_map"):
        Committee([*potentials, other], [*rngs, rngs[0]])
