"""σ of a frame against H P Hᵀ by the plain Jacobians and a P that is written out."""

import h5py
import numpy as np
import pytest
from ase import Atoms
from numpy.testing import assert_allclose
from small_frames import DP, NEP, frames

import kalmandp
from kalmandp.bridges.ase import KalmanDP
from kalmandp.errors import InputError
from kalmandp.training.report.coverage import coverage_of
from kalmandp.training.uncertainty import UncertainPotential


def trainer(choices, **optimizer):
    rng = np.random.default_rng(1)
    potential = kalmandp.Potential.create(("A", "B"), frames=frames(), rng=rng, **choices)
    online = kalmandp.OnlineTrainer(potential, rng=rng, **optimizer)
    for frame in frames():
        online.learn(frame)
    return online


def dense(kalman):
    """P written out; a window's U too."""
    N = len(kalman.weights)
    P = np.zeros((N, N))
    for l, w in enumerate(kalman.blocks):
        P[w, w] = kalman.covariance.dense(l)
    if hasattr(type(kalman.covariance), "window"):
        U, scale = kalman.covariance.window
        for w in kalman.blocks:
            P[w, w] += scale * U[:, w].T @ U[:, w]
        P -= scale * U.T @ U
    return P


@pytest.mark.parametrize("choices", [NEP, DP], ids=["nep", "se_e2_a"])
@pytest.mark.parametrize(
    "optimizer",
    [{"preset": "matrix"}, {"preset": "default", "block_size": 60}, {"preset": "paper", "block_size": 60}],
    ids=["dense", "coupled blocks", "blocks"],
)
def test_sigma_is_that_of_the_jacobians(choices, optimizer):
    online = trainer(choices, **optimizer)
    frame, P = frames(1, seed=9)[0], dense(online.filter)
    result, std = online.predict_with_uncertainty(frame)
    variance = lambda H: np.einsum("...w,wv,...v->...", H, P, H)
    H_E = online.potential.energy_jacobian(frame)
    c = np.eye(12).reshape(12, 4, 3)
    H_F = online.potential.force_jacobian(frame, c)
    C = np.zeros((3, 3))
    C[0, 2] = C[2, 0] = 0.5
    H_W = online.potential.virial_jacobian(frame, C)
    # P of 10⁻³ of its first size leaves some ten digits of H P Hᵀ
    assert_allclose(std.energy**2, variance(H_E), rtol=1e-6)
    assert_allclose(std.forces.ravel() ** 2, variance(H_F), rtol=1e-6)
    assert_allclose(std.virial[0, 2] ** 2, variance(H_W), rtol=1e-6)
    assert_allclose(result.forces, online.potential.evaluate(frame).forces, rtol=1e-12, atol=1e-12)


def test_a_calibrated_sigma_holds_the_errors_it_was_made_of():
    online = trainer(NEP, preset="matrix")
    unseen = frames(12, seed=5)
    for frame in unseen:
        online.calibrate(frame)
    known = UncertainPotential(online.potential, online.filter, online.calibration)
    found = coverage_of(known, unseen).summary()
    # the quantiles are of these very numbers, each one in 144
    assert found["force"]["within_1"] > 0.67 and found["force"]["within_2"] > 0.94


def test_save_and_restore_keep_the_calibration(tmp_path):
    online = trainer(NEP, preset="matrix")
    online.calibrate(frames(1, seed=7)[0], learnt=frames(2))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        online.save(file.create_group("x"))
        again = kalmandp.OnlineTrainer.restore(file["x"])
    one, other = (o.predict_with_uncertainty(frames(1, seed=8)[0])[1] for o in (online, again))
    assert one.energy == other.energy and (one.forces == other.forces).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run of `kalmandp train` with a P."""
    folder = tmp_path_factory.mktemp("run")
    kalmandp.Dataset.write(folder / "data.h5", frames(8))
    model = {"type": "nep", "type_map": ["A", "B"], "cutoff": [4.0, 3.5], "n_max": [2, 2],
             "basis_size": [3, 3], "l_max": [2, 1], "neuron": 4}  # fmt: skip
    settings = {
        "model": model, "optimizer": {"type": "RLEKF", "preset": "matrix"},
        "training": {"training_data": {"systems": [str(folder / "data.h5")]}, "numb_steps": 4, "seed": 1,
                     "disp_freq": 2, "save_freq": 4},
    }  # fmt: skip
    for _ in kalmandp.train(settings, output=folder):
        pass
    return folder


def test_the_ase_calculator_of_a_checkpoint_has_sigma(run):
    checkpoint = next(run.glob("*.ckpt.h5"))
    known = UncertainPotential.from_checkpoint(checkpoint)
    frame = frames(1, seed=4)[0]
    species = {"A": "H", "B": "He"}
    atoms = Atoms([species[s] for s in frame.symbols], frame.positions, cell=frame.cell, pbc=True)
    potential = known.potential
    named = kalmandp.Potential.from_state(
        {**potential.state(), "form": {**potential.form.to_dict(), "type_map": ["H", "He"]}}
    )
    atoms.calc = KalmanDP(named, uncertainty=UncertainPotential(named, known.filter))
    forces = atoms.get_forces()
    _, std = known.predict(frame)
    assert_allclose(atoms.calc.results["forces_std"], std.forces, rtol=1e-9)
    assert_allclose(atoms.calc.results["energy_std"], std.energy, rtol=1e-9)
    assert forces.shape == (4, 3)


def test_a_checkpoint_of_another_model_is_refused(run):
    other = kalmandp.Potential.create(("A", "B"), frames=frames(), rng=np.random.default_rng(0), **DP)
    with pytest.raises(InputError, match="expected a checkpoint of Potential"):
        UncertainPotential.from_checkpoint(next(run.glob("*.ckpt.h5")), other)


def test_the_commands_say_how_sure_the_model_is(run, capsys):
    from kalmandp.cli import main

    checkpoint, data = str(next(run.glob("*.ckpt.h5"))), str(run / "data.h5")
    model = str(next(p for p in run.iterdir() if p.name in ("nep.txt", "model.txt", "model.dp")))
    detail = str(run / "d")
    assert main(["test", "-m", model, "-s", data, "--uncertainty", checkpoint, "-d", detail]) == 0
    assert "in 1 σ" in capsys.readouterr().out
    assert len((run / "d.std.out").read_text().splitlines()) == 9
    out = str(run / "devi.out")
    assert main(["model-devi", "-m", model, "-s", data, "--uncertainty", checkpoint, "-o", out]) == 0
    assert main(["test", "-m", model, "-s", data, "--calibrate", data]) == 1
