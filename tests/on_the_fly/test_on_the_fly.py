"""`OnTheFly` with real calculators of ASE: it learns, goes on after a kill, and says what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from fly_runs import calculator, copper, simulate
from numpy.testing import assert_array_equal

import kalmandp
from kalmandp.errors import FileError, InputError
from kalmandp.on_the_fly.records import Record, read_records
from kalmandp.on_the_fly.reference import ReferenceFailure


class Failing(EMT):
    """EMT that fails at some of its calls, as a program does whose SCF does not converge."""

    fail = ()
    asked = 0

    def calculate(self, *args, **kwargs):
        type(self).asked += 1
        if self.asked in self.fail:
            raise RuntimeError("SCF did not converge")
        super().calculate(*args, **kwargs)


class WithoutStress(LennardJones):
    implemented_properties = ["energy", "forces"]  # noqa: RUF012


class Drifting(LennardJones):
    """Another ε than before."""


def shaken(seed, size=0.1):
    atoms = copper()
    atoms.rattle(size, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("done")
    return folder, *simulate(folder)


def test_it_calls_where_it_is_not_sure_and_learns(done):
    folder, _, _, labels = done
    log = read_records(folder / "on_the_fly.out")
    assert 2 <= len(labels) < 40
    # the first label is learned: what is left is less than a tenth of its forces
    assert log["after"][0] < 100 * np.sqrt(np.mean(labels[0].forces ** 2))
    assert (np.diff(log["step"]) > 0).all()


def test_every_label_is_in_an_ordinary_data_set(done):
    folder, _, _, labels = done
    with kalmandp.Dataset(folder / "labels.h5") as data:
        assert len(data) == len(labels)
        for frame, label in zip(data, labels, strict=True):
            assert_array_equal(frame.forces, label.forces)
            atoms = Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=True, calculator=EMT())
            assert_array_equal(frame.forces, atoms.get_forces())
            assert frame.virial is not None


def test_the_results_of_a_call_are_the_references(tmp_path):
    atoms = shaken(2)
    atoms.calc = calculator(tmp_path)
    exact = shaken(2)
    exact.calc = EMT()
    assert_array_equal(atoms.get_forces(), exact.get_forces())
    np.testing.assert_allclose(atoms.get_stress(), exact.get_stress(), rtol=1e-12, atol=1e-15)


def test_uncertainty_can_be_asked_for_at_any_step(tmp_path):
    atoms = copper()
    atoms.calc = calculator(tmp_path)
    atoms.get_forces()
    steps = atoms.calc.steps
    std = atoms.calc.get_property("forces_std", atoms)
    assert std.shape == (4, 3) and (std > 0).all() and atoms.calc.steps == steps


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs that are killed are forks")
def test_thirty_kills_lose_no_label_and_change_no_bit():
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("kill_runs.py"), "30"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    kills, labels = (int(part.split()[0]) for part in run.stdout.split(",")[:2])
    assert kills == 30 and labels > 32  # so many that some were in the second file


def test_a_run_goes_on_from_its_last_save(done, tmp_path):
    _, positions, weights, _ = done
    simulate(tmp_path, steps=15)
    again = simulate(tmp_path)
    assert_array_equal(again[0], positions)
    assert_array_equal(again[1], weights)


def test_a_call_that_fails_is_repeated_then_skipped_then_an_error(tmp_path):
    Failing.asked, Failing.fail = 0, {2, 5, 6}
    atoms = copper()
    atoms.calc = calculator(tmp_path, Failing(), tolerance=1.0, relative=None, noise=0.5)
    atoms.get_forces()
    atoms.positions[0] += 0.05
    atoms.get_forces()  # call 2 fails, its repetition does not
    assert len(atoms.calc.labels) == 2
    atoms.positions[0] += 0.3
    atoms.get_forces()
    atoms.positions[1] += 0.3
    with pytest.warns(UserWarning, match=r"SCF did not converge.*goes on by itself"):
        atoms.get_forces()  # calls 5 and 6 fail: the model's own forces
    assert len(atoms.calc.labels) == 3
    Failing.fail = range(1000)
    with pytest.warns(UserWarning), pytest.raises(ReferenceFailure, match="failed 2 times"):
        for k in range(12):
            atoms.positions[k % 4] += 0.1
            atoms.get_forces()
    with kalmandp.Dataset(tmp_path / "labels.h5") as data:
        assert len(data) == 3


def test_a_failure_at_the_very_first_call_is_an_error(tmp_path):
    Failing.asked, Failing.fail = 0, range(1000)
    atoms = copper()
    atoms.calc = calculator(tmp_path, Failing())
    with pytest.raises(ReferenceFailure, match=r"the reference Failing failed 2 times .*did not converge"):
        atoms.get_forces()


def test_a_call_is_made_at_the_latest_after_audit_steps(tmp_path):
    atoms, called = copper(), []
    atoms.calc = calculator(tmp_path, relative=50.0, every=1, audit=7)  # a tolerance that nothing exceeds
    for step in range(20):
        atoms.positions[0, 0] += 1e-3
        atoms.get_forces()
        called += [step] if len(atoms.calc.labels) > len(called) else []
    assert called == [0, 1, 8, 15]
    with pytest.raises(InputError, match="audit is 0; expected an integer ≥ 1"):
        calculator(tmp_path, audit=0)


def test_an_audit_that_found_errors_beyond_the_tolerance_brings_the_next_one_sooner():
    row = lambda error: Record(3, 40, 100.0, 60.0, error, 0.0, 0.0, 1.0, 0.0, 0.7, 0.0, 0.0, 0.0)
    steps = lambda error, audit=100: row(error).steps_to_audit(audit, every=10)
    assert steps(0.0) == steps(50.0) == 100  # 95 % of errors of RMS 50 meV/Å are below 100
    assert steps(125.0) == 40
    assert steps(5000.0) == 10
    assert steps(5000.0, audit=7) == 7


def test_no_more_calls_than_allowed(tmp_path):
    atoms = copper()
    atoms.calc = calculator(tmp_path, calls=2, tolerance=1.0, relative=None)
    with pytest.warns(UserWarning, match="all 2 calls of the reference are made"):
        for _ in range(6):
            atoms.rattle(0.1, rng=np.random.RandomState(0))
            atoms.get_forces()
    assert len(atoms.calc.labels) == 2


def test_bad_input_is_named(tmp_path):
    with pytest.raises(InputError, match=r"tolerance is 0.05 meV/Å, below the noise of the labels, 1 meV/Å"):
        calculator(tmp_path, tolerance=0.05)
    with pytest.raises(InputError, match="WithoutStress has energy, forces; expected stress too"):
        calculator(tmp_path, WithoutStress())
    with pytest.raises(InputError, match="reference is a str; expected an ASE calculator"):
        calculator(tmp_path, "vasp")
    with pytest.raises(InputError, match="every is 0; expected an integer ≥ 1"):
        calculator(tmp_path, every=0)
    atoms = copper()
    atoms.calc = calculator(tmp_path / "b", WithoutStress(sigma=2.3, epsilon=0.1, rc=5.0), stress=False)
    atoms.get_forces()
    atoms.symbols[0] = "Ag"
    with pytest.raises(InputError, match="the atoms have Ag, which is not among the species planned, Cu"):
        atoms.get_forces()


def test_a_reference_that_drifts_is_noticed(tmp_path):
    lj = {"sigma": 2.3, "rc": 5.0}
    atoms = copper()
    atoms.calc = calculator(tmp_path, LennardJones(epsilon=0.1, **lj))
    atoms.get_forces()
    other = shaken(4, 0.3)
    other.calc = calculator(tmp_path, LennardJones(epsilon=0.2, **lj))
    with pytest.raises(InputError, match="the reference LennardJones drifts"):
        other.get_forces()


def test_labels_that_are_gone_are_named(tmp_path):
    atoms = copper()
    atoms.calc = calculator(tmp_path)
    atoms.get_forces()
    (tmp_path / "labels.h5").unlink()
    again = copper()
    again.calc = calculator(tmp_path)
    with pytest.raises(FileError, match="has 0 labels; expected the 1"):
        again.get_forces()


def test_a_model_that_is_trained_can_be_the_start(done, tmp_path):
    folder, _, _, _ = done
    before = copper()
    before.calc = calculator(folder)
    before.get_forces()
    trained = before.calc.potential
    atoms = shaken(3)
    atoms.calc = calculator(tmp_path, start=trained)
    atoms.get_forces()
    assert atoms.calc.potential.form == trained.form
