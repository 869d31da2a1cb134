"""The thirteen data sets: what they claim about themselves, and the dynamics that made them."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp import Dataset

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))
from make_thirteen import TEMPERATURE  # noqa: E402
from thirteen_checks import TOLERANCE, derivatives  # noqa: E402
from thirteen_dynamics import BOLTZMANN, Failed, Label, Langevin, Xtb  # noqa: E402
from thirteen_systems import BY_NAME, SYSTEMS  # noqa: E402

NAMES = sorted(BY_NAME)
TABLE_1 = ("Cu", "Si", "C", "Ag", "Mg", "NaCl", "Li", "Al", "MgAlCu", "H2O", "S", "CuO", "CuC")


def both(name: str) -> tuple[list, list]:
    """Frames of the train and of the test set."""
    train, test = (Dataset(DATA / "thirteen" / f"{name}_{part}.h5") for part in ("train", "test"))
    return list(train), list(test)


def notes(name: str, part: str) -> dict:
    (found,) = Dataset(DATA / "thirteen" / f"{name}_{part}.h5").attributes.values()
    return found


def apart(a, b) -> float:
    """Root mean square displacement between two frames that follow each other, Å."""
    return float(np.sqrt(np.mean((a.positions - b.positions) ** 2)))


def test_the_list_is_table_1():
    assert tuple(system.name for system in SYSTEMS) == TABLE_1


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_whole_and_forces_cancel(name):
    for frame in chain(*both(name)):
        assert frame.type_map == BY_NAME[name].type_map and frame.pbc == (True, True, True)
        assert frame.energy is not None and frame.virial is not None
        # rounding only: tblite's gradient sums to 1e-14
        assert_allclose(frame.forces.sum(axis=0), 0, atol=1e-10)
        # no torque on the cell: the virial is symmetric
        assert_allclose(frame.virial, frame.virial.T, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_former_part_is_for_training_the_latter_for_testing(name):
    """In each trajectory the first test frame follows the last train frame by one snapshot."""
    system, (train, test) = BY_NAME[name], both(name)
    n_test = system.snapshots - system.train
    trajectories, rest = divmod(len(train), system.train)
    assert not rest and len(test) == trajectories * n_test
    for k in range(trajectories):
        former = train[k * system.train : (k + 1) * system.train]
        steps = [apart(a, b) for a, b in pairwise(former)]
        # a shuffled set is several times farther apart
        assert apart(former[-1], test[k * n_test]) < 2 * np.median(steps)


@pytest.mark.parametrize("name", NAMES)
def test_no_frame_comes_twice(name):
    frames = list(chain(*both(name)))
    seen = {(frame.positions.tobytes(), frame.cell.tobytes()) for frame in frames}
    assert len(seen) == len(frames)


@pytest.mark.parametrize("name", NAMES)
def test_provenance(name):
    for part in ("train", "test"):
        found = notes(name, part)
        for key in ("title", "system", "sampling", "split", "script", "created", "license", "units"):
            assert found[key], key
        assert "GFN1-xTB" in found["method"] and "tblite" in found["method"]
        assert "NOT the authors' data" in found["paper"]
        assert found["frames"] == len(both(name)[part == "test"])
        assert found["temperature_K"] == TEMPERATURE
        assert found["time_step_fs"] == BY_NAME[name].time_step
        assert found["snapshots_apart_fs"] == BY_NAME[name].time_step * BY_NAME[name].stride
        # one snapshot of thirty atoms is off by 300 K sqrt(2/90) = 45 K, a trajectory lasts some
        # five correlation times, and the heat of relaxation of the alloy and of C on Cu is not gone
        assert_allclose(found["mean_temperature_K"], TEMPERATURE, atol=90)


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_check_holds(name):
    """Forces and virial of a snapshot against differences of the energy, as recorded."""
    report = json.loads(notes(name, "train")["check"])
    pairs = {what: pair for what, pair in report.items() if isinstance(pair, list)}
    assert len(pairs) == 3
    last = both(name)[1][BY_NAME[name].snapshots - BY_NAME[name].train - 1]
    scale = np.linalg.norm(last.forces) + np.linalg.norm(last.virial)
    for what, (analytic, differences) in pairs.items():
        assert_allclose(analytic, differences, rtol=0, atol=TOLERANCE * scale, err_msg=what)
    trace = pairs["virial, trace (eV)"][0]
    # the label carries the error of the usual SCF threshold
    assert_allclose(np.trace(last.virial), trace, atol=1e-2)


@pytest.mark.parametrize("name", ["C", "H2O"])
def test_a_label_is_made_again(name):
    if importlib.util.find_spec("tblite") is None or importlib.util.find_spec("ase") is None:
        pytest.skip('tblite or ase is not installed; pip install "kalmandp[xtb]" brings them')
    from ase import Atoms

    frame = both(name)[1][0]
    atoms = Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=True)
    label = Xtb(atoms)(frame.positions)
    # the SCF threshold leaves 1e-6 Hartree, and some 1e-4 eV/Å where a cycle starts elsewhere
    assert_allclose(label.energy, frame.energy, atol=1e-3)
    assert_allclose(label.forces, frame.forces, atol=2e-3)
    assert_allclose(label.virial, frame.virial, atol=2e-2)


# ---------------------------------------------------------------- the dynamics, on springs
STIFFNESS = 2.0  # eV/Å²
MASSES = np.array([20.0, 20.0, 60.0, 100.0])


def springs(pos_ic, _cell_cc=None) -> Label:
    """Springs between all atoms, of rest length zero: E = k/2 Σ |x_i - mean|²."""
    pos_ic = pos_ic - pos_ic.mean(axis=0)
    energy = 0.5 * STIFFNESS * float((pos_ic**2).sum())
    return Label(energy, -STIFFNESS * pos_ic, -STIFFNESS * pos_ic.T @ pos_ic)


def started(seed=1, time_step=2.0) -> Langevin:
    rng = np.random.default_rng(seed)
    return Langevin(springs, np.zeros((4, 3)), MASSES, time_step, 600.0, rng)


@pytest.mark.parametrize(
    ("part", "factor"), [("none", 1.0), ("forces", 1.05), ("virial", -1.0), ("virial", 1.05)]
)
def test_derivatives_that_are_none_are_noticed(part, factor):
    """Springs pass; forces or a virial that are 5 % too large, or of the wrong sign, do not."""

    def label(pos_ic, cell_cc):
        right = springs(pos_ic)
        return replace(right, **{part: factor * getattr(right, part)}) if part != "none" else right

    rng = np.random.default_rng(5)
    pos_ic = rng.normal(size=(4, 3))
    now = label(pos_ic, None)
    rows = {"positions": pos_ic[None], "cell": 9 * np.eye(3), "energy": np.array([now.energy]),
            "forces": now.forces[None], "virial": now.virial[None]}  # fmt: skip
    if part == "none":
        report = derivatives(label, rows, rng)
        assert sum(isinstance(value, list) for value in report.values()) == 3
    else:
        with pytest.raises(Failed, match=part):
            derivatives(label, rows, rng)


def test_langevin_has_the_temperature():
    """Equipartition: 9/2 k_B T of each energy; the centre of the four atoms is at rest."""
    md = started()
    kinetic, potential = [], []
    for step in range(30_000):
        md.advance(0.05, TEMPERATURE)
        if step > 1000:
            kinetic.append(md.temperature)
            potential.append(md.now.energy)
    # 9 degrees of freedom over some 1500 correlation times: 2 % is three standard errors
    assert_allclose(np.mean(kinetic), TEMPERATURE, rtol=0.03)
    assert_allclose(2 * np.mean(potential) / (9 * BOLTZMANN), TEMPERATURE, rtol=0.04)


def test_the_conserved_energy_wanders_as_the_square_of_the_time_step():
    ranges = []
    for time_step in (4.0, 2.0):
        md = started(time_step=time_step)
        values = []
        for _ in range(int(400 / time_step)):
            md.advance(0.0, TEMPERATURE)
            values.append(md.conserved)
        ranges.append(np.ptp(values))
    # without friction both follow one trajectory; measured on a finite one, hence the margin
    assert_allclose(ranges[0] / ranges[1], 4.0, rtol=0.15)


def test_total_momentum_is_zero_and_a_restored_run_goes_on_bit_for_bit():
    md = started()
    for _ in range(10):
        md.advance(0.02, TEMPERATURE)
    state = {name: np.array(value) for name, value in md.state().items()}
    again = started(seed=2)
    again.restore(state)
    for _ in range(10):
        md.advance(0.02, TEMPERATURE)
        again.advance(0.02, TEMPERATURE)
    assert np.array_equal(md.pos_ic, again.pos_ic) and md.conserved == again.conserved
    momentum = (md.mass_i1 * md.vel_ic).sum(axis=0)
    # rounding of numbers of the size of the largest momentum
    assert_allclose(momentum, 0, atol=1e-12 * np.abs(md.mass_i1 * md.vel_ic).max() * 100)
