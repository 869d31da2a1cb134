"""σ of an energy, of a NEP with a dense P: of the size of its errors on new frames.

(Of a Deep Potential whose P is cut into blocks it is far too large: P does not know that the blocks' shares
of an energy add up.)
"""

from pathlib import Path

import numpy as np
import pytest

import kalmandp
from kalmandp.training.report.coverage import coverage_of
from kalmandp.training.uncertainty import UncertainPotential, variances

DATA = Path(__file__).resolve().parents[2] / "data" / "thirteen"
FORM = {
    "radial_cutoff": 5.0, "angular_cutoff": 4.0, "n_max": (3, 2), "basis_size": (5, 5), "l_max": (3,),
    "neuron": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    """P's own σ of energies, eV per atom, and the coverage on 40 frames of copper after a calibration."""
    frames = [*kalmandp.Dataset(DATA / "Cu_train.h5"), *kalmandp.Dataset(DATA / "Cu_test.h5")]
    rng = np.random.default_rng(5)
    order = rng.permutation(len(frames)).tolist()
    learned, held, unseen = ([frames[k] for k in part] for part in (order[:30], order[30:50], order[50:]))
    potential = kalmandp.Potential.create(("Cu",), kind="nep", frames=learned, rng=rng, **FORM)
    online = kalmandp.OnlineTrainer(potential, rng=rng, preset="matrix")
    for k in range(120):
        online.learn(learned[k % 30])
    known = UncertainPotential(online.potential, online.filter)
    raw = [variances(potential, online.filter, frame)[1].energy ** 0.5 / len(frame) for frame in unseen]
    known.calibrate(held, learned)
    return np.array(raw), coverage_of(known, unseen).summary()


def test_errors_of_energies_are_within_two_sigma(found):
    # f is 0.5 at least, so σ may be twice too large: no upper bound
    assert found[1]["energy"]["within_1"] > 0.55 and found[1]["energy"]["within_2"] > 0.9


def test_sigma_of_an_energy_is_of_the_size_of_its_error(found):
    raw, energy = found[0], found[1]["energy"]
    assert 0.7 < energy["sigma"] / energy["rmse"] < 2.2
    # P's own, before any calibration; with a P in blocks it is hundreds of times the error
    assert np.sqrt((raw**2).mean()) < 5.0 * energy["rmse"]
