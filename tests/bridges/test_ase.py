"""The ASE calculator in ASE's own programs: derivatives, MD, relaxation, equation of state, phonons."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("ase", reason="needs ASE: pip install kalmandp[ase]")

from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.phonons import Phonons

from kalmandp import Frame, InputError, Potential
from kalmandp.bridges.ase import KalmanDP
from kalmandp.registry import ENGINES


@pytest.fixture(scope="module")
def oxide():
    """A potential of two species with random weights: nothing to simulate, but exact to compare."""
    rng = np.random.default_rng(4)
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    frames = []
    for _ in range(4):
        shaken = atoms.copy()
        shaken.positions += rng.normal(0, 0.1, (8, 3))
        shaken.info["energy"] = rng.normal()
        frames.append(Frame.from_ase(shaken, ["Mg", "O"]))
    return Potential.create(
        ["Mg", "O"], rcut=4.0, rcut_smth=1.0, frames=frames, rng=rng, sel=[60, 60],
        embedding=(4, 8), axis_neuron=3, fitting=(8, 8), type_one_side=True, fitting_resnet_dt=False,
    )  # fmt: skip


def oxide_atoms(pbc=True, seed=0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(0, 0.15, (8, 3))
    atoms.pbc = pbc
    return atoms


def crystal(silicon, repeat=2, **choices) -> Atoms:
    atoms = bulk("Si", cubic=True, a=5.41) * ((repeat,) * 3)
    atoms.calc = KalmanDP(silicon, **choices)
    return atoms


def heat(atoms: Atoms, temperature: float, rng) -> None:
    """Momenta of Maxwell and Boltzmann, without motion of the centre of mass."""
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses()[:, None] * units.kB * temperature)
    atoms.set_momenta(momenta - momenta.mean(axis=0))


# --- what it gives --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [name for name, (device, _) in ENGINES.items() if device == "cpu"])
@pytest.mark.parametrize("pbc", [True, (True, True, False), False])
def test_forces_and_stress_are_the_derivatives_of_the_energy(oxide, engine, pbc):
    atoms = oxide_atoms(pbc)
    atoms.calc = KalmanDP(oxide, engine=engine)
    # central differences of step 1e-4: their error is of the order of 1e-8 of the third derivative
    numerical = calculate_numerical_forces(atoms, eps=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), numerical, atol=1e-7)
    if np.any(pbc):
        numerical = calculate_numerical_stress(atoms, eps=1e-5, voigt=True)
        np.testing.assert_allclose(atoms.get_stress(), numerical, atol=1e-7)


def test_it_is_the_potential_itself(oxide):
    atoms = oxide_atoms()
    atoms.calc = KalmanDP(oxide)
    energy, forces, virial, atomic_energies = oxide.evaluate(atoms)
    assert atoms.get_potential_energy() == energy
    assert atoms.get_potential_energy(force_consistent=True) == energy
    # the same sums over the same pairs, whose vectors were added up in another order
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-12)
    np.testing.assert_allclose(atoms.get_potential_energies(), atomic_energies, atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), -virial / atoms.get_volume(), atol=1e-12)
    # and back: what a Frame takes from the calculator are the labels the potential has given
    labelled = Frame.from_ase(atoms)
    np.testing.assert_allclose(labelled.virial, virial, atol=1e-11)


def test_no_stress_without_a_period(oxide):
    atoms = oxide_atoms(pbc=False)
    atoms.calc = KalmanDP(oxide)
    atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_results_follow_the_atoms(oxide):
    atoms = oxide_atoms()
    calc = atoms.calc = KalmanDP(oxide, skin=0.5)
    rng = np.random.default_rng(1)
    for step in range(6):
        atoms.positions += rng.normal(0, 0.05, (8, 3))
        if step == 3:
            atoms.set_cell(atoms.cell * 1.05)  # the atoms stay behind
        if step == 4:
            atoms.symbols[[0, 5]] = atoms.symbols[[5, 0]]
        fresh = oxide.evaluate(atoms)
        np.testing.assert_allclose(atoms.get_potential_energy(), fresh.energy, atol=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), fresh.forces, atol=1e-12)
    assert calc.verlet.calls == 6  # energy and forces come from one calculation
    shorter = atoms[:5]
    shorter.calc = calc
    np.testing.assert_allclose(shorter.get_forces(), oxide.evaluate(shorter).forces, atol=1e-12)


def test_an_unknown_element_is_named(oxide):
    atoms = bulk("Cu")
    atoms.calc = KalmanDP(oxide)
    with pytest.raises(InputError, match=r"species Cu is not in the type_map \['Mg', 'O'\]"):
        atoms.get_potential_energy()
    with pytest.raises(InputError, match="model is a int"):
        KalmanDP(3)


# --- how ASE finds it -----------------------------------------------------------------------------


def test_get_calculator_class_knows_it_by_name():
    assert get_calculator_class("kalmandp") is KalmanDP


def test_the_plugin_names_the_calculator():
    plugins = pytest.importorskip("ase._4.plugins", reason="needs an ASE with plugins for calculators (3.29)")
    from kalmandp.bridges import ase_plugin

    collection = plugins.PluginCollection(ase_plugin.__ase_plugins__)
    (plugin,) = collection.calculators
    assert plugin.name == "kalmandp"
    assert plugin.implementation is KalmanDP


def test_the_entry_point_is_installed():
    try:
        entry_points = importlib.metadata.distribution("kalmandp").entry_points
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs kalmandp to be installed: pip install .")
    (found,) = entry_points.select(group="ase.plugins")
    assert found.load().__ase_plugins__ is not None


def test_without_ase_the_install_line_is_given():
    script = (
        "import sys; sys.modules['ase'] = None\n"
        "from kalmandp.errors import MissingPackage\n"
        "try:\n    import kalmandp.bridges.ase\n"
        "except MissingPackage as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 'pip install "kalmandp[ase]"' in done.stdout


# --- ASE's programs -------------------------------------------------------------------------------


def test_nve_conserves_the_energy(silicon):
    atoms = crystal(silicon)
    heat(atoms, 600, np.random.default_rng(0))
    totals = []

    def run(timestep, steps):
        start = atoms.copy()
        start.calc = atoms.calc
        dynamics = VelocityVerlet(start, timestep * units.fs)
        totals.clear()
        dynamics.attach(lambda: totals.append(start.get_total_energy()))
        dynamics.run(steps)
        return np.ptp(totals) / len(start)

    coarse, fine = run(2.0, 60), run(1.0, 120)
    # the Verlet integrator's error falls with the square of the step; a force that is not the energy's
    # derivative, or pairs lost by the list, would not
    assert fine < 1e-4
    assert 2.5 < coarse / fine < 6.0
    assert atoms.calc.verlet.searches < 0.2 * atoms.calc.verlet.calls


def test_langevin_holds_the_temperature(silicon):
    rng = np.random.default_rng(3)
    atoms = crystal(silicon)
    heat(atoms, 600, rng)
    dynamics = Langevin(
        atoms, 2 * units.fs, temperature_K=300, friction=0.05 / units.fs, fixcm=False, rng=rng
    )
    temperatures = []
    dynamics.attach(lambda: temperatures.append(atoms.get_temperature()))
    dynamics.run(150)
    # 192 degrees of freedom, a few independent samples of them in 100 steps: good to some 10 %
    assert 220 < np.mean(temperatures[50:]) < 380


def test_relaxation_of_atoms_and_cell(silicon):
    atoms = bulk("Si", cubic=True, a=5.41)
    atoms.set_cell(atoms.cell * [1.0, 1.03, 1.0], scale_atoms=True)
    atoms.positions += np.random.default_rng(0).normal(0, 0.05, (8, 3))
    atoms.calc = KalmanDP(silicon)
    optimizer = BFGS(FrechetCellFilter(atoms), logfile=None)
    assert optimizer.run(fmax=0.01, steps=100)
    assert np.abs(atoms.get_forces()).max() < 0.01
    assert np.abs(atoms.get_stress()).max() < 1e-3
    a, b, c = atoms.cell.lengths()
    # the diamond structure is what the model was shown; LDA's constant is 5.40 Å
    np.testing.assert_allclose([a, b, c], 5.40, atol=0.06)


def test_the_equation_of_state_and_the_stress_agree(silicon):
    volumes, energies, pressures = [], [], []
    for a in np.linspace(5.30, 5.50, 9):
        atoms = bulk("Si", cubic=True, a=a)
        atoms.calc = KalmanDP(silicon)
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
        pressures.append(-atoms.get_stress()[:3].mean())
    v0, _, bulk_modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    # where the pressure, which the fit has not seen, goes through zero
    np.testing.assert_allclose(np.interp(0.0, pressures[::-1], volumes[::-1]), v0, rtol=2e-3)
    assert bulk_modulus > 0
    # p = −dE/dV, to the error of central differences, however rough the model
    slopes = -np.gradient(energies, volumes)[1:-1]
    np.testing.assert_allclose(pressures[1:-1], slopes, rtol=0, atol=0.05 * np.abs(pressures).max())


def test_phonons(silicon, tmp_path):
    atoms = bulk("Si", a=5.41)
    calc = KalmanDP(silicon)
    phonons = Phonons(atoms, calc, supercell=(3, 3, 3), delta=0.02, name=str(tmp_path / "phonon"))
    phonons.run()
    phonons.read(acoustic=True)
    path = atoms.cell.bandpath("GX", npoints=5)
    energies = phonons.get_band_structure(path).energies[0]
    # acoustic branches start at zero, and nothing is unstable; silicon's optical branch is at 64 meV
    np.testing.assert_allclose(energies[0, :3], 0.0, atol=2e-3)
    assert (energies > -2e-3).all()
    assert 0.04 < energies[0, 5] < 0.09


def test_a_trajectory_keeps_energy_forces_and_stress(silicon, tmp_path):
    from ase.io import read

    atoms = crystal(silicon, repeat=1)
    atoms.get_forces()
    atoms.write(tmp_path / "frame.traj")
    atoms.write(tmp_path / "frame.extxyz")
    for name in ("frame.traj", "frame.extxyz"):
        again = read(tmp_path / name)
        # extended XYZ is written with eight digits
        np.testing.assert_allclose(again.get_potential_energy(), atoms.get_potential_energy(), rtol=1e-8)
        np.testing.assert_allclose(again.get_forces(), atoms.get_forces(), atol=1e-7)


def test_a_socket_client_serves_the_forces(silicon):
    """The road to i-PI: its protocol, with ASE's own server at the other end."""
    import threading

    from ase.calculators.socketio import SocketClient, SocketIOCalculator

    atoms = crystal(silicon, repeat=1)
    atoms.positions += np.random.default_rng(2).normal(0, 0.1, (8, 3))
    expected, stress = atoms.get_forces(), atoms.get_stress()

    served = atoms.copy()
    served.calc = KalmanDP(silicon)

    def client():
        SocketClient(unixsocket=name, timeout=20).run(served, use_stress=True)

    name = f"kalmandp_{np.random.SeedSequence().entropy % 10**9}"
    thread = threading.Thread(target=client)
    with SocketIOCalculator(unixsocket=name, timeout=20) as server:
        moved = atoms.copy()
        moved.calc = server
        thread.start()
        forces, got_stress = moved.get_forces(), moved.get_stress()
    thread.join(timeout=20)
    assert not thread.is_alive()
    # positions travel in Bohr and back: their last digits change
    np.testing.assert_allclose(forces, expected, atol=1e-10)
    np.testing.assert_allclose(got_stress, stress, atol=1e-10)
